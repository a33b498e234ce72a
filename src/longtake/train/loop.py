"""The training loop: one stage, resumable to the exact step."""

import csv
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake.checkpoints import load_state, save_state
from longtake.config import TrainConfig, to_dict
from longtake.errors import CannotHere, SettingError
from longtake.parallel import ALONE, Workers
from longtake.train.data import Batch, Source, batches_due, generator_for, size_of_step
from longtake.train.optim import Ema, Optimiser, learning_rate_scale
from longtake.train.replay import Replay

logger = logging.getLogger("longtake.train")

Prepare = Callable[[Batch, torch.Generator], Batch]
Loss = Callable[..., tuple[Float[Tensor, ""], Float[Tensor, ""]]]
Preview = Callable[[Path], None]
_SETTLE_STEPS = 40
"""Steps that compile and warm up; they do not count in the measured step time."""


@dataclass(slots=True, kw_only=True)
class Size:
    """What a stage does at a further size."""

    ring: Source
    """Where its batches come from."""
    fill: int
    """Batches rendered before its first step."""
    prepare: Prepare
    """As of the stage."""
    loss: Loss
    """As of the stage."""
    held_out: Callable[[], float]
    """Loss on clips of this size that are not trained on, for the log."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """What differs between training an autoencoder and training a denoiser."""

    name: str
    """Names the files of the stage."""
    module: nn.Module
    """All trained weights; what wants no gradients stays as it is."""
    outer: tuple[str, ...]
    """Prefixes of first and last layers, which Muon leaves alone."""
    ring: Source
    """Where batches come from."""
    fill: int
    """Batches rendered before the first step."""
    prepare: Prepare
    """Everything drawn at random for a step: a batch to the inputs of `loss`."""
    loss: Loss
    """Those inputs to (loss, metric); draws nothing and waits for nothing, to be recorded."""
    metric: str
    """Name of the metric in the log."""
    preview: Preview
    """Writes a picture of what the averaged weights make."""
    rates: tuple[tuple[str, float], ...] = ()
    """Prefixes whose learning rates are a share of the others'."""
    shapes: dict[str, Any] = field(default_factory=dict)
    """Shapes of the networks as JSON values; a run is resumed with the same ones only."""
    one_shape: bool = True
    """All batches are alike, so that a step can be recorded."""
    held_out: Callable[[], float] | None = None
    """Loss of the averaged weights on clips that are not trained on; drawn with the previews."""
    further: tuple[Size, ...] = ()
    """The sizes that the settings name beside the stage's own, in their order."""


class Trainer:
    """Runs a stage and leaves the averaged weights in its module."""

    def __init__(
        self, stage: Stage, config: TrainConfig, folder: Path, workers: Workers = ALONE
    ) -> None:
        """Prepare, taking up the newest checkpoint in the folder if there is one.

        Raises:
            SettingError: sizes that the stage does not have, or a checkpoint of other settings.
        """
        if len(stage.further) != len(config.sizes):
            msg = f"the stage {stage.name} trains at one size; leave out its sizes"
            raise SettingError(msg)
        self.stage, self.config, self.folder, self.workers = stage, config, folder, workers
        self.device = next(stage.module.parameters()).device
        recorded = self.device if stage.one_shape else torch.device("cpu")
        learns = [(n, p) for n, p in stage.module.named_parameters() if p.requires_grad]
        self.optimiser = Optimiser(learns, config, stage.outer, recorded, stage.rates)
        self.ema = Ema(learns, config.ema)
        self.sizes = tuple(zip(config.at_each_size, (stage, *stage.further), strict=True))
        self._gradients = Replay(partial(self._loss_and_gradients, stage.loss), recorded)
        self._replays = (
            self._gradients,
            *(
                Replay(partial(self._loss_and_gradients, size.loss), recorded, self._gradients)
                for size in stage.further
            ),
        )
        self.step, self.steps = 0, config.steps
        self.calibrating = config.minutes > 0
        if self.checkpoint.exists():
            self.resume()
        for parameter in self.optimiser.parameters:
            parameter.grad = torch.zeros_like(parameter)

    @property
    def checkpoint(self) -> Path:
        """Where the state of an unfinished run lies."""
        return state_path(self.folder, self.stage.name)

    def run(self) -> None:
        """Train to the last step; afterwards the module holds the averaged weights."""
        if self.workers.first:
            log_file = self.folder / f"{self.stage.name}.csv"
            with closing(_Log(log_file, self.stage, self.config, self.step)) as log:
                self._steps(log)
            # What follows may be killed too; it then begins again from the last step.
            self.save()
        else:
            self._steps(None)
        self.ema.swap()
        if self.workers.first:
            self.stage.preview(self.folder / f"{self.stage.name}.png")

    def _steps(self, log: "_Log | None") -> None:
        started = time.monotonic()
        done = Counter(size_of_step(self.config, step) for step in range(self.step))
        while self.step < self.steps:
            number = self._size
            config, size = self.sizes[number]
            size.ring.advance(batches_due(config, done[number], size.fill))
            row = self._one_step()
            self.step += 1
            done[number] += 1
            if log is not None:
                log.add(*row, clips=config.batch)
                self._record(log)
            if self.calibrating and self.step % self.config.log_every == 0:
                self._calibrate(log, time.monotonic() - started)

    def _record(self, log: "_Log") -> None:
        """Whatever is written after a step; the first worker's task."""
        if self.step % self.config.log_every == 0 or self.step == self.steps:
            log.write(self.step, self.steps)
        if self.step % self.config.checkpoint_every == 0:
            # What is not a number must not take the place of a good state.
            log.check(self.step)
            self.save()
        if self.config.preview_every and self.step % self.config.preview_every == 0:
            self._preview(log)

    @property
    def _size(self) -> int:
        return size_of_step(self.config, self.step)

    def _one_step(self) -> tuple[Tensor, Tensor, Tensor]:
        draw = self.step * self.workers.size + self.workers.rank
        generator = generator_for(self.config.seed, draw, self.device)
        # All workers train at the same size, so that none waits for another.
        number = self._size
        config, size = self.sizes[number]
        batch = size.ring.draw(config.batch, generator)
        loss, metric = self._replays[number](*size.prepare(batch, generator))
        self.workers.average([p.grad for p in self.optimiser.parameters if p.grad is not None])
        c = self.config
        norm = self.optimiser.step(learning_rate_scale(self.step, self.steps, c.warmup, c.decay))
        self.ema.update(self.step)
        return loss, metric, norm

    def _loss_and_gradients(self, measure: Loss, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        # They stay where they are: the recorded steps of all sizes leave them where the
        # optimiser's own recorded step reads them.
        torch._foreach_zero_([p.grad for p in self.optimiser.parameters if p.grad is not None])
        loss, metric = measure(*inputs)
        loss.backward()
        return loss.detach(), metric.detach()

    def _calibrate(self, log: "_Log | None", elapsed_s: float) -> None:
        """Set the number of steps so that the run ends in time; fixed before the decay begins."""
        budget_s = 60 * self.config.minutes
        if log is not None and log.step_s is not None and self.step >= 2 * _SETTLE_STEPS:
            self.calibrating = elapsed_s <= budget_s * (1 - self.config.decay) * 0.9
            self.steps = self.step + max(1, int((budget_s - elapsed_s) / log.step_s))
        self.steps = int(self.workers.agree(self.steps, self.device))
        self.calibrating = bool(self.workers.agree(self.calibrating, self.device))

    def _preview(self, log: "_Log") -> None:
        self.ema.swap()
        self.stage.preview(self.folder / f"{self.stage.name}-{self.step:06d}.png")
        if self.stage.held_out is not None:
            log.held_out(self.step, self.stage.held_out())
        self.ema.swap()

    def save(self) -> None:
        """Store everything the next step depends on."""
        tensors = {f"model.{n}": p.detach() for n, p in self.stage.module.named_parameters()}
        tensors |= {f"ema.{n}": a for n, a in zip(self.ema.names, self.ema.average, strict=True)}
        tensors |= {f"optimiser.{name}": value for name, value in self.optimiser.state().items()}
        settings = {
            "step": str(self.step),
            "steps": str(self.steps),
            "config": self._settings(),
        }
        save_state(self.checkpoint, tensors, settings)

    def resume(self) -> None:
        """Take up where the checkpoint was made; other settings are refused."""
        tensors, settings = load_state(self.checkpoint)
        if settings["config"] != self._settings():
            msg = (
                f"{self.checkpoint} was made with other settings; use them again or another folder"
            )
            raise SettingError(msg)
        state = {
            name.removeprefix("optimiser."): value.to(self.device)
            for name, value in tensors.items()
            if name.startswith("optimiser.")
        }
        self.optimiser.restore(state)
        with torch.no_grad():
            for name, parameter in self.stage.module.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
            for name, average in zip(self.ema.names, self.ema.average, strict=True):
                average.copy_(tensors[f"ema.{name}"])
        self.step, self.steps = int(settings["step"]), int(settings["steps"])
        self.calibrating = False
        logger.info("%s: going on from step %d of %d", self.stage.name, self.step, self.steps)

    def _settings(self) -> str:
        settings = {"train": to_dict(self.config), "shapes": self.stage.shapes}
        return json.dumps(settings, sort_keys=True)


def state_path(folder: Path, stage: str) -> Path:
    """Where the state of a stage's unfinished run lies."""
    return folder / f"{stage}.state.safetensors"


class _Log:
    """Means between log lines, to the console, a CSV and TensorBoard."""

    def __init__(self, path: Path, stage: Stage, config: TrainConfig, step: int) -> None:
        writer = _summary_writer()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.stage, self.config = stage, config
        self.board = writer(str(path.parent / "tensorboard" / stage.name), purge_step=step + 1)
        done = _rows_until(path, step)
        self.file = path.open("w", newline="")
        self.rows = csv.writer(self.file)
        self.rows.writerow(["step", "loss", stage.metric, "gradient", "clips_per_s", "time_s"])
        self.rows.writerows(done)
        self.sums: Tensor | None = None
        self.count = self.clips = 0
        self.start = self.last = time.monotonic()
        self.step_s: float | None = None

    def add(self, loss: Tensor, metric: Tensor, norm: Tensor, clips: int) -> None:
        """Sum on the device, so that no step waits for a number."""
        row = torch.stack([loss, metric, norm])
        self.sums = row if self.sums is None else self.sums + row
        self.count += 1
        self.clips += clips

    def check(self, step: int) -> None:
        """End the run if the loss is not a number; the last checkpoint stays.

        Raises:
            SettingError: it is not.
        """
        loss = 0.0 if self.sums is None else (self.sums[0] / self.count).item()
        if not math.isfinite(loss):
            msg = f"the loss became {loss} at step {step}; lower learning_rate and resume"
            raise SettingError(msg)

    def held_out(self, step: int, loss: float) -> None:
        """Write the loss on held-out clips."""
        self.board.add_scalar("held_out", loss, step)
        logger.info("%s %6d  held-out loss %.4f", self.stage.name, step, loss)

    def write(self, step: int, steps: int) -> None:
        """Write a line; a loss that is not a number ends the run."""
        assert self.sums is not None
        loss, metric, norm = (self.sums / self.count).tolist()
        now = time.monotonic()
        if step > _SETTLE_STEPS:
            self.step_s = (now - self.last) / self.count
        speed = self.clips / (now - self.last)
        self.rows.writerow(
            [step, f"{loss:.5f}", f"{metric:.4f}", f"{norm:.4f}", f"{speed:.1f}",
             f"{now - self.start:.1f}"]
        )  # fmt: skip
        self.file.flush()
        for name, value in (("loss", loss), (self.stage.metric, metric), ("gradient", norm)):
            self.board.add_scalar(name, value, step)
        logger.info(
            "%s %6d/%d  loss %.4f  %s %.3f  gradient %.2f  %.1f clips/s  %.0f s, %s left",
            self.stage.name, step, steps, loss, self.stage.metric, metric, norm, speed,
            now - self.start, _clock((steps - step) * (now - self.last) / self.count),
        )  # fmt: skip
        self.check(step)
        self.sums, self.count, self.clips, self.last = None, 0, 0, now

    def close(self) -> None:
        """Flush and close the files."""
        self.file.close()
        self.board.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _summary_writer() -> Any:  # noqa: ANN401 - its class is only there with the extra
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, only training
    except ImportError as error:
        msg = "training needs tensorboard, which is missing; run: pip install 'longtake[train]'"
        raise CannotHere(msg) from error
    return SummaryWriter


def _rows_until(path: Path, step: int) -> list[list[str]]:
    """Lines of an earlier log up to the step a run goes on from; later ones are made again."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows[1:] if row and int(row[0]) <= step]
