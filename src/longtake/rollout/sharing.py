"""What the denoiser is handed when a team shares the latent frames of a pass."""

from functools import partial

from longtake.kernels.ops import Memory
from longtake.model import Share
from longtake.parallel import Team


def share_of(team: Team, latent_frames: int, *, causal: bool = False) -> Share | None:
    """This process's part of a pass; None if it has all of it.

    Args:
        team: Who shares.
        latent_frames: Of the whole pass.
        causal: The pass leaves a state, whose last frame the first process keeps.
    """
    if team.roles.shards == 1:
        return None
    return Share(
        start=team.frames(latent_frames).start,
        frames=latent_frames,
        total=lambda memory: Memory(*team.total(memory)),
        neighbours=partial(team.neighbours, ring=causal),
    )
