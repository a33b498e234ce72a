"""Films become clips inside their shots; whatever is dropped is counted with its reason."""

import json
import struct
import subprocess
import tarfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtake.cli.main import DONE, run
from longtake.config import from_dict
from longtake.data import child as waiting
from longtake.data import prepare as preparing
from longtake.data.captions import captions_for
from longtake.data.child import Child
from longtake.data.prepare import counts, prepare
from longtake.data.rules import PrepareConfig, reasons
from longtake.data.scores import (
    Scores,
    frozen,
    luma_of,
    motion,
    saturation,
    scores_of,
    sharpness,
    spatial_information,
    temporal_information,
)
from longtake.data.shards import read_shards
from longtake.errors import MediaError, OutputError, SettingError
from longtake.media.video import read_video

SHORT = PrepareConfig(frames=9, sizes=("96x64", "64x96"), least_side=32)
TURNED = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
STRAIGHT = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


def picture(t: float, width=192, height=128, hue=0) -> np.ndarray:
    """Stripes that move 20 pixels a second, over one of three colours."""
    rows, columns = np.mgrid[:height, :width]
    wave = 100 + 80 * np.sin((columns + rows / 2 + 20 * t) / 3)
    image = np.stack([wave * 0.5, wave, wave * 0.7], axis=-1)
    return np.roll(image, hue, axis=-1).clip(0, 255).astype(np.uint8)


def film(path: Path, frames, rate=16, times=None, **options) -> Path:
    """An H.264 film; `times` are those of its frames in thousandths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        frames = list(frames)
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def moving(count: int, rate=16, **how):
    return [picture(n / rate, **how) for n in range(count)]


def with_caption(path: Path, text="a red ball") -> Path:
    path.with_suffix(".txt").write_text(text, "utf-8")
    return path


def prepared(folder: Path, out: Path | None, config=SHORT) -> list[dict]:
    passed = prepare(folder, out, config, lambda: None)
    return [row for one in passed for row in one.clips]


def test_measures_are_zero_where_there_is_nothing_to_measure():
    flat = np.full((4, 32, 48, 3), 90, np.uint8)
    told = scores_of(flat)
    assert told.motion == told.temporal == told.sharpness == told.saturation == 0
    assert told.spatial == pytest.approx(0, abs=1e-3)
    assert told.frozen == 1
    assert told.brightness == pytest.approx(90, abs=0.01)


def test_measures_follow_what_they_measure():
    still, slow, fast = (
        luma_of(np.stack([picture(n * speed / 16) for n in range(5)])) for speed in (0, 0.2, 1)
    )
    assert motion(still) == 0 < motion(slow) < motion(fast)
    assert temporal_information(slow) < temporal_information(fast)
    assert frozen(still) == 1 and frozen(fast) == 0
    soft = (fast + np.roll(fast, 1, 2) + np.roll(fast, 2, 2) + np.roll(fast, 3, 2)) / 4
    assert sharpness(soft) < 0.9 * sharpness(fast)
    assert spatial_information(soft) < spatial_information(fast)
    red = np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert saturation(red) == pytest.approx(255)
    assert saturation(red // 2 + 100) < 200


def test_motion_of_a_brighter_frame_is_the_difference_itself():
    """A low-pass does not change a flat picture, so the measure is known exactly."""
    luma = np.stack([np.full((16, 24), value, np.float32) for value in (10, 14, 12)])
    assert motion(luma) == pytest.approx(3, abs=1e-3)


def test_each_rule_drops_what_it_says():
    good = {
        "motion": 2, "spatial": 50, "temporal": 10, "sharpness": 100, "saturation": 90,
        "frozen": 0, "brightness": 100,
    }  # fmt: skip
    bad = {
        "brightness": (1, "black"), "frozen": (0.9, "frozen"), "spatial": (1, "empty"),
        "sharpness": (1, "blurred"), "saturation": (250, "garish"),
    }  # fmt: skip
    config = PrepareConfig()
    assert list(reasons(Scores(**good), config)) == []
    for measure, (value, reason) in bad.items():
        assert [why for why, _ in reasons(Scores(**good | {measure: value}), config)] == [reason]
    for value, reason in ((0.01, "still"), (99, "shaky")):
        assert [why for why, _ in reasons(Scores(**good | {"motion": value}), config)] == [reason]


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": 80}, {"frames": 1}, {"sizes": []}, {"sizes": ["big"]}, {"sizes": ["100x64"]},
        {"least_motion": -1}, {"framez": 9},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(SettingError):
        from_dict(PrepareConfig, changes)


def test_the_nearest_shape_is_taken():
    config = PrepareConfig()
    assert config.bucket_for(1920, 1080) == (448, 256)
    assert config.bucket_for(1080, 1920) == (256, 448)
    assert config.bucket_for(640, 640) == (320, 320)


@pytest.mark.parametrize(
    ("name", "raw", "captions"),
    [
        ("f.txt", b"a red ball", ("a red ball",)),
        ("f.txt", "\ufeffa red\n ball\r\n\r\na ball".encode(), ("a red ball", "a ball")),
        ("f.txt", "ein Ball über Gras".encode("utf-16"), ("ein Ball über Gras",)),
        ("f.json", b'{"caption": "a ball"}', ("a ball",)),
        ("f.json", b'{"captions": ["a ball", "a ball", "a cube"], "x": 1}', ("a ball", "a cube")),
    ],
)
def test_captions_are_read_from_beside_the_film(tmp_path, name, raw, captions):
    (tmp_path / name).write_bytes(raw)
    assert captions_for(tmp_path / "f.mp4") == captions


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("g.txt", b"a ball", "no f.txt and no f.json"),
        ("f.txt", b"", "holds no caption"),
        ("f.txt", "ein Ball über Gras".encode("latin-1"), "save it as UTF-8"),
        ("f.txt", b"\0\1\2", "is no text"),
        ("f.txt", b"x" * 20_000, "over 10,000"),
        ("f.txt", b"x" * 2_000_000, "more than"),
        ("f.json", b"{", "is no JSON"),
        ("f.json", b'["a ball"]', "no text under 'caption'"),
        ("f.json", b'{"captions": [1]}', "no text under 'caption'"),
        ("f.json", b"[" * 100_000, "is no JSON"),
    ],
)
def test_captions_that_are_none_are_told(tmp_path, name, raw, why):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(MediaError, match=why):
        captions_for(tmp_path / "f.mp4")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A good film of two shots, and every kind of bad one."""
    folder = tmp_path_factory.mktemp("films")
    shots = moving(20) + [255 - image for image in moving(12, hue=1)] + moving(4, hue=2)
    with_caption(film(folder / "a two shots.mp4", shots))
    with_caption(film(folder / "b fast.mp4", moving(60, 30), rate=30))
    times = np.cumsum([0] + [20, 110, 30, 90] * 10)[:40].tolist()
    with_caption(film(folder / "c variable.mp4", [picture(t / 1000) for t in times], 1000, times))
    tall = film(folder / "d turned.mp4", [np.ascontiguousarray(np.rot90(p)) for p in moving(10)])
    raw = tall.read_bytes()
    where = raw.index(STRAIGHT, raw.index(b"tkhd"))
    with_caption(tall).write_bytes(raw[:where] + TURNED + raw[where + len(TURNED) :])
    with_caption(film(folder / "e hdr.mp4", moving(10), color_trc=16))
    good = (folder / "a two shots.mp4").read_bytes()
    with_caption(folder / "f broken.mp4").write_bytes(good[: len(good) // 2])
    with_caption(folder / "g zero.mp4").write_bytes(b"")
    with_caption(folder / "h text.mp4").write_bytes(b"#EXTM3U\nhttp://127.0.0.1/x\n")
    with av.open(str(with_caption(folder / "i sound.mp4")), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    film(folder / "j nothing said.mp4", moving(10))
    film(folder / "k odd words.mp4", moving(10)).with_suffix(".txt").write_bytes(b"\xfcber")
    with_caption(film(folder / "l still.mp4", [picture(0)] * 10))
    with_caption(film(folder / "m small.mp4", moving(10, width=32, height=20)))
    return folder


@pytest.fixture(scope="module")
def done(films, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    return out, prepared(films, out)


def test_every_film_is_kept_or_told_with_its_reason(done):
    _, rows = done
    told = {}
    for row in rows:
        told.setdefault(row["source"][0], []).append(row["reason"] or "kept")
    assert told == {
        "a": ["short", "kept", "kept", "kept"], "b": ["kept"] * 3, "c": ["kept"] * 4,
        "d": ["kept"], "e": ["hdr"], "f": ["unreadable"], "g": ["unreadable"],
        "h": ["unreadable"], "i": ["no picture"], "j": ["no caption"], "k": ["no caption"],
        "l": ["frozen"], "m": ["small"],
    }  # fmt: skip
    assert all(row["detail"] for row in rows if row["reason"])
    assert sum(counts(rows).values()) == len(rows)


def test_clips_lie_inside_shots_and_show_what_the_film_shows(done):
    out, rows = done
    starts = [row["start_s"] for row in rows if row["source"][0] == "a" and not row["reason"]]
    assert starts == [0, 9 / 16, 20 / 16]
    shards = read_shards(out)
    seen = {}
    for sample in shards.samples:
        parts = shards.read(sample)
        path = out / "look.mp4"
        path.write_bytes(parts["mp4"])
        frames, fps = read_video(path)
        path.unlink()
        assert fps == 16 and len(frames) == 9
        assert json.loads(parts["json"])["captions"] == ["a red ball"]
        seen.setdefault(sample.told["source"][0], []).append(frames.float())
    assert tuple(seen["d"][0].shape[1:]) == (64, 96, 3)
    small = [torch.tensor(picture(n / 16)[::2, ::2], dtype=torch.float32) for n in range(9)]
    for name in "abcd":
        # Also at other rates, at none, and turned, the same moment is seen at the same tick.
        errors = [(got - want).abs().mean() for got, want in zip(seen[name][0], small, strict=True)]
        assert max(errors) < 25, (name, errors)
        assert (seen[name][0][0] - small[6]).abs().mean() > 30


def test_shards_are_tars_that_anything_reads_with_their_checksums(done):
    out, _ = done
    (index,) = out.glob("*.jsonl")
    with tarfile.open(index.with_suffix(".tar")) as tar:
        names = tar.getnames()
        shards = read_shards(out)
        assert len(names) == 2 * len(shards.samples)
        for sample in shards.samples:
            for ending, raw in shards.read(sample).items():
                assert tar.extractfile(f"{sample.key}.{ending}").read() == raw


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(films, done, tmp_path, monkeypatch):
    whole, _ = done
    plain = Child.cut

    def killed(self, source, target, **how):
        if source.name.startswith("c"):
            raise KeyboardInterrupt
        return plain(self, source, target, **how)

    monkeypatch.setattr(preparing, "ShardWriter", lambda *a: SmallShards(*a, shard_bytes=1))
    with monkeypatch.context() as patch:
        patch.setattr(Child, "cut", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(films, tmp_path)
    assert len(read_shards(tmp_path).sources) == 2
    rows = prepared(films, tmp_path)
    assert rows[0]["source"][0] == "c"
    again, first = read_shards(tmp_path), read_shards(whole)
    assert again.digest == first.digest
    assert again.drops == first.drops
    with pytest.raises(OutputError, match="made with other settings"):
        prepared(films, tmp_path, PrepareConfig())


SmallShards = preparing.ShardWriter


def test_a_film_that_kills_the_decoder_is_told_and_the_next_goes_on(films, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "_POLL_S", 0.001)
    child = Child(SHORT, lambda: None)
    try:
        first = child.cut(films / "d turned.mp4", tmp_path)
        assert len(first["clips"]) == 1
        subprocess.run(["kill", "-9", str(child._process.pid)], check=True)
        child._process.wait()
        assert child.cut(films / "d turned.mp4", tmp_path)["drops"][0][0] == "unreadable"
        assert child.cut(films / "d turned.mp4", tmp_path) == first
        slow = child.cut(films / "a two shots.mp4", tmp_path, timeout_s=-1)
        assert "it took over" in slow["drops"][0][1]
    finally:
        child.close()


@pytest.mark.slow
def test_the_verb_reports_counts_plots_and_every_clip(films, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = tmp_path / "few"
    few.mkdir()
    for path in films.glob("[djk]*"):
        (few / path.name).write_bytes(path.read_bytes())
    settings = {"frames": 9, "sizes": ["96x64"], "least_side": 32, "motion_suffix": True}
    Path("p.json").write_text(json.dumps(settings))
    asked = ["data", "prepare", "few", "-o", "out", "--settings", "p.json"]
    assert run([*asked, "--dry-run", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"no caption": 2, "kept": 1}
    names = {"report.json", "report.csv", "report.png"}
    assert {path.name for path in Path("out").iterdir()} == names
    assert run(asked) == DONE
    assert "out: 1 clips kept, dropped: 2 no caption; " in capsys.readouterr().out
    shards = read_shards(Path("out"))
    caption = json.loads(shards.read(shards.samples[0])["json"])["captions"][0]
    score = round(shards.samples[0].told["scores"]["motion"])
    assert caption == f"a red ball motion score: {score}."
    table = {
        ("data", "prepare"): "the films are missing; try: longtake data prepare",
        ("data", "prepare", "gone", "-o", "x"): "gone is no folder",
        ("data", "prepare", "few", "-o", "few"): "another folder than that of the films",
        ("data", "prepare", "few"): "--out is missing",
        ("precompute", "few", "-o", "x"): "few holds no shards",
    }
    for arguments, line in table.items():
        assert run([*arguments]) == 2
        assert line in capsys.readouterr().err
