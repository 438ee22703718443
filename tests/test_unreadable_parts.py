"""Texts of which the English voice can read a part only, or which continue a clip."""

import asyncio
import logging

import mlx.core as mx
import numpy as np
import pytest

from mlx_voxcpm2 import load_model, speak_dialogue, speak_long
from mlx_voxcpm2.server.model_thread import ModelThread
from mlx_voxcpm2.server.tasks import SpeechTask
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.text.segments import Segment

SHORT = GenerationOptions(seed=1, max_tokens=2, min_tokens=2, inference_timesteps=2)
UNREADABLE = "can't read '你好'"


@pytest.fixture(scope="module")
def model():
    return load_model("english")


@pytest.fixture(scope="module")
def clip(model):
    return model.decode_latents(mx.zeros((4, 4, model.config.feat_dim))), model.sample_rate


def tokens(model, text, **voice):
    return model.request(text, options=SHORT, **voice).prompt.tokens


def test_a_space_is_between_the_transcript_of_a_clip_and_the_text(model, clip):
    joined = tokens(model, "Hello.", prompt_audio=clip, prompt_text="The kettle is on.")
    spaced = tokens(model, "Hello.", prompt_audio=clip, prompt_text="The kettle is on. ")
    unfinished = tokens(model, "Hello", prompt_audio=clip, prompt_text="The kettle is on.")
    assert joined == spaced == unfinished
    plain = tokens(model, "The kettle is on. Hello.")
    assert [each for each in joined if each in plain] == plain


def test_numbers_in_the_transcript_of_a_clip_are_read_in_words(model, clip, caplog):
    pytest.importorskip("wetext", reason="needs the extra 'normalize'")
    words = "It was nineteen ninety."
    assert tokens(model, "Hi.", prompt_audio=clip, prompt_text="It was 1990.") == tokens(
        model, "Hi.", prompt_audio=clip, prompt_text=words
    )
    assert "leaves out" not in caplog.text


def test_what_is_left_out_of_the_transcript_of_a_clip_is_named_once(clip, caplog):
    model = load_model("english")
    for _ in range(2):
        tokens(model, "Hi.", prompt_audio=clip, prompt_text="She said 你好 to me.")
    (told,) = [each.message for each in caplog.records if "leaves out" in each.message]
    assert told == "prompt_text: this voice leaves out '你', '好', which it can't read"


@pytest.mark.parametrize("has_clip", [False, True])
def test_a_text_that_can_not_be_read_is_refused_with_a_clip_too(model, clip, has_clip, caplog):
    voice = {"prompt_audio": clip, "prompt_text": "The kettle is on."} if has_clip else {}
    with pytest.raises(ValueError, match=UNREADABLE):
        model.request("你好", options=SHORT, **voice)
    assert not caplog.text  # the error says it


def test_a_text_that_is_too_long_to_be_spoken_well_is_named_once(caplog):
    model = load_model("english")
    tokens(model, "A short text. " * 28)
    assert not caplog.text
    for _ in range(2):
        tokens(model, "A short text. " * 29)
    (record,) = caplog.records
    assert record.message.endswith("in 405 at once; give segment_length 300")


def segments(*texts: str) -> list[Segment]:
    return [Segment(text, pause=0.5) for text in texts]


def test_a_part_that_can_not_be_read_is_silent_and_named(model, caplog):
    spoken = list(speak_long(model, segments("Yes.", "你好", "No."), options=SHORT))
    assert [each.text for each in spoken if each.text] == ["Yes.", "No."]
    assert sum(len(each.audio) for each in spoken) >= 1.5 * model.sample_rate
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        "left out: this voice can't read '你好'; it reads English"
    ]


def test_a_long_text_that_can_not_be_read_is_refused_at_once(model):
    with pytest.raises(ValueError, match=UNREADABLE):
        speak_long(model, segments("你好", "再见"), options=SHORT)


def test_a_speaker_of_whom_nothing_can_be_read_is_left_out_of_a_dialogue(model, caplog):
    spoken = list(speak_dialogue(model, "Anna: Hello.\nBen: 你好。", options=SHORT))
    assert [each.speaker for each in spoken if each.text] == ["Anna"]
    assert "left out" in caplog.text


class TestServer:
    @pytest.fixture
    def thread(self, model):
        thread = ModelThread(lambda: model)
        yield thread
        thread.close()

    def spoken(self, thread, *texts):
        async def speak():
            async with thread.speak(SpeechTask(tuple(segments(*texts)), SHORT)) as stream:
                return [each async for each in stream]

        return asyncio.run(speak())

    def test_a_part_that_can_not_be_read_is_silent(self, thread, caplog):
        with caplog.at_level(logging.WARNING):
            found = self.spoken(thread, "Yes.", "你好", "No.")
        assert [each.part.text for each in found if each.part] == ["Yes.", "No."]
        assert sum(np.sum(each.audio == 0) for each in found) >= 1.5 * thread.sample_rate
        assert caplog.text.count("left out") == 1

    def test_a_text_that_can_not_be_read_is_refused_before_the_answer_begins(self, thread):
        with pytest.raises(ValueError, match=UNREADABLE):
            self.spoken(thread, "你好")
