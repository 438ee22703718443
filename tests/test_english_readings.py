"""Written English is read as a careful reader would, in the cases of benchmarks/normalization."""

import sys
from pathlib import Path

import pytest

from mlx_voxcpm2.text.normalization import normalized

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "normalization"))

from compare import PARTS, cases

CASES = [case for part in PARTS for case in cases(part)]


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_all_cases_of_a_class_are_read_rightly(kind):
    read = {case: normalized(case.written, "en") for case in CASES if case.kind == kind}
    assert {case.written: spoken for case, spoken in read.items() if not case.accepts(spoken)} == {}


def test_there_are_200_cases_half_of_them_held_out():
    development, held_out = (len(cases(part)) for part in PARTS)
    assert development + held_out >= 200 and held_out >= development
    assert {case.kind for case in cases("held_out")} == {case.kind for case in CASES}


def test_a_wrong_reading_is_not_accepted():
    case = next(case for case in CASES if case.written == "It happened in the 1770s.")
    assert case.accepts("it happened in the seventeen-seventies")
    assert not case.accepts("It happened in the seventeen seventy.")


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("He is Mr. No. No, he is not.", "He is Mister No. No, he is not."),
        ("I am 5 in total, at 5 in the morning.", "I am five in total, at five in the morning."),
        ("Charles I met.", "Charles I met."),
        ("Malcolm X spoke.", "Malcolm X spoke."),
        (
            "A 10K run in 4K for 100k people.",
            "A ten K run in four K for one hundred thousand people.",
        ),
        ("5m people swam 50m.", "five million people swam fifty meters."),
        ("It ended at 5 p.m. He left.", "It ended at five PM. He left."),
        ("In 1066, 1066 people fell.", "In ten sixty six, one thousand and sixty six people fell."),
        ("See [2] and a/b.", "See [2] and a/b."),
        ("ISBN 978-3-16.", "ISBN nine seven eight three one six."),
        ("4111 1111 1111 1111", "four one one one one one one one one one one one one one one one"),
        ("3-2=1 and 5-3.", "three minus two equals one and five to three."),
        ("He ran 7/8ths.", "He ran seven eighths."),
        ("It says 007.", "It says zero zero seven."),
        (f"It is {10**20}.", f"It is one {'zero ' * 19}zero."),
    ],
)
def test_likely_confusions_are_read_by_what_surrounds_them(text, spoken):
    assert normalized(text, "en") == spoken
