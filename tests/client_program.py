"""A user's program on the public API: run by the tests, and checked by mypy and pyright."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from mlx_voxcpm2 import (
    BestOf,
    GenerationOptions,
    GenerationResult,
    Verification,
    Voice,
    VoxCPM2,
    list_voices,
    load_model,
    speak_dialogue,
    speak_long,
    transcribe,
)


def speak(model: VoxCPM2, folder: Path) -> float:
    result: GenerationResult = model.speak("three four", seed=1, cfg_value=2.0)
    file: Path = result.save(folder / "speech.wav")
    loudest: float = float(np.abs(result.audio).max())
    assert file.is_file() and 0 < loudest <= 1
    return result.duration


def stream(model: VoxCPM2) -> list[np.ndarray]:
    with model.generate("three", stream=True, instruct="low voice", seed=2) as chunks:
        return [np.asarray(chunk.audio) for chunk in chunks]


def batch(model: VoxCPM2) -> dict[int, str | None]:
    options = GenerationOptions(seed=1, solver="euler")
    results = model.generate_batch(["one", "two"], options=options, batch_size=2)
    return {result.sequence_idx: result.finish_reason for result in results}


def clone(model: VoxCPM2, folder: Path) -> list[str]:
    voice: Voice = model.make_voice(folder / "speech.wav", prompt_text="three four")
    voice.save("anna", overwrite=True)
    model.speak("five", voice="anna", seed=3)
    return list_voices()


def read_aloud(model: VoxCPM2) -> float:
    end = 0.0
    for segment in speak_long(model, "one two\n\nthree", parallel=2, seed=1, paragraph_pause=0.2):
        end = segment.end
    return end


def speak_together(model: VoxCPM2) -> list[str]:
    script, voices = "Anna: one two\nBen: three", {"Ben": "design: low voice"}
    return [each.speaker for each in speak_dialogue(model, script, voices, seed=1, turn_pause=0.1)]


def verified(model: VoxCPM2) -> str | None:
    def recogniser(audio: np.ndarray, sample_rate: int) -> str:
        return "three"

    return model.speak("three", verify=Verification(recogniser, limit=0.5)).heard


def chosen(model: VoxCPM2) -> tuple[float, float | None]:
    def recogniser(audio: np.ndarray, sample_rate: int) -> str:
        return "three"

    result = model.speak("three", seed=1, best_of=BestOf(recogniser, 2))
    found = transcribe((np.asarray(result.audio), result.sample_rate), recogniser)
    return found.segments[0].end, result.score


async def stream_async(model: VoxCPM2) -> tuple[int, GenerationResult]:
    count = 0
    async for _ in model.generate("three", stream=True, seed=4):
        count += 1
    return count, await model.generate("three", seed=4)


def main(folder: Path) -> None:
    model = load_model("demo", dtype="float32")
    assert speak(model, folder) > 0.4
    assert len(stream(model)) >= 4
    assert batch(model) == {0: "stop", 1: "stop"}
    assert clone(model, folder) == ["anna"]
    assert read_aloud(model) > 1
    assert verified(model) == "three"
    end, score = chosen(model)
    assert end > 0.1 and score == 0
    count, whole = asyncio.run(stream_async(model))
    assert count == whole.token_count
