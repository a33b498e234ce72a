"""`longtake precompute`: clips in, their latents and text embeddings out."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtake.cli.finetune import refuse_public_model
from longtake.cli.memory import memory_errors
from longtake.cli.progress import display, tell
from longtake.presets import find


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrecomputeOptions:
    """Which model encodes, and where the latents go."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    """Folder of the latents; an unfinished run in it goes on where it stopped."""
    model: str = "previz"
    """Model by name, or a folder with a model.json; latents are of use for this one alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def precompute(shards: Path, /, *, options: PrecomputeOptions) -> None:
    """Encode clips once, so that training them again and again needs no autoencoder.

    Args:
        shards: Folder of clips from longtake data prepare.
        options: The run.
    """
    started = time.perf_counter()
    from longtake.data.shards import read_shards
    from longtake.pipeline import load
    from longtake.recipes.precompute import precompute

    refuse_public_model(options.model, "precompute")
    find(options.model)
    clips = read_shards(shards)
    with display(quiet=options.quiet) as show, memory_errors("--device cpu"):
        show.stage("load", 0, 1)
        pipe = load(options.model, device=options.device, precision="fp32")
        show.stage("load", 1, 1)
        try:
            for done in precompute(clips, options.out, pipe):
                show.stage("encode", done.number, done.total)
        except KeyboardInterrupt as stop:
            msg = "the same command goes on after the last whole shard"
            raise KeyboardInterrupt(msg) from stop
    made = read_shards(options.out)
    report = {
        "folder": str(options.out),
        "clips": len(made.samples),
        "left_out": len(made.drops),
        "elapsed_s": round(time.perf_counter() - started, 3),
    }
    if options.as_json:
        tell(json.dumps(report), done="the latents are finished")
    elif not options.quiet:
        line = "{folder}: latents of {clips} clips, {left_out} left out; took {elapsed_s:.0f} s"
        tell(line.format(**report), done="the latents are finished")
