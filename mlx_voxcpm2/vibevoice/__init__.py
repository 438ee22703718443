"""VibeVoice: dialogues of up to four speakers, from a script and a clip of each voice.

    from mlx_voxcpm2 import vibevoice

    tts = vibevoice.load("microsoft/VibeVoice-1.5B")
    tts.speak("Speaker 1: Hello.\\nSpeaker 2: Hi!", ["a.wav", "b.wav"]).save("dialogue.wav")

Checked against Microsoft's and transformers' code on random weights, never on the released ones.
Microsoft publishes the weights for research. English and Chinese; 7.5 frames per second.
"""

from ..models.vibevoice.codec import State, sample_latents
from ..models.vibevoice.config import SAMPLE_RATE
from ..models.vibevoice.loss import Losses
from ..models.vibevoice.solver import Solver
from .loading import load
from .model import VibeVoice
from .options import DialogueOptions
from .steps import Step
from .voices import Voice, level

__all__ = [
    "SAMPLE_RATE",
    "DialogueOptions",
    "Losses",
    "Solver",
    "State",
    "Step",
    "VibeVoice",
    "Voice",
    "level",
    "load",
    "sample_latents",
]
