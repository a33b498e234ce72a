"""Long takes at the command line: what grows, what stays, what goes on and what is refused."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake import pipeline
from longtake.cli import options, start
from longtake.cli.main import CANNOT, DONE, STOPPED, run
from longtake.cli.options import KeepOptions, kept, seconds_of
from longtake.errors import OutputError, SettingError
from longtake.media.frames import frames_of
from longtake.media.manifest import from_tags
from longtake.media.video import VideoWriter, read_metadata, read_video
from longtake.pipeline import Pipeline
from longtake.rollout.folder import TakeFolder
from longtake.rollout.grid import Grid
from longtake.rollout.manifest import read_manifest

SMALL = ("--size", "96x64", "--steps", "1", "--quiet")
BALL = ("generate", "a red ball")


@pytest.fixture
def model(tiny):
    """A model that goes on by chunks of 8 frames and answers in milliseconds."""
    torch.manual_seed(0)
    config = replace(tiny, chunk=2, max_frames=2000)
    parts = pipeline.build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="previz", model_hash="ab" * 32, config=config, parts=parts)


@pytest.fixture
def folder(tmp_path, monkeypatch, model):
    """An empty working folder, and the model in place of the real one."""
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: model)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(*more: str, name: str = "take.mp4", seconds: str = "2") -> None:
    assert run([*BALL, *SMALL, "--seconds", seconds, "-o", name, *more]) == DONE


def complaint(capsys, arguments, code=2) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == code
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith(("error:", "stopped;")) for line in lines) == 1
    return lines[-1]


def frames(name: str) -> torch.Tensor:
    return read_video(Path(name))[0]


class Interrupted:
    """Stops a take when so many chunks are stored."""

    def __init__(self, monkeypatch, chunks: int, error: BaseException) -> None:
        self.patch, self.chunks, self.error = monkeypatch, chunks, error

    def __enter__(self):
        self.context = self.patch.context()
        add, left = TakeFolder.add, [self.chunks]

        def failing(folder, *arguments, **options):
            if not left[0]:
                raise self.error
            left[0] -= 1
            return add(folder, *arguments, **options)

        self.context.__enter__().setattr(TakeFolder, "add", failing)

    def __exit__(self, *_):
        self.context.__exit__(None, None, None)


def test_a_short_take_leaves_the_film_and_its_sheet_alone(folder):
    make()
    assert names(folder) == ["take.mp4", "take.png"]
    assert len(frames("take.mp4")) == 33


def test_a_take_is_kept_when_asked_or_when_it_is_long(folder, monkeypatch):
    monkeypatch.setattr(options, "LONG_S", 2.0)
    make("--keep")
    make(name="long.mp4", seconds="2.1")
    make("--keep-every", "0", name="every.mp4")
    kept_here = [name for name in names(folder) if name.endswith(".longtake")]
    assert kept_here == ["every.longtake", "long.longtake", "take.longtake"]
    assert TakeFolder(folder / "every.longtake").states() == [3, 4]


@pytest.mark.parametrize(
    ("asked", "frames", "wanted"),
    [
        (KeepOptions(), 321, (False, 0.0)),
        (KeepOptions(), 322, (True, 0.0)),
        (KeepOptions(keep=True), 81, (True, 0.0)),
        (KeepOptions(keep_every="5s"), 81, (True, 5.0)),
        (KeepOptions(keep_every="0"), 81, (True, 0.0)),
    ],
)
def test_what_stays_follows_from_the_options_and_the_length(asked, frames, wanted):
    assert kept(asked, frames) == wanted


def test_states_are_kept_as_often_as_asked(folder):
    make("--keep-every", "0.5s")
    assert TakeFolder(folder / "take.longtake").states() == [1, 2, 3, 4]


@pytest.mark.usefixtures("folder")
def test_the_same_command_gives_the_same_bytes_kept_or_not():
    make()
    make("--keep", name="other.mp4")
    assert Path("take.mp4").read_bytes() == Path("other.mp4").read_bytes()
    assert Path("take.png").read_bytes() == Path("other.png").read_bytes()


@pytest.mark.usefixtures("folder")
def test_the_film_can_be_read_while_the_take_is_made(monkeypatch):
    seen = []
    add = TakeFolder.add

    def spying(self, *arguments, **options):
        film = self.path.with_suffix(".mp4")
        seen.append(len(list(frames_of(film))) if film.stat().st_size else 0)
        return add(self, *arguments, **options)

    monkeypatch.setattr(TakeFolder, "add", spying)
    make()
    assert seen == [0, 8, 16, 24]


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_stopped_take_says_how_it_goes_on_and_does(folder, monkeypatch, capsys, chunks):
    make(name="calm.mp4")
    with Interrupted(monkeypatch, chunks, KeyboardInterrupt()):
        line = complaint(capsys, [*BALL, *SMALL, "--seconds", "2", "-o", "take.mp4"], STOPPED)
    made_s = (1 + 8 * chunks) / 16
    assert line == f"stopped; longtake resume take.longtake goes on from {made_s:.2f} s"
    assert "take.longtake" in names(folder)
    assert run(["resume", "take.longtake", "--quiet"]) == DONE
    assert Path("take.mp4").read_bytes() == Path("calm.mp4").read_bytes()
    assert Path("take.png").read_bytes() == Path("calm.png").read_bytes()
    assert "take.longtake" not in names(folder)


def test_a_take_stopped_before_its_first_chunk_leaves_nothing(folder, monkeypatch, capsys):
    with Interrupted(monkeypatch, 0, KeyboardInterrupt()):
        line = complaint(capsys, [*BALL, *SMALL], STOPPED)
    assert line == "stopped; nothing was written"
    assert names(folder) == []


def test_a_resume_that_is_stopped_at_once_leaves_everything(folder, monkeypatch, capsys):
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        run([*BALL, *SMALL, "-o", "take.mp4"])
    before = names(folder / "take.longtake")
    with Interrupted(monkeypatch, 0, KeyboardInterrupt()):
        line = complaint(capsys, ["resume", "take.longtake"], STOPPED)
    assert "longtake resume take.longtake goes on from 0.56 s" in line
    assert names(folder / "take.longtake") == before


@pytest.mark.usefixtures("folder")
def test_a_full_disk_pauses_a_take_and_loses_nothing(monkeypatch, capsys):
    make(name="calm.mp4")
    full = OutputError("no space left to write x (0.0 MiB free); free some")
    with Interrupted(monkeypatch, 2, full):
        line = complaint(capsys, [*BALL, *SMALL, "--seconds", "2", "-o", "take.mp4"], CANNOT)
    assert line.startswith("error: paused: no space left")
    assert line.endswith("then longtake resume take.longtake goes on from 1.06 s")
    assert run(["resume", "take.mp4", "--quiet"]) == DONE
    assert Path("take.mp4").read_bytes() == Path("calm.mp4").read_bytes()


@pytest.mark.faults
@pytest.mark.usefixtures("folder")
def test_row_16_short_memory_pauses_a_take(monkeypatch, capsys):
    with Interrupted(monkeypatch, 1, MemoryError()):
        line = complaint(capsys, [*BALL, *SMALL, "-o", "take.mp4"], CANNOT)
    assert "paused: not enough memory; try a smaller --size" in line
    assert "longtake resume take.longtake goes on from 0.56 s" in line


@pytest.mark.usefixtures("folder")
def test_a_finished_take_needs_no_resume_and_a_lost_film_comes_back(capsys):
    make("--keep")
    before = Path("take.mp4").read_bytes()
    capsys.readouterr()
    assert run(["resume", "take.longtake"]) == DONE
    assert "take.mp4 is finished already" in capsys.readouterr().out
    assert run(["resume", "take.longtake", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == {"output": "take.mp4", "finished": True}
    Path("take.mp4").unlink()
    assert run(["resume", "take.longtake", "--quiet"]) == DONE
    assert Path("take.mp4").read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_an_unfinished_or_kept_take_is_not_replaced_by_accident(capsys):
    make("--keep")
    line = complaint(capsys, [*BALL, *SMALL, "-o", "take.mp4"])
    assert "longtake resume take.longtake goes on with it, or add --overwrite" in line
    make("--overwrite", seconds="1")
    assert len(frames("take.mp4")) == 17
    assert not Path("take.longtake").exists()


def test_a_mistake_found_before_the_first_chunk_spares_the_old_film(folder, capsys):
    make()
    before = Path("take.mp4").read_bytes()
    arguments = [*BALL, *SMALL, "--overwrite", "--prompt-at", "99s", "x", "-o", "take.mp4"]
    assert "comes too late" in complaint(capsys, arguments)
    assert Path("take.mp4").read_bytes() == before
    assert names(folder) == ["take.mp4", "take.png"]


@pytest.mark.usefixtures("folder")
def test_the_film_tells_what_it_was_made_from():
    make("--prompt-at", "1s", "a green sphere")
    made = from_tags(read_metadata(Path("take.mp4")))
    assert (made.prompt, made.precision, made.settings.frames) == ("a red ball", "fp32", 33)
    assert [(cue.at_s, cue.text) for cue in made.cues] == [(1.0, "a green sphere")]


@pytest.mark.usefixtures("folder")
def test_json_names_the_folder_that_was_kept(capsys):
    assert run([*BALL, *SMALL, "--keep", "--json"]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert (report["folder"], report["frames"]) == ("film.longtake", 81)


@pytest.mark.usefixtures("folder")
def test_a_long_take_says_what_disk_it_needs_and_is_refused_without(monkeypatch, capsys):
    monkeypatch.setattr(start, "LONG_S", 2.0)
    assert run([*BALL, "--size", "96x64", "--steps", "1", "--seconds", "2.1"]) == DONE
    assert "needs about 0.2 MiB of disk while it is made" in capsys.readouterr().err
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    line = complaint(capsys, [*BALL, *SMALL, "--seconds", "21", "-o", "x.mp4"], CANNOT)
    assert "of disk while it is made and . has 0.0 MiB; free some" in line
    assert not Path("x.longtake").exists()


@pytest.mark.usefixtures("folder")
def test_a_picture_begins_the_film_and_resume_needs_it_no_more(monkeypatch, capsys):
    Image.new("RGBA", (200, 100), (250, 20, 20, 255)).save("first.png")
    arguments = [*BALL, "--size", "96x64", "--steps", "1", "--seconds", "2", "--image", "first.png"]
    assert run([*arguments, "-o", "calm.mp4"]) == DONE
    told = capsys.readouterr().err
    assert "note: the picture was scaled down and cropped from 200x100 to 96x64" in told
    assert len(from_tags(read_metadata(Path("calm.mp4"))).picture) == 64
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        run([*arguments, "-o", "take.mp4"])
    Path("first.png").unlink()
    assert run(["resume", "take.longtake", "--quiet"]) == DONE
    assert Path("take.mp4").read_bytes() == Path("calm.mp4").read_bytes()


@pytest.mark.usefixtures("folder")
def test_a_picture_that_changed_in_the_folder_is_refused_by_name(monkeypatch, capsys):
    Image.new("RGB", (96, 64), "red").save("first.png")
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        run([*BALL, *SMALL, "--image", "first.png", "-o", "take.mp4"])
    TakeFolder(Path("take.longtake")).state(1).unlink()
    Image.new("RGB", (96, 64), "blue").save("take.longtake/first.png")
    line = complaint(capsys, ["resume", "take.longtake"])
    assert "take.longtake/first.png is not the picture that the take began with" in line


@pytest.mark.usefixtures("folder")
def test_an_extended_take_without_words_is_the_longer_take():
    make("--keep", "--no-metadata", seconds="1.75")
    make("--no-metadata", name="long.mp4", seconds="3.75")
    assert run(["extend", "take.mp4", "--seconds", "2", "--no-metadata", "--quiet"]) == DONE
    assert Path("take-extended.mp4").read_bytes() == Path("long.mp4").read_bytes()


@pytest.mark.usefixtures("folder")
def test_an_extended_take_with_words_keeps_every_frame_before_them():
    make("--keep", seconds="1.75")
    make("--no-metadata", name="long.mp4", seconds="3.75")
    words = ["extend", "take.longtake", "a green sphere", "--seconds", "2", "-o", "on.mp4"]
    assert run([*words, "--quiet"]) == DONE
    on, long = frames("on.mp4"), frames("long.mp4")
    # 29 frames were shown and 33 made; the 4 that were cut off come first, without the words.
    assert torch.equal(on[:33], long[:33])
    assert not torch.equal(on[33:], long[33:])
    assert len(on) == 61
    assert from_tags(read_metadata(Path("on.mp4"))).cues[0].text == "a green sphere"


@pytest.mark.slow
def test_an_extended_take_can_be_extended_and_stopped_and_resumed(folder, monkeypatch):
    make("--keep", "--no-metadata", seconds="1.75")
    make("--no-metadata", name="long.mp4", seconds="5.75")
    assert run(["extend", "take.mp4", "--seconds", "2", "--quiet", "--keep", "-o", "2.mp4"]) == DONE
    with Interrupted(monkeypatch, 2, KeyboardInterrupt()):
        more = ["extend", "2.mp4", "--seconds", "2", "--quiet", "--no-metadata", "-o", "4.mp4"]
        assert run(more) == STOPPED
    shutil.rmtree("take.longtake")
    shutil.rmtree("2.longtake")
    assert run(["resume", "4.longtake", "--quiet"]) == DONE
    assert Path("4.mp4").read_bytes() == Path("long.mp4").read_bytes()
    assert not (folder / "4.longtake").exists()


@pytest.mark.usefixtures("folder")
def test_a_branch_keeps_what_comes_before_and_makes_only_what_comes_after(monkeypatch):
    make("--keep-every", "1s", seconds="3")
    before = names(Path("take.longtake"))
    made = []
    add = TakeFolder.add

    def counting(self, pixels, snapshot, *arguments, **options):
        made.append(snapshot.chunk - 1)
        return add(self, pixels, snapshot, *arguments, **options)

    monkeypatch.setattr(TakeFolder, "add", counting)
    words = ["branch", "take.longtake", "a green sphere", "--at", "2s", "-o", "b.mp4", "--quiet"]
    assert run(words) == DONE
    assert made == [4, 5]
    old, new = frames("take.mp4"), frames("b.mp4")
    assert torch.equal(old[:33], new[:33])
    assert not torch.equal(old[33:], new[33:])
    assert len(new) == len(old)
    assert names(Path("take.longtake")) == before


@pytest.mark.usefixtures("folder")
def test_a_branch_is_the_take_that_was_told_so_from_the_beginning():
    make("--keep", seconds="3")
    make("--prompt-at", "1s", "green", "--no-metadata", name="told.mp4", seconds="4")
    words = ["branch", "take.longtake", "green", "--at", "1s", "--seconds", "4", "--no-metadata"]
    assert run([*words, "--quiet"]) == DONE
    assert Path("take-branch.mp4").read_bytes() == Path("told.mp4").read_bytes()


@pytest.mark.usefixtures("folder")
def test_a_branch_where_no_state_was_kept_says_from_where_it_is_made_again(capsys):
    make("--keep", seconds="3")
    assert run(["branch", "take.longtake", "green", "--at", "1s", "-o", "b.mp4"]) == DONE
    told = capsys.readouterr().err
    assert "no state was kept at 1.06 s; what comes after 0.00 s is made again" in told


@pytest.mark.usefixtures("folder")
def test_cues_after_a_branch_are_forgotten_and_those_before_hold():
    make("--keep", "--prompt-at", "0.5", "blue", "--prompt-at", "2", "green", seconds="3")
    assert run(["branch", "take.mp4", "a sphere", "--at", "1.5s", "--quiet"]) == DONE
    told = from_tags(read_metadata(Path("take-branch.mp4")))
    assert [cue.text for cue in told.cues] == ["blue", "a sphere"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("at", ["0", "3.2s", "9:00"])
def test_a_branch_outside_of_the_take_is_refused(capsys, at):
    make("--keep", seconds="3")
    line = complaint(capsys, ["branch", "take.longtake", "green", "--at", at])
    assert "--at must be 0.56 to 3.00 s here" in line
    assert not Path("take-branch.longtake").exists()


def video(path: Path, count=40, size=(96, 64), fps=16) -> torch.Tensor:
    pixels = torch.randint(0, 256, (count, size[1], size[0], 3), dtype=torch.uint8)
    with VideoWriter(path, width=size[0], height=size[1], fps=fps) as writer:
        writer.write(pixels)
    return read_video(path)[0]


@pytest.mark.usefixtures("folder")
def test_any_film_goes_on_from_its_pixels(capsys):
    old = video(Path("any.mp4"))
    assert run(["extend", "any.mp4", "a red ball", "--seconds", "1", "--keep"]) == DONE
    assert "goes on from the last 2.06 s" in capsys.readouterr().err
    new = frames("any-extended.mp4")
    assert len(new) == 40 + 16
    # Encoded once more, so that they are close and not equal.
    assert (new[:40].float() - old.float()).abs().mean() < 12
    manifest = read_manifest(Path("any-extended.longtake"))
    assert (manifest.begins, manifest.before, manifest.settings.frames) == (4, 40, 33 + 16)
    assert run(["extend", "any-extended.mp4", "--seconds", "1", "--quiet", "-o", "x.mp4"]) == DONE
    assert torch.equal(frames("x.mp4")[:56], new)


@pytest.mark.usefixtures("folder")
def test_of_a_long_film_the_last_five_seconds_are_shown_to_the_model(capsys):
    video(Path("any.mp4"), count=200)
    assert run(["extend", "any.mp4", "a red ball", "--seconds", "1"]) == DONE
    assert "goes on from the last 5.06 s" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_film_between_two_cells_is_extended_at_its_own_size():
    old = video(Path("any.mp4"), size=(104, 72))
    assert run(["extend", "any.mp4", "a red ball", "--seconds", "1", "--quiet"]) == DONE
    assert frames("any-extended.mp4").shape == (len(old) + 16, 72, 104, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_stopped_extension_of_any_film_goes_on_without_it(monkeypatch):
    video(Path("any.mp4"))
    words = ["extend", "any.mp4", "a red ball", "--seconds", "2", "--quiet"]
    assert run([*words, "-o", "calm.mp4"]) == DONE
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        assert run([*words, "-o", "take.mp4"]) == STOPPED
    Path("any.mp4").unlink()
    assert run(["resume", "take.longtake", "--quiet"]) == DONE
    assert Path("take.mp4").read_bytes() == Path("calm.mp4").read_bytes()


@pytest.mark.parametrize(
    ("film", "words", "fragment"),
    [
        ({"size": (100, 64)}, ["a"], "any.mp4 is 100x64 and sides must be multiples of 8"),
        ({"fps": 24}, ["a"], "any.mp4 has 24 frames a second and the model makes 16; re-time it"),
        ({"count": 8}, ["a"], "the film has 8 frames and the model goes on from 9 or more"),
        ({}, [], "any.mp4 has no state beside it, so the prompt has to tell the whole scene"),
        ({}, ["a", "--seconds", "-1"], "seconds must be above 0"),
        ({}, ["a", "--seconds", "1e6"], "seconds must be at most 86400"),
    ],
)
def test_films_that_cannot_go_on_are_refused_and_nothing_is_left(
    folder, capsys, film, words, fragment
):
    video(folder / "any.mp4", **film)
    assert fragment in complaint(capsys, ["extend", "any.mp4", *words])
    assert names(folder) == ["any.mp4"]


@pytest.mark.parametrize("content", [b"", b"ffconcat version 1.0\nfile x.mp4\n", b"#EXTM3U\n"])
def test_what_is_no_film_is_not_extended(folder, capsys, content):
    (folder / "any.mp4").write_bytes(content)
    line = complaint(capsys, ["extend", "any.mp4", "a"])
    assert "cannot read any.mp4 as a film: it is no mp4, mov, mkv or webm" in line
    assert "cannot read no.mp4" in complaint(capsys, ["extend", "no.mp4", "a"])


@pytest.mark.usefixtures("folder")
def test_an_unfinished_take_is_resumed_before_it_is_extended(monkeypatch, capsys):
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        run([*BALL, *SMALL, "-o", "take.mp4"])
    line = complaint(capsys, ["extend", "take.mp4", "x"])
    assert "take.longtake is unfinished; longtake resume take.longtake comes first" in line


@pytest.mark.usefixtures("folder")
def test_a_take_keeps_its_own_seed(capsys):
    make("--keep")
    line = complaint(capsys, ["extend", "take.mp4", "x", "--seed", "3"])
    assert "goes on with its own seed 0; leave out --seed" in line


@pytest.mark.parametrize("verb", [["resume"], ["branch", "--at", "1s", "x"]])
def test_what_is_no_take_is_told(folder, capsys, verb):
    (folder / "empty.longtake").mkdir()
    for name, fragment in (("no.mp4", "there is no take at no.mp4"), ("empty", "there is no take")):
        assert fragment in complaint(capsys, [verb[0], f"{name}", *verb[1:]])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("change", "word"),
    [({"model_hash": "cd" * 32}, "model_hash"), ({"torch": "1.0"}, "--allow-different")],
)
def test_another_model_or_arithmetic_is_refused_by_every_verb(
    monkeypatch, capsys, model, change, word
):
    make("--keep", name="kept.mp4")
    with Interrupted(monkeypatch, 1, KeyboardInterrupt()):
        run([*BALL, *SMALL, "-o", "take.mp4"])
    other = replace(model.identity, **change)
    monkeypatch.setattr(Pipeline, "identity", property(lambda _: other))
    for words in (
        ["resume", "take.longtake"],
        ["extend", "kept.mp4", "x"],
        ["branch", "kept.longtake", "x", "--at", "1s"],
    ):
        line = complaint(capsys, words)
        assert word in line
        allowed = DONE if "torch" in change else 2
        assert run([*words, "--allow-different", "--quiet"]) == allowed
    assert Path("take.mp4").exists()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("20s", 20.0), ("20", 20.0), ("12.5s", 12.5), ("1:30", 90.0), ("0", 0.0), ("2:00.5", 120.5)],
)
def test_times_are_read_as_people_write_them(given, wanted):
    assert seconds_of(given, "--at") == wanted


@pytest.mark.parametrize("given", ["", "-5s", "five", "1e3", "nan", "5 s", "1:2:3", "s", "9" * 9])
def test_what_is_no_time_is_refused(given):
    with pytest.raises(SettingError, match="--at wants a time"):
        seconds_of(given, "--at")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (
            ("--prompt-at", "-3s", "x"),
            "--prompt-at wants a time from 0 on and a text, as --prompt-at 20s",
        ),
        (("--prompt-at", "0", "x"), "a prompt changes at a time above 0"),
        (("--prompt-at", "3s", " "), "the prompt is empty"),
        (("--prompt-at", "3s", "x", "--prompt-at", "2s", "y"), "in the order of their times"),
        (("--prompt-at", "5s", "x"), "comes too late: the take ends at 5.0625 s"),
        (("--prompt-at", "3s"), "--prompt-at wants a time from 0 on and a text"),
        (("--prompt-at", "soon", "x"), "--prompt-at wants a time from 0 on, as 20s or 1:30"),
        (("--keep-every", "often"), "--keep-every wants a time"),
        (("--image", "no.png"), "cannot read no.png as a PNG, JPEG or WebP picture: No such file"),
        (("--seconds", "1e6"), "seconds must be at most 86400, a day, got 1e+06"),
        (("--image", "https://x.org/a.png"), "No such file"),
    ],
)
def test_bad_options_of_takes_are_refused_in_one_line_and_change_nothing(
    folder, capsys, more, fragment
):
    line = complaint(capsys, [*BALL, *SMALL, *more])
    assert fragment in line
    assert names(folder) == []


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (("--prompt-at", "1s", "x"), "previz was not trained to change the prompt inside a take"),
        (("--image", "first.png"), "previz was not trained to begin with a picture"),
        (("--keep",), "--keep: previz was not trained to go on by chunks"),
        (("--keep-every", "5s"), "--keep-every: previz was not trained to go on by chunks"),
    ],
)
def test_a_model_without_chunks_refuses_the_new_options_by_name(
    folder, model, capsys, more, fragment
):
    model.config = replace(model.config, chunk=0)
    Image.new("RGB", (96, 64)).save("first.png")
    assert fragment in complaint(capsys, [*BALL, *SMALL, "--frames", "9", *more])
    video(folder / "any.mp4")
    line = complaint(capsys, ["extend", "any.mp4", "a red ball"])
    assert "previz was not trained to go on by chunks" in line
    assert names(folder) == ["any.mp4", "first.png"]


GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "long_takes.md"


def commands(page: Path) -> list[list[str]]:
    """Every command of a page, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.slow
def test_every_command_of_the_guide_works_one_after_the_other(folder, monkeypatch):
    Image.new("RGB", (320, 240), "red").save("first.png")
    video(Path("holiday.mp4"))
    for number, words in enumerate(commands(GUIDE)):
        if "--size" in words:
            del words[words.index("--size") : words.index("--size") + 2]
        fast = ["--size", "64x64", "--steps", "1"] if words[1] == "generate" else []
        if number == 0:
            # The second command goes on with the first, which was stopped.
            with Interrupted(monkeypatch, 3, KeyboardInterrupt()):
                assert run([*words[1:], *fast, "--quiet"]) == STOPPED
            continue
        assert run([*words[1:], *fast, "--quiet"]) == DONE, words
    films = {path.name: len(list(frames_of(path))) for path in folder.glob("*.mp4")}
    assert films == {
        "take.mp4": 961, "evening.mp4": 481, "from_picture.mp4": 161, "longer.mp4": 1281,
        "holiday.mp4": 40, "after_holiday.mp4": 120, "other.mp4": 961, "master.mp4": 961,
        "sunset.mp4": 801, "large.mp4": 961,
    }  # fmt: skip


def test_the_guide_tells_the_borders_as_they_are():
    told = "1.31, 2.56, 3.81"
    assert told in GUIDE.read_text("utf-8")
    assert told == ", ".join(f"{Grid(5).begins_s(chunk):.2f}" for chunk in (1, 2, 3))
