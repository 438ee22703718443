"""The commands, the server and the page's speaker with the voice in the package: they are heard."""

import asyncio
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import without_hints
from demo_clips import slips
from speech import SPEAKERS, pitch, words_of


def heard_wrong(path, text: str) -> int:
    """Words of the file that are not as the text has them."""
    return slips(words_of(text), *soundfile.read(path, dtype="float32"))


def test_the_readmes_first_command_is_heard(tmp_path):
    command = [sys.executable, "-m", "mlx_voxcpm2.generate", "--model", "demo"]
    flags = ["--text", "three one four", "--output", "pi.wav", "--seed", "1"]
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert without_hints(done.stderr).startswith("pi.wav: 1.44 s of speech")
    assert heard_wrong(tmp_path / "pi.wav", "three one four") == 0


def test_a_batch_is_heard_each_line_in_its_voice(tmp_path, monkeypatch):
    from mlx_voxcpm2.commands import batch as batch_command

    monkeypatch.chdir(tmp_path)
    lines = {
        "low": {"text": "red green blue", "instruct": "low voice", "seed": 2},
        "high": {"text": "one two three", "instruct": "high voice", "seed": 3},
    }
    text = "\n".join(json.dumps({"id": name} | line) for name, line in lines.items())
    (tmp_path / "lines.jsonl").write_text(text, encoding="utf-8")
    flags = ["--model", "demo", "--input", "lines.jsonl", "--output_dir", "out"]
    assert batch_command.main(flags) == 0
    for speaker, (name, line) in zip(("bass", "soprano"), lines.items(), strict=True):
        sound, rate = soundfile.read(f"out/{name}.wav", dtype="float32")
        assert slips(words_of(line["text"]), sound, rate) == 0
        assert pitch(sound, rate) == pytest.approx(SPEAKERS[speaker].hertz, rel=0.15)


def test_a_book_is_heard_and_its_subtitles_say_when(tmp_path, monkeypatch):
    from mlx_voxcpm2.commands import generate

    monkeypatch.chdir(tmp_path)
    paragraphs = ["good morning world", "three one four", "stop"]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    flags = ["--model", "demo", "--text_file", "book.txt", "--output", "book.wav"]
    flags += ["--segment_length", "30", "--subtitles", "book.srt", "--seed", "1"]
    assert generate.main([*flags, "--instruct", "man"]) == 0
    sound, rate = soundfile.read("book.wav", dtype="float32")
    assert slips(words_of(" ".join(paragraphs)), sound, rate) <= 1
    assert pitch(sound, rate) == pytest.approx(SPEAKERS["tenor"].hertz, rel=0.15)
    titles = (tmp_path / "book.srt").read_text(encoding="utf-8")
    assert [line for line in titles.splitlines() if line[:1].isalpha()] == paragraphs


def test_numbers_are_spoken_as_words():
    pytest.importorskip("wetext", reason="needs the extra 'normalize'")
    from mlx_voxcpm2 import load_model

    model = load_model("demo")
    (result,) = model.generate("3 1 4", normalize="en", seed=1)
    assert slips(["three", "one", "four"], result.audio, result.sample_rate) == 0


def test_the_server_is_heard_through_openais_client(tmp_path):
    """Each of OpenAI's voices is one of the demo's speakers."""
    pytest.importorskip("uvicorn", reason="needs the extra 'server'")
    pytest.importorskip("openai", reason="needs the extra 'test'")
    from speech_server import LocalServer

    with LocalServer("demo", tmp_path / "voices") as server:
        for speaker, voice in (("bass", "onyx"), ("soprano", "nova")):
            answer = server.client().audio.speech.with_raw_response.create(
                model="tts-1",
                input="good morning please",
                voice=voice,
                response_format="flac",
                extra_body={"seed": 1, "stream": False},
            )
            assert "x-finish-reason" not in answer.headers  # it says all of its text
            sound, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
            assert slips(["good", "morning", "please"], sound, rate) == 0
            assert pitch(sound, rate) == pytest.approx(SPEAKERS[speaker].hertz, rel=0.15)


def test_the_pages_speaker_is_heard_and_tells_what_the_voice_cannot_say(tmp_path):
    from mlx_voxcpm2 import load_model
    from mlx_voxcpm2.app.inputs import PageRequest
    from mlx_voxcpm2.app.speaker import Speaker
    from mlx_voxcpm2.server.model_thread import ModelThread

    thread = ModelThread(lambda: load_model("demo"))
    speaker = Speaker(thread, tmp_path)

    async def take(text, voice):
        body = {"text": text, "voice": voice, "settings": {"seed": "1"}}
        job = speaker.speak(speaker.with_faults(PageRequest.parse(body, {}.__getitem__)))
        async for _ in job.audio():
            pass
        return job.take

    try:
        high = {"kind": "described", "description": "high voice"}
        entry = asyncio.run(take("one two three", high))
        other = asyncio.run(take("one potato", {"kind": "any"}))
    finally:
        thread.close()
    assert any("'potato'" in remark for remark in other.remarks)
    assert heard_wrong(entry.file, "one two three") == 0 and entry.finish_reason == "stop"
    sound, rate = soundfile.read(entry.file, dtype="float32")
    assert pitch(sound, rate) == pytest.approx(SPEAKERS["soprano"].hertz, rel=0.15)
    assert np.abs(sound).max() > 0.05
