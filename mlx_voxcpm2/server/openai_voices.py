"""Voices for the names that clients of OpenAI's service send, each from a description of its own.

They are designed by the model on first use, with a fixed seed, and kept.
"""

from __future__ import annotations

from collections.abc import Sequence

SAMPLE = (
    "Good morning. I read whatever you give me, slowly or quickly, short or long, and it is always "
    "the same voice that you hear."
)
"""What a voice says when it is designed: six to eight seconds."""
SEED = 20_240_501

DESCRIPTIONS = {
    "alloy": "A woman of about thirty, even and friendly, with a clear voice",
    "ash": "A man of about thirty, warm and relaxed, with a slightly rough voice",
    "ballad": "A young man, gentle and a little dreamy, who speaks slowly",
    "cedar": "A man of about forty, calm and warm, with a deep, full voice",
    "coral": "A young woman, lively and cheerful, with a bright voice",
    "echo": "A man of about thirty-five, quiet and composed, with an even voice",
    "fable": "A British storyteller, a man of about fifty, expressive and kind",
    "marin": "A woman of about twenty-five, natural and warm, as in a conversation",
    "nova": "A young woman, energetic and clear, with a high voice",
    "onyx": "A man of about fifty, serious, with a very deep voice",
    "sage": "A woman of about forty-five, thoughtful and soft, who speaks calmly",
    "shimmer": "A woman of about thirty, light and soft, close to the microphone",
    "verse": "A young man, expressive and quick, who varies his intonation",
}
"""Names of OpenAI's voices -> descriptions."""

SPEAKERS = {
    "low voice": ("cedar", "echo", "onyx"),
    "man": ("ash", "ballad", "cedar", "echo", "fable", "onyx", "verse"),
    "high voice": ("coral", "nova", "shimmer"),
    "woman": ("alloy", "coral", "marin", "nova", "sage", "shimmer"),
}
"""Descriptions that the voices in the package know -> names; of two for a name, the first."""


def known_description(name: str, known: Sequence[str]) -> str | None:
    """Description of one of OpenAI's voices for a voice that knows these descriptions only."""
    return next((each for each, names in SPEAKERS.items() if each in known and name in names), None)
