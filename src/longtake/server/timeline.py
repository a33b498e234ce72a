"""Films as an editor's timeline: a clip for each shot, also for those inside one take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from opentimelineio import opentime, schema
from opentimelineio.adapters import write_to_string

from longtake.config import FPS, from_dict
from longtake.rollout.grid import Grid
from longtake.server.jobs import FilmRequest, Job
from longtake.shots.edl import Event, reels_of, write_edl
from longtake.shots.shot import START
from longtake.shots.timecode import from_timecode, rate_of

Format = Literal["otio", "edl"]
_RATE = rate_of(str(FPS))


@dataclass(frozen=True, slots=True)
class Clip:
    """A shot: some frames of a film under one prompt."""

    name: str
    film: str
    """File name that the film has when it is downloaded."""
    holds: int
    """Frames of the film."""
    start: int
    """First frame of the shot in it."""
    frames: int
    prompt: str


def timeline(jobs: Sequence[Job], chunk: int, kind: Format) -> str:
    """Finished films one after the other.

    Args:
        jobs: In the order of the cut.
        chunk: Latent frames by which their model goes on; 0: it makes a film in one pass.
        kind: OpenTimelineIO's JSON, or an edit list of CMX 3600.
    """
    clips = [clip for number, job in enumerate(jobs, 1) for clip in _clips(job, number, chunk)]
    title = next((name for job in jobs if (name := job.request.get("scene"))), jobs[0].id)
    return _otio(title, clips) if kind == "otio" else _edl(title, clips)


def _clips(job: Job, number: int, chunk: int) -> list[Clip]:
    film = from_dict(FilmRequest, job.request)
    frames, starts = film.settings.frames, {0: film.prompt}
    for cue in film.cues:
        start = Grid(chunk).frames(Grid(chunk).chunk_at(cue.at_s)).start
        starts[start] = cue.text or starts[max(starts)]
    ends = [*list(starts)[1:], frames]
    shots = zip(starts.items(), ends, strict=True)
    return [
        Clip(
            name=f"SH{film.shot or number:03}" + (f"_{n:02}" if film.cues else ""),
            film=f"{job.id}.mp4",
            holds=frames,
            start=start,
            frames=end - start,
            prompt=prompt,
        )
        for n, ((start, prompt), end) in enumerate(shots, 1)
        if end > start
    ]


def _otio(title: str, clips: Sequence[Clip]) -> str:
    first = opentime.RationalTime(from_timecode(START, _RATE), FPS)
    made = schema.Timeline(name=title, global_start_time=first)
    track = schema.Track(name="V1", kind=schema.TrackKind.Video)
    for clip in clips:
        media = schema.ExternalReference(clip.film, _range(0, clip.holds))
        source = _range(clip.start, clip.frames)
        said = {"longtake": {"prompt": clip.prompt}}
        track.append(schema.Clip(clip.name, media, source_range=source, metadata=said))
    made.tracks.append(track)
    return write_to_string(made, "otio_json")


def _edl(title: str, clips: Sequence[Clip]) -> str:
    reels = reels_of([clip.name for clip in clips])
    record, events = from_timecode(START, _RATE), []
    for reel, clip in zip(reels, clips, strict=True):
        events.append(
            Event(reel=reel, source=clip.start, record=record, frames=clip.frames, clip=clip.film)
        )
        record += clip.frames
    return write_edl(title, events, _RATE)


def _range(start: int, frames: int) -> opentime.TimeRange:
    return opentime.TimeRange(opentime.RationalTime(start, FPS), opentime.RationalTime(frames, FPS))
