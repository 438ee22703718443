"""Load on the server: requests per second and first-byte times for more and more clients.

    python benchmarks/server_load.py --model demo --clients 1 8 50 200

The server is a process of its own, as users run it. Each client sends one request after the other;
each answer is compared with the same text and seed spoken alone. The differences, in units of 16
bits, are printed too: matrix products of several rows add their terms in another order than those
of one, so the last bits of float32 depend on who else is spoken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import httpx
import numpy as np

TEXTS = (
    "three one four",
    "good morning please",
    "one two three four five",
    "seven",
    "six nine two eight",
)


@dataclass(frozen=True)
class Answer:
    """One answer: times in seconds from the request, and its 16-bit samples."""

    number: int
    first_byte: float
    seconds: float
    samples: np.ndarray


def started(model: str, clients: int, batch_size: int) -> tuple[subprocess.Popen, str]:
    """The server's process and its base URL."""
    command = [sys.executable, "-m", "mlx_voxcpm2.cli", "serve", "--model", model, "--port", "0"]
    command += ["--batch_size", str(batch_size), "--max_queue", str(clients)]
    folder = tempfile.mkdtemp(prefix="voices-")
    environment = {**os.environ, "MLX_VOXCPM2_VOICES": folder}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if " speaks at " in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()  # its log
            return process, line.split()[-1]
    raise SystemExit("the server did not start")


DIFFERENT = 20
"""Number of different requests."""


def body(number: int) -> dict[str, object]:
    text = TEXTS[number % len(TEXTS)]
    return {"input": text, "voice": "default", "response_format": "pcm", "seed": number % DIFFERENT}


async def ask(client: httpx.AsyncClient, url: str, number: int) -> Answer:
    begin, first, data = time.perf_counter(), 0.0, b""
    async with client.stream("POST", f"{url}/audio/speech", json=body(number)) as response:
        response.raise_for_status()
        async for part in response.aiter_raw():
            first = first or time.perf_counter() - begin
            data += part
    seconds = time.perf_counter() - begin
    return Answer(number, first, seconds, np.frombuffer(data, "<i2"))


async def load(url: str, clients: int, requests: int) -> tuple[float, list[Answer]]:
    """Seconds for so many requests of so many clients, and the answers."""
    numbers = iter(range(requests))
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=None, limits=limits) as client:

        async def one() -> list[Answer]:
            return [await ask(client, url, number) for number in numbers]

        begin = time.perf_counter()
        found = await asyncio.gather(*(one() for _ in range(clients)))
        return time.perf_counter() - begin, [each for answers in found for each in answers]


def largest_difference(answers: list[Answer], alone: dict[int, np.ndarray]) -> int:
    """Largest difference from what each is alone, in units of 16 bits; -1 if a length differs."""
    worst = 0
    for each in answers:
        expected = alone[each.number % DIFFERENT]
        if len(expected) != len(each.samples):
            return -1
        difference = np.abs(each.samples.astype(int) - expected.astype(int)).max(initial=0)
        worst = max(worst, int(difference))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 50, 200])
    parser.add_argument("--requests", type=int, default=200, help="for each number of clients")
    parser.add_argument("--batch_size", type=int, default=8)
    args = parser.parse_args()
    process, url = started(args.model, max(args.clients), args.batch_size)
    try:
        _, alone = asyncio.run(load(url, 1, DIFFERENT))
        by_number = {each.number: each.samples for each in alone}
        print(f"{len(alone)} requests alone", file=sys.stderr, flush=True)
        print("| clients | requests/s | first byte p50 | p95 | p99 | seconds of speech/s | LSB |")
        print("|---|---|---|---|---|---|---|")
        for clients in args.clients:
            count = max(args.requests, clients)
            seconds, answers = asyncio.run(load(url, clients, count))
            first = np.percentile([each.first_byte for each in answers], [50, 95, 99])
            speech = sum(len(each.samples) for each in answers) / 24_000
            cells = [f"{clients}", f"{count / seconds:.2f}", *(f"{each:.2f} s" for each in first)]
            difference = largest_difference(answers, by_number)
            cells += [f"{speech / seconds:.2f}", f"{difference}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    finally:
        process.terminate()
        status = process.wait(60)
    print(f"The server ended with status {status}.")


if __name__ == "__main__":
    main()
