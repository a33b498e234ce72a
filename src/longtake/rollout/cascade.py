"""A large take made over a small one: each chunk is made small, enlarged, and refined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtake import flow
from longtake.config import TEMPORAL_STRIDE
from longtake.model import State, Transformer
from longtake.rollout.grid import Grid
from longtake.rollout.take import Committed, Condition, Latents, Sketch, Step, Take
from longtake.vae import Autoencoder
from longtake.vae.autoencoder import StreamCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Everything of such a take that stays the same from the first chunk to the last.

    What is in the picture and how it moves is decided small, at the size that the model was
    trained on. The frames of a finished chunk are enlarged, encoded and noised, and denoised at
    the large size after a state of their own.

    Source: Ho et al. 2022 (cascaded diffusion models), section 3; Meng et al. 2022 (SDEdit),
    section 3, for beginning at a level in between.
    """

    small: Take
    large: Take
    """Its sigmas begin at the level that enlarged chunks are noised to."""
    autoencoder: Autoencoder
    """Decodes the small frames and encodes the enlarged ones."""
    begun: Sketch | None = None
    """What the chunks before left; None at the start of a take."""

    @property
    def grid(self) -> Grid:
        """Which latent frames each chunk holds."""
        return self.large.grid

    @property
    def transformer(self) -> Transformer:
        """Of both sizes."""
        return self.large.transformer

    @property
    def steps(self) -> int:
        """Sampler steps of a chunk."""
        return self.small.steps + self.large.steps

    def roll(
        self, condition: Callable[[int], Condition], chunks: range, state: State | None = None
    ) -> Iterator[Step | Committed]:
        """Make chunks one after the other, each small and then large; as `Take.roll` otherwise."""
        begun = self.begun
        decoder = StreamCache(list(begun.decoder.blocks) if begun else [])
        encoder = StreamCache(list(begun.encoder.blocks) if begun else [])
        for event in self.small.roll(condition, chunks, begun.state if begun else None):
            if isinstance(event, Step):
                yield event
                continue
            latents = self._noised(event.chunk, self._enlarged(event.latents, decoder, encoder))
            here, kept = condition(event.chunk), self.large.kept(event.chunk)
            begins = self.small.steps + 1
            for step, x in enumerate(self.large.denoise(latents, here, state, kept), start=begins):
                latents = x
                yield Step(event.chunk, step)
            state = self.large.commit(latents, here, state)
            sketch = Sketch(
                state=event.state,
                decoder=StreamCache(list(decoder.blocks)),
                encoder=StreamCache(list(encoder.blocks)),
            )
            yield Committed(event.chunk, latents, state, sketch)

    def _enlarged(
        self,
        small: Float[Tensor, "1 c t rows columns"],
        decoder: StreamCache,
        encoder: StreamCache,
    ) -> Latents:
        """Latents of a chunk's frames at the large size, a few frames at a time."""
        device = self.autoencoder.latent_mean.device
        frames = self.autoencoder.decode(small.to(device), decoder)
        stride = self.autoencoder.config.spatial_stride
        height, width = (stride * side for side in self.large.size)
        first = frames.shape[1] % TEMPORAL_STRIDE
        sizes = [TEMPORAL_STRIDE] * (frames.shape[1] // TEMPORAL_STRIDE)
        sizes[0] += first
        parts = [
            self.autoencoder.encode(resized(part, height, width), encoder)
            for part in frames.split(sizes, dim=1)
        ]
        return torch.cat(parts, dim=2).to(small.device)

    def _noised(self, chunk: int, clean: Latents) -> Latents:
        """Those of a chunk at the level where the large film begins."""
        level = torch.full(clean.shape[:1] + clean.shape[2:3], self.large.sigmas[0].item())
        # The small film's own draws have step 0.
        return flow.interpolate(clean, self.large.noise(chunk, step=1), level.to(clean.device))


def resized(
    frames: Float[Tensor, "1 frames rows columns 3"], height: int, width: int
) -> Float[Tensor, "1 frames {height} {width} 3"]:
    """Frames in [-1, 1] at another size, bicubic; made smaller they are smoothed before."""
    images = frames[0].movedim(-1, 1)
    scaled = F.interpolate(images, (height, width), mode="bicubic", antialias=True)
    return scaled.clamp(-1, 1).movedim(1, -1)[None]
