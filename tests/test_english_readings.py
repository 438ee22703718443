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


def test_there_are_300_cases_more_than_half_of_them_held_out():
    development, *held_out = (len(cases(part)) for part in PARTS)
    assert development + sum(held_out) >= 300 and sum(held_out) > development
    for part in PARTS:
        assert len({case.kind for case in cases(part)}) >= 20


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
        ("In 12/8 time, and a 2/4 march.", "In twelve eight time, and a two four march."),
        ("Rated 8/10, 3.5/5 stars.", "Rated eight out of ten, three point five out of five stars."),
        ("Give 1/10 away.", "Give one tenth away."),
        ("802.3 and 802.11b/g/n.", "eight oh two point three and eight oh two point eleven B G N."),
        ("ISO 9001:2015 at 1080p.", "ISO nine thousand and one twenty fifteen at ten eighty p."),
        ("A 4x100m relay, 0x1F.", "A four by one hundred meter relay, zero x one F."),
        ("3x5=15 and 10x cheaper.", "three times five equals fifteen and ten times cheaper."),
        ("It is 20F outside, not 30C.", "It is twenty degrees Fahrenheit outside, not thirty C."),
        ("Seat 30C, flat is 4C.", "Seat thirty C, flat is four C."),
        (
            "5 km–10 km, $2M-$3M.",
            "five kilometers to ten kilometers, two million dollars to three million dollars.",
        ),
        (
            "At 45° N, 12°30'15\" E.",
            "At forty five degrees north, twelve degrees thirty minutes fifteen seconds east.",
        ),
        (
            "Hours 1h30m, 3m 20s, 2'30\".",
            "Hours one hour thirty minutes, three minutes twenty "
            "seconds, two minutes thirty seconds.",
        ),
        (
            "100s of U-21s, MP3s and 747s.",
            "hundreds of U-twenty ones, M P threes and seven forty sevens.",
        ),
        (
            "(555) 123-4567 x89",
            "five five five one two three four five six seven extension eight nine",
        ),
        (
            "Call 911 or 112. Card ending 4242.",
            "Call nine one one or one one two. Card ending four two four two.",
        ),
        ("2024-01-15T10:30:00Z", "January fifteenth, twenty twenty four at ten thirty U T C"),
        ("In 03/2024 at 0900 hours.", "In March twenty twenty four at oh nine hundred hours."),
        ("1 Kings 3:5; James 9:00.", "First Kings three five; James nine o'clock."),
        ("Elizabeth I and James I.", "Elizabeth the first and James the first."),
        (
            "WWII, c. 1450. No. 10 High St.",
            "World War two, circa fourteen fifty. Number ten High Street.",
        ),
        ("C++, F#, a V8.", "C plus plus, F sharp, a V eight."),
        (
            "A Boeing 737-800, a 747.",
            "A Boeing seven thirty seven eight hundred, a seven forty seven.",
        ),
        ("1066 and all that.", "ten sixty six and all that."),
        ("1066 men (1066).", "one thousand and sixty six men (ten sixty six)."),
        ("He is 6', she 5'11\".", "He is six feet, she five feet eleven inches."),
        (
            "A 6' wall, 'in room 6' and a \"Catch 22\".",
            "A six foot wall, 'in room six' and a \"Catch twenty two\".",
        ),
        ("A 10'x12' room.", "A ten feet by twelve feet room."),
        ("Mon. and Tue. The cat sat. Sat. too.", "Monday and Tuesday. The cat sat. Saturday too."),
        (
            "Between 20C and 30C, row 20C.",
            "Between twenty degrees Celsius and thirty degrees Celsius, row twenty C.",
        ),
        ("5 US$, 20 kr. or Rs. 500.", "five US dollars, twenty kroner or five hundred rupees."),
        ("A $100-million deal.", "A one hundred million dollar deal."),
        ("£5 10s 6d, CHF 5.-", "five pounds ten shillings six pence, five Swiss francs"),
        ("Fe2O3, Ca²⁺.", "Fe two O three, Ca two plus."),
        (
            "An i7-9700K, a Nokia 3310.",
            "An i seven-ninety seven hundred K, a Nokia thirty three ten.",
        ),
        (
            "5 g/cm³ of 3 l/100 km.",
            "five grams per cubic centimeter of three liters per hundred kilometers.",
        ),
        (
            "See a.txt, ~/b/c.py or and/or.",
            "See a dot txt, tilde slash b slash c dot py or and/or.",
        ),
        (
            "2+2=? At 1.618:1, 52% v. 48%.",
            "two plus two equals what? At one point six one eight to one, "
            "fifty two percent versus forty eight percent.",
        ),
        (
            "Jan–Mar 2020, the 1st c. AD, ½ tsp. salt.",
            "January to March twenty twenty, the first century AD, half a teaspoon salt.",
        ),
        (
            "Qwen2.5, C++17, base64(x), SOCKS5.",
            "Qwen two point five, C plus plus seventeen, base sixty four(x), SOCKS five.",
        ),
        (f"It is {10**20}.", f"It is one {'zero ' * 19}zero."),
    ],
)
def test_likely_confusions_are_read_by_what_surrounds_them(text, spoken):
    assert normalized(text, "en") == spoken
