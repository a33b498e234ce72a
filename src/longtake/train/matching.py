"""What trains a few-step model on takes of its own: where its films and true ones differ.

The student makes a take as a rollout does, chunk by chunk on its own past. Two denoisers look at
it under new noise: the teacher knows what clips are like, the critic learns what the student's
takes are like. Each says what the clean clip must have been, and the difference of their answers
is the way in which the student's takes are less likely than clips.

Source: Yin et al. 2024 (distribution matching distillation, arXiv 2311.18828), section 3.2, and
its second version (arXiv 2405.14867), section 4; Huang et al. 2025 (self-forcing, arXiv
2506.08009), section 3, on the student's own past.
"""

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longtake.model import State, Transformer
from longtake.train.causal import widened

Latents = Float[Tensor, "b c t h w"]
_LEAST_APART = 1e-3
"""Of latents of unit variance: where teacher and student agree, nothing is divided by nothing."""


@torch.no_grad()
def own_takes(
    transformer: Transformer,
    noise: Latents,
    levels: Float[Tensor, "jumps_plus_1 b t"],
    text: Float[Tensor, "b chunks m e"],
    mask: Bool[Tensor, "b chunks m"],
    chunks: tuple[int, ...],
) -> tuple[Latents, Float[Tensor, "jumps b c t h w"]]:
    """Takes as the model makes them, chunk by chunk on its own past; and where each jump began.

    Args:
        transformer: With `linear` or `block` attention.
        noise: What the takes are made of; latent frames at level 0 throughout are given, clean.
        levels: Noise level of each latent frame before each jump, and after the last, which is 0.
        text: Embeddings of the caption in force in each chunk, from the text encoder.
        mask: True where a text token is real.
        chunks: Latent frames of each chunk, in order.
    """
    state: State | None = None
    made, begun = [], []
    for number, (part, falling) in enumerate(
        zip(noise.split(chunks, dim=2), levels.split(chunks, dim=2), strict=True)
    ):
        told = text[:, number], mask[:, number]
        x, size, before = part, (part.shape[2],), []
        for now, after in pairwise(falling):
            before.append(x)
            velocity, _ = transformer.advance(x, now, *told, size, state)
            x = x + _wide(after - now) * velocity
        made.append(x)
        begun.append(torch.stack(before))
        if number + 1 < len(chunks):
            _, committed = transformer.advance(x, falling[-1], *told, size, state)
            state = widened(committed)
    return torch.cat(made, dim=2), torch.cat(begun, dim=3)


def at_jump(begun: Float[Tensor, "jumps b c t h w"], place: Int[Tensor, "b t"]) -> Latents:
    """The latents before one jump, each latent frame's own."""
    index = place[None, :, None, :, None, None].expand(1, *begun.shape[1:])
    return begun.gather(0, index)[0]


def clean_at(x: Latents, predicted: Latents, sigma: Float[Tensor, "b t"]) -> Latents:
    """`flow.clean_from`, each latent frame at its own level: x - sigma v."""
    return x - _wide(sigma) * predicted


def matching_loss(
    made: Latents, teacher: Latents, critic: Latents, counted: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """A loss whose gradient leads from what the critic sees to what the teacher sees.

    |made - stop(made - g)|^2 / 2 with g = (critic - teacher) / mean |made - teacher| of the sample,
    so that the gradient is g over the number of values. Its value is the mean of g^2 / 2.

    Args:
        made: The student's clean latents, through which the gradient flows.
        teacher: What the teacher takes them for under noise.
        critic: What the critic takes them for, under the same noise.
        counted: Latent frames that were made; given ones do not count.

    Source: arXiv 2311.18828, eq. 7 and 8.
    """
    wide = counted[:, None, :, None, None]
    apart = ((made.detach() - teacher) * wide).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    lead = (critic - teacher) * wide / apart.clamp_min(_LEAST_APART)
    values = counted.sum().clamp_min(1) * made[0, :, 0].numel()
    return 0.5 * (made - (made.detach() - lead)).square().sum() / values


def _wide(levels: Float[Tensor, "b t"]) -> Float[Tensor, "b 1 t 1 1"]:
    return levels[:, None, :, None, None]
