"""Flags, batch fields and defaults follow from the dataclasses: an option is described once."""

from dataclasses import MISSING, dataclass, fields

import pytest

from mlx_voxcpm2.app.__main__ import AppArguments
from mlx_voxcpm2.app.__main__ import build_parser as app_parser
from mlx_voxcpm2.commands import batch, generate, serve
from mlx_voxcpm2.commands.asr_flags import RecogniserChoice
from mlx_voxcpm2.commands.batch_lines import FIELDS
from mlx_voxcpm2.commands.generate_arguments import read_arguments
from mlx_voxcpm2.commands.model_flags import ModelChoice
from mlx_voxcpm2.commands.output import OutputTargets
from mlx_voxcpm2.commands.serve import ServeArguments
from mlx_voxcpm2.commands.setting_flags import add_grouped_flags, read_settings
from mlx_voxcpm2.commands.shell import Parser
from mlx_voxcpm2.commands.transcribe import TranscribeArguments
from mlx_voxcpm2.commands.voice import AddArguments
from mlx_voxcpm2.long_form.options import LongFormOptions
from mlx_voxcpm2.recognition.best_of import BestOf
from mlx_voxcpm2.recognition.verification import Verification
from mlx_voxcpm2.settings import setting, settings_of
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.voices.inputs import VoiceInputs

DEFAULTS = {
    GenerationOptions: {
        "cfg_value": 2.0,
        "inference_timesteps": 10,
        "min_tokens": 2,
        "max_tokens": 4096,
        "temperature": 1.0,
        "seed": None,
        "retry_badcase": None,
        "solver": "euler",
        "fast": False,
        "retry_by_ear": None,
        "silence_limit": 10.0,
        "fade_in": 0.0,
        "trim_silence": False,
        "normalize": False,
        "speed": 1.0,
    },
    LongFormOptions: {
        "parallel": 1,
        "continue_segments": False,
        "segment_length": 300,
        "paragraph_pause": 0.5,
        "crossfade": 0.0,
        "match_level": False,
        "language": None,
    },
    Verification: {"limit": 0.2, "retries": 2},
    VoiceInputs: dict.fromkeys(("instruct", "ref_audio", "prompt_audio", "prompt_text", "voice")),
    ModelChoice: {
        "model": "openbmb/VoxCPM2",
        "revision": None,
        "dtype": None,
        "quantize": None,
        "adapter": None,
    },
    OutputTargets: {
        "output": None,
        "stream": False,
        "play": False,
        "subtitles": None,
        "save_voice": None,
        "makes_folder": False,
    },
    RecogniserChoice: {
        "transcribe": False,
        "verify": False,
        "timestamps": False,
        "best_of": 1,
        "asr_model": None,
        "language": None,
        "uses": ("transcribe", "verify", "best_of", "timestamps"),
        "may_be_unused": False,
    },
    BestOf: {"count": 4},
    TranscribeArguments: dict.fromkeys(("asr_model", "language", "format", "output")),
    AddArguments: {"description": "", "as_is": False, "overwrite": False},
    ServeArguments: {
        "host": "127.0.0.1",
        "port": 8000,
        "allowed_hosts": (),
        "allowed_origins": (),
        "api_key": None,
        "no_auth": False,
        "voices": None,
        "voice": None,
        "alias": (),
        "adapters": (),
        "asr_model": None,
        "max_text_length": 4096,
        "batch_size": 8,
        "max_queue": 64,
        "strict": False,
        "grace": 30.0,
        "verbose": False,
    },
    AppArguments: {
        "host": "127.0.0.1",
        "port": 7860,
        "allowed_hosts": (),
        "password": None,
        "no_auth": False,
        "asr_model": None,
        "batch_size": 8,
        "verbose": False,
    },
}

# Settings that a command line gives in another way than its dataclass.
DIFFERENT = {"segment_length": None}


def dests(parser) -> dict[str, object]:
    """Defaults of a parser's flags by the names of their values."""
    return {action.dest: action.default for action in parser._actions}


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_every_default_is_the_documented_one(cls):
    found = {each.name: each.default for each in fields(cls) if each.default is not MISSING}
    assert found == DEFAULTS[cls]
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in DEFAULTS[cls].items()
    }


@pytest.mark.parametrize("cls", [GenerationOptions, LongFormOptions, VoiceInputs])
def test_every_option_of_the_library_is_described_as_a_setting(cls):
    assert list(settings_of(cls)) == [each.name for each in fields(cls)]
    assert all(described.help for described in settings_of(cls).values())


@pytest.mark.parametrize(
    ("build", "classes"),
    [
        (generate.build_parser, [GenerationOptions, LongFormOptions, VoiceInputs, ModelChoice]),
        (generate.build_parser, [OutputTargets]),
        (batch.build_parser, [GenerationOptions, VoiceInputs, ModelChoice]),
        (serve.build_parser, [GenerationOptions, ModelChoice, ServeArguments]),
        (app_parser, [GenerationOptions, ModelChoice, AppArguments]),
    ],
)
def test_a_command_has_a_flag_for_every_setting_with_its_default(build, classes):
    found = dests(build())
    for cls in classes:
        for name in settings_of(cls):
            assert found[name] == DIFFERENT.get(name, DEFAULTS[cls][name]), name


def test_verification_has_flags_with_its_name_before_them():
    for build in (generate.build_parser, batch.build_parser):
        found = dests(build())
        assert {f"verify_{name}": value for name, value in DEFAULTS[Verification].items()} == {
            name: found[name] for name in found if name.startswith("verify_")
        }


def test_a_batch_line_has_a_field_for_every_option_and_part_of_a_voice():
    options = [each.name for each in fields(GenerationOptions)]
    voice = [each.name for each in fields(VoiceInputs)]
    dialogue = ["script", "voices"]
    assert list(FIELDS) == ["text", "id", "output", *voice, *dialogue, *options, "best_of"]


@dataclass(frozen=True)
class MoreOptions(GenerationOptions):
    """The options with one more of each kind."""

    loudness: float = setting(0.5, "number", "loudness", low=0, high=1, group="new group")
    breaths: bool = setting(True, "switch", "breathe", group="new group")


def test_a_new_option_is_a_flag_without_another_edit():
    parser = Parser(prog="x")
    add_grouped_flags(parser, MoreOptions)
    text = " ".join(parser.format_help().split())
    assert "--loudness NUMBER loudness (0 to 1, default 0.5)" in text
    assert "--no_breaths do not breathe" in text and "new group:" in text
    given = parser.parse_args(["--loudness", "0.25", "--no-breaths", "--cfg-value", "3"])
    options = read_settings(MoreOptions, given)
    assert options == MoreOptions(loudness=0.25, breaths=False, cfg_value=3.0)
    assert read_settings(MoreOptions, parser.parse_args([])) == MoreOptions()


def test_a_new_option_out_of_range_is_named():
    parser = Parser(prog="x")
    add_grouped_flags(parser, MoreOptions)
    with pytest.raises(ValueError, match=r"cfg_value is 11\.0; it must be a number from 0\.1 to"):
        read_settings(MoreOptions, parser.parse_args(["--cfg_value", "11"]))


def arguments_of(*flags: str):
    return read_arguments(generate.build_parser().parse_args(["--text", "Hi.", *flags]))


def test_the_command_line_counts_a_crossfade_in_milliseconds(capsys):
    assert arguments_of("--crossfade", "15").long_form.crossfade == 0.015
    for wrong in ("1001", "-1", "nan"):
        with pytest.raises(SystemExit):
            arguments_of("--crossfade", wrong)
        assert f"--crossfade: {wrong} is not a number from 0 to 1000" in capsys.readouterr().err


def test_the_default_segment_length_depends_on_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    streamed = ["--stream", "--output", "a.wav"]
    assert arguments_of().long_form.segment_length == 300
    assert arguments_of("--play").long_form.segment_length == 0
    assert arguments_of(*streamed).long_form.segment_length == 0
    assert arguments_of(*streamed, "--segment_length", "120").long_form.segment_length == 120
