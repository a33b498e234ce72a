"""What the stages have in common that go on from a whole model: trained, measured, left as one."""

import logging
from collections.abc import Callable
from pathlib import Path

from longtake.config import ModelConfig, TrainConfig
from longtake.parallel import Workers
from longtake.pipeline import Parts
from longtake.recipes.weights import export_model
from longtake.train.loop import Stage, Trainer

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
    trainer.run()
    if not workers.first:
        return None
    quality = held_out()
    logger.info("%s: held-out loss %.4f", stage.name, quality)
    export_model(folder, parts, shapes)
    return quality
