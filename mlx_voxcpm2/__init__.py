"""Text to speech with VoxCPM2 on MLX.

    from mlx_voxcpm2 import load_model

    model = load_model("openbmb/VoxCPM2")       # or "english": no download
    model.speak("Hello.", instruct="a calm, low voice", seed=1).save("hello.wav")

    for chunk in model.generate("Hello.", stream=True):   # one chunk per 160 ms
        play(chunk.audio, chunk.sample_rate)

    result = await model.generate("Hello.")     # or: async for chunk in model.generate(...)

load_model      a folder or hub repository -> VoxCPM2
VoxCPM2         speak, generate, generate_batch, make_voice, load_adapter, ...
speak_long      a text of any length, segment by segment, in one voice
speak_dialogue  a script of several speakers, each in a voice of its own
Voice           a saved voice; list_voices gives the names of all
load_recogniser a speech recogniser, for transcripts, for `verify` and for `best_of`
transcribe      a recording of any usual length -> text, with the times of its sentences
"""

__version__ = "0.1.0"

from . import interrupts  # isort: skip  before all that takes time

if interrupts.is_command():
    interrupts.quiet()

from .layers import blas  # noqa: F401, I001  before MLX: it prepares how that is loaded

from .dialogue.speak import speak_dialogue
from .load import load_model
from .long_form.speak import SpokenSegment, speak_long
from .long_form.transcription import Transcription, transcribe
from .model import VoxCPM2
from .recognition.best_of import BestOf
from .recognition.recogniser import load_recogniser
from .recognition.verification import Verification
from .speech.options import GenerationOptions
from .speech.results import GenerationResult
from .voices.folder import list_voices
from .voices.saved import Voice

__all__ = [
    "BestOf",
    "GenerationOptions",
    "GenerationResult",
    "SpokenSegment",
    "Transcription",
    "Verification",
    "Voice",
    "VoxCPM2",
    "__version__",
    "list_voices",
    "load_model",
    "load_recogniser",
    "speak_dialogue",
    "speak_long",
    "transcribe",
]
