"""Muon for the hidden matrices, AdamW for the rest, one learning-rate curve, EMA."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake.config import TrainConfig
from longtake.train.replay import Replay

Named = Mapping[str, Tensor]
_SMALLEST_MATRIX = 16


def orthogonalise(
    gradients: Float[Tensor, "batch rows columns"],
) -> Float[Tensor, "batch rows columns"]:
    """Nearest orthogonal matrices, about, by five Newton-Schulz steps in bfloat16.

    Source: Jordan et al. 2024 (Muon).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradients.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


@dataclass(slots=True)
class _Stack:
    """Parameters of one shape, stepped together, and their momentum."""

    names: list[str]
    parameters: list[Tensor]
    momentum: Float[Tensor, "batch rows columns"]
    share: float
    """Of the learning rate."""


class Optimiser:
    """Muon on hidden matrices and kernels, AdamW on everything else.

    Muon's step is scaled by 0.2 sqrt(max(rows, columns)), so that both see alike learning rates.

    Source: Liu et al. 2025 (Muon is scalable, arXiv 2502.16982), eq. 4.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        config: TrainConfig,
        outer: tuple[str, ...],
        recorded: torch.device | None = None,
        rates: tuple[tuple[str, float], ...] = (),
    ) -> None:
        """Sort the parameters.

        Args:
            named: The parameters by their names.
            config: Rates.
            outer: Prefixes of the first and last layers, which Muon leaves alone.
            recorded: Where a step is recorded and replayed; the CPU never records. Default: the
                parameters' device.
            rates: Prefixes whose learning rates are a share of the others'.
        """
        self.config = config
        matrices: dict[tuple[int, int, float], list[tuple[str, nn.Parameter]]] = {}
        rest: list[tuple[str, nn.Parameter]] = []
        by_share: dict[float, list[nn.Parameter]] = {}
        for name, parameter in named:
            rows = parameter.shape[0] if parameter.ndim > 1 else 0
            columns = parameter.numel() // rows if rows else 0
            hidden = min(rows, columns) >= _SMALLEST_MATRIX and not name.startswith(outer)
            share = next((share for prefix, share in rates if name.startswith(prefix)), 1.0)
            if hidden and config.optimiser == "muon":
                matrices.setdefault((rows, columns, share), []).append((name, parameter))
            else:
                rest.append((name, parameter))
                by_share.setdefault(share, []).append(parameter)
        self.stacks = [
            _Stack(
                names=[name for name, _ in members],
                parameters=[parameter for _, parameter in members],
                momentum=torch.zeros(len(members), rows, columns, device=members[0][1].device),
                share=share,
            )
            for (rows, columns, share), members in matrices.items()
        ]
        self.rest = rest
        device = rest[0][1].device
        # Rates lie on the device, where a recorded step reads them.
        self.scale = torch.ones((), device=device)
        self.adamw = torch.optim.AdamW(
            [
                {"params": some, "lr": self.scale * config.learning_rate, "share": share}
                for share, some in by_share.items()
            ],
            betas=(0.9, 0.97),
            weight_decay=0.0,
            fused=device.type == "cuda",
            capturable=device.type == "cuda",
        )
        self.parameters = [p for s in self.stacks for p in s.parameters] + [p for _, p in rest]
        self._apply = Replay(self._clip_and_step, recorded or device)

    def step(self, scale: float) -> Float[Tensor, ""]:
        """Clip and step at a share of the peak rates; returns the gradient norm before clipping."""
        self.scale.fill_(scale)
        (norm,) = self._apply()
        return norm

    def _clip_and_step(self) -> tuple[Float[Tensor, ""]]:
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        for group in self.adamw.param_groups:
            group["lr"].copy_(self.scale * group["share"] * self.config.learning_rate)
        self.adamw.step()
        for stack in self.stacks:
            self._muon(stack, self.scale * stack.share * self.config.muon_learning_rate)
        return (norm,)

    @torch.no_grad()
    def _muon(self, stack: _Stack, rate: Float[Tensor, ""]) -> None:
        shape = stack.momentum.shape
        gradients = torch.stack(
            [
                torch.zeros_like(p).view(shape[1:]) if p.grad is None else p.grad.view(shape[1:])
                for p in stack.parameters
            ]
        ).float()
        stack.momentum.lerp_(gradients, 0.05)
        update = orthogonalise(gradients.lerp(stack.momentum, 0.95))
        update.mul_(-rate * 0.2 * max(shape[1:]) ** 0.5)
        torch._foreach_mul_(stack.parameters, 1 - rate * self.config.weight_decay)
        deltas = [u.view_as(p) for u, p in zip(update.unbind(0), stack.parameters, strict=True)]
        torch._foreach_add_(stack.parameters, deltas)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, by parameter name."""
        tensors: dict[str, Tensor] = {}
        for stack in self.stacks:
            for name, momentum in zip(stack.names, stack.momentum, strict=True):
                tensors[f"momentum.{name}"] = momentum
        for name, parameter in self.rest:
            for key, value in self.adamw.state[parameter].items():
                tensors[f"{key}.{name}"] = value.reshape(-1)
        return tensors

    def restore(self, tensors: Named) -> None:
        """Take up the state of an earlier run."""
        for stack in self.stacks:
            for index, name in enumerate(stack.names):
                stack.momentum[index].copy_(tensors[f"momentum.{name}"])
        for _, parameter in self.rest:
            parameter.grad = torch.zeros_like(parameter)
        self.adamw.step()  # makes the state slots; the zero step is undone by the model's restore
        for name, parameter in self.rest:
            for key, value in self.adamw.state[parameter].items():
                value.copy_(tensors[f"{key}.{name}"].view_as(value))
            parameter.grad = None


def learning_rate_scale(step: int, steps: int, warmup: int, decay: float) -> float:
    """Linear warm-up, flat, then linear decay to 1 % over the last part of the run.

    Args:
        step: Step about to be made, from 0.
        steps: Steps of the whole run.
        warmup: Steps of the warm-up.
        decay: Share of the run that decays, in [0, 1].
    """
    scale = min(1.0, (step + 1) / max(warmup, 1))
    left = (steps - step) / steps
    if left < decay:
        scale *= max(0.01, left / decay)
    return scale


class Ema:
    """A slow average of the weights: what is shown, scored and shipped."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        """Start at the present weights."""
        pairs = list(named)
        self.names = [name for name, _ in pairs]
        self.live = [parameter for _, parameter in pairs]
        self.average = [parameter.detach().clone() for parameter in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move toward the live weights; early on faster, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and live weights; call again to go back."""
        for live, average in zip(self.live, self.average, strict=True):
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)
