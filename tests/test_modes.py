"""Speech in all five modes against the official package, with its noise, in float32."""

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.text.spoken import spoken_text

SPEECH_ERROR = 1e-4
STEPS = 8


def modes_of(case) -> list[str]:
    return [mode for mode in checkpoints.MODES if f"gen.{mode}.audio" in case.golden]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_speech_is_the_official_one_to_the_last_sample(case, stream):
    assert {"zero_shot", "combined", "short_combined"} <= set(modes_of(case))
    for mode in modes_of(case):
        noise = case.golden[f"gen.{mode}.noise"]
        results = list(
            case.model.generate(
                **case.arguments(mode),
                noise=noise,
                stream=stream,
                inference_timesteps=STEPS,
                min_tokens=len(noise),
                max_tokens=len(noise),
            )
        )
        assert len(results) == (len(noise) if stream else 1)
        audio = mx.concatenate([result.audio for result in results])
        assert relative_error(audio, case.golden[f"gen.{mode}.audio"]) < SPEECH_ERROR, mode


def test_the_released_structure_is_tested_in_every_mode(released):
    assert modes_of(released) == list(checkpoints.MODES)


def test_patches_are_the_official_latents(case):
    for mode in modes_of(case):
        noise = case.golden[f"gen.{mode}.noise"]
        options = GenerationOptions(
            inference_timesteps=STEPS, min_tokens=len(noise), max_tokens=len(noise)
        )
        patches = case.model.generate_patches(**case.arguments(mode), options=options, noise=noise)
        latents = mx.stack(list(patches))
        assert relative_error(latents, case.golden[f"gen.{mode}.latents"]) < SPEECH_ERROR, mode


@pytest.mark.parametrize("name", checkpoints.STOPS)
def test_the_utterance_ends_at_the_official_patch(released, name, monkeypatch):
    head, min_tokens = checkpoints.STOPS[name]
    weight = mx.array(checkpoints.stop_head(head, released.config))
    monkeypatch.setitem(released.model.stop_head, "weight", weight)
    (result,) = released.model.generate(
        checkpoints.STOP_TEXT,
        noise=released.golden[f"stop.{name}.noise"],
        cfg_value=1.5,
        inference_timesteps=4,
        min_tokens=min_tokens,
        max_tokens=40,
    )
    patches = int(released.golden[f"stop.{name}.patches"])
    assert result.token_count == patches
    assert result.samples == patches * released.model.patch_samples
    assert result.finish_reason == ("length" if patches == 40 else "stop")


def test_speech_that_never_stops_is_truncated_and_retried_as_upstream_does(released, endless_model):
    cap = int(released.golden["cap.patches"])
    patches = []
    (result,) = endless_model.generate(
        checkpoints.CAP_TEXT, seed=5, inference_timesteps=2, progress=patches.append
    )
    assert result.token_count == cap
    assert len(patches) == int(released.golden["badcase.draws"])
    assert result.seed == 7
    (single,) = endless_model.generate(
        checkpoints.CAP_TEXT, seed=7, inference_timesteps=2, retry_badcase=False
    )
    assert mx.array_equal(single.audio, result.audio)


def test_temperature_scales_supplied_noise_too(released):
    noise = released.golden["gen.zero_shot.noise"]
    options = {"min_tokens": 2, "max_tokens": 2, "inference_timesteps": 3}
    text = checkpoints.MODES["zero_shot"]["text"]
    (hot,) = released.model.generate(text, noise=noise, temperature=0.5, **options)
    (scaled,) = released.model.generate(text, noise=noise * 0.5, **options)
    assert relative_error(hot.audio, scaled.audio) < 1e-6


def test_design_text_is_the_instruction_in_brackets():
    assert spoken_text("Hello.", "A warm voice") == "(A warm voice)Hello."
    assert spoken_text("Hello.", "  ") == spoken_text("Hello.", None) == "Hello."


def test_white_space_is_folded_but_not_stripped():
    assert spoken_text(" a\n\n b\t\u3000c ") == " a b c "


def test_audio_can_be_any_source(released, tmp_path):
    """A path, bytes, an open file and an array of the same audio give the same speech."""
    samples, rate = released.waveform("short")
    path = checkpoints.write_wav(tmp_path / "short.wav", samples, rate)
    spoken = []
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file, (mx.array(samples), rate)):
            (result,) = released.model.generate(
                "Hello.", ref_audio=source, seed=1, max_tokens=3, inference_timesteps=2
            )
            spoken.append(np.array(result.audio))
    assert all(np.array_equal(audio, spoken[0]) for audio in spoken)
