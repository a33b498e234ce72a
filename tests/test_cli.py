"""What a user types becomes settings; what comes back is whole and where it was asked for."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from longtake import __version__, pipeline
from longtake.cli import interrupts, main
from longtake.cli.main import CANNOT, DONE, FAILED, STOPPED, run
from longtake.cli.options import FilmOptions, settings_of
from longtake.cli.progress import Bars, Lines, Silent, display, tell
from longtake.cli.prompt import read_prompt
from longtake.cli.reference import reference
from longtake.config import SampleConfig
from longtake.errors import CannotHere, LongtakeError, OutputError, PromptError, SettingError
from longtake.media.manifest import from_tags
from longtake.media.video import read_metadata, read_video
from longtake.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
SMALL = ("--size", "64x64", "--frames", "9", "--steps", "2")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    """An empty working folder and a model that answers in milliseconds."""
    model = Pipeline(name="previz", model_hash="ab" * 32, config=tiny, parts=pipeline.build(tiny))
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prompt_becomes_a_film_and_a_contact_sheet(folder, capsys):
    assert run(["generate", "a red ball", *SMALL, "--seed", "7"]) == DONE
    frames, fps = read_video(folder / "film.mp4")
    assert (tuple(frames.shape), fps) == ((9, 64, 64, 3), 16.0)
    with Image.open(folder / "film.png") as sheet:
        assert sheet.format == "PNG"
    assert names(folder) == ["film.mp4", "film.png"]
    told = capsys.readouterr()
    assert "film.mp4: 9 frames, 64x64, 0.56 s at 16 fps, seed 7, model previz" in told.out
    assert "film.png: contact sheet" in told.out
    assert "peak memory" in told.out
    assert "denoising" in told.err


def test_film_carries_what_it_was_made_from(folder):
    assert run(["generate", "a red\tball", *SMALL, "--seed", "7", "-o", "x.MP4"]) == DONE
    made = from_tags(read_metadata(folder / "x.MP4"))
    assert made.prompt == "a red ball"
    assert made.settings == SampleConfig(width=64, height=64, frames=9, steps=2, seed=7)
    assert (made.model, made.model_hash, made.version) == ("previz", "ab" * 32, __version__)
    assert made.precision == "fp32"  # what it was made in, not the "auto" that was asked for


def test_film_without_metadata_carries_none(folder):
    assert run(["generate", "a red ball", *SMALL, "--no-metadata", "--no-sheet"]) == DONE
    assert {"longtake", "title", "comment"} & set(read_metadata(folder / "film.mp4")) == set()
    assert names(folder) == ["film.mp4"]


def test_same_command_gives_the_same_bytes(folder):
    for name in ("a.mp4", "b.mp4"):
        assert run(["generate", "a red ball", *SMALL, "-o", name]) == DONE
    assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.usefixtures("folder")
def test_json_is_one_object_that_says_everything(capsys):
    assert run(["generate", "a red zebra", *SMALL, "--seconds", "1", "--json"][:-1]) == 2
    capsys.readouterr()
    arguments = ["generate", "a red zebra", "--size", "64x96", "--steps", "2", "--seconds", "0.99"]
    assert run([*arguments, "--json"]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert report.pop("elapsed_s") > 0
    assert report.pop("peak_memory_bytes") > 2**20
    assert report == {
        "output": "film.mp4",
        "sheet": "film.png",
        "folder": None,
        "frames": 17,
        "seconds": 17 / 16,
        "width": 64,
        "height": 96,
        "fps": 16,
        "seed": 0,
        "model": "previz",
        "model_hash": "ab" * 32,
        "unknown_words": ["zebra"],
        "warnings": [
            "0.99 seconds became 1, the next whole frame",
            "the model does not know: zebra",
        ],
    }


@pytest.mark.usefixtures("folder")
def test_quiet_says_nothing(capsys):
    assert run(["generate", "a red zebra", *SMALL, "--quiet"]) == DONE
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.usefixtures("folder")
def test_quiet_json_is_json_alone(capsys):
    assert run(["generate", "a red zebra", *SMALL, "--quiet", "--json"]) == DONE
    told = capsys.readouterr()
    assert json.loads(told.out)["sheet"] == "film.png"
    assert told.err == ""


def test_existing_files_stay_without_overwrite_and_go_with_it(folder, capsys):
    (folder / "film.png").write_text("mine")
    assert run(["generate", "a ball", *SMALL]) == 2
    assert "film.png, the contact sheet, exists already; add --overwrite" in capsys.readouterr().err
    assert (folder / "film.png").read_text() == "mine"
    assert run(["generate", "a ball", *SMALL, "--no-sheet"]) == DONE
    assert run(["generate", "a ball", *SMALL, "--no-sheet"]) == 2
    assert run(["generate", "a ball", *SMALL, "--overwrite"]) == DONE
    assert names(folder) == ["film.mp4", "film.png"]


class Broken:
    """A model that fails in the middle of a film."""

    name, model_hash, precision, config = "previz", "", "fp32", SimpleNamespace(chunk=0)
    loras = ()
    defaults = SampleConfig()
    device = torch.device("cpu")

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def check(self, *_):
        pass

    def stream(self, *_):
        yield pipeline.Progress("text", 0, 1)
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), STOPPED, "stopped; nothing was written"),
        (SettingError("too long; try 5"), 2, "error: too long; try 5"),
        (CannotHere("no GPU"), CANNOT, "error: no GPU"),
        (MemoryError(), CANNOT, "error: not enough memory; try"),
        (RuntimeError("CUDA out of memory. Tried"), CANNOT, "error: not enough memory; try"),
        (RuntimeError("a\nb"), FAILED, "error: unexpected RuntimeError: a; this is a fault"),
        (SettingError("x\x1b[2J\ny"), 2, "error: x\\x1b[2J\\ny"),
    ],
)
def test_failure_in_the_middle_is_one_line_one_code_and_no_file(
    folder, monkeypatch, capsys, error, code, line
):
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: Broken(error))
    assert run(["generate", "a red ball", *SMALL]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith(line)
    assert "Traceback" not in told.err
    assert names(folder) == []


@pytest.mark.parametrize("swallowed_as", [None, ImportError("x")])
def test_lost_interrupt_still_stops_the_run(folder, monkeypatch, capsys, swallowed_as):
    monkeypatch.setattr(interrupts, "stopped", lambda: True)
    monkeypatch.setattr(main, "stopped", lambda: True)
    if swallowed_as:
        monkeypatch.setattr(pipeline, "load", lambda *_, **__: Broken(swallowed_as))
    assert run(["generate", "a red ball", *SMALL]) == STOPPED
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; nothing was written"
    assert names(folder) == []


def test_traceback_is_shown_on_request(folder, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: Broken(RuntimeError("x")))
    monkeypatch.setenv("LONGTAKE_TRACEBACK", "1")
    assert run(["generate", "a red ball", *SMALL]) == FAILED
    assert "Traceback" in capsys.readouterr().err
    assert names(folder) == []


def test_defaults_are_the_settings_of_a_sample():
    assert settings_of(FilmOptions()) == (SampleConfig(), [])


def test_options_that_are_not_given_are_those_of_the_model():
    quick = SampleConfig(steps=4, guidance=1.0, shift=8.0, sampler="euler")
    assert settings_of(FilmOptions(), quick) == (quick, [])
    made, _ = settings_of(FilmOptions(steps=9, seed=3), quick)
    assert made == replace(quick, steps=9, seed=3)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ("448x256", (448, 256)),
        ("64X4096", (64, 4096)),
        ("480p", (832, 480)),
        ("720p", (1280, 720)),
        ("1280x720", (1280, 720)),
    ],
)
def test_sizes_are_width_by_height(size, wanted):
    made, _ = settings_of(FilmOptions(size=size))
    assert (made.width, made.height) == wanted


@pytest.mark.parametrize(
    ("size", "near"),
    [("450x250", "448x248"), ("1x1", "64x64"), ("99999x16", "4096x64"), ("0x256", "64x256")],
)
def test_impossible_sizes_name_the_nearest(size, near):
    with pytest.raises(SettingError, match=f"got {size}; the nearest is {near}$"):
        settings_of(FilmOptions(size=size))


@pytest.mark.parametrize(
    "size", ["", "448", "448x", "x", "-448x256", "4e2x256", "448x256x3", "1080p"]
)
def test_sizes_that_are_none_are_told(size):
    with pytest.raises(SettingError, match="WIDTHxHEIGHT as 448x256"):
        settings_of(FilmOptions(size=size))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a ball", "a ball"),
        ("  a\nball\t", "a ball"),
        ("a\x1b[2Jball", "a [2Jball"),
        ("a\u202e ball\u2066", "a ball"),
        ("狐 🎈 café", "狐 🎈 café"),
        ("x" * 10_000, "x" * 10_000),
    ],
)
def test_prompts_are_cleaned_by_rule(given, read):
    assert read_prompt(given) == read


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\x00\x07", "empty"),
        ("\u202e", "empty"),
        ("x" * 10_001, "10,001 characters; the most is 10,000"),
        ("a \udcff", "not UTF-8"),
        ("\ud800", "not UTF-8"),
    ],
)
def test_prompts_are_refused_by_rule(given, complaint):
    with pytest.raises(PromptError, match=complaint):
        read_prompt(given)


def test_options_have_one_line_each_for_what_does_not_parse(folder, capsys):
    table = {
        ("--sead", "3"): "unknown option '--sead'; did you mean --seed?",
        ("--seed", "x"): "--seed wants a whole number, got 'x'",
        ("--seed", "1.5"): "--seed wants a whole number, got '1.5'",
        ("--seconds", "five"): "--seconds wants a number, got 'five'",
        ("--sampler", "dmp"): "--sampler is one of dpm, euler, got 'dmp'; did you mean dpm?",
        ("--output",): "--output wants a value",
        ("--seed", "1", "--seed", "2"): "--seed is given twice",
        ("red", "ball"): "got 'red' as well; put the prompt in quotes",
        ("--json=perhaps",): 'unable to convert "perhaps" into bool',
    }
    for arguments, line in table.items():
        assert run(["generate", "a", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert line in told
        assert told.count("\n") == 1
    assert names(folder) == []


def test_output_may_be_given_with_a_leading_dash(folder):
    assert run(["generate", *SMALL, "--output=-x.mp4", "--", "- a red ball"]) == DONE
    assert names(folder) == ["-x.mp4", "-x.png"]


def test_display_is_silent_lines_or_bars(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with display(quiet=True) as show:
        assert isinstance(show, Silent)
    with redirect_stderr(io.StringIO()), display(quiet=False) as show:
        assert isinstance(show, Lines)
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(Terminal()), display(quiet=False) as show:
        assert isinstance(show, Lines)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stderr(Terminal()) as written, display(quiet=False) as show:
        assert isinstance(show, Bars)
        show.stage("denoise", 0, 4)
        show.stage("denoise", 2, 4)
        show.note("[red]a note[/red]")
    assert "note: [red]a note[/red]" in written.getvalue()
    assert "denoising" in written.getvalue()
    assert "\x1b[3" not in written.getvalue()


def test_a_log_hears_of_a_long_stage_now_and_then(monkeypatch):
    clock = iter([0, 5, 19, 21, 30, 42, 50])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    with redirect_stderr(io.StringIO()) as written:
        show = Lines()
        for step in range(1, 7):
            show.stage("denoise", step, 6)
    assert written.getvalue().splitlines() == [
        "denoising: 3 of 6",
        "denoising: 5 of 6",
        "denoising: 50.0 s",
    ]


def test_report_on_a_full_stdout_is_an_error_and_on_a_closed_one_is_none(monkeypatch):
    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    class Left(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Left())
    tell("x")
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match="the film is finished"):
        tell("x")
    monkeypatch.setattr(sys, "stdout", None)
    tell("x")


def test_help_and_version_load_no_torch():
    probe = (
        "import sys; from longtake.cli.main import run; "
        "asked = [['--help'], ['generate', '--help'], ['train', '--help'], ['--version'], []]; "
        "codes = [run(arguments) for arguments in asked]; "
        "sys.exit(str(codes) if any(codes) else int('torch' in sys.modules or 'av' in sys.modules))"
    )
    command = [sys.executable, "-c", probe]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "Make a film from a prompt" in finished.stdout
    assert "Train a model from nothing" in finished.stdout
    assert f"longtake {__version__}" in finished.stdout


def test_reference_page_is_current():
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text("utf-8") == reference(), (
        "run: python -m longtake.cli.reference > docs/reference/cli.md"
    )


def test_every_error_class_leaves_with_a_documented_code():
    classes, found = [LongtakeError], []
    while classes:
        found.append(classes.pop())
        classes += found[-1].__subclasses__()
    assert {error.exit_code for error in found} == {1, 2, 3}
