"""Keyword arguments that every speaking method takes: the voice and the options.

`generate`, `generate_batch`, `request` and `speak_long` share them, so that a new option is
described once, in `GenerationOptions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..settings import unknown_name
from ..voices.inputs import VoiceInputs, VoiceKeywords
from .options import GenerationOptions, OptionKeywords

# Names that upstream's `voxcpm`, mlx-audio and others use, and their counterpart here.
ELSEWHERE = {
    "ref_text": "it is prompt_text here, the transcript of prompt_audio",
    "prompt_wav_path": "it is prompt_audio here",
    "reference_wav_path": "it is ref_audio here",
    "reference_audio": "it is ref_audio here",
    "control": "it is instruct here",
    "control_instruction": "it is instruct here",
    "instructions": "it is instruct here",
    "max_len": "it is max_tokens here",
    "min_len": "it is min_tokens here",
    "cfg_scale": "it is cfg_value here",
    "cfg": "it is cfg_value here",
    "ddpm_steps": "it is inference_timesteps here",
    "steps": "it is inference_timesteps here",
    "retry_badcase_max_times": "there are three attempts; retry_badcase=False turns them off",
    "retry_badcase_ratio_threshold": "it is fixed at upstream's 6; retry_badcase=False turns it "
    "off",
    "denoise": "VoxCPM2 here has no denoiser; clean the clip first",
    "speed": "VoxCPM2 has no speed; say how fast in instruct",
    "lang_code": "VoxCPM2 finds the language in the text; leave it out",
    "verbose": "set the level of the logger mlx_voxcpm2",
}


class SpeechKeywords(VoiceKeywords, OptionKeywords, total=False):
    """Voice and options as keyword arguments, for type checkers."""


def parse_keywords(
    function: str, given: SpeechKeywords, options: GenerationOptions | None = None
) -> tuple[VoiceInputs, GenerationOptions]:
    """Voice and options of keyword arguments; options that are not given come from `options`.

    Raises TypeError for an unknown name, with a hint, and ValueError for a value out of range.
    """
    voice, values = split_keywords(function, given, VoiceInputs, GenerationOptions)
    return VoiceInputs(**voice), replace(options or GenerationOptions(), **values)


def split_keywords(
    function: str, given: Mapping[str, Any], *classes: type
) -> Iterator[dict[str, Any]]:
    """Keyword arguments that belong to the fields of each dataclass.

    Raises TypeError for a name that belongs to none, with a hint.
    """
    names = [[each.name for each in fields(cls)] for cls in classes]
    for name in given:
        if not any(name in known for known in names):
            hint = unknown_name(name, [each for known in names for each in known], ELSEWHERE)
            raise TypeError(f"{function}(): {hint}")
    return ({name: given[name] for name in known if name in given} for known in names)


Function = TypeVar("Function", bound=Callable[..., Any])


def with_keywords(*classes: type) -> Callable[[Function], Function]:
    """Decorator that shows the fields of dataclasses, with their defaults, in `help()`."""

    def documented(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        shared = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default)
            for cls in classes
            for each in fields(cls)
        ]
        shown = signature.replace(parameters=[*own, *shared])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return documented


with_speech_keywords = with_keywords(VoiceInputs, GenerationOptions)
