"""`longtake train`: a recipe or a file of settings in, a folder with a model out."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.progress import tell
from longtake.cli.prompt import STDIN

if TYPE_CHECKING:
    from longtake.recipes.previz import Outcome
    from longtake.recipes.recipe import PrevizRecipe


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Where the model goes, what is trained, and what is told."""

    out: Path
    """Folder of the model; an unfinished run in it goes on where it stopped."""
    stage: Literal["all", "autoencoder", "transformer", "causal", "few_steps"] = "all"
    """Autoencoder and transformer, or one stage; causal makes a model go on chunk by chunk,
    few_steps makes it need four steps and no guidance."""
    start: Path | None = None
    """Folder of weights to go on from: an autoencoder for the transformer, a model for
    causal and few_steps."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def train(name_or_file: str, /, *, options: TrainOptions) -> None:
    """Train a model from nothing, or go on with a run that was stopped.

    Args:
        name_or_file: A recipe (previz), or a JSON file with the settings that differ from it.
        options: The run.
    """
    from longtake.pipeline import device_of
    from longtake.recipes.folder import resume_point
    from longtake.recipes.previz import run
    from longtake.recipes.settings import load_recipe

    started = time.perf_counter()
    recipe = load_recipe(name_or_file.replace(STDIN, "-"))
    device = device_of(options.device)
    fix = "a smaller batch or pool in a settings file, or --device cpu"
    try:
        with log_lines(quiet=options.quiet), memory_errors(fix):
            outcome = run(
                recipe, options.out, stage=options.stage, device=device, start=options.start
            )
    except KeyboardInterrupt as stop:
        point = resume_point(options.out)
        where = f"goes on from {point}" if point else "starts again: no checkpoint was reached"
        msg = f"the same command {where}"
        raise KeyboardInterrupt(msg) from stop
    elapsed_s = time.perf_counter() - started
    if options.as_json:
        report = {
            "folder": str(options.out),
            "files": outcome.files,
            "held_out_psnr_db": outcome.held_out_psnr,
            "held_out_loss": outcome.held_out_loss,
            "elapsed_s": round(elapsed_s, 3),
        }
        tell(json.dumps(report), done="the model is finished")
    elif not options.quiet:
        tell(
            _summary(name_or_file, options, recipe, outcome, elapsed_s),
            done="the model is finished",
        )


class _Lines(logging.Handler):
    """Log lines to stderr; a lost wish to stop is honoured at each, even a silent one."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__()
        self.quiet = quiet

    def emit(self, record: logging.LogRecord) -> None:
        raise_if_stopped()
        # Who has closed stderr does not want to read; the training goes on.
        with suppress(OSError, ValueError):
            if not self.quiet and sys.stderr is not None:
                print(record.getMessage(), file=sys.stderr, flush=True)


@contextmanager
def log_lines(*, quiet: bool) -> Iterator[None]:
    """Tell what a run logs, while it runs."""
    logger, handler = logging.getLogger("longtake.train"), _Lines(quiet=quiet)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _summary(
    name: str, options: TrainOptions, recipe: "PrevizRecipe", outcome: "Outcome", elapsed_s: float
) -> str:
    folder = shlex.quote(str(options.out))
    made, clips, frames = "a model", recipe.transformer, recipe.model.max_frames
    if options.stage == "causal":
        made = "a model that goes on by chunks"
        clips, frames = recipe.causal, recipe.takes.max_frames
    if options.stage == "few_steps":
        made = f"a model that needs no guidance and few steps, {recipe.jumps.steps}"
        clips, frames = recipe.few_steps, recipe.few_steps.frames
    following = (
        f'longtake generate "a red ball bounces on grass" --model {folder} '
        f"--size {clips.width}x{clips.height} --frames {frames}"
    )
    if options.stage == "autoencoder":
        made = "an autoencoder"
        following = f"longtake train {shlex.quote(name)} --stage transformer --out {folder}"
    quality = ""
    if outcome.held_out_psnr is not None:
        quality += f", held-out PSNR {outcome.held_out_psnr:.2f} dB"
    if outcome.held_out_loss is not None:
        quality += f", held-out loss {outcome.held_out_loss:.4f}"
    return f"{options.out}: {made}{quality}, took {elapsed_s:.0f} s\nnow try: {following}"
