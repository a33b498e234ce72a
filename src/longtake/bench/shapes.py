"""Public models with random weights: speed does not ask what weights mean."""

from dataclasses import dataclass
from typing import Literal

import torch

from longtake.bench.clock import Timing, time_of
from longtake.config import TransformerConfig
from longtake.model import Reading, Transformer

ShapeName = Literal["480p", "720p", "tiny"]
Vae = Literal["AutoencoderKLWan", "AutoencoderKLLTX2Video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A denoiser's shape and the film it is measured on."""

    transformer: TransformerConfig
    latents: tuple[int, int, int]
    """Latent frames, rows and columns."""
    vae: Vae
    """The decoder that belongs to these latents."""
    text_tokens: int = 300

    @property
    def tokens(self) -> int:
        """Video tokens of one forward."""
        _, q, r = self.transformer.patch
        return self.latents[0] * (self.latents[1] // q) * (self.latents[2] // r)


def shape_named(name: ShapeName) -> Shape:
    """The shape of a published model; `tiny` is for machines without a card."""
    match name:
        case "480p":
            return Shape(
                transformer=_published(16, (1, 2, 2)),
                latents=(21, 60, 104),
                vae="AutoencoderKLWan",
            )
        case "720p":
            return Shape(
                transformer=_published(128, (1, 1, 1)),
                latents=(11, 22, 40),
                vae="AutoencoderKLLTX2Video",
            )
        case "tiny":
            return Shape(
                transformer=_published(4, (1, 2, 2), width=48, depth=2, heads=2, text_width=32),
                latents=(3, 4, 6),
                vae="AutoencoderKLWan",
                text_tokens=20,
            )
        case _:
            msg = f"no shape {name!r}"
            raise AssertionError(msg)


def _published(
    channels: int,
    patch: tuple[int, int, int],
    *,
    width: int = 2240,
    depth: int = 20,
    heads: int = 20,
    text_width: int = 2304,
) -> TransformerConfig:
    return TransformerConfig(
        latent_channels=channels, width=width, depth=depth, heads=heads, ffn_ratio=3.0,
        text_width=text_width, rope_theta=10_000.0, patch=patch, cross_norm_eps=1e-5,
        attention_eps=1e-15,
    )  # fmt: skip


def random_denoiser(
    config: TransformerConfig, device: torch.device, dtype: torch.dtype
) -> Transformer:
    """A network whose weights keep values about where trained ones do."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in model.named_parameters():
        std = 0.02 if weight.ndim == 1 else 0.5 * weight[0].numel() ** -0.5
        mean = 1.0 if "norm" in name and "bias" not in name else 0.0
        weight.normal_(mean, std, generator=generator)
    return model


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one forward reads."""

    latents: torch.Tensor
    sigma: torch.Tensor
    text: torch.Tensor
    mask: torch.Tensor


def inputs_of(shape: Shape, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Fixed noise, sigma 0.9, and text of which every token is real."""
    generator = torch.Generator().manual_seed(1)
    config = shape.transformer
    latents = torch.randn(1, config.latent_channels, *shape.latents, generator=generator)
    text = torch.randn(1, shape.text_tokens, config.text_width, generator=generator)
    return Inputs(
        latents.to(device, dtype),
        torch.full((1, shape.latents[0]), 0.9, dtype=torch.float64, device=device),
        text.to(device, dtype),
        torch.ones(1, shape.text_tokens, dtype=torch.bool, device=device),
    )


@torch.no_grad()
def time_forward(model: Transformer, inputs: Inputs, runs: int) -> Timing:
    """One denoising step's forward, its prompt read before, as in a film."""
    reading = model.read(inputs.text, inputs.mask, trim=True)
    return time_of(lambda: predicted(model, inputs, reading), inputs.latents.device, runs)


def predicted(model: Transformer, inputs: Inputs, reading: Reading) -> torch.Tensor:
    """What one forward gives."""
    return model.predict(inputs.latents, inputs.sigma, reading)
