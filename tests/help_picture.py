"""docs/generate-help.svg: the help of `generate` as a terminal of 80 columns shows it.

COLUMNS=80 python tests/help_picture.py
"""

import html
from pathlib import Path

from mlx_voxcpm2.commands.generate_arguments import build_parser

FILE = Path(__file__).parent.parent / "docs" / "generate-help.svg"
COLUMNS, WIDTH, HEIGHT = 80, 7.8, 17  # pixels of a letter and a line


def picture(text: str) -> str:
    lines = text.splitlines()
    wide, high = round(COLUMNS * WIDTH + 20), len(lines) * HEIGHT + 20
    rows = "\n".join(
        f'<text x="10" y="{number * HEIGHT + 22}">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}">\n'
        '<rect width="100%" height="100%" rx="6" fill="#1e1e1e"/>\n'
        '<g font-family="monospace" font-size="13" fill="#dddddd" xml:space="preserve" '
        'style="white-space:pre">\n'
        f"{rows}\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    FILE.write_text(picture(build_parser("mlx-voxcpm2 generate").format_help()), encoding="utf-8")
