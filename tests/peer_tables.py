"""Tables of docs/coming-from.md, made from the tables that the command line uses.

    python tests/peer_tables.py

writes them into the page, each between its marks.
"""

import re
from collections import defaultdict
from pathlib import Path

from mlx_voxcpm2.peers.names import PeerName
from mlx_voxcpm2.peers.tables import TABLES

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"
_MARK = "<!-- flags of {} -->"
_END = "<!-- end -->"


def spelled(each: PeerName) -> str:
    """Name as a user writes it: a flag, or a key of YAML."""
    if each.is_short or each.text.startswith("in YAML"):
        return f"`{each.name}`"
    return f"`--{each.name}`"


def outcome(each: PeerName) -> str:
    """What becomes of the flag, in words."""
    text = re.sub(r"(--[a-z][a-z_]*)", r"`\1`", each.text)
    return {
        "same": "work",
        "alias": f"works: `--{each.ours}`",
        "translated": f"works: {text}",
        "built in": f"nothing to do: {text}",
        "ignored": f"no effect, and you are told: {text}",
        "refused": f"an error: {text}",
    }[each.effect]


def table(command: str) -> str:
    """Markdown table of one command: flags with the same programs and outcome share a row."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in TABLES[command].values():
        rows[", ".join(each.programs), outcome(each)].append(spelled(each))
    programs = sorted({program for each in TABLES[command].values() for program in each.programs})
    lines = [f"| {' or '.join(reversed(programs))} | of | here |", "|---|---|---|"]
    lines += [f"| {', '.join(names)} | {of} | {here} |" for (of, here), names in rows.items()]
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with all tables as they are now."""
    for command in TABLES:
        mark = _MARK.format(command)
        pattern = re.escape(mark) + ".*?" + re.escape(_END)
        if mark not in page:
            raise ValueError(f"docs/coming-from.md has no {mark}")
        new = f"{mark}\n{table(command)}\n{_END}"
        page = re.sub(pattern, lambda _, new=new: new, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
