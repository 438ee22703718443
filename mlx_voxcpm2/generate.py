"""`python -m mlx_voxcpm2.generate --text "Hello."`: see `commands/generate.py`."""

import sys

from .commands.generate import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
