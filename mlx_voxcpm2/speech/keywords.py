"""Keyword arguments that every speaking method takes: the voice and the options.

`generate`, `generate_batch`, `request` and `speak_long` share them, so that a new option is
described once, in `GenerationOptions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..peers import keywords
from ..settings import unknown_name
from ..voices.inputs import VoiceInputs, VoiceKeywords
from .options import GenerationOptions, OptionKeywords

_FIELDS = {each.name for cls in (VoiceInputs, GenerationOptions) for each in fields(cls)}
COUNTERPARTS = {name: ours for name, ours in keywords.COUNTERPARTS.items() if ours in _FIELDS}
"""Names that other programs use for the voice and the options -> names here."""
ADVICE = {name: text for name, text in keywords.ADVICE.items() if name not in COUNTERPARTS}
"""Names of theirs without a counterpart, and what to do instead."""

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
