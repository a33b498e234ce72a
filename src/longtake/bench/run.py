"""The measurements of `longtake bench`, each as plain values that a report keeps."""

import gc
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor

from longtake.bench import theirs
from longtake.bench.clock import Timing, time_of
from longtake.bench.shapes import Inputs, Shape, inputs_of, random_denoiser, time_forward
from longtake.errors import CannotHere
from longtake.model import Transformer
from longtake.official.parts import autoencoder_with
from longtake.vae.public import PublicAutoencoder

Tell = Callable[[str], None]
"""Hears what is measured next."""
Mode = Literal["eager", "compiled"]


def measure_shape(
    shape: Shape, device: torch.device, dtype: torch.dtype, runs: int, tell: Tell
) -> dict[str, Any]:
    """Forward and decode of a published shape with random weights.

    Args:
        shape: The denoiser and its film.
        device: Where.
        dtype: Arithmetic of the denoiser and, on a card, of the decoder.
        runs: Counted runs of each.
        tell: Hears what is next.
    """
    tell("forward of the denoiser")
    model = random_denoiser(shape.transformer, device, dtype)
    inputs = inputs_of(shape, device, dtype)
    forward = time_forward(model, inputs, runs)
    found: dict[str, Any] = {
        "forward": asdict(forward),
        "tokens": shape.tokens,
        "us_per_token": round(1e6 * forward.median_s / shape.tokens, 4),
    }
    del model
    free(device)
    try:
        tell("decode")
        found["decode"] = asdict(time_decode(shape, device, dtype, runs))
    except CannotHere as missing:
        found["decode"] = f"left out: {missing}"
    return found


@torch.no_grad()
def time_decode(shape: Shape, device: torch.device, dtype: torch.dtype, runs: int) -> Timing:
    """Latents to frames, as a film's are.

    Raises:
        CannotHere: diffusers, whose weights these are, is not installed.
    """
    autoencoder, latents = decoder_of(shape, device, dtype)
    return time_of(lambda: decoded(autoencoder, latents), device, runs)


def decoder_of(
    shape: Shape, device: torch.device, dtype: torch.dtype
) -> tuple[PublicAutoencoder, Tensor]:
    """A public VAE with random weights as films use it, and what it reads.

    Raises:
        CannotHere: diffusers is not installed.
    """
    tiny = shape.transformer.width < 512
    vae = theirs.random_vae(shape.vae, device, dtype, tiny=tiny)
    strides = (8, 32) if shape.vae == "AutoencoderKLLTX2Video" else (4, 8)
    return autoencoder_with(vae, strides, None), theirs.latents_for(shape, device, dtype)


def decoded(autoencoder: PublicAutoencoder, latents: Tensor) -> int:
    """Frames that came out; they are let go one after the other."""
    parts = autoencoder.decode_stream(latents, latents.dtype, latents.device)
    return sum(part.shape[1] for part in parts)


@torch.no_grad()
def measure_theirs(
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
    runs: int,
    modes: tuple[Mode, ...],
    tell: Tell,
) -> dict[str, Any]:
    """The same forward and decode through diffusers, and whether the outputs agree.

    Raises:
        CannotHere: diffusers is not installed, or it computes something else.
    """
    model = random_denoiser(shape.transformer, device, dtype)
    inputs = inputs_of(shape, device, dtype)
    reference = theirs.their_denoiser(model)
    found: dict[str, Any] = {"apart": agreement(model, reference, inputs)}
    for mode in modes:
        tell(f"forward through diffusers, {mode}")
        if mode == "compiled":
            theirs.compile_blocks(reference)
        found[f"forward_{mode}"] = asdict(
            time_of(theirs.their_forward(reference, inputs), device, runs)
        )
    del model, reference
    free(device)
    tell("decode through diffusers")
    tiny = shape.transformer.width < 512
    vae = theirs.random_vae(shape.vae, device, dtype, tiny=tiny)
    latents = theirs.latents_for(shape, device, dtype)
    found["decode_eager"] = asdict(time_of(lambda: vae.decode(latents).sample, device, runs))
    return found


def agreement(ours: Transformer, reference: torch.nn.Module, inputs: Inputs) -> float:
    """How far the two outputs lie apart.

    Raises:
        CannotHere: so far that they are no two runs of the same.
    """
    wanted = theirs.their_forward(reference, inputs)()
    own = ours(inputs.latents, inputs.sigma, inputs.text, inputs.mask)
    distance = theirs.apart(own, wanted)
    if not distance <= theirs.LARGEST_APART:
        msg = (
            f"ours and diffusers' output lie {distance:.1e} apart, more than "
            f"{theirs.LARGEST_APART:g}: these are no two runs of the same, so no ratio is told"
        )
        raise CannotHere(msg)
    return round(distance, 6)


def free(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
