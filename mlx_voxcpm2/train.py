"""`python -m mlx_voxcpm2.train --train data.jsonl`: see `commands/train.py`."""

import sys

from .commands.train import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
