"""Share of written English that a normaliser reads as a careful reader would, by class.

`english_development.tsv` was there when the rules of `mlx_voxcpm2/text/english` were written;
`english_held_out.tsv` was written afterwards, and `english_second_held_out.tsv` and
`english_third_held_out.tsv` each after they had been mended by the one before. A line is a class, a
written sentence, and the accepted readings between bars.

    python benchmarks/normalization/compare.py --normalizer ours
    python benchmarks/normalization/compare.py --normalizer wetext --show

wetext: the extra `normalize`. nemo: `pip install nemo_text_processing` (Linux only, since its
pynini has no wheels for Macs). num2words: every number as a cardinal.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS = ("development", "held_out", "second_held_out", "third_held_out")


@dataclass(frozen=True)
class Case:
    """A written sentence with its accepted readings."""

    kind: str
    written: str
    readings: tuple[str, ...]

    def accepts(self, spoken: str) -> bool:
        return bare(spoken) in map(bare, self.readings)


def cases(part: str) -> list[Case]:
    """Cases of one of `PARTS`."""
    file = FOLDER / f"english_{part}.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return [Case(kind, written, tuple(readings.split(" | "))) for kind, written, readings in rows]


def bare(text: str) -> str:
    """Words in lower case, without punctuation and the "and" of "one hundred and five".

    Abbreviations that are spelled out are one word: "P.M.", "P M" and "PM" are equal.
    """
    text = unicodedata.normalize("NFKD", text).replace("-", " ")
    text = re.sub(r"[^\w\s']", " ", text)
    text = re.sub(r"\b([A-Z]) (?=[A-Z]\b)", r"\1", " ".join(text.split())).casefold()
    text = re.sub(r"\b(hundred|thousand|million) and\b", r"\1", text)
    return text.replace("metre", "meter").replace("litre", "liter")


def _ours() -> Callable[[str], str]:
    from mlx_voxcpm2.text.normalization import normalized

    return lambda text: normalized(text, "en")


def _wetext() -> Callable[[str], str]:
    from wetext import Normalizer

    normalizer = Normalizer(lang="en", operator="tn")
    return lambda text: str(normalizer.normalize(text))


def _nemo() -> Callable[[str], str]:
    from nemo_text_processing.text_normalization.normalize import Normalizer

    normalizer = Normalizer(input_case="cased", lang="en")
    return lambda text: str(normalizer.normalize(text, punct_post_process=True))


def _num2words() -> Callable[[str], str]:
    from num2words import num2words

    number = re.compile(r"\d[\d,]*(?:\.\d+)?")
    return lambda text: number.sub(
        lambda found: num2words(float(found.group().replace(",", ""))), text
    )


NORMALIZERS = {"ours": _ours, "wetext": _wetext, "nemo": _nemo, "num2words": _num2words}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--normalizer", choices=NORMALIZERS, default="ours")
    parser.add_argument("--show", action="store_true", help="print the sentences read wrongly")
    args = parser.parse_args()
    normalize = NORMALIZERS[args.normalizer]()
    for part in PARTS:
        total: Counter[str] = Counter()
        right: Counter[str] = Counter()
        for case in cases(part):
            try:
                spoken = normalize(case.written)
            except AssertionError:  # wetext found no path through its grammar
                spoken = case.written
            total[case.kind] += 1
            right[case.kind] += case.accepts(spoken)
            if args.show and not case.accepts(spoken):
                print(f"{case.kind}: {case.written}\n    {spoken}")
        shares = ", ".join(f"{kind} {right[kind]}/{total[kind]}" for kind in total)
        print(f"{args.normalizer}, {part}: {right.total()} of {total.total()} right ({shares})")


if __name__ == "__main__":
    main()
