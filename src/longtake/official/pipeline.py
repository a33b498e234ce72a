"""A public model's path: prompt and first frame to latents, latents to frames, part by part."""

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from longtake import flow
from longtake.config import MAX_PROMPT, LoraUse
from longtake.errors import PromptError, SettingError
from longtake.guidance import classifier_free
from longtake.model import Reading, Share, Transformer
from longtake.model.offload import Guest, keep_on_host
from longtake.official.embeddings import Embedding, EmbeddingCache, embedding_key
from longtake.official.folder import PublicModel
from longtake.official.longsana import chunks_of, roll
from longtake.official.parts import instruction_text, load_autoencoder, load_text_encoder
from longtake.official.settings import OfficialConfig
from longtake.official.source import fingerprint
from longtake.official.transformer import HOST, empty_transformer, load_transformer
from longtake.parallel import ALL, Team
from longtake.pipeline import Event, Frames, Notice, Progress
from longtake.pipeline.loading import ready
from longtake.pipeline.loras import checked, lay
from longtake.pipeline.precision import Arithmetic
from longtake.pipeline.quantized import stored_format
from longtake.quantize import Format
from longtake.rollout.ahead import Counted, ahead
from longtake.rollout.pixels import to_bytes
from longtake.rollout.sharing import share_of
from longtake.samplers import sampler_of
from longtake.text.gemma import (
    PublicEncoder,
    PublicTokenizer,
    encode,
    with_motion,
    words_cut,
)
from longtake.vae.public import PublicAutoencoder
from longtake.vae.tiling import Tiling

Offload = Literal["none", "text", "block"]
"""`none`: all stays on the device. `text`: text encoder, denoiser and VAE take turns there.
`block`: so do the denoiser's layers among themselves."""
Half = Literal["encode", "decode"]
"""Of a VAE."""
ENCODER_PARTS = frozenset({"encoder", "quant_conv"})
"""What of a public VAE encodes; the rest decodes."""
Latents = Float[Tensor, "1 c t h w"]
First = Float[Tensor, "1 c 1 h w"]
Condition = tuple[Embedding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where and how a public model computes."""

    device: torch.device
    """Where."""
    dtype: torch.dtype
    """Arithmetic of text encoder and denoiser."""
    how: Format | None = None
    """Format of the denoiser's large layers; None: as its files have them."""
    offload: Offload = "text"
    """What leaves the device when it is not at work."""
    cache: Path | None = None
    """Folder of prompt embeddings; None keeps none."""
    loras: tuple[LoraUse, ...] = ()
    """What is laid over the denoiser, in order."""
    decode_on: torch.device | None = None
    """Where finished chunks of LongSANA are decoded while the next are made; None: all of them
    afterwards, on the one device."""


class OfficialPipeline:
    """A public model: prompts, and first frames if wanted, to films."""

    def __init__(self, model: PublicModel, running: Running, team: Team = ALL) -> None:
        """Take a checked folder; parts are loaded when they are first needed.

        Args:
            model: The folder.
            running: Where and how.
            team: Who makes films together; the first decodes and yields the frames.
        """
        self.model, self.running, self.team = model, running, team
        self.cache = EmbeddingCache(running.cache)
        self._transformer: Transformer | None = None
        self._denoising: Guest | None = None
        self._autoencoder: PublicAutoencoder | None = None
        self._halves: dict[Half, tuple[Guest, ...]] = {}
        self._reader: tuple[PublicTokenizer, PublicEncoder] | None = None

    @torch.no_grad()
    def stream(
        self,
        prompt: str,
        settings: OfficialConfig,
        *,
        image: UInt8[Tensor, "height width 3"] | None = None,
        noise: Latents | None = None,
    ) -> Iterator[Event]:
        """Make a film and yield progress and notices, then frames in order.

        Args:
            prompt: What to show.
            settings: Everything else that decides the pixels.
            image: The first frame, of the film's size; None for text alone.
            noise: What to start from, in place of the seed's.

        Raises:
            PromptError: an empty or oversized prompt.
            SettingError: a size the model cannot make.
        """
        self.check(prompt, settings)
        if self.model.causal and image is not None:
            msg = "this model has no first picture; it goes on from its own chunks"
            raise SettingError(msg)
        yield Progress("text", 0, 1)
        condition, notices = self.condition(prompt, settings)
        yield from (Notice(text) for text in notices)
        yield Progress("text", 1, 1)
        first = None if image is None else self.first_frame(image)
        apart = self.running.decode_on
        if self.team.first and (apart is not None or streams(self.model, self.running.offload)):
            yield from self._meanwhile(settings, condition, apart)
            return
        latents = self.noise(settings) if noise is None else noise
        if self.model.causal:
            chunks = chunks_of(latents.shape[2])
            parts: list[Latents] = []
            for part in self.roll(settings, condition):
                parts.append(part)
                yield Progress("denoise", len(parts), len(chunks))
            latents = torch.cat(parts, dim=2)
        else:
            for step, x in enumerate(self.denoise(latents, condition, settings, first), start=1):
                latents = x
                yield Progress("denoise", step, settings.steps)
            latents = self.team.whole(latents, self.model.latent_frames(settings.frames))
        if not self.team.first:
            return
        yield Progress("decode", 0, settings.frames)
        yield from _frames(self.decode(latents), settings.frames)

    def _meanwhile(
        self, settings: OfficialConfig, condition: Condition, apart: torch.device | None
    ) -> Iterator[Event]:
        """Decode each chunk when it is there; on a device apart while the next is made."""
        chunks = chunks_of(self.model.latent_frames(settings.frames))
        own = self.running.device
        rolled, device = self.roll(settings, condition), apart or own
        parts = Counted(rolled if apart is None else ahead(rolled, own))
        dtype, told = self._decode_dtype(), 0
        with self._vae_on(device) as autoencoder:
            for event in _frames(autoencoder.decode_chunks(parts, dtype, device), settings.frames):
                if parts.count > told:
                    told = parts.count
                    yield Progress("denoise", told, len(chunks))
                yield event

    def check(self, prompt: str, settings: OfficialConfig) -> None:
        """Refuse what this model cannot make, before any work.

        Raises:
            PromptError: an empty or oversized prompt.
            SettingError: a size the model cannot make.
        """
        if not prompt.strip():
            msg = 'the prompt is empty; say what to show, e.g. "a red ball bounces"'
            raise PromptError(msg)
        for text in (prompt, settings.negative):
            if len(text) > MAX_PROMPT:
                msg = f"the prompt has {len(text):,} characters; the most is {MAX_PROMPT:,}"
                raise PromptError(msg)
        if self.model.causal and settings.guidance != 1.0:
            msg = f"guidance must be 1 with LongSANA, which is distilled, got {settings.guidance}"
            raise SettingError(msg)
        rows, columns = self.model.cell
        for name, value, cell in (
            ("width", settings.width, columns), ("height", settings.height, rows)
        ):  # fmt: skip
            if value % cell:
                near = max(round(value / cell), 2) * cell
                msg = f"{name} must be a multiple of {cell} with this model, got {value}"
                raise SettingError(f"{msg}; the nearest is {near}")  # noqa: EM102

    def condition(self, prompt: str, settings: OfficialConfig) -> tuple[Condition, list[str]]:
        """Embeddings of the prompt and, for guidance, of the negative one; and notices."""
        wanted = [(with_motion(prompt, settings.motion_score), settings.instruction)]
        if settings.guidance > 1.0:
            wanted.append((settings.negative, "none"))
        texts = [(text, instruction_text(wording)) for text, wording in wanted]
        running, folder = self.running, self.model.folder
        keys = [embedding_key(folder, *text, running.dtype) for text in texts]
        kept = [self.cache.get(key) for key in keys]
        found = [embedding for embedding in kept if embedding]
        notices: list[str] = []
        if len(found) < len(texts):
            tokenizer, encoder = self._reader or load_text_encoder(
                folder, running.dtype, running.device
            )
            found = [encode(tokenizer, encoder, *text, running.device) for text in texts]
            if cut := words_cut(tokenizer, *texts[0]):
                notices.append(f"the prompt is too long; its last {cut} tokens were left out")
            for key, embedding in zip(keys, found, strict=True):
                self.cache.put(key, embedding)
            if running.offload == "none":
                self._reader = (tokenizer, encoder)
            del encoder
            # Classes of a library may refer to themselves in circles.
            gc.collect()
            self._free()
        device = running.device
        return tuple((text.to(device), mask.to(device)) for text, mask in found), notices

    def noise(self, settings: OfficialConfig) -> Latents:
        """Where a film starts: noise of each latent frame from its own counter."""
        return self._draw(settings, range(self.model.latent_frames(settings.frames)), 0)

    def roll(self, settings: OfficialConfig, condition: Condition) -> Iterator[Latents]:
        """Yield the latents of each chunk, for LongSANA."""
        device = self.running.device

        def draw(place: range, step: int) -> Latents:
            return self._draw(settings, place, step).to(device)

        count = self.model.latent_frames(settings.frames)
        yield from roll(self.denoiser(), *condition[0], draw, count, self.team)

    def velocity(
        self, noisy: Latents, sigma: Float[Tensor, "1 t"], embedding: Embedding
    ) -> Latents:
        """What the denoiser predicts, each latent frame at its own sigma."""
        return self.denoiser()(noisy, sigma, *embedding)[:, : noisy.shape[1]].float()

    def first_frame(self, image: UInt8[Tensor, "height width 3"]) -> First:
        """Latents of the first frame."""
        return self.latents_of(image[None])

    def latents_of(self, clip: UInt8[Tensor, "frames height width 3"]) -> Latents:
        """Latents of frames from the start of a film; whole latent frames of them."""
        frame = clip[None].float() / 127.5 - 1
        with self._vae_here("encode") as autoencoder:
            return autoencoder.encode(
                frame, vae_dtype(self.model, self.running.dtype), self.running.device
            ).float()

    def denoise(
        self,
        noise: Latents,
        condition: Condition,
        settings: OfficialConfig,
        first: First | None = None,
    ) -> Iterator[Latents]:
        """Yield this process's latents after each step.

        Those of a first frame given stay as they are, at sigma 0.
        """
        device, own = self.running.device, self.team.frames(noise.shape[2])
        first = first if own.start == 0 else None
        share = share_of(self.team, noise.shape[2])
        denoiser = self.denoiser()
        readings = tuple(denoiser.read(*embedding, trim=True) for embedding in condition)
        velocity = _Velocity(denoiser, readings, settings, first, self.team, share)
        x = noise[:, :, own.start : own.stop].to(device, torch.float32)
        # Only the frames to come go through the solver.
        x = x if first is None else x[:, :, 1:]
        sigmas = sigmas_of(settings)
        for after in sampler_of(settings.sampler)(velocity, x, sigmas):
            yield after if first is None else torch.cat([first, after], dim=2)

    def decode(self, latents: Latents) -> Iterator[Float[Tensor, "1 frames height width 3"]]:
        """Frames in [-1, 1], the last latent frame's all there."""
        with self._vae_here("decode") as autoencoder:
            yield from autoencoder.decode_stream(latents, self._decode_dtype(), self.running.device)

    def _draw(self, settings: OfficialConfig, latent_frames: range, step: int) -> Latents:
        stride = self.model.vae.spatial_stride
        shape = (self.model.vae.channels, settings.height // stride, settings.width // stride)
        return flow.frame_noise(settings.seed, latent_frames, shape, step=step)[None]

    def denoiser(self) -> Transformer:
        """The denoiser, loaded when it is first asked for."""
        if self._transformer is None:
            running, folder = self.running, self.model.folder / "transformer"
            place = running.device if running.offload == "none" else HOST
            self._transformer = load_transformer(
                folder, running.dtype, place, running.how, running.device, self._lay
            )
            how = stored_format(folder) or running.how
            ready(self._transformer, Arithmetic(dtype=running.dtype, how=how), running.device)
            if running.offload == "block":
                keep_on_host(self._transformer, running.device)
            if running.offload == "text":
                self._denoising = Guest(self._transformer)
        if self._denoising is not None:
            self._denoising.arrive(self.running.device)
        return self._transformer

    def _lay(self, denoiser: Transformer) -> None:
        if self.running.loras:
            lay(denoiser, self.running.loras, fingerprint(self.model.folder))

    @contextmanager
    def _vae_here(self, half: Half) -> Iterator[PublicAutoencoder]:
        """The half of the VAE that is at work, on the device."""
        autoencoder = self._vae()
        if self._denoising is not None:
            self._denoising.leave()
            self._free()
        for guest in self._halves[half]:
            guest.arrive(self.running.device)
        yield autoencoder
        if self.running.offload != "none":
            for guest in self._halves[half]:
                guest.leave()
            self._free()

    def _vae(self) -> PublicAutoencoder:
        """Both halves, loaded onto the host when first asked for, each in the type it works in."""
        if self._autoencoder is not None:
            return self._autoencoder
        low = vae_dtype(self.model, self.running.dtype)
        tiling = None if self.running.offload == "none" else Tiling()
        self._autoencoder = load_autoencoder(self.model, low, HOST, tiling)
        dtypes: dict[Half, torch.dtype] = {"encode": low, "decode": self._decode_dtype()}
        parts = dict(self._autoencoder.vae.named_children())
        for half, dtype in dtypes.items():
            self._halves[half] = tuple(
                Guest(part.to(dtype))
                for name, part in parts.items()
                if (name in ENCODER_PARTS) == (half == "encode")
            )
        return self._autoencoder

    @contextmanager
    def _vae_on(self, device: torch.device) -> Iterator[PublicAutoencoder]:
        """The decoder on a device where nothing else has to leave for it."""
        autoencoder = self._vae()
        for guest in self._halves["decode"]:
            guest.arrive(device)
        yield autoencoder

    def _decode_dtype(self) -> torch.dtype:
        card = self.running.device.type == "cuda"
        return decode_dtype(self.model, self.running.dtype, card=card)

    def _free(self) -> None:
        if self.running.device.type == "cuda":
            torch.cuda.empty_cache()


def checked_loras(model: PublicModel, loras: tuple[LoraUse, ...]) -> tuple[LoraUse, ...]:
    """LoRAs with their checksums, once they are found to fit; nothing else is loaded for it.

    Raises:
        WeightsError: damaged, or of another model.
        SettingError: too many.
    """
    if not loras:
        return ()
    return checked(loras, fingerprint(model.folder), empty_transformer(model.transformer))[1]


def streams(model: PublicModel, offload: Offload) -> bool:
    """Whether frames are decoded between the chunks of a film, by a VAE that looks back alone.

    Then both networks are on the device; `block` keeps to the least memory and decodes afterwards.
    """
    return model.causal and offload != "block" and model.vae.name == "AutoencoderKLWan"


def vae_dtype(model: PublicModel, dtype: torch.dtype) -> torch.dtype:
    """The Wan VAE was published for float32; the other runs in bf16 as well."""
    low = model.vae.name != "AutoencoderKLWan" and dtype != torch.float32
    return torch.bfloat16 if low else torch.float32


def decode_dtype(model: PublicModel, dtype: torch.dtype, *, card: bool) -> torch.dtype:
    """On a card a bf16 film is decoded in bf16 by either VAE; what is encoded stays as published.

    The Wan decoder in bf16 takes two thirds of its time in float32 there.
    """
    return dtype if card and dtype == torch.bfloat16 else vae_dtype(model, dtype)


def sigmas_of(settings: OfficialConfig) -> Float[Tensor, " steps_plus_1"]:
    """The falling sigmas published for each solver."""
    if settings.sampler == "euler":
        return flow.published_euler_schedule(settings.steps, settings.flow_shift)
    return flow.published_schedule(settings.steps, settings.flow_shift)


def _frames(
    decoded: Iterator[Float[Tensor, "1 frames height width 3"]], frames: int
) -> Iterator[Event]:
    """Bytes of a film of so many frames, and how far it is."""
    left = frames
    for part in decoded:
        pixels = to_bytes(part[0, :left]).cpu()
        left -= len(pixels)
        yield Frames(pixels)
        yield Progress("decode", frames - left, frames)


@dataclass(frozen=True, slots=True)
class _Velocity:
    """The denoiser as a solver sees it: latents to come and sigma to one velocity."""

    transformer: Transformer
    readings: tuple[Reading, ...]
    settings: OfficialConfig
    first: First | None
    team: Team
    share: Share | None

    def __call__(self, x: Latents, sigma: float) -> Latents:
        # The published solver feeds whole timesteps, rounded down; Euler does not.
        level = math.floor(1000 * sigma) / 1000 if self.settings.sampler == "dpm" else sigma
        levels = torch.full((1, x.shape[2]), level, dtype=torch.float64, device=x.device)
        if self.first is not None:
            levels = torch.cat([torch.zeros_like(levels[:, :1]), levels], dim=1)
            x = torch.cat([self.first, x], dim=2)
        # One after the other, not as a batch: the same values in half the memory.
        passes = self.readings[self.team.passes(len(self.readings))]
        parts = [self._one(x, levels, reading) for reading in passes]
        if self.first is not None:
            parts = [part[:, :, 1:] for part in parts]
        if len(parts) < len(self.readings):
            parts = self.team.both(parts[0])
        if len(parts) == 1:
            return parts[0]
        return classifier_free(parts[0], parts[1], self.settings.guidance)

    def _one(self, x: Latents, levels: Float[Tensor, "1 t"], reading: Reading) -> Latents:
        velocity = self.transformer.predict(x, levels, reading, share=self.share)
        return velocity[:, : x.shape[1]].float()
