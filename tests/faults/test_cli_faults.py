"""The command line as a process: codes, one line, no traceback, no file where none should be.

Rows 66 and 67 of the fault matrix.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtake.checkpoints import save_tensors
from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    TextConfig,
    TransformerConfig,
    to_dict,
)
from longtake.media.video import read_video
from longtake.pipeline import build

pytestmark = pytest.mark.faults

LONGTAKE = (sys.executable, "-m", "longtake")
PROMPT = "a red ball bounces"
PATIENCE_S = 60
SEED_MAX = 2**64 - 1


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model so small that a film takes no time."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    config = ModelConfig(
        autoencoder=AutoencoderConfig(
            latent_channels=8,
            widths=(16, 24, 32),
            encoder_blocks=(1, 1, 1),
            decoder_blocks=(1, 1, 1),
        ),
        transformer=TransformerConfig(
            latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
        ),
        text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
        words=("a", "red", "ball", "bounces"),
        max_frames=33,
    )
    names = ("text", "transformer", "autoencoder")
    for name, part in zip(names, build(config), strict=True):
        save_tensors(folder / f"{name}.safetensors", part.state_dict())
    (folder / "model.json").write_text(json.dumps(to_dict(config)))
    return folder


def small(model: Path, *more: str) -> list[str]:
    size = ["--size", "64x64", "--frames", "9", "--steps", "2"]
    return ["generate", PROMPT, "--model", str(model), *size, *more]


def start(arguments: list[str], folder: Path, **options) -> subprocess.CompletedProcess:
    options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
    return subprocess.run(
        [*LONGTAKE, *arguments],
        cwd=folder,
        capture_output="stdout" not in options,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


def one_line(process: subprocess.CompletedProcess, code: int, *fragments: str) -> None:
    """The process ended with this code and said why in one line."""
    lines = process.stderr.decode("utf-8").splitlines()
    assert process.returncode == code, lines
    assert process.stdout in (None, b"")
    last = lines[-1]
    for fragment in fragments:
        assert fragment in last, last
    assert "Traceback" not in process.stderr.decode()
    assert sum(line.startswith("error:") for line in lines) == (code != 130)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


REFUSED = {
    "empty prompt": (["generate", ""], "the prompt is empty"),
    "blank prompt": (["generate", " \t\n"], "the prompt is empty"),
    "no prompt": (["generate"], "the prompt is missing; try: longtake generate"),
    "long prompt": (["generate", "x" * 10_001], "10,001 characters; the most is 10,000"),
    "prompt of broken bytes": (["generate", b"\xff\xfe ball"], "not UTF-8"),
    "two prompts": (["generate", "a", "ball"], "put the prompt in quotes"),
    "prompt with a dash": (["generate", "-fast"], "a prompt that starts with - goes after --"),
    "seconds 0": (["generate", "a", "--seconds", "0"], "got 0; try 5"),
    "seconds negative": (["generate", "a", "--seconds", "-1"], "got -1; try 5"),
    "seconds NaN": (["generate", "a", "--seconds", "nan"], "got nan; try 5"),
    "seconds 1e9": (["generate", "a", "--seconds", "1e9"], "at most 86400, a day, got 1e+09"),
    "seconds infinite": (["generate", "a", "--seconds", "inf"], "at most 86400, a day, got inf"),
    "seconds text": (
        ["generate", "a", "--seconds", "five"],
        "--seconds wants a number, got 'five'",
    ),
    "seconds and frames": (
        ["generate", "a", "--seconds", "5", "--frames", "81"],
        "exclude each other, got 5 and 81",
    ),
    "frames 0": (["generate", "a", "--frames", "0"], "got 0; try 81"),
    "frames huge": (["generate", "a", "--frames", "1000000000"], "frames must be 1 to 1382401"),
    "frames broken": (["generate", "a", "--frames", "5.5"], "wants a whole number, got '5.5'"),
    "seed -1": (["generate", "a", "--seed", "-1"], "got -1; the nearest is 0"),
    "seed 2^64": (["generate", "a", "--seed", f"{2**64}"], f"the nearest is {SEED_MAX}"),
    "seed text": (["generate", "a", "--seed", "x"], "--seed wants a whole number, got 'x'"),
    "steps 0": (["generate", "a", "--steps", "0"], "steps must be 1 to 1000, got 0"),
    "steps million": (["generate", "a", "--steps", "1000000"], "steps must be 1 to 1000"),
    "guidance NaN": (["generate", "a", "--guidance", "nan"], "guidance must be 1 to 30, got nan"),
    "shift 0": (["generate", "a", "--shift", "0"], "shift must be 0.1 to 100, got 0"),
    "sampler": (["generate", "a", "--sampler", "dmp"], "did you mean dpm?"),
    "device": (["generate", "a", "--device", "tpu"], "--device is one of auto, cpu, cuda"),
    "precision": (["generate", "a", "--precision", "fp12"], "--precision is one of"),
    "size odd": (["generate", "a", "--size", "450x250"], "the nearest is 448x248"),
    "size 1x1": (["generate", "a", "--size", "1x1"], "the nearest is 64x64"),
    "size huge": (["generate", "a", "--size", "99999x99999"], "the nearest is 4096x4096"),
    "size text": (["generate", "a", "--size", "big"], "WIDTHxHEIGHT as 448x256"),
    "model": (["generate", "a", "--model", "previzz"], "did you mean 'previz'?"),
    "model elsewhere": (["generate", "a", "--model", "../../etc"], "no model named"),
    "option": (["generate", "a", "--sead", "3"], "unknown option '--sead'; did you mean --seed?"),
    "verb": (["gen", "a"], "unknown verb 'gen'; did you mean generate?"),
    "output without folder": (["generate", "a", "-o", "x/y.mp4"], "make it with: mkdir -p x"),
    "output below a file": (["generate", "a", "-o", "file/y.mp4"], "file is a file, not a folder"),
    "output not mp4": (["generate", "a", "-o", "film.avi"], "got film.avi; try film.mp4"),
    "output without ending": (["generate", "a", "-o", "film"], "got film; try film.mp4"),
    "output a folder": (["generate", "a", "-o", "folder"], "try folder/film.mp4"),
    "output a folder with an ending": (["generate", "a", "-o", "d.mp4"], "d.mp4 is a folder"),
    "output there": (["generate", "a", "-o", "old.mp4"], "old.mp4 exists already; add --overwrite"),
    "output a dead link": (["generate", "a", "-o", "link.mp4"], "link.mp4 exists already"),
    "sheet there": (["generate", "a", "-o", "pic.mp4"], "pic.png, the contact sheet, exists"),
    "output too long": (["generate", "a", "-o", "x" * 300 + ".mp4"], "choose a shorter one"),
    "output named -": (["generate", "a", "-o", "-"], "the output must end in .mp4"),
    "output with a dash": (["generate", "a", "-o", "-x.mp4"], "as --output=VALUE"),
    "output broken bytes": (["generate", "a", "-o", b"\xff.avi"], "the output must end in .mp4"),
    "output steering": (["generate", "a", "-o", "\x1b[2J\n.avi"], "\\x1b[2J\\n.avi"),
}


@pytest.fixture
def furnished(tmp_path: Path) -> Path:
    """A folder with things that are in the way."""
    for name in ("old.mp4", "pic.png", "file"):
        (tmp_path / name).write_text(name)
    for name in ("folder", "d.mp4"):
        (tmp_path / name).mkdir()
    (tmp_path / "link.mp4").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("case", REFUSED)
def test_row_66_bad_input_is_refused_in_one_line_and_changes_nothing(furnished, case):
    arguments, fragment = REFUSED[case]
    before = names(furnished)
    started = time.perf_counter()
    one_line(start(arguments, furnished), 2, fragment)
    assert names(furnished) == before
    assert (furnished / "old.mp4").read_text() == "old.mp4"
    # No torch was loaded for it, let alone a model.
    assert time.perf_counter() - started < PATIENCE_S / 10


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder even root cannot write")
def test_row_66_folder_that_cannot_be_written_is_refused(tmp_path):
    process = start(["generate", "a", "-o", "/sys/film.mp4"], tmp_path)
    one_line(process, 2, "cannot write in the folder /sys", "choose another folder")


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (b"", "the prompt is empty"),
        (b" \n", "the prompt is empty"),
        (b"\0\0", "the prompt is empty"),
        (b"a" * 4_000_000, "more than 10,000 characters"),
        ("ü".encode() * 10_001, "10,001 characters"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"),
    ],
)
def test_row_66_prompt_on_stdin_is_refused_by_the_same_rules(tmp_path, given, fragment):
    one_line(start(["generate", "-"], tmp_path, input=given), 2, fragment)
    assert names(tmp_path) == []


def test_row_66_prompt_on_stdin_with_nul_becomes_a_film(tmp_path, model):
    arguments = small(model, "--json", "--quiet")
    arguments[1] = "-"
    process = start(arguments, tmp_path, input=b"a red\0ball\x1b\n")
    assert (process.returncode, process.stderr) == (0, b"")
    assert json.loads(process.stdout)["unknown_words"] == []
    assert names(tmp_path) == ["film.mp4", "film.png"]


def test_row_66_closed_stdin_is_an_empty_prompt(tmp_path):
    process = start(["generate", "-"], tmp_path, preexec_fn=lambda: os.close(0), stdin=None)
    one_line(process, 2, "the prompt is empty")


def test_row_66_film_longer_than_the_model_makes_is_refused(tmp_path, model):
    arguments = ["generate", PROMPT, "--model", str(model), "--size", "64x64", "--seconds", "3"]
    one_line(start(arguments, tmp_path), 2, "tiny makes films of up to 2 seconds", "--seconds 2")
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["loading", "denoising"])
def test_row_66_stopped_run_says_so_and_leaves_nothing(tmp_path, model, number, moment):
    arguments = ["generate", PROMPT, "--model", str(model), "--size", "256x256"]
    arguments += ["--seconds", "1.99", "--steps", "1000"]
    # As in a terminal: a shell in the background would have the child ignore SIGINT.
    process = subprocess.Popen(
        [*LONGTAKE, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(  # noqa: PLW1509 - one thread here
            signal.SIGINT, signal.default_int_handler
        ),
    )
    try:
        assert b"note: 1.99 seconds became 2" in process.stderr.readline()
        if moment == "denoising":
            assert b"loading" in process.stderr.readline()
            assert b"reading" in process.stderr.readline()
            assert names(tmp_path) != []
        else:
            time.sleep(0.2)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.decode().splitlines()[-1] == "stopped; nothing was written"
    assert b"Traceback" not in err
    assert out == b""
    assert names(tmp_path) == []


@pytest.mark.parametrize("limit", [0, 2000])
def test_row_66_full_disk_is_one_line_and_no_file(tmp_path, model, limit):
    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(small(model), tmp_path, preexec_fn=fill)
    one_line(process, 2, "no space left to write film.", "MiB free")
    assert names(tmp_path) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs its own mounts")
def test_row_66_full_file_system_is_one_line_and_no_file(tmp_path, model):
    script = (
        'mount -t tmpfs -o size=8k none . && cd . && cd $PWD && "$@"; code=$?; ls -A; exit $code'
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *LONGTAKE, *small(model)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if b"unshare:" in process.stderr or b"mount:" in process.stderr:
        pytest.skip("may not mount here")
    one_line(process, 2, "no space left to write film.", "free some or choose another folder")


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_row_66_closed_streams_do_not_keep_a_film_from_being_whole(tmp_path, model, closed):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    process = start(small(model), tmp_path, preexec_fn=close)
    assert process.returncode == 0
    assert b"Traceback" not in process.stderr
    assert len(read_video(tmp_path / "film.mp4")[0]) == 9
    assert names(tmp_path) == ["film.mp4", "film.png"]


def test_row_66_reader_that_has_left_is_no_error(tmp_path, model):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(small(model), tmp_path, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.returncode == 0
    assert b"Broken" not in process.stderr
    assert names(tmp_path) == ["film.mp4", "film.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_row_66_full_stdout_is_told_and_the_film_stays(tmp_path, model):
    with Path("/dev/full").open("wb") as full:
        process = start(small(model), tmp_path, stdout=full, stderr=subprocess.PIPE)
    one_line(process, 2, "the film is finished, but the report cannot be written to stdout")
    assert names(tmp_path) == ["film.mp4", "film.png"]


def test_row_66_output_whose_name_is_no_text_is_made(tmp_path, model):
    process = start(small(model, "--no-sheet", "-o", os.fsdecode(b"\xff.mp4")), tmp_path)
    assert process.returncode == 0, process.stderr
    assert [os.fsencode(name) for name in names(tmp_path)] == [b"\xff.mp4"]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: !!python/object/apply:os.system [touch canary]", "model.json is damaged"),
        ('{"__class__": "os.system"}', "unknown setting '__class__'"),
        ("[" * 100_000, "model.json is damaged"),
        ("", "model.json is damaged"),
        ("{}", ""),
    ],
)
def test_row_66_bad_model_config_is_refused(tmp_path, model, text, fragment):
    folder = shutil.copytree(model, tmp_path / "mine")
    (folder / "model.json").write_text(text)
    one_line(start(small(folder, "-o", "x.mp4"), tmp_path), 2, fragment)
    assert names(tmp_path) == ["mine"]


def test_row_66_damaged_weights_are_refused_by_name(tmp_path, model):
    folder = shutil.copytree(model, tmp_path / "mine")
    path = folder / "transformer.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    one_line(start(small(folder), tmp_path), 2, "transformer.safetensors", "checksum")
    assert names(tmp_path) == ["mine"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs its own network")
def test_row_67_film_is_made_without_a_network(tmp_path, model):
    command = ["unshare", "-rn", *LONGTAKE, *small(model)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if b"unshare:" in process.stderr:
        pytest.skip("may not leave the network here")
    assert process.returncode == 0, process.stderr
    assert names(tmp_path) == ["film.mp4", "film.png"]
