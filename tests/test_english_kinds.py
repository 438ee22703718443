"""English amounts, clocks, units and formulas that look like something else are read rightly."""

import pytest

from mlx_voxcpm2.text.normalization import normalized


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("10,000 BCE", "ten thousand B C E"),
        ("It began about 10,000 B.C. in Asia.", "It began about ten thousand B C in Asia."),
        ("It began about 10,000 B.C.", "It began about ten thousand B C."),
        ("1,234 BC", "one thousand two hundred and thirty four B C"),
        ("12,000–10,000 BC, 44 BC", "twelve thousand to ten thousand B C, forty four B C"),
        ("A 1:10,000 map at 1:30.", "A one to ten thousand map at one thirty."),
        ("From 1:00,2:00", "From one o'clock,two o'clock"),
    ],
)
def test_thousands_are_read_in_years_before_christ_and_in_ratios(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("It weighs 2,5 kg.", "It weighs two point five kilograms."),
        ("2,500 kg of 10,5 %", "two thousand five hundred kilograms of ten point five percent"),
        ("0,5 l at 36,6 °C", "zero point five liters at thirty six point six degrees Celsius"),
        ("12,50 EUR or €12,50", " or ".join(["twelve euros and fifty cents"] * 2)),
        ("10.000 € or €10.000.", "ten thousand euros or ten thousand euros."),
        ("R$ 1.000, 1.000.000 people", "one thousand reais, one million people"),
        ("€1.599 per liter", "one point five nine nine euros per liter"),
        ("Rooms 2,5 and 7.", "Rooms two, five and seven."),
    ],
)
def test_amounts_of_the_continent_are_known_by_their_units(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("$5 USD and $20 CAD", "five US dollars and twenty Canadian dollars"),
        ("$5 million USD", "five million US dollars"),
        ("$-5, -$5", "minus five dollars, minus five dollars"),
        ("¢5, 5¢, ¢1", "five cents, five cents, one cent"),
        ("₹2,00,000 rupees", "two hundred thousand rupees"),
        ("$5.50 dollars, £5 pounds", "five dollars and fifty cents, five pounds"),
        ("a $5 pound cake", "a five dollar pound cake"),
        (
            "$10/person, $5/mo, $20/night",
            "ten dollars per person, five dollars per month, twenty dollars per night",
        ),
        ("$7.50/share, €5/kg", "seven dollars and fifty cents per share, five euros per kilogram"),
        ("3M Company, 3M's tape", "three M Company, three M's tape"),
        ("Use 3M tape. I work for 3M.", "Use three M tape. I work for three M."),
        ("$3M, 3M users", "three million dollars, three million users"),
    ],
)
def test_money_is_named_once_and_a_company_is_no_million(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("5:00 o'clock", "five o'clock"),
        ("23:59:60", "twenty three fifty nine and sixty seconds"),
        ("15:30:75", "fifteen:thirty:seventy five"),
        ("From 00:00 to 24:00, at 00:30.", "From midnight to midnight, at zero thirty."),
        ("12:00 AM and 13:00", "twelve AM and thirteen hundred"),
        ("1-800-FLOWERS", "one eight hundred, flowers"),
        ("Call 1-888-GOT-JUNK now.", "Call one eight eight eight, got junk now."),
        ("911.", "nine one one."),
        ("A 911 call, a Porsche 911.", "A nine one one call, a Porsche nine eleven."),
        ("911 people", "nine hundred and eleven people"),
        ("90210-1234", "nine zero two one zero one two three four"),
        (
            "Beverly Hills, CA 90210-1234",
            "Beverly Hills, California nine zero two one zero one two three four",
        ),
        ("6/1–6/5", "June first to June fifth"),
        ("12/1 - 12/24", "December first to December twenty fourth"),
        ("Use 1/4–3/4 in.", "Use one quarter to three quarters of an inch."),
        ("1/3–2/5 of them", "one third to two fifths of them"),
    ],
)
def test_clocks_phones_and_dates_have_their_own_readings(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Turn 180 deg.", "Turn one hundred and eighty degrees."),
        ("5 deg C", "five degrees Celsius"),
        (
            "It's 20C. High 72F.",
            "It's twenty degrees Celsius. High seventy two degrees Fahrenheit.",
        ),
        ("20C", "twenty degrees Celsius"),
        ("3 Å, 5 N·m", "three angstroms, five newton meters"),
        ("10 µF", "ten microfarads"),
        ("44.1/96 kHz", "forty four point one or ninety six kilohertz"),
        ("24-bit/96 kHz", "twenty four-bit, ninety six kilohertz"),
        ("16 oz/473 ml", "sixteen ounces, four hundred and seventy three milliliters"),
        ("0.5 in, 0°C", "zero point five inches, zero degrees Celsius"),
        ("It is 0.5 in. Put 5 in, 5 out.", "It is zero point five inches. Put five in, five out."),
    ],
)
def test_units_are_known_where_they_are_clear(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("x = 4 * 2 - 1", "x equals four times two minus one"),
        ("8 - 3 * 2", "eight minus three times two"),
        ("8 / 2 + 1 = 5", "eight divided by two plus one equals five"),
        ("It ended 8 - 3.", "It ended eight to three."),
        ("α = 0.05", "alpha equals zero point zero five"),
        ("The α-helix, Δx, λ1 and 2π.", "The alpha-helix, delta x, lambda one and two pi."),
        ("Ω, 5 Ω", "omega, five ohms"),
        ("The word λόγος is 5 letters.", "The word λόγος is five letters."),
        ("√16, 7 ÷ 2, to ∞", "square root of sixteen, seven divided by two, to infinity"),
        ("v1.2.3-rc1", "version one point two point three R C one"),
        ("Ver. 1.0-beta2", "version one point zero beta two"),
        ("Python 3.13rc2", "Python three point thirteen R C two"),
        ("i7-12700K, i5-9600K", "i seven twelve seven hundred K, i five-ninety six hundred K"),
    ],
)
def test_formulas_and_versions_are_read_in_full(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Python 3.11.10", "Python three point eleven point ten"),
        ("Linux 6.6.32", "Linux six point six point thirty two"),
        ("Section 4.2.10", "Section four point two point ten"),
        ("Chapter 1.2.12", "Chapter one point two point twelve"),
        ("Python 10.12.11", "Python ten point twelve point eleven"),
        ("Ubuntu 22.04.03", "Ubuntu twenty two point zero four point zero three"),
        ("Node.js 18.12.10", "Node dot js eighteen point twelve point ten"),
        ("It is 3.11.10.", "It is three point eleven point ten."),
    ],
)
def test_versions_and_sections_are_no_dates(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("on 01.05.24", "on May first, twenty twenty four"),
        ("on 5.03.24", "on March fifth, twenty twenty four"),
        ("on 24.12.23", "on December twenty fourth, twenty twenty three"),
        ("on 1.5.2024", "on May first, twenty twenty four"),
        ("Release 12.10.2024", "Release October twelfth, twenty twenty four"),
        ("Build 2024.03.12", "Build March twelfth, twenty twenty four"),
    ],
)
def test_dates_with_dots_are_dates(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Call 24 hours a day.", "Call twenty four hours a day."),
        ("Call 24-hour help.", "Call twenty four-hour help."),
        ("I got the phone 20 years ago.", "I got the phone twenty years ago."),
        ("Text 50 words.", "Text fifty words."),
        ("Call 20 more people.", "Call twenty more people."),
        ("Call 50 percent of them.", "Call fifty percent of them."),
        ("The phone is 15 cm long.", "The phone is fifteen centimeters long."),
        ("Call 112 day or night.", "Call one one two day or night."),
        ("Call 112 now. Text 50409.", "Call one one two now. Text five zero four zero nine."),
    ],
)
def test_what_is_counted_after_a_call_is_no_phone_number(text, spoken):
    assert normalized(text) == spoken
