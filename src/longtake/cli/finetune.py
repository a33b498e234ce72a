"""`longtake finetune`: clips in, a LoRA out."""

import json
import math
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from longtake.cli.memory import memory_errors
from longtake.cli.options import WholeNumber
from longtake.cli.progress import display, tell
from longtake.cli.train import log_lines
from longtake.config import merge
from longtake.errors import SettingError
from longtake.presets import find, is_public

if TYPE_CHECKING:
    from longtake.data.shards import Shards
    from longtake.pipeline import Pipeline
    from longtake.recipes.finetune import Finetuned, FinetuneRecipe

SEEN_GRAIN = 0.5
"""Of 255; what is less is not told."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """What is trained, how long, and where it goes."""

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    """Folder of the LoRA, the curves and the pictures; an unfinished run in it goes on where it
    stopped."""
    lora: WholeNumber | None = None
    """Rank of the changes; more can hold more, and learns by heart sooner. Default: 16."""
    model: str = "previz"
    """Model by name, or a folder with a model.json."""
    steps: WholeNumber | None = None
    """Steps of the whole run. Default: 1000."""
    minutes: float | None = None
    """Train for so long instead of --steps."""
    batch: WholeNumber | None = None
    """Clips of a step. Default: 8."""
    learning_rate: float | None = None
    """Peak learning rate. Default: 0.001."""
    settings: Path | None = None
    """JSON file with the settings of FinetuneRecipe that differ; options come before it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Report as one JSON object on stdout."""
    quiet: Annotated[bool, Parameter(negative="")] = False
    """Say nothing but errors."""


def finetune(data: Path, /, *, options: FinetuneOptions) -> None:
    """Teach a model your clips as a LoRA: a small file that lies over its weights.

    Args:
        data: Folder of shards from longtake data prepare, or of latents from longtake precompute.
        options: The run.
    """
    started = time.perf_counter()
    from longtake.recipes.finetune import check_out, finetune, resume_step

    refuse_public_model(options.model, "finetune")
    find(options.model)
    recipe = _recipe(options)
    check_out(options.out)
    fix = "a smaller --batch, or --device cpu"
    try:
        with memory_errors(fix):
            latents, pipe = _latents(data, options)
            with log_lines(quiet=options.quiet):
                made = finetune(recipe, options.out, latents, pipe)
    except KeyboardInterrupt as stop:
        point = resume_step(options.out)
        where = f"goes on from {point}" if point else "starts again: no checkpoint was reached"
        msg = f"the same command {where}"
        raise KeyboardInterrupt(msg) from stop
    elapsed_s = round(time.perf_counter() - started, 3)
    if options.as_json:
        report = {**asdict(made), "file": str(made.file), "elapsed_s": elapsed_s}
        tell(json.dumps(report), done="the LoRA is finished")
    elif not options.quiet:
        tell(_summary(options, made, elapsed_s), done="the LoRA is finished")


def refuse_public_model(model: str, verb: str) -> None:
    """Refuse a public model where only ours can be trained.

    Raises:
        SettingError: it is one.
    """
    if is_public(model):
        msg = (
            f"longtake {verb} trains models of our own; {model} is a public one, for which the "
            "parts are in longtake.model.lora, and generate --lora applies what they make"
        )
        raise SettingError(msg)


def _recipe(options: FinetuneOptions) -> "FinetuneRecipe":
    from longtake.recipes.finetune import FinetuneRecipe
    from longtake.recipes.settings import merged

    recipe = FinetuneRecipe()
    if options.settings is not None:
        recipe = merged(recipe, options.settings)
    given = {
        "steps": options.steps,
        "minutes": options.minutes,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
    }
    train = {name: value for name, value in given.items() if value is not None}
    rank = options.lora or recipe.rank
    # The changes keep their weight, whatever the rank.
    alpha = recipe.alpha / recipe.rank * rank
    return merge(recipe, {"rank": rank, "alpha": alpha, "train": train})


def _latents(data: Path, options: FinetuneOptions) -> "tuple[Shards, Pipeline]":
    """Latents of the clips, made first if there are none, and the model in fp32."""
    from longtake.data.shards import Shards
    from longtake.pipeline import load
    from longtake.recipes.precompute import latents_for

    with display(quiet=options.quiet) as show:
        show.stage("load", 0, 1)
        pipe = load(options.model, device=options.device, precision="fp32")
        show.stage("load", 1, 1)
        for event in latents_for(data, options.out / "latents", pipe):
            if isinstance(event, Shards):
                return event, pipe
            show.stage("encode", event.number, event.total)
    msg = "latents come last"
    raise AssertionError(msg)


def _summary(options: FinetuneOptions, made: "Finetuned", elapsed_s: float) -> str:
    model = "" if options.model == "previz" else f" --model {shlex.quote(options.model)}"
    grain = 127.5 * math.hypot(made.grain.shared, made.grain.own)
    laid = f"grain of {grain:.1f} of 255 lies over its films; " if grain >= SEEN_GRAIN else ""
    left_out = f", {made.bad} left out" if made.bad else ""
    return (
        f"{made.file}: rank {made.rank}, {made.steps} steps on {made.clips} clips{left_out}; "
        f"held-out loss {made.loss_before:.4f} before, {made.loss_after:.4f} after, on "
        f"{made.held_out} clips; {laid}took {elapsed_s:.0f} s\n"
        f'now try: longtake generate "a red ball bounces on grass"{model} '
        f"--lora {shlex.quote(str(made.file))}"
    )
