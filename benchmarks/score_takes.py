"""How good the takes of a model by chunks are, beside the truth: one JSON with every measure.

python benchmarks/score_takes.py --model FOLDER --out takes.json [--scripts 16] [--jobs 4]

Scripts of the world are told to the model beat by beat; what it makes is read and measured, and so
are true renders of the same scripts after the autoencoder, which is the most that any model of
this autoencoder can reach. Runs on a bare GPU machine. `--only` takes some of: scripts, long,
change, picture, recall, cost.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from longtake.config import FPS, SampleConfig, frames_for
from longtake.evaluate.drift import Drift, curves, drift_of
from longtake.evaluate.reader.read import FOLDER, Reader, load_reader
from longtake.evaluate.rolls import (
    COLUMNS,
    Maker,
    borders_of,
    by_beat,
    chunks_of,
    first_frame,
    roll,
    script_of,
    state_bytes,
    texts_of,
    true_film,
    window_frames,
)
from longtake.evaluate.round_trip import round_trip
from longtake.evaluate.takes import (
    BEAT_FRAMES,
    Film,
    Recalled,
    attributes,
    border_change,
    chance,
    drift_shares,
    motion_ratio,
    plain_captions,
    prompt_change,
    psnr,
    recall,
    recall_script,
    share_right,
)
from longtake.pipeline import Pipeline, device_of, load
from longtake.rollout.take import Committed
from longtake.world.screenwriter import BEAT_S
from longtake.world.script import GAPS_S, Beat, Script

PARTS = ("scripts", "long", "change", "picture", "recall", "cost")
EARLY, LATE = (0, 1), (10, 11)
"""Beats of the first ten seconds, and of the last ten of a minute."""
COST_S = (5, 20, 60, 300)
CHANGE_BEAT = 4
"""The beat with which the light is told to change: at 20 seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scripts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--reader", type=Path, default=FOLDER)
    parser.add_argument("--only", default="scripts,change,picture,recall,cost")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the device")
    parser.add_argument("--out", type=Path, default=Path("takes.json"))
    options = parser.parse_args()
    start = time.perf_counter()
    with get_context("spawn").Pool(options.jobs) as pool:
        shares = pool.map(share, [(options, job) for job in range(options.jobs)])
    rows = [row for some in shares for row in some]
    report = {
        "what": "takes", "model": options.model, "scripts": options.scripts, "seed": options.seed,
        "steps": options.steps, **report_of(rows),
    }  # fmt: skip
    if "cost" in options.only.split(","):
        # Alone on the device, or its memory and time would be those of all.
        with get_context("spawn").Pool(1) as pool:
            report["cost"] = pool.apply(costs_of, (options,))
    report |= {
        "elapsed_s": round(time.perf_counter() - start, 1),
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


def share(given: tuple[argparse.Namespace, int]) -> list[dict]:
    """What a process measures: every n-th script."""
    options, job = given
    torch.set_num_threads(1)
    pipe = load(options.model, device=device_of(options.device))
    reader = load_reader(options.reader, pipe.device)
    rows = []
    for number in range(job, options.scripts, options.jobs):
        maker = Maker(pipe=pipe, settings=settings_of(pipe, options, number))
        script = script_of(options.seed, number)
        rows += list(measure(maker, script, reader, options.only.split(","), number))
    return rows


def settings_of(pipe: Pipeline, options: argparse.Namespace, number: int) -> SampleConfig:
    """As the model says, with a seed for each script."""
    own = pipe.defaults
    return replace(own, steps=options.steps or own.steps, seed=options.seed + number)


def measure(
    maker: Maker, script: Script, reader: Reader, parts: Sequence[str], number: int
) -> Iterator[dict]:
    """Rows of everything that is asked for of one script."""
    known: dict[str, Callable[[], Iterator[dict]]] = {
        "scripts": lambda: scripts_rows(maker, script, reader, number),
        "long": lambda: long_rows(maker, script, reader, number),
        "change": lambda: change_rows(maker, script, reader, number),
        "picture": lambda: picture_rows(maker, script, reader, number),
        "recall": lambda: recall_rows(maker, script, reader, number),
    }
    for part in parts:
        if part in known:
            start = time.perf_counter()
            for row in known[part]():
                yield {"part": part, "number": number, **row}
            took_s = time.perf_counter() - start
            print(f"script {number}, {part}: {took_s:.0f} s", file=sys.stderr, flush=True)


def scripts_rows(maker: Maker, script: Script, reader: Reader, number: int) -> Iterator[dict]:
    """Attributes early and late, drift, and change at borders, of the model and of the truth."""
    seconds, grid = script.length_s, maker.grid
    made = roll(maker, texts_of(script, grid, seconds, number))
    true = true_film(maker, script, seconds)
    borders = borders_of(grid, len(made))
    last = seconds // BEAT_S
    late = tuple(range(last - len(LATE), last))
    for who, film in (("model", made), ("truth", true)):
        across, elsewhere = border_change(film, true, borders)
        yield {
            "who": who,
            "early": attributes(film, script, EARLY, reader),
            "late": attributes(film, script, late, reader),
            "drift": drift_of(curves([film], FPS), borders),
            "across": across,
            "elsewhere": elsewhere,
        }


def long_rows(maker: Maker, script: Script, reader: Reader, number: int) -> Iterator[dict]:
    """Attributes in the tenth minute, the script told over and over; the rest is not kept."""
    beats = len(script.beats)
    first = 9 * beats
    texts = texts_of(script, maker.grid, 10 * script.length_s, number)
    kept: list[Film] = []
    done = 0
    for part in chunks_of(maker, texts):
        if done + len(part) > first * BEAT_FRAMES:
            kept.append(part[max(first * BEAT_FRAMES - done, 0) :])
        done += len(part)
    yield {"who": "model", "late": attributes(torch.cat(kept), script, range(beats), reader)}


def change_rows(maker: Maker, script: Script, reader: Reader, number: int) -> Iterator[dict]:
    """The light is told to change at a beat; before, nothing may, and after, nothing else."""
    length, light = CHANGE_BEAT + 2, ("sunset", "night")[number % 2]
    motions = ("still",) * len(script.beats[0].motions)
    plain, changed = (
        replace(
            script,
            beats=tuple(
                Beat(
                    start_s=BEAT_S * n, motions=motions, light=after if n >= CHANGE_BEAT else "day"
                )
                for n in range(length)
            ),
            length_s=BEAT_S * length,
        )
        for after in ("day", light)
    )
    made, true = [], []
    for one in (changed, plain):
        made.append(roll(maker, by_beat(plain_captions(one, colours=True), maker.per_beat)))
        true.append(true_film(maker, one, one.length_s))
    border = maker.grid.frames(CHANGE_BEAT * maker.per_beat).start
    for who, (one, other), at in (
        ("model", made, border), ("truth", true, CHANGE_BEAT * BEAT_FRAMES)
    ):  # fmt: skip
        yield {"who": who, **asdict(prompt_change(one, other, at, light, reader))}


def picture_rows(maker: Maker, script: Script, reader: Reader, number: int) -> Iterator[dict]:
    """A true first frame as the picture: is it kept, and who is in it?"""
    true = true_film(maker, script, BEAT_S)
    picture = first_frame(maker, script)
    texts = texts_of(script, maker.grid, BEAT_S, number)
    made = torch.cat(list(chunks_of(maker, texts, picture=picture)))
    again = round_trip(maker.pipe.autoencoder, picture.expand(1, 5, -1, -1, -1))[0, 0].cpu()
    for who, film in (("model", made), ("truth", true)):
        marks = attributes(film, script, (0,), reader)
        yield {"who": who, "psnr": psnr(film[0], again), "marks": marks}


def recall_rows(maker: Maker, script: Script, reader: Reader, number: int) -> Iterator[dict]:
    """A subject leaves and returns whose colour only the first frame says; by kind of memory."""
    gap_s = GAPS_S[number % len(GAPS_S)]
    away = recall_script(script, gap_s)
    texts = by_beat(plain_captions(away, colours=False), maker.per_beat)
    begins = first_frame(maker, away)
    for column in COLUMNS:
        film = roll(maker, texts, column, exit_chunk=2 * maker.per_beat, picture=begins)
        yield {"who": column, "recalled": recall(film, away, reader)}
    yield {"who": "truth", "recalled": recall(true_film(maker, away, away.length_s), away, reader)}


def report_of(rows: Sequence[dict]) -> dict:
    """All rows as means, the model beside the truth."""
    report: dict = {}
    parts = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    if scripts := parts["scripts"]:
        report["scripts"] = scripts_report(scripts)
    if late := parts["long"]:
        report["tenth_minute"] = {"right": share_right([row["late"] for row in late])}
    if change := parts["change"]:
        report["prompt_change"] = by_who(change, ("shows", "same", "before"))
    if pictures := parts["picture"]:
        report["picture"] = {
            who: {
                "psnr_least": min(row["psnr"] for row in mine),
                "right": share_right([row["marks"] for row in mine], ("colour", "kind", "ground")),
            }
            for who, mine in grouped(pictures).items()
        }
    if recalled := parts["recall"]:
        report["recall"] = recall_report(recalled)
    return report


def scripts_report(rows: Sequence[dict]) -> dict:
    """Attributes, drift and borders."""
    found, drifts = {}, {who: [row["drift"] for row in mine] for who, mine in grouped(rows).items()}
    for who, mine in grouped(rows).items():
        early, late = ([row[when] for row in mine] for when in ("early", "late"))
        found[who] = {
            "right_0_10_s": share_right(early), "right_50_60_s": share_right(late),
            "by_attribute": {
                name: [share_right(early, (name,)), share_right(late, (name,))]
                for name in ("colour", "kind", "motion", "light", "ground", "camera")
            },
            "slopes_inside": drift_shares(drifts[who], drifts["truth"]),
            "motion_over_truth": motion_ratio(drifts[who], drifts["truth"]),
            "change_at_borders": statistics.mean(row["across"] for row in mine),
            "change_elsewhere": statistics.mean(row["elsewhere"] for row in mine),
            "drift": [drift_row(one) for one in drifts[who]],
        }  # fmt: skip
    return found


def drift_row(one: Drift) -> dict:
    """A take's drift, slopes a minute."""
    slopes = {name: round(60 * s.per_s, 3) for name, s in one.slopes.items()}
    rest = {"motion_energy": one.motion, "flicker": one.flicker, "frozen_s": one.frozen_s}
    return {**slopes, **{name: round(value, 4) for name, value in rest.items()}}


def recall_report(rows: Sequence[dict]) -> dict:
    """Share recalled by gap and column, and what guessing gives."""
    report: dict = {}
    for gap_s in GAPS_S:
        here = [row for row in rows if row["recalled"].gap_s == gap_s]
        if here:
            found: dict[str, list[Recalled]] = {
                who: [row["recalled"] for row in mine] for who, mine in grouped(here).items()
            }
            report[f"{gap_s} s"] = {
                who: {"same": statistics.mean(one.same for one in some),
                      "seen": statistics.mean(one.seen for one in some), "takes": len(some)}
                for who, some in found.items()
            }  # fmt: skip
    states = [row["recalled"] for row in rows if row["who"] == "state"]
    return {**report, "chance": chance(states)}


def grouped(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Rows of each who."""
    return {who: [row for row in rows if row["who"] == who]
            for who in dict.fromkeys(row["who"] for row in rows)}  # fmt: skip


def by_who(rows: Sequence[dict], names: Sequence[str]) -> dict:
    """Means of some columns."""
    return {
        who: {name: statistics.mean(float(row[name]) for row in mine) for name in names}
        for who, mine in grouped(rows).items()
    }


def costs_of(options: argparse.Namespace) -> dict:
    """In a process of its own."""
    pipe = load(options.model, device=device_of(options.device))
    maker = Maker(pipe=pipe, settings=settings_of(pipe, options, 0))
    return costs(maker, script_of(options.seed, 0), COST_S)


@torch.no_grad()
def costs(maker: Maker, script: Script, lengths: Sequence[int]) -> dict:
    """First frames, time and peak memory against length, and the size of the state.

    Frames are thrown away as they come; lengths rise, for the host's peak never falls.
    """
    cuda = maker.pipe.device.type == "cuda"
    texts = texts_of(script, maker.grid, BEAT_S, 0)
    first = next(
        event for event in maker.take().roll(lambda _: maker.encoded(texts[0]), range(1))
        if isinstance(event, Committed)
    )  # fmt: skip
    found: dict = {
        "state_bytes": state_bytes(first.state),
        "window_latent_frames": window_frames(maker, first.state),
    }
    for seconds in sorted(lengths):
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        begin, heard = time.perf_counter(), None
        chunks = maker.grid.chunks(frames_for(seconds))
        said = [texts[chunk % len(texts)] for chunk in range(chunks)]
        for _ in chunks_of(maker, said):
            heard = heard or time.perf_counter() - begin
        found[f"{seconds} s"] = {
            "first_frames_s": heard, "time_s": time.perf_counter() - begin,
            "host_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
