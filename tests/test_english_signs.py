"""English signs, keys, codes and short texts that look like something else are read rightly."""

import pytest

from mlx_voxcpm2.app.inputs import segments_of
from mlx_voxcpm2.commands.generate_arguments import build_parser, read_arguments
from mlx_voxcpm2.dialogue.options import TurnOptions
from mlx_voxcpm2.server.request import Limits, SpeechRequest
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.text.normalization import normalized
from mlx_voxcpm2.text.spoken import check_text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("20C", "twenty degrees Celsius"),
        ("70F.", "seventy degrees Fahrenheit."),
        ("It is -5C outside.", "It is minus five degrees Celsius outside."),
        ("Seat 20C, an iPhone 5C.", "Seat twenty C, an iPhone five C."),
        ("10.000 km", "ten thousand kilometers"),
        (
            "It has 5.000 people, 1.250 votes.",
            "It has five thousand people, one thousand two hundred and fifty votes.",
        ),
        (
            "3.500 km and 1.000 kg",
            "three point five zero zero kilometers and one point zero zero zero kilograms",
        ),
        ("25:61", "twenty five to sixty one"),
        ("It is 25:61 to us.", "It is twenty five to sixty one to us."),
        ("1-800-CALL-NOW", "one eight hundred, call now"),
        ("#hashtag1", "hashtag hashtag one"),
        ("Press Ctrl+1.", "Press Control plus one."),
        (
            "Cmd+Shift+P or Ctrl+Alt+Del",
            "Command plus Shift plus P or Control plus Alt plus Delete",
        ),
        ("Alt+F4", "Alt plus F four"),
        ("4K@60Hz", "four K at sixty hertz"),
        ("1080p@60fps", "ten eighty p at sixty frames per second"),
        ("Q1'24", "Q one twenty twenty four"),
        ("In Q3 '98 and FY'24.", "In Q three nineteen ninety eight and F Y twenty twenty four."),
        ("abc-123-def", "abc one twenty three def"),
        ("A COVID-19-related C#3.", "A COVID nineteen related C sharp three."),
    ],
)
def test_it_is_read_as_what_it_is(text, spoken):
    assert normalized(text, "en") == spoken


SIGNS = [("∞", "infinity"), (" & ", "and"), ("%", "percent"), ("√", "square root"), ("+", "plus")]


@pytest.mark.parametrize(("sign", "name"), SIGNS)
def test_a_text_of_one_sign_is_its_name_wherever_it_is_given(sign, name):
    assert normalized(sign) == name
    options = GenerationOptions(normalize=True)
    check_text(sign, normalize=True)
    args = build_parser().parse_args([f"--text={sign}", "--normalize"])
    assert read_arguments(args).with_words().text == name
    request = SpeechRequest.parse(
        {"input": sign, "normalize": True}, Limits("demo", 100, GenerationOptions())
    )
    assert [each.text for each in request.segments()] == [name]
    assert [each.text for each in segments_of(sign, options, TurnOptions())] == [name]


@pytest.mark.parametrize("text", ["...", "* * *", "😀", "?!"])
def test_marks_have_no_name_and_signs_none_without_normalization(text):
    with pytest.raises(ValueError, match="empty of words"):
        check_text(text, normalize=True)
    with pytest.raises(ValueError, match="empty of words"):
        check_text("∞")
