"""What is said of each request: a line in the log, and numbers for Prometheus."""

from __future__ import annotations

import json
import logging
import secrets
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

logger = logging.getLogger("mlx_voxcpm2.requests")

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)


@dataclass
class RequestRecord:
    """One request, while it is answered."""

    kind: str
    """speech, dialogue, websocket or transcription."""
    id: str = field(default_factory=lambda: f"req_{secrets.token_hex(8)}")
    begin: float = field(default_factory=time.perf_counter)
    voice: str = ""
    format_name: str = ""
    characters: int = 0
    audio_seconds: float = 0.0
    first_byte: float | None = None
    """Seconds until the first byte of the answer's sound."""
    status: int = 200
    finish_reason: str = ""

    def count(self, seconds: float) -> None:
        """Add seconds of sound that are sent now."""
        if self.first_byte is None:
            self.first_byte = time.perf_counter() - self.begin
        self.audio_seconds += seconds

    def line(self) -> str:
        """A line of names and values. What clients send is quoted, so that it can't fake others."""
        first = "-" if self.first_byte is None else f"{self.first_byte:.3f}"
        values = {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "voice": json.dumps(self.voice[:60]),
            "format": self.format_name or "-",
            "characters": self.characters,
            "audio": f"{self.audio_seconds:.2f}",
            "first_byte": first,
            "seconds": f"{time.perf_counter() - self.begin:.3f}",
            "finish": self.finish_reason or "-",
        }
        return " ".join(f"{name}={value}" for name, value in values.items())


class Metrics:
    """Numbers of one server since its start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "voxcpm2_"

        def made(kind, name: str, text: str, **options):
            return kind(prefix + name, text, registry=self.registry, **options)

        labels = {"labelnames": ["kind", "status"]}
        self.requests = made(Counter, "requests", "Requests that have been answered", **labels)
        buckets = {"buckets": _SECONDS}
        self.first_byte = made(
            Histogram, "first_byte_seconds", "Time until the first byte of sound", **buckets
        )
        self.duration = made(
            Histogram, "request_seconds", "Time until the last byte of sound", **buckets
        )
        self.audio = made(Counter, "audio_seconds", "Seconds of sound that were sent")
        self.characters = made(Counter, "characters", "Characters of text that were spoken")
        self.active = made(Gauge, "active_requests", "Requests that are read, spoken or wait")
        self.speaking = made(Gauge, "speaking_requests", "Requests that are spoken now")
        self.failures = made(Gauge, "model_failures", "Exceptions of the model since the start")

    def finish(self, record: RequestRecord) -> None:
        """Count a request that has been answered, and log it."""
        self.requests.labels(record.kind, str(record.status)).inc()
        if record.first_byte is not None:
            self.first_byte.observe(record.first_byte)
            self.duration.observe(time.perf_counter() - record.begin)
            self.audio.inc(record.audio_seconds)
            self.characters.inc(record.characters)
        logger.info("%s", record.line())

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self.registry)
