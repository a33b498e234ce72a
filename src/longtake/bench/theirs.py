"""The reference library beside us: the same weights, inputs and arithmetic, in the same process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longtake.bench.shapes import Inputs, Shape, Vae
from longtake.checkpoints.public_config import write_transformer_config
from longtake.checkpoints.public_keys import key_map, to_public
from longtake.model import Transformer
from longtake.official.parts import library, quiet

LARGEST_APART = 0.05
"""Norm of the difference of two outputs over that of one, up to which they count as the same."""
_TINY = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1,
         "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}  # fmt: skip
_LTX2 = {"decoder_causal": False, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8}


_WAN = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
"""Wan 2.1 of 1.3 billion weights (arXiv 2503.20314); all else as diffusers has it."""
_TINY_WAN = {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2}


def their_denoiser(ours: Transformer) -> nn.Module:
    """Diffusers' class around our very tensors, so that no memory is spent twice.

    Raises:
        CannotHere: diffusers is not installed.
    """
    settings = write_transformer_config(ours.config)
    known = {key: value for key, value in settings.items() if not key.startswith("_")}
    with torch.device("meta"):
        model = library("diffusers").SanaVideoTransformer3DModel(**known)
    shapes = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    tensors = to_public(key_map(ours.config, shapes, "diffusers"), ours.state_dict())
    model.load_state_dict(tensors, assign=True)
    # Tables that are no weights are made on the meta device as well.
    model.rope = type(model.rope)(
        ours.config.width // ours.config.heads, model.config.patch_size,
        model.config.rope_max_seq_len,
    )  # fmt: skip
    device = next(ours.parameters()).device
    model.rope.to(device)
    return model.eval().requires_grad_(False)


def their_forward(model: nn.Module, inputs: Inputs) -> Callable[[], Tensor]:
    """One forward of theirs, with the text read each time, as their pipeline does."""
    step = (inputs.sigma[:, 0] * 1000).to(inputs.latents.dtype)

    def run() -> Tensor:
        with torch.no_grad():
            return model(
                inputs.latents,
                encoder_hidden_states=inputs.text,
                encoder_attention_mask=inputs.mask.long(),
                timestep=step,
                return_dict=False,
            )[0]

    return run


def wan_forward(
    device: torch.device, dtype: torch.dtype, sides: tuple[int, int, int], *, tiny: bool
) -> Callable[[], Tensor]:
    """One forward of Wan 2.1, 1.3 billion random weights, over latents of these sides.

    Raises:
        CannotHere: diffusers is not installed.
    """
    torch.manual_seed(0)
    with torch.device(device), quiet():
        model = library("diffusers").WanTransformer3DModel(**(_TINY_WAN if tiny else _WAN))
        model = model.to(dtype).eval().requires_grad_(False)
        latents = torch.randn(1, model.config.in_channels, *sides, dtype=dtype)
        text = torch.randn(1, 512, model.config.text_dim, dtype=dtype)
        step = torch.full((1,), 700.0)

    def run() -> Tensor:
        with torch.no_grad():
            return model(
                latents, timestep=step, encoder_hidden_states=text, return_dict=False
            )[0]  # fmt: skip

    return run


def compile_blocks(model: nn.Module) -> None:
    """Their best mode: every layer compiled, for fixed shapes."""
    blocks = model.transformer_blocks
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        block.compile(dynamic=False)


def apart(one: Tensor, other: Tensor) -> float:
    """How far two outputs lie from each other, in parts of the second."""
    other = other[:, : one.shape[1]].double()
    return ((one.double() - other).norm() / other.norm()).item()


def random_vae(name: Vae, device: torch.device, dtype: torch.dtype, *, tiny: bool) -> Any:  # noqa: ANN401
    """A public VAE with random weights.

    Raises:
        CannotHere: diffusers is not installed.
    """
    diffusers = library("diffusers")
    torch.manual_seed(0)
    settings: dict[str, Any] = {"AutoencoderKLWan": {}, "AutoencoderKLLTX2Video": _LTX2}[name]
    with quiet():
        vae = getattr(diffusers, name)(**(_TINY if tiny else settings)).to(device, dtype)
    return vae.eval().requires_grad_(False)


def latents_for(shape: Shape, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What a decoder of this shape reads."""
    generator = torch.Generator().manual_seed(2)
    channels = shape.transformer.latent_channels
    return torch.randn(1, channels, *shape.latents, generator=generator).to(device, dtype)
