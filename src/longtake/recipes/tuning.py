"""What the stages of a denoiser have in common: trained, measured, left as a model."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from longtake.config import ModelConfig, TrainConfig
from longtake.errors import SettingError
from longtake.parallel import Workers
from longtake.pipeline import Parts
from longtake.recipes.recipe import HELD_OUT_SEED
from longtake.recipes.weights import export_model
from longtake.train.data import Batch, generator_for
from longtake.train.loop import Loss, Prepare, Stage, Trainer

logger = logging.getLogger("longtake.train")


def tune(
    stage: Stage,
    config: TrainConfig,
    folder: Path,
    workers: Workers,
    held_out: Callable[[], float],
    parts: Parts,
    shapes: ModelConfig,
) -> float | None:
    """Run a stage and leave a model; returns the loss on held-out clips, to the first worker.

    The log has it of every further size too.

    Args:
        stage: What is trained.
        config: How.
        folder: Where the weights, the log and the pictures go.
        workers: Those who train together; the first measures and writes.
        held_out: Measures on clips that are not trained on, told before the first step and after
            the last.
        parts: The networks, of which the stage trains some.
        shapes: What the model is afterwards.
    """
    trainer = Trainer(stage, config, folder, workers)
    if workers.first and not trainer.step:
        logger.info("%s: held-out loss %.4f at the start", stage.name, held_out())
        _tell_further(stage, config, " at the start")
    with _enough_graphs(stage, config):
        trainer.run()
    if not workers.first:
        return None
    quality = held_out()
    logger.info("%s: held-out loss %.4f", stage.name, quality)
    _tell_further(stage, config, "")
    export_model(folder, parts, shapes)
    return quality


@torch.compiler.set_stance("force_eager")
@torch.no_grad()
def held_out_loss(prepare: Prepare, loss: Loss, unseen: Callable[[], Batch]) -> float:
    """Loss on clips that training never sees, at the same draws every time."""
    batch = unseen()
    generator = generator_for(HELD_OUT_SEED, 0, batch[0].device)
    return loss(*prepare(batch, generator))[0].item()


def check_lengths(config: TrainConfig, most: int, stage: str) -> None:
    """Check that the clips of further sizes are no longer than the model's takes.

    Raises:
        SettingError: one is.
    """
    for size in config.at_each_size[1:]:
        if size.frames > most:
            msg = (
                f"{stage}.sizes.frames must be at most {most}, the longest take of the model, "
                f"got {size.frames}"
            )
            raise SettingError(msg)


def _tell_further(stage: Stage, config: TrainConfig, when: str) -> None:
    for own, size in zip(config.at_each_size[1:], stage.further, strict=True):
        name = f"{own.width}x{own.height}, {own.frames} frames"
        logger.info("%s, %s: held-out loss %.4f%s", stage.name, name, size.held_out(), when)


def _enough_graphs(stage: Stage, config: TrainConfig) -> AbstractContextManager[object]:
    """Each size has graphs of its own; beyond the compiler's limit some layers would run slowly."""
    if not (config.compile and stage.further):
        return nullcontext()
    limits = torch._dynamo.config
    return limits.patch(recompile_limit=limits.recompile_limit * (1 + len(stage.further)))
