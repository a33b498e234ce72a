"""A fingerprint of the arithmetic: equal where a take goes on to the same bytes."""

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtake.config import AutoencoderConfig, TransformerConfig
from longtake.model import Transformer
from longtake.quantize import Format, low_layers, quantize
from longtake.vae import Autoencoder

_LATENTS = 8
_TEXT = 16
_DENOISER = TransformerConfig(
    latent_channels=_LATENTS, width=64, depth=2, heads=2, text_width=_TEXT, attention="block"
)
_DECODER = AutoencoderConfig(
    latent_channels=_LATENTS, widths=(16, 24, 32), encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
)  # fmt: skip


def processor_of(device: torch.device) -> str:
    """Kind of the processor, as far as it decides which arithmetic runs."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


@torch.no_grad()
def numerics_hash(device: torch.device, dtype: torch.dtype, low: Format | None = None) -> str:
    """Hash of what a tiny fixed model makes of fixed numbers, here and now.

    It changes with the machine's arithmetic and with ours: two chunks are run and decoded, so
    that every operation of a take is among them. Its inputs come from a counter, not from torch,
    and one thread computes it, so that the number of threads does not show.

    Args:
        device: Where takes are made.
        dtype: What they are computed in.
        low: Format of weights in few bits; which layers they are and how they are rounded shows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fingerprint(device, dtype, low)
    finally:
        torch.set_num_threads(threads)


def fix_threads(threads: int | None = None) -> None:
    """Compute with a number of threads that does not show in the bytes.

    Args:
        threads: Those a take began with. Default: the most here that are a power of two, for with
            other numbers single operations in fp32 give other bytes.
    """
    torch.set_num_threads(threads or 1 << (torch.get_num_threads().bit_length() - 1))


def _fingerprint(device: torch.device, dtype: torch.dtype, low: Format | None) -> str:
    draws = np.random.Generator(np.random.Philox(key=20260101))

    def noise(*shape: int) -> Float[Tensor, "*shape"]:
        return torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)).to(device)

    denoiser, decoder = Transformer(_DENOISER), Autoencoder(_DECODER)
    for part in (denoiser, decoder):
        part.to(device, dtype).eval()
        _fill(part, noise)
    if low is not None:
        quantize(denoiser, low, low_layers(denoiser, low))
    text, mask = noise(2, 8, _TEXT), torch.ones(2, 8, dtype=torch.bool, device=device)
    latents, level = noise(2, _LATENTS, 3, 4, 6), torch.full((2, 3), 0.5, device=device)
    first, state = denoiser.advance(latents, level, text, mask, (3,))
    second, state = denoiser.advance(first, level, text, mask, (3,), state)
    made = (second, *state.layers[-1].memory, decoder.decode(second[:1].float()))
    total = hashlib.sha256()
    for values in made:
        total.update(values.float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _fill(part: nn.Module, noise: object) -> None:
    assert callable(noise)
    for name, weight in sorted(part.named_parameters()):
        scale = max(weight[0].numel(), 1) ** -0.5
        weight.copy_((1.0 if "norm" in name else 0.0) + scale * noise(*weight.shape))
