"""A film as a cut of one clip, as editors read it; its prompts stand as markers."""

from opentimelineio import opentime, schema
from opentimelineio.adapters import write_to_string

from longtake.config import FPS, to_dict
from longtake.media.manifest import Manifest
from longtake.shots.edl import Event, reels_of, write_edl
from longtake.shots.shot import METADATA, START
from longtake.shots.timecode import from_timecode, rate_of

_RATE = rate_of(str(FPS))


def film_otio(manifest: Manifest, file: str) -> str:
    """The timeline: the whole film, a marker where each prompt begins, and how it was made.

    Args:
        manifest: What the film was made from.
        file: Its name; it lies beside the timeline.
    """
    whole = opentime.TimeRange(_time(0), _time(manifest.settings.frames))
    media = schema.ExternalReference(target_url=file, available_range=whole)
    clip = schema.Clip(
        name=file,
        media_reference=media,
        source_range=whole,
        metadata={METADATA: to_dict(manifest)},
    )
    spoken = [(0.0, manifest.prompt), *((cue.at_s, cue.text) for cue in manifest.cues)]
    for at_s, text in spoken:
        begins = opentime.TimeRange(_time(round(at_s * FPS)), _time(1))
        clip.markers.append(schema.Marker(name=text, marked_range=begins))
    timeline = schema.Timeline(
        name=manifest.prompt, global_start_time=_time(from_timecode(START, _RATE))
    )
    track = schema.Track(name="V1", kind=schema.TrackKind.Video)
    track.append(clip)
    timeline.tracks.append(track)
    return write_to_string(timeline, "otio_json")


def film_edl(manifest: Manifest, file: str) -> str:
    """The edit list: one event; such lists know no prompts."""
    (reel,) = reels_of([file.partition(".")[0]])
    event = Event(
        reel=reel,
        source=0,
        record=from_timecode(START, _RATE),
        frames=manifest.settings.frames,
        clip=file,
    )
    return write_edl(manifest.prompt, [event], _RATE)


def _time(frame: int) -> opentime.RationalTime:
    return opentime.RationalTime(frame, FPS)
