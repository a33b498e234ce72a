"""Trains a denoiser too large for one device: FSDP2, one clip at a time, resumable anywhere."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake import flow
from longtake.config import ShardedConfig, to_dict
from longtake.config.limits import latent_chunks
from longtake.errors import SettingError
from longtake.model import Transformer
from longtake.model.lora import Branches
from longtake.parallel import Workers
from longtake.parallel.checkpoint import load_sharded, save_sharded, states
from longtake.parallel.contact import contact
from longtake.parallel.sharding import hold_gradients, shard, whole
from longtake.train.causal import monotone_levels, two_streams
from longtake.train.data import generator_for
from longtake.train.latents import Clip
from longtake.train.losses import chunk_loss, flow_loss

logger = logging.getLogger("longtake.train")
Clips = Callable[[int, torch.device], Clip]
"""A clip by its number."""
BETAS, EPS = (0.9, 0.999), 1e-10
"""Of AdamW, as published."""


class ShardedTrainer:
    """Runs one stage; weights, gradients and averages lie in parts on all devices.

    Which clips a step has, and their noise, follow from the step alone and not from how many
    devices share them: any number of devices makes the same run, but for rounding.

    With `config.lora` the weights stay as they are and thin branches beside them learn; every
    device has all of those.
    """

    def __init__(
        self,
        model: Transformer,
        clips: Clips,
        config: ShardedConfig,
        folder: Path,
        workers: Workers,
        device: torch.device,
    ) -> None:
        """Cut the model into parts, taking up the newest state in the folder if there is one.

        Raises:
            SettingError: devices that cannot share the batch evenly, or other settings than those
                of the run to go on with.
        """
        if config.batch % workers.size:
            least = math.ceil(config.batch / workers.size) * workers.size
            msg = f"batch must be a multiple of {workers.size} devices, got {config.batch}"
            raise SettingError(f"{msg}; try {least}")  # noqa: EM102
        self.model, self.clips, self.config = model, clips, config
        self.folder, self.workers, self.device = folder, workers, device
        self.branches = _branches(model, config, device)
        shard(
            model,
            [*model.blocks],
            device,
            arithmetic=config.precision,
            recompute=config.run_again(len(model.blocks)),
            compiled=config.compile,
            entries=("advance",),
        )
        self.adamw = torch.optim.AdamW(
            self.trained.parameters(),
            lr=config.learning_rate,
            betas=BETAS,
            eps=EPS,
            weight_decay=config.weight_decay,
        )
        self.step = 0
        found = states(self.states)
        if found:
            self.resume(found[-1])

    @property
    def trained(self) -> nn.Module:
        """What learns."""
        return self.branches or self.model

    @property
    def states(self) -> Path:
        """Where the states of the run lie."""
        return self.folder / "states"

    def run(self) -> None:
        """Train to the last step; the state of it is there afterwards."""
        log = _Log(self.folder / "loss.csv", self.step) if self.workers.first else None
        while self.step < self.config.steps:
            with contact():
                loss, norm = self.one_step()
            self.step += 1
            if not math.isfinite(loss):
                msg = f"the loss became {loss} at step {self.step}; lower learning_rate and resume"
                raise SettingError(msg)
            if log is not None:
                log.add(self.step, loss, norm)
                if self.step % self.config.log_every == 0:
                    log.tell(self.step, self.config)
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.save()

    def one_step(self) -> tuple[float, float]:
        """Loss over the step's clips, and the gradient's norm before it is clipped."""
        own = range(self.workers.rank, self.config.batch, self.workers.size)
        total = torch.zeros((), device=self.device)
        for index in own:
            hold_gradients(self.model, last=index == own[-1])
            loss = self._loss(self.step * self.config.batch + index) / len(own)
            loss.backward()
            total += loss.detach()
        self.workers.average([total])
        if self.branches is not None:
            self.workers.average([p.grad for p in self.branches.parameters() if p.grad is not None])
        norm = whole(nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.clip))
        for group in self.adamw.param_groups:
            group["lr"] = self.config.learning_rate * min(
                1.0, (self.step + 1) / max(self.config.warmup, 1)
            )
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return total.item(), norm.item()

    def _loss(self, number: int) -> Float[Tensor, ""]:
        """Of one clip; its number decides its noise."""
        clip = self.clips(number, self.device)
        generator = generator_for(self.config.seed, number, self.device)
        noise = torch.randn(clip.latents.shape, generator=generator, device=self.device)
        sigma = flow.logit_normal(1, self.config.shift, generator, self.device)
        if self.config.chunk:
            return self._chunk_loss(clip, noise, sigma, generator)
        levels = sigma[:, None].expand(-1, clip.latents.shape[2])
        noisy = flow.interpolate(clip.latents, noise, levels)
        predicted = self.model(noisy, levels.double(), clip.text, clip.mask)
        return flow_loss(noise - clip.latents, self._velocity(predicted, clip)).mean()

    def _chunk_loss(
        self,
        clip: Clip,
        noise: Float[Tensor, "1 c t h w"],
        anchor: Float[Tensor, " 1"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Of every chunk after the clean chunks before it, noise that never falls among them."""
        chunks = latent_chunks(clip.latents.shape[2], self.config.chunk)
        levels = monotone_levels(1, len(chunks), anchor, generator)
        sigma = levels.repeat_interleave(torch.tensor(chunks, device=self.device), dim=1)
        text = clip.text[:, None].expand(-1, len(chunks), -1, -1)
        mask = clip.mask[:, None].expand(-1, len(chunks), -1)
        noisy = flow.interpolate(clip.latents, noise, sigma)
        zero = torch.zeros_like(sigma)
        predicted = two_streams(
            self.model, noisy, sigma.double(), clip.latents, zero.double(), text, mask, chunks
        )
        return chunk_loss(noise - clip.latents, self._velocity(predicted, clip), sigma)[0]

    @staticmethod
    def _velocity(
        predicted: Float[Tensor, "1 out t h w"], clip: Clip
    ) -> Float[Tensor, "1 c t h w"]:
        return predicted[:, : clip.latents.shape[1]]

    def _tensors(self) -> dict[str, Tensor]:
        """Everything a later step depends on, in parts."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.trained.named_parameters():
            state = self.adamw.state[parameter]
            if not state:
                state["step"] = torch.tensor(float(self.step))
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            tensors[f"model.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = state["exp_avg"]
            tensors[f"square.{name}"] = state["exp_avg_sq"]
        return tensors

    def save(self) -> None:
        """Store everything the next step depends on."""
        settings = {"step": str(self.step), "config": self._settings()}
        save_sharded(self.states, self.step, self._tensors(), settings)

    def resume(self, path: Path) -> None:
        """Take up where a state was made, by any number of devices; other settings are refused.

        Raises:
            SettingError: other settings.
            WeightsError: a damaged state, or one of another network.
        """
        settings = load_sharded(path, self._tensors())
        if settings["config"] != self._settings():
            msg = f"{path} was made with other settings; use them again or another --out"
            raise SettingError(msg)
        self.step = int(settings["step"])
        for parameter in self.trained.parameters():
            self.adamw.state[parameter]["step"].fill_(self.step)
        logger.info("going on from step %d of %d", self.step, self.config.steps)

    def _settings(self) -> str:
        settings = {"train": to_dict(self.config), "shape": to_dict(self.model.config)}
        # A longer run goes on from a shorter one.
        del settings["train"]["steps"]
        return json.dumps(settings, sort_keys=True)

    def weights(self) -> dict[str, Tensor]:
        """All that was trained on the host, for the first worker; everybody has to ask."""
        kept: dict[str, Tensor] = {}
        for name, parameter in self.trained.named_parameters():
            tensor = whole(parameter.detach())
            if self.workers.first:
                kept[name] = tensor.cpu()
        return kept


def _branches(model: Transformer, config: ShardedConfig, device: torch.device) -> Branches | None:
    """The same branches on every device; A is drawn from the seed."""
    if not config.lora:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Branches(model, config.lora, float(config.lora)).to(device)


class _Log:
    """Loss and gradient of every step, in a CSV; means of them as lines."""

    def __init__(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [["step", "loss", "gradient", "time_s"]]
        if path.exists():
            with path.open(newline="") as file:
                rows += [row for row in list(csv.reader(file))[1:] if row and int(row[0]) <= step]
        self.file = path.open("w", newline="")
        self.rows = csv.writer(self.file)
        self.rows.writerows(rows)
        self.start = self.last = time.monotonic()
        self.losses: list[float] = []

    def add(self, step: int, loss: float, norm: float) -> None:
        """Keep a step."""
        self.losses.append(loss)
        elapsed_s = time.monotonic() - self.start
        self.rows.writerow([step, f"{loss:.6f}", f"{norm:.5f}", f"{elapsed_s:.2f}"])
        self.file.flush()

    def tell(self, step: int, config: ShardedConfig) -> None:
        """Tell how it goes, and how long it will take."""
        now = time.monotonic()
        each_s = (now - self.last) / len(self.losses)
        logger.info(
            "step %d/%d  loss %.4f  %.2f clips/s  left %.0f min",
            step, config.steps, sum(self.losses) / len(self.losses), config.batch / each_s,
            (config.steps - step) * each_s / 60,
        )  # fmt: skip
        self.losses, self.last = [], now
