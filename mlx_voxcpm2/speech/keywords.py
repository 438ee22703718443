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
COUNTERPARTS = {
    "ref_text": "prompt_text",
    "prompt_wav_path": "prompt_audio",
    "reference_wav_path": "ref_audio",
    "reference_audio": "ref_audio",
    "control": "instruct",
    "control_instruction": "instruct",
    "instructions": "instruct",
    "max_len": "max_tokens",
    "min_len": "min_tokens",
    "cfg_scale": "cfg_value",
    "cfg": "cfg_value",
    "ddpm_steps": "inference_timesteps",
    "steps": "inference_timesteps",
}
# Names of theirs without a counterpart, and what to do instead.
ADVICE = {
    "retry_badcase_max_times": "there are three attempts; retry_badcase=False turns them off",
    "retry_badcase_ratio_threshold": "it is upstream's 6; retry_badcase=False turns it off",
    "denoise": "there is no denoiser; clean the clip first",
    "speed": "VoxCPM2 has none; say how fast in instruct",
    "lang_code": "VoxCPM2 finds the language in the text; leave it out",
    "verbose": "set the level of the logger mlx_voxcpm2",
    "stream": "only generate streams",
    "batch_size": "only generate_batch has it",
}


DEFAULT_OPTIONS = GenerationOptions()
"""Options of calls that give none."""


class SpeechKeywords(VoiceKeywords, OptionKeywords, total=False):
    """Voice and options as keyword arguments, for type checkers."""


def parse_keywords(
    function: Callable[..., Any], given: SpeechKeywords, options: GenerationOptions | None = None
) -> tuple[VoiceInputs, GenerationOptions]:
    """Voice and options of keyword arguments; options that are not given come from `options`.

    Raises TypeError for an unknown name, with a hint, and ValueError for a value out of range.
    """
    voice, values = split_keywords(function, given, VoiceInputs, GenerationOptions)
    return VoiceInputs(**voice), merged_options(options, values)


def merged_options(
    options: GenerationOptions | None, values: Mapping[str, Any]
) -> GenerationOptions:
    """Options with `values` in place of their own; None stands for the default options.

    Raises TypeError for options of another type, ValueError for a value out of range.
    """
    if options is None:
        options = DEFAULT_OPTIONS
    if not isinstance(options, GenerationOptions):
        raise TypeError(
            f"options is a {type(options).__name__}; give GenerationOptions, or its fields as "
            "keywords"
        )
    return replace(options, **values) if values else options


def split_keywords(
    function: Callable[..., Any], given: Mapping[str, Any], *classes: type
) -> Iterator[dict[str, Any]]:
    """Keyword arguments of a function that belong to the fields of each dataclass.

    Raises TypeError for a name that belongs to none, with a hint.
    """
    names = [[each.name for each in fields(cls)] for cls in classes]
    shared = [name for known in names for name in known]
    for name in given:
        if name not in shared:
            own = [each for each in inspect.signature(function).parameters if each not in shared]
            message = unknown_name(name, shared + own, COUNTERPARTS, ADVICE)
            raise TypeError(f"{function.__name__}(): {message}")
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
