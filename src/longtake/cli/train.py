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
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from cyclopts import Parameter

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.memory import memory_errors
from longtake.cli.options import WholeNumber
from longtake.cli.progress import tell
from longtake.cli.prompt import STDIN
from longtake.errors import SettingError

if TYPE_CHECKING:
    from longtake.recipes.folder import Which
    from longtake.recipes.previz import Outcome
    from longtake.recipes.recipe import PrevizRecipe


SANA = "sana-video-2b"
"""The recipe of the public model."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Where the model goes, what is trained, and what is told."""

    out: Path | None = None
    """Folder of the model; an unfinished run in it goes on where it stopped."""
    stage: Literal[
        "all", "autoencoder", "transformer", "causal", "few_steps", "matching", "decoder", "low",
        "full", "tune",
    ] = "all"  # fmt: skip
    """Autoencoder and transformer, or one stage; causal makes a model go on chunk by chunk,
    few_steps makes it need four steps and no guidance, matching teaches those on its own takes,
    decoder makes films flicker less. sana-video-2b: low, full, tune, causal."""
    start: Path | None = None
    """Folder of weights to go on from: an autoencoder for the transformer, a model for
    causal and what follows."""
    teacher: Path | None = None
    """Folder of the model that few_steps went on from, for matching."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SanaOptions:
    """What only sana-video-2b knows."""

    data: Path | None = None
    """Folder of encoded clips."""
    steps: WholeNumber | None = None
    """Steps of the stage. Default: as --dry-run tells."""
    batch: WholeNumber | None = None
    """Clips of a step over all GPUs. Default: 64."""
    lora: WholeNumber | None = None
    """Rank of changes to train in place of the weights; leaves a LoRA for generate --lora."""
    compile: Annotated[bool, Parameter(negative="")] = False
    """Compile the layers: faster steps, after a first one of minutes."""
    keep_layers: WholeNumber | None = None
    """Layers that are not run again in the backward pass: faster, for more memory; --dry-run
    tells how much."""
    dry_run: Annotated[bool, Parameter(negative="")] = False
    """Tell memory and time on 1 to 64 GPUs, and train nothing."""


_TRAIN, _SANA = TrainOptions(), SanaOptions()


def train(
    name_or_file: str, /, *, options: TrainOptions = _TRAIN, sana: SanaOptions = _SANA
) -> None:
    """Train a model from nothing, or go on with a run that was stopped.

    With several GPUs: torchrun --nproc-per-node 8 -m -- longtake train ...

    Args:
        name_or_file: A recipe (previz, sana-video-2b), or a JSON file with the settings that differ
            from previz.
        options: The run.
        sana: The public model's own training.
    """
    if name_or_file == SANA:
        from longtake.cli.train_sana import train_sana

        train_sana(options, sana)
        return
    if sana != _SANA:
        msg = (
            f"--data, --steps, --batch, --lora, --compile, --keep-layers and --dry-run are for "
            f"{SANA}; a file has such settings"
        )
        raise SettingError(msg)
    _train_previz(name_or_file, options)


def folder_of(options: TrainOptions) -> Path:
    """Where the model goes.

    Raises:
        SettingError: nobody said.
    """
    if options.out is None:
        msg = "--out is missing; longtake train --help tells what it is"
        raise SettingError(msg)
    return options.out


def _train_previz(name_or_file: str, options: TrainOptions) -> None:
    from longtake.parallel import join, leave
    from longtake.pipeline import device_of
    from longtake.recipes.folder import resume_point
    from longtake.recipes.previz import run
    from longtake.recipes.settings import load_recipe

    started = time.perf_counter()
    out = folder_of(options)
    recipe = load_recipe(name_or_file.replace(STDIN, "-"))
    stage = _previz_stage(options)
    workers, device = join(device_of(options.device))
    quiet = options.quiet or not workers.first
    fix = "a smaller batch or pool in a settings file, or --device cpu"
    try:
        with log_lines(quiet=quiet), memory_errors(fix):
            outcome = run(
                recipe, out, stage=stage, device=device, start=options.start,
                teacher=options.teacher, workers=workers,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        point = resume_point(out)
        where = f"goes on from {point}" if point else "starts again: no checkpoint was reached"
        msg = f"the same command {where}"
        raise KeyboardInterrupt(msg) from stop
    leave()
    elapsed_s = time.perf_counter() - started
    if not workers.first:
        return
    if options.as_json:
        report = {
            "folder": str(out),
            "files": outcome.files,
            "held_out_psnr_db": outcome.held_out_psnr,
            "held_out_loss": outcome.held_out_loss,
            "elapsed_s": round(elapsed_s, 3),
        }
        tell(json.dumps(report), done="the model is finished")
    elif not options.quiet:
        tell(
            _summary(name_or_file, out, options.stage, recipe, outcome, elapsed_s),
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


def _previz_stage(options: TrainOptions) -> "Which":
    from longtake.recipes.folder import Which

    for stage in get_args(Which):
        if stage == options.stage:
            return stage
    msg = f"--stage {options.stage} is of {SANA}; previz has {', '.join(get_args(Which))}"
    raise SettingError(msg)


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
    name: str, out: Path, stage: str, recipe: "PrevizRecipe", outcome: "Outcome", elapsed_s: float
) -> str:
    folder = shlex.quote(str(out))
    made, clips, frames = "a model", recipe.transformer, recipe.model.max_frames
    if stage == "causal":
        made = "a model that goes on by chunks"
        clips, frames = recipe.causal, recipe.takes.max_frames
    if stage == "few_steps":
        made = f"a model that needs no guidance and few steps, {recipe.jumps.steps}"
        clips, frames = recipe.few_steps, recipe.few_steps.frames
    if stage == "matching":
        made = "a model of few steps that learned from takes of its own"
        clips, frames = recipe.matching, recipe.matching.frames
    following = (
        f'longtake generate "a red ball bounces on grass" --model {folder} '
        f"--size {clips.width}x{clips.height} --frames {frames}"
    )
    if stage == "decoder":
        made = "a model whose decoder overlooks small errors"
        clips, frames = recipe.decoder, recipe.decoder.frames
    if stage == "autoencoder":
        made = "an autoencoder"
        following = f"longtake train {shlex.quote(name)} --stage transformer --out {folder}"
    quality = ""
    if outcome.held_out_psnr is not None:
        quality += f", held-out PSNR {outcome.held_out_psnr:.2f} dB"
    if outcome.held_out_loss is not None:
        quality += f", held-out loss {outcome.held_out_loss:.4f}"
    return f"{out}: {made}{quality}, took {elapsed_s:.0f} s\nnow try: {following}"
