"""Speech to text with Voxtral on MLX.

from mlx_voxcpm2 import voxtral

stt = voxtral.load("mistralai/Voxtral-Mini-3B-2507")
print(stt.transcribe("clip.wav", language="en").text)

for text in stt.stream("clip.wav"):            # as it is recognised
    print(text, end="", flush=True)
stt.score("clip.wav", "Hello world.").mean     # how probable a text is
stt.ask("Who is speaking?", "clip.wav").text   # a question about a sound
"""

from .recognition.transcript import Score, Transcript
from .recognition.voxtral.load import load
from .recognition.voxtral.long_audio import Segment
from .recognition.voxtral.model import Voxtral

__all__ = ["Score", "Segment", "Transcript", "Voxtral", "load"]
