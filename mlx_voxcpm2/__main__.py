"""`python -m mlx_voxcpm2 COMMAND …`: see `cli.py`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m mlx_voxcpm2"))
