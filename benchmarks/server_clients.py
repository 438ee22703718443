"""Usual clients of OpenAI's speech API against the server, with nothing but the base URL set.

    mlx-voxcpm2 serve --model demo
    python benchmarks/server_clients.py --url http://127.0.0.1:8000/v1 --node FOLDER

Each client whose library is installed speaks one text; the others are named as missing. FOLDER has
the npm packages openai, ai and @ai-sdk/openai. Python: openai, litellm, livekit-plugins-openai,
pipecat-ai.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TEXT = "three one four"


def openai_python(url: str) -> int:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none")
    fields = {"model": "gpt-4o-mini-tts", "voice": "coral", "input": TEXT}
    with client.audio.speech.with_streaming_response.create(**fields) as answer:
        return sum(map(len, answer.iter_bytes()))


def litellm(url: str) -> int:
    import litellm

    fields = {"model": "openai/tts-1", "voice": "alloy", "input": TEXT}
    return len(litellm.speech(**fields, api_base=url, api_key="none").content)


def livekit(url: str) -> int:
    async def speak() -> int:
        import aiohttp
        from livekit.agents.utils import http_context
        from livekit.plugins import openai

        async with aiohttp.ClientSession():
            http_context._new_session_ctx()
            tts = openai.TTS(base_url=url, api_key="none")
            total = 0
            async for audio in tts.synthesize(TEXT):
                total += len(bytes(audio.frame.data))
            return total

    return asyncio.run(speak())


def pipecat(url: str) -> int:
    async def speak() -> int:
        from pipecat.services.openai.tts import OpenAITTSService

        service = OpenAITTSService(api_key="none", base_url=url, sample_rate=24_000)
        service._sample_rate = 24_000  # set by the pipeline that would start it
        total = 0
        async for frame in service.run_tts(TEXT, "context"):
            if type(frame).__name__ == "ErrorFrame":
                raise RuntimeError(frame.error)
            total += len(getattr(frame, "audio", b""))
        return total

    return asyncio.run(speak())


NODE = {
    "openai (npm)": """
        import OpenAI from "openai";
        const client = new OpenAI({ baseURL: URL, apiKey: "none" });
        const answer = await client.audio.speech.create(
            { model: "gpt-4o-mini-tts", voice: "alloy", input: TEXT });
        console.log((await answer.arrayBuffer()).byteLength);
    """,
    "Vercel's ai": """
        import { experimental_generateSpeech as generateSpeech } from "ai";
        import { createOpenAI } from "@ai-sdk/openai";
        const openai = createOpenAI({ baseURL: URL, apiKey: "none" });
        const { audio } = await generateSpeech(
            { model: openai.speech("tts-1"), text: TEXT, voice: "shimmer" });
        console.log(audio.uint8Array.byteLength);
    """,
}


def by_node(folder: Path, script: str) -> Callable[[str], int]:
    """Client that is a script for node in a folder with its packages."""

    def speak(url: str) -> int:
        constants = f"const URL = {json.dumps(url)}, TEXT = {json.dumps(TEXT)};\n"
        imports = [line for line in script.splitlines() if line.strip().startswith("import")]
        others = [line for line in script.splitlines() if line not in imports]
        source = "\n".join([*imports, constants, *others])
        command = ["node", "--input-type=module", "--eval", source]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(next(line for line in done.stderr.splitlines() if "Error" in line))
        return int(done.stdout)

    return speak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="the base URL")
    parser.add_argument("--node", type=Path, help="folder with the npm packages")
    args = parser.parse_args()
    clients: dict[str, Callable[[str], int]] = {
        "openai (Python)": openai_python,
        "litellm": litellm,
        "LiveKit": livekit,
        "Pipecat": pipecat,
    }
    if args.node is not None:
        clients |= {name: by_node(args.node, script) for name, script in NODE.items()}
    for name, speak in clients.items():
        begin = time.perf_counter()
        try:
            size = speak(args.url)
            print(f"{name}: {size} bytes in {time.perf_counter() - begin:.1f} s", flush=True)
        except ImportError as error:
            print(f"{name}: not installed ({error})", flush=True)
        except Exception as error:
            print(f"{name}: failed ({type(error).__name__}: {error})", flush=True)


if __name__ == "__main__":
    main()
