"""What training makes small; pure functions."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

Latents = Float[Tensor, "b c t h w"]
Frames = Float[Tensor, "b frames height width 3"]


def autoencoder_loss(
    target: Frames,
    predicted: Frames,
    mean: Latents,
    log_variance: Latents,
    weight: Float[Tensor, "b frames height width"],
    *,
    kl_weight: float,
    squared_weight: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`pixel_loss` and a KL term; returns (loss, mean squared error).

    + kl * KL(q(z|x) || N(0, 1)).

    Args:
        target: Frames in [-1, 1].
        predicted: Their reconstruction.
        mean: Mean of the raw latents.
        log_variance: Log variance of the raw latents.
        weight: How much each pixel counts; 1 is ordinary.
        kl_weight: Weight of the KL term, a mean over latent values.
        squared_weight: Weight of the squared error, which is what PSNR measures.
    """
    loss, squared = pixel_loss(target, predicted, weight, squared_weight=squared_weight)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return loss + kl_weight * kl, squared


def pixel_loss(
    target: Frames,
    predicted: Frames,
    weight: Float[Tensor, "b frames height width"],
    *,
    squared_weight: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Absolute, squared, edge and flicker terms; returns (loss, mean squared error).

    With e = x - y and w the weight of each pixel: |w e| + squared * w e^2 + |edges of w e| at three
    scales + 0.3 |change over time of w e|.

    Args:
        target: Frames in [-1, 1].
        predicted: Their reconstruction.
        weight: How much each pixel counts; 1 is ordinary.
        squared_weight: Weight of the squared error, which is what PSNR measures.
    """
    error = predicted - target
    squared = error.square().mean()
    weighted = error * weight[..., None]
    flicker = _change(weighted) if error.shape[1] > 1 else squared * 0
    loss = weighted.abs().mean() + squared_weight * (weighted * error).mean() + _edges(weighted)
    return loss + 0.3 * flicker, squared


def _change(error: Frames) -> Float[Tensor, ""]:
    """Mean absolute difference of the error from frame to frame."""
    return (error[:, 1:] - error[:, :-1]).abs().mean()


def _edges(error: Frames) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring pixels of the error, at scales 1, 2 and 4."""
    image = rearrange(error, "b t h w c -> (b t) c h w")
    total = image.new_zeros(())
    for level in range(3):
        if level:
            image = F.avg_pool2d(image, 2)
        rows = (image[..., 1:, :] - image[..., :-1, :]).abs().mean()
        columns = (image[..., :, 1:] - image[..., :, :-1]).abs().mean()
        total = total + rows + columns
    return total / 3


def flow_loss(target: Latents, predicted: Latents) -> Float[Tensor, " b"]:
    """Mean squared error of the velocity of each sample.

    Source: Lipman et al. 2022 (flow matching), eq. 9.
    """
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3, 4))


def chunk_loss(
    target: Latents, predicted: Latents, sigma: Float[Tensor, "b t"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Flow loss over all latent frames that have noise, and over those that have little.

    A latent frame at sigma 0 is given, so what is predicted for it does not count. If none is
    given, the first is the mean of `flow_loss`.

    Args:
        target: Velocity.
        predicted: The network's.
        sigma: Noise level of each latent frame, in [0, 1]; little is below 0.5.
    """
    return _frame_losses(target, predicted, sigma > 0, (sigma > 0) & (sigma < 0.5))


def jump_loss(
    target: Latents,
    predicted: Latents,
    sigma: Float[Tensor, "b t"],
    after: Float[Tensor, "b t"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Flow loss over all latent frames that jump, and over those that jump to the end.

    |x_student - x_teacher|^2 / (sigma - after)^2, where both jump from the same latents.

    Args:
        target: Mean velocity of the teacher's way.
        predicted: The network's velocity where the jump begins.
        sigma: Noise level of each latent frame there, in [0, 1].
        after: Where the jump ends; a frame that stays at its level does not count.
    """
    jumps = sigma > after
    return _frame_losses(target, predicted, jumps, jumps & (after == 0))


def _frame_losses(
    target: Latents, predicted: Latents, counted: Bool[Tensor, "b t"], shown: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared error over the latent frames that count, and over those only shown."""
    errors = (predicted.float() - target.float()).square().mean(dim=(1, 3, 4))
    losses = [(errors * part).sum() / part.sum().clamp_min(1) for part in (counted, shown)]
    return losses[0], losses[1].detach()


def psnr(target: Float[Tensor, "*any"], predicted: Float[Tensor, "*any"]) -> Float[Tensor, ""]:
    """Peak signal to noise ratio in dB of frames in [-1, 1]."""
    return -10 * torch.log10((predicted - target).square().mean() / 4)
