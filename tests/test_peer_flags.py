"""Command lines of voxcpm, mlx-audio and mlx-lm: each of their flags has an outcome here.

peer_flags.json has the flags that their own parsers have (golden/record_peer_flags.py).
"""

import json
from pathlib import Path

import checkpoints
import pytest
import soundfile
from conftest import GOLDEN
from peer_tables import PAGE, with_tables

from mlx_voxcpm2 import cli
from mlx_voxcpm2.app.__main__ import build_parser as app_parser
from mlx_voxcpm2.commands import batch, generate, serve, train, voice
from mlx_voxcpm2.convert import __main__ as convert
from mlx_voxcpm2.peers.tables import TABLES
from mlx_voxcpm2.training.peer_settings import own_settings, with_batch_tokens

RECORDED = json.loads((GOLDEN / "peer_flags.json").read_text(encoding="utf-8"))
COMMANDS = {
    "mlx_audio.tts.generate": "generate",
    "mlx_audio.convert": "convert",
    "mlx_audio.server": "serve",
    "mlx_lm.convert": "convert",
    "mlx_lm.lora": "train",
    "voxcpm main app.py": "app",
    "voxcpm main train": "train",
}
for release in ("2.0.3", "main"):
    COMMANDS |= {f"voxcpm {release} {name}": "generate" for name in ("design", "clone", "root")}
    COMMANDS |= {f"voxcpm {release} batch": "batch", f"voxcpm {release} validate": "train"}


@pytest.fixture(scope="module")
def parsers():
    return {
        "generate": generate.build_parser("x"),
        "batch": batch.build_parser("x"),
        "serve": serve.build_parser("x"),
        "app": app_parser("x"),
        "train": train.build_parser("x"),
        "convert": convert.build_parser("x"),
        "voice add": voice.build_parsers("x")[1]["add"],
    }


def recorded_flags():
    for program, command in COMMANDS.items():
        for entry in RECORDED["flags"][program]:
            for flag in entry["flags"]:
                yield program, command, flag, entry["value"]


NEEDED = {"batch": ["--input", "i", "--output_dir", "o"], "voice add": ["name"]}


def parse(parser, command: str, *arguments: str):
    return parser.parse_args([*NEEDED.get(command, []), *arguments])


def test_every_flag_of_theirs_has_an_outcome_that_the_parser_shows(parsers, capsys):
    count = 0
    for program, command, flag, value in recorded_flags():
        name = flag if not flag.startswith("--") else flag[2:].replace("-", "_")
        if command == "generate" and name in ("input", "output_dir", "-i", "-od"):
            continue  # of the root, where they choose `batch`
        each = TABLES[command][name]
        given = [flag] if value is None else [flag, value]
        if each.effect == "refused" and value not in each.neutral:
            with pytest.raises(SystemExit) as end:
                parse(parsers[command], command, *given)
            said = capsys.readouterr().err
            assert end.value.code == 2 and said == f"x: {flag}: {each.text}\n", program
        elif each.effect == "translated":
            if name == "ref_text":
                given += ["--ref_audio", "clip.wav"]
            args = parse(parsers[command], command, *given)
            assert args.peers == {name: True if value is None else value}, program
        else:
            args = parse(parsers[command], command, *given)
            told = each.effect == "ignored" and value not in each.neutral
            assert args.notes == ([f"{flag} has no effect: {each.text}"] if told else [])
        count += 1
    assert count > 300


def test_every_name_that_works_sets_a_flag_of_ours(parsers):
    """Of training all settings have one, or a key of the configuration."""
    for command, parser in parsers.items():
        own = {action.dest: action for action in parser._actions}
        for each in TABLES[command].values():
            if each.effect in ("same", "alias"):
                spelled = each.name if each.is_short else f"--{each.name}"
                action = parser._option_string_actions[spelled]
                if each.ours in own:
                    assert action is own[each.ours], f"{command} {spelled}"
                else:
                    assert command == "train", f"{command} has no --{each.ours}"


def test_the_page_has_the_tables_of_the_parsers():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run python tests/peer_tables.py"


QUICK = ["--inference_timesteps", "1", "--max_tokens", "2", "--seed", "3"]


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs `mlx-voxcpm2` in a folder with clip.wav: status and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # so that what a flag sets is undone
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    checkpoints.write_wav(Path("clip.wav"), *released.waveform("short"))

    def run(*arguments: str):
        status, _, err = run_command(
            cli.main, *arguments, "--model-path", str(released.folder), *QUICK
        )
        return status, err

    return run


def test_command_lines_of_voxcpm_speak(run):
    lines = {
        "a.wav": "design -t Hello. --control calm -o a.wav --device cpu --no-optimize".split(),
        "b.wav": "clone --text Hello. -ra clip.wav --output b.wav --no-denoiser".split(),
        "c.wav": "clone --text Hello. -pa clip.wav -pt Hi. -o c.wav --cfg-value 2.5".split(),
        "d.wav": "--text Hello. --output d.wav --local-files-only".split(),
    }
    for file, arguments in lines.items():
        assert run(*arguments)[0] == 0, arguments
        assert soundfile.info(file).frames == 2 * 7680
    Path("lines.txt").write_text("One.\nTwo.\n")
    Path("words.txt").write_text("Hi.\n")
    prompt = ["-pa", "clip.wav", "--prompt-file", "words.txt"]
    assert run("batch", "-i", "lines.txt", "-od", "out", *prompt)[0] == 0
    assert len(list(Path("out").glob("*.wav"))) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("design -t Hello. -ra clip.wav -o a.wav", "use clone"),
        ("clone -t Hello. -o a.wav", "clone needs a clip"),
        ("clone -t Hello. -ra clip.wav -o a.wav --denoise", "clean the clip first"),
        ("clone -t Hello. -ra clip.wav -o a.wav --timestamps", "add --subtitles FILE"),
        ("generate Hello. --device cuda:x", "device is 'cuda:x'"),
        ("generate Hello. --ref_text Hi.", "--ref_text is the transcript of --ref_audio"),
        ("generate Hello. --file_prefix a --output b.wav", "leave --output_path and the like out"),
        ("generate Hello. --output_path clip.wav", "clip.wav is a file"),
        ("generate Hello. --output_path out --audio_format xyz", ".xyz"),
    ],
)
def test_what_can_not_be_done_is_one_line(run, arguments, line):
    status, err = run(*arguments.split())
    assert status == 2 and line in err and err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["clip.wav"]


def test_mlx_audios_output_flags_name_the_same_files(run):
    flags = ["--output_path", "new/folder", "--file_prefix", "hello"]
    assert run("generate", "--text", "Hello.", *flags)[0] == 0
    assert soundfile.info("new/folder/hello_000.wav").frames == 2 * 7680
    flags += ["--audio_format", "flac", "--join_audio", "--speed", "1.0", "--lang_code", "en"]
    assert run("generate", "--text", "Hello.", *flags)[0] == 0
    assert soundfile.info("new/folder/hello.flac").format == "FLAC"
    assert run("generate", "Hello.", "--file_prefix", "here")[0] == 0
    assert Path("here_000.wav").exists()


def test_a_transcript_of_the_reference_makes_it_the_prompt_too(parsers):
    parser, clip = parsers["generate"], ["--ref_audio", "clip.wav"]
    args = parser.parse_args([*clip, "--ref_text", "Hi."])
    assert (args.prompt_audio, args.prompt_text) == ("clip.wav", "Hi.")
    for flags in (["--ref_text", "placeholder"], ["--ref_text", "Hi.", "--instruct", "calm"]):
        args = parser.parse_args([*clip, *flags])
        assert args.prompt_audio is None and len(args.notes) == 1


def write_data(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}\n")
    return folder


def test_mlx_lms_configuration_becomes_ours(tmp_path):
    data = write_data(tmp_path / "data", "train.jsonl", "valid.jsonl")
    theirs = RECORDED["keys"]["mlx_lm.lora"] | {
        "data": str(data),
        "train": True,
        "lr_schedule": {"name": "cosine_decay", "warmup": 50, "arguments": [2e-5, 1000, 1e-7]},
        "learning_rate": 2e-5,
        "lora_parameters": {"rank": 8, "dropout": 0.1, "scale": 20.0},
        "optimizer": "adamw",
        "optimizer_config": {"adamw": {"weight_decay": 0.05, "eps": 1e-6}},
    }
    found, notes = own_settings(theirs)
    found = with_batch_tokens(found)
    assert found == {
        "model": theirs["model"],
        "full": False,
        "weight_decay": 0.05,
        "train": str(data / "train.jsonl"),
        "validation": str(data / "valid.jsonl"),
        "seed": 0,
        "batch_size": 4,
        "max_steps": 1000,
        "learning_rate": 2e-5,
        "warmup_steps": 50,
        "log_interval": 10,
        "valid_interval": 200,
        "output": "adapters",
        "save_interval": 100,
        "max_batch_tokens": 4 * 2048,
        "gradient_checkpointing": False,
        "grad_accum_steps": 1,
        "lora": {"r": 8, "dropout": 0.1, "alpha": 160},
    }
    told = {note.split()[0].strip(":") for note in notes}
    ignored = {"num_layers", "val_batches", "test_batches"}
    assert told == ignored | {"lr_schedule", "optimizer_config"}


@pytest.mark.parametrize("rank", [{}, {"rank": 8}])
def test_mlx_lms_scale_is_that_of_the_adapter_with_and_without_a_rank(rank):
    found, _ = own_settings({"lora_parameters": {"scale": 20, **rank}})
    assert found == {"lora": {"r": 8, "alpha": 160}}


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("data", "mlx-community/WikiSQL", "no folder here; give one with train.jsonl"),
        ("fine_tune_type", "dora", "it must be lora or full"),
        ("optimizer", "sgd", "it must be adamw"),
        ("lr_schedule", {"name": "linear_schedule"}, "only cosine_decay"),
        ("lora_parameters", {"keys": ["q_proj"]}, "target_modules_lm"),
        ("lora_parameters", {"rank": 3, "scale": 0.5}, "scale x rank is 1.5"),
        ("test", True, "give its lines as --validation"),
        ("resume_adapter_file", "a.safetensors", "a run is resumed by its own command"),
        ("hf_dataset", {"path": "x"}, "download the data set"),
    ],
)
def test_what_training_has_not_is_one_line(key, value, line):
    with pytest.raises(ValueError) as error:
        own_settings({key: value})
    assert line in str(error.value) and "\n" not in str(error.value)


def test_mlx_lms_command_line_trains(tmp_path):
    data = write_data(tmp_path / "data", "train.jsonl")
    line = (
        f"--model m --train --data {data} --iters 600 --adapter-path a --fine-tune-type full "
        "--num-layers -1 --save-every 50 --steps-per-report 5 --grad-checkpoint "
        "--max-seq-length 2048 --batch-size 1 --optimizer adam"
    )
    command = train.TrainCommand.parse(train.build_parser("x").parse_args(line.split()))
    options = command.settings.options
    assert command.output == "a" and command.settings.lora is None
    assert command.settings.train == str(data / "train.jsonl")
    assert (options.max_steps, options.save_interval, options.log_interval) == (600, 50, 5)
    assert options.gradient_checkpointing and options.weight_decay == 0
    assert options.longest == 2048
