"""VoxCPM2 text to speech with MLX.

Reading order, from text to sound: `prompt` (the five modes) -> `tokenizer` -> `models` (the
networks) -> `generation` (patches, a stream, results) -> `model` (what `load_model` returns).
"""

__version__ = "0.1.0"

from .layers import blas  # noqa: F401, I001  first: it prepares how MLX is loaded

from .load import load_model
from .model import VoxCPM2
from .speech.options import GenerationOptions
from .speech.results import GenerationResult
from .voices.saved import Voice

__all__ = ["GenerationOptions", "GenerationResult", "Voice", "VoxCPM2", "__version__", "load_model"]
