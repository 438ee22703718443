"""What the page tells about itself: the model, the machine, examples, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..recognition.recogniser import DEFAULT_RECOGNISER, check_recognition_installed
from .bodies import MOST_CLIP_BYTES
from .inputs import LONGEST_TEXT
from .widgets import GROUPS, shown_settings

if TYPE_CHECKING:
    from ..model import VoxCPM2

EXAMPLES = (
    ("Greeting", "Hello! It is so good to see you again. How have you been?"),
    ("Story", "Once upon a time, in a house at the edge of the woods, there lived a clockmaker."),
    ("News", "Good evening. Here are the headlines at nine o'clock."),
    ("中文", "你好，很高兴再次见到你。今天过得怎么样？"),
    ("Español", "¡Hola! Qué alegría verte de nuevo. ¿Cómo has estado?"),
    ("Deutsch", "Hallo! Wie schön, dich wiederzusehen. Wie geht es dir?"),
)
# Of the voices that come with the package, one speaks English, the other a few words.
ENGLISH_EXAMPLES = EXAMPLES[:3]
DEMO_EXAMPLES = (
    ("Numbers", "three one four one five nine"),
    ("Greeting", "hello world, good morning"),
    ("Drinks", "coffee please, no water, thanks"),
    ("中文", "三 一 四 一 五 九"),
)
SCRIPTS = (
    (
        "Interview",
        "Anna: Good evening, and welcome. With me is Ben, who keeps bees on a roof.\n"
        "Ben (cheerful): Thank you! There are forty thousand of them.\n"
        "Anna: And do the neighbours mind? [pause:0.6]\n"
        "Ben: Not since they have tasted the honey.\n",
    ),
    (
        "对话",
        "小林：早上好，今天过得怎么样？\n小王：很好，谢谢！我们去喝咖啡吧。\n小林：好的。\n",
    ),
)
DEMO_SCRIPTS = (
    (
        "Coffee",
        "Anna: Hello, good morning.\nBen (low voice): Good morning. Coffee, please.\n"
        "Anna: Yes. [pause:0.4] One? Two?\nBen (low voice): Two, thanks.\n",
    ),
)
ENGLISH_SCRIPTS = (
    (
        "Interview",
        "Anna: Good evening, and welcome. With me is Ben, who keeps bees on a roof.\n"
        "Ben (man): Thank you! There are forty thousand of them.\n"
        "Anna: And do the neighbours mind? [pause:0.6]\n"
        "Ben (man): Not since they have tasted the honey.\n",
    ),
)
DESCRIPTIONS = (
    "An old man, slow and hoarse",
    "A young woman, warm and calm",
    "A cheerful boy, talking fast",
    "A news reader, clear and serious",
)
STYLES = ("cheerful", "sad", "whispering", "angry", "slow and calm")

OF_THE_PACKAGE = {
    "english": (ENGLISH_EXAMPLES, ENGLISH_SCRIPTS),
    "demo": (DEMO_EXAMPLES, DEMO_SCRIPTS),
}
"""Examples and scripts of the voices that come with the package."""


def about(model: VoxCPM2, name: str, options: Mapping[str, object], asr_model: str | None) -> dict:
    """For the page's start. name: the model's, as it was given. options: initial values."""
    examples, scripts = OF_THE_PACKAGE.get(name, (EXAMPLES, SCRIPTS))
    vocabulary = model.request_builder.vocabulary
    return {
        "model": name,
        "device": device_name(),
        "precision": precision_of(model),
        "adapter": model.adapter is not None,
        "sample_rate": model.sample_rate,
        "examples": [list(each) for each in examples],
        "scripts": [list(each) for each in scripts],
        "descriptions": vocabulary.descriptions if vocabulary else DESCRIPTIONS,
        "has_own_voice": bool(vocabulary and vocabulary.descriptions),
        "styles": STYLES,
        "groups": GROUPS,
        "settings": shown_settings(options),
        "longest_text": LONGEST_TEXT,
        "clip_bytes": MOST_CLIP_BYTES,
        "recogniser": recogniser_name(asr_model),
    }


def recogniser_name(asr_model: str | None) -> str | None:
    """Recogniser that writes the words of clips: the given one, else the default if installed."""
    if asr_model is not None:
        return asr_model
    try:
        check_recognition_installed()
    except ValueError:
        return None
    return DEFAULT_RECOGNISER


def device_name() -> str:
    """MLX's device and the processor's name."""
    import mlx.core as mx

    from ..commands.machine import processor

    kind = "GPU" if mx.default_device() == mx.Device(mx.gpu) else "CPU"
    name = processor()
    return f"{kind} ({name})" if name else kind


def precision_of(model: VoxCPM2) -> str:
    """Such as "float32", or "8-bit, bfloat16" for quantised weights."""
    bits = {each.bits for each in model.modules() if isinstance(getattr(each, "bits", None), int)}
    dtype = str(model.dtype).split(".")[-1]
    widths: list[Any] = sorted(bits)
    return f"{'/'.join(map(str, widths))}-bit, {dtype}" if widths else dtype
