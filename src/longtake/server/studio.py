"""The model as the API knows it: its shapes, to check and plan films; torch is for workers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.config import FPS, Cue, ModelConfig, SampleConfig, from_dict
from longtake.errors import ModelError, SettingError
from longtake.presets import MODEL_FILE, Preset, find
from longtake.rollout.asked import check_film
from longtake.rollout.disk import disk_of, state_bytes
from longtake.rollout.grid import Grid
from longtake.server.bodies import Wanted
from longtake.server.jobs import FilmRequest, Job
from longtake.server.refusals import Refused
from longtake.server.settings import Limits
from longtake.text import Tokenizer

_BYTES = 2
_SPEEDS = 20


@dataclass(frozen=True, slots=True)
class Studio:
    """What can be made here."""

    preset: Preset
    config: ModelConfig
    """The model's shapes."""
    limits: Limits

    @property
    def defaults(self) -> SampleConfig:
        """The settings of a film if nobody asks for others."""
        return self.config.sampling.settings()

    def request(self, wanted: Wanted) -> FilmRequest:
        """A film that the model can make.

        Raises:
            Refused: another model, or more than the server gives.
            LongtakeError: what the model cannot do.
        """
        if wanted.model not in (None, self.preset.name):
            text = f"there is no such model; there is {self.preset.name}"
            raise Refused(422, "model_not_found", text, param="model")
        self._check(wanted.prompt, wanted.settings, wanted.cues)
        if wanted.picture is not None:
            self.check_picture()
        return FilmRequest(
            model=self.preset.name,
            prompt=wanted.prompt,
            settings=wanted.settings,
            cues=wanted.cues,
        )

    def check_picture(self) -> None:
        """Refuse a picture where the model cannot begin with one, before it is decoded."""
        if not self.config.chunk:
            msg = f"{self.preset.name} was not trained to begin with a picture"
            raise Refused(422, "invalid_setting", msg, param="input_reference")

    def extension(self, parent: Job, more: FilmRequest) -> FilmRequest:
        """A film that goes on with a finished one.

        Raises:
            Refused: it cannot be gone on with.
            LongtakeError: what the model cannot do.
        """
        if not self.config.chunk:
            text = f"{self.preset.name} makes films in one pass; its films cannot be extended"
            raise Refused(409, "not_resumable", text, param="video")
        if parent.status != "completed":
            text = f"the video is {parent.status}; only completed ones are extended"
            raise Refused(409, "not_completed", text, param="video")
        self._check(more.prompt, more.settings, more.cues)
        return more

    def notices(self, request: FilmRequest) -> list[str]:
        """What the model will not read of the prompt."""
        texts = (request.prompt, *(cue.text for cue in request.cues))
        tokenizer = Tokenizer(self.config.words, self.config.text.max_tokens)
        told = (note for text in texts for note in tokenizer.read(text).notices())
        return list(dict.fromkeys(told))

    def blocks(self, settings: SampleConfig) -> int:
        """Blocks that a film is made of."""
        return Grid(self.config.chunk).chunks(settings.frames) if self.config.chunk else 1

    def disk(self, settings: SampleConfig) -> tuple[int, int | None]:
        """Bytes of disk while it is made, and of a state."""
        found = disk_of(self.config, settings, bytes_per_value=_BYTES, kept_states=0)
        if not self.config.chunk:
            return found.film, None
        return found.making, state_bytes(self.config, settings, _BYTES)

    def _check(self, prompt: str, settings: SampleConfig, cues: Sequence[Cue]) -> None:
        self._check_limits(settings)
        check_film(self.preset.name, self.config, prompt, settings, cues=cues)

    def _check_limits(self, settings: SampleConfig) -> None:
        limits = self.limits
        if settings.frames > limits.frames:
            longest = (limits.frames - 1) / FPS
            msg = (
                f"this server makes films of up to {longest:g} seconds ({limits.frames} frames), "
                f"got {settings.frames} frames"
            )
            raise Refused(422, "invalid_setting", msg, param="frames")
        if settings.width * settings.height > limits.pixels:
            msg = (
                f"this server makes frames of up to {limits.pixels:,} pixels, "
                f"got {settings.width}x{settings.height}"
            )
            raise Refused(422, "invalid_setting", msg, param="size")


def open_studio(name: str, limits: Limits) -> Studio:
    """Read a model's shapes.

    Raises:
        ModelError: no such model, or its shapes cannot be read.
    """
    preset = find(name)
    try:
        config = from_dict(ModelConfig, json.loads((preset.folder / MODEL_FILE).read_bytes()))
    except (OSError, ValueError, SettingError) as error:
        msg = f"cannot read the {MODEL_FILE} of {preset.name}: {error}"
        raise ModelError(msg) from error
    return Studio(preset, config, limits)


def speed(jobs: list[Job]) -> float | None:
    """Seconds per pixel, frame and step of films made here; None before the first."""
    shares = []
    for job in jobs[:_SPEEDS]:
        if job.result is not None:
            settings = job.request["settings"]
            work = settings["width"] * settings["height"] * settings["frames"] * settings["steps"]
            shares.append(job.result["inference_time_s"] / work)
    return sorted(shares)[len(shares) // 2] if shares else None
