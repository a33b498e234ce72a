"""Takes made for the shots of a plan: only what changed, everything else as it lies there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jaxtyping import UInt8
from torch import Tensor

from longtake import __version__
from longtake.config import LoraUse, to_dict
from longtake.errors import InvalidInput, ShotListError
from longtake.media.lossless import LosslessWriter, lossless_frames
from longtake.media.picture import read_picture
from longtake.media.segments import join_segments
from longtake.media.video import VideoWriter
from longtake.pipeline import Border, Frames, Notice, Pipeline, Progress
from longtake.rollout.pixels import checksum
from longtake.rollout.snapshot import Snapshot, load_snapshot, save_snapshot
from longtake.shots.plan import Planned, TakePlan, last_frame
from longtake.shots.retime import Retiming, retimed
from longtake.shots.shot import Shot, ShotList, before, order_of
from longtake.shots.store import PARTS, SOURCE, STATE, Record, Store, digest
from longtake.shots.timecode import from_timecode, to_timecode

BODY_AT = "01:00:00:00"
"""Timecode in a shot's file of its first frame after the head handle, wherever the cut has it."""


How = Literal["made", "cut anew", "kept", "locked"]


@dataclass(frozen=True, slots=True)
class Made:
    """A shot of the cut with the take that fills it."""

    planned: Planned
    record: Record
    how: How


@dataclass(frozen=True, slots=True)
class _Given:
    """What a take begins on, beside its plan."""

    picture: UInt8[Tensor, "height width 3"] | None = None
    digest: str = ""
    start: Snapshot | None = None
    past: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Rendering:
    """One run over a plan; iterate it to make what is missing.

    >>> rendering = Rendering(pipe, scene, planned, store, "duplicate")
    >>> for event in rendering.run():
    ...     ...  # Progress and Notice of the model, and Made for each shot
    """

    pipe: Pipeline
    scene: ShotList
    planned: Sequence[Planned]
    store: Store
    retiming: Retiming
    locked: frozenset[str] = frozenset()
    """Codes of shots whose newest take stays."""
    free: Mapping[str, TakePlan] = field(default_factory=dict[str, TakePlan])
    """What the list would have made of locked shots."""
    adapt: Callable[[tuple[LoraUse, ...]], Pipeline] | None = None
    """Loads the model with LoRAs over it, for shots that name some."""
    allow_different: bool = False
    """Go on from states of other arithmetic too."""
    frozen: list[str] = field(default_factory=list[str])
    """Codes of locked shots whose takes are not what the list tells."""
    made: dict[str, Made] = field(default_factory=dict[str, Made])
    """Shots that are done."""

    def check(self) -> None:
        """Find out before any work whether every shot can be made.

        Raises:
            ShotListError: the first that cannot, by its row.
        """
        for planned in self.planned:
            shot, take = planned.shot, planned.take
            if shot.code in self.locked:
                continue
            try:
                self._pipe(shot).check(take.prompt, take.settings, take.cues)
                if shot.picture:
                    read_picture(shot.picture, take.settings.width, take.settings.height)
            except InvalidInput as error:
                msg = f"{shot.row}: {error}"
                raise ShotListError(msg) from error

    def run(self) -> Iterator[Progress | Notice | Made]:
        """Make shots in the order they depend on each other.

        Raises:
            LongtakeError: whatever stops a take; those before it stay.
        """
        plans = {planned.shot.code: planned for planned in self.planned}
        with self.store.alone():
            for shot in order_of(self.scene.shots):
                yield from self._shot(plans[shot.code])
                yield self.made[shot.code]

    def _pipe(self, shot: Shot) -> Pipeline:
        """The model as it is for a shot."""
        if not shot.loras:
            return self.pipe
        assert self.adapt is not None, "shots with LoRAs come with a way to load them"
        return self.adapt(shot.loras)

    @property
    def cut(self) -> list[Made]:
        """All shots in the order they are shown."""
        return [self.made[planned.shot.code] for planned in self.planned]

    def _shot(self, planned: Planned) -> Iterator[Progress | Notice]:
        code, records = planned.shot.code, self.store.records(planned.shot.code)
        stays = code in self.locked and bool(records)
        how: How = "locked" if stays else "kept"
        given = _Given() if stays else self._given(planned)
        source_key = records[0].source_key if stays else self._source_key(planned, given)
        if stays and source_key != self._free_key(planned):
            self.frozen.append(code)
        cut_key = self._cut_key(planned, source_key)
        for record in records:
            if record.cut_key == cut_key:
                self._finish(planned, record, how)
                return
        same = [record for record in records if record.source_key == source_key]
        name = self.store.next_name(code)
        with self.store.new(name) as folder:
            notices: list[str] = list(given.notes)
            yield from (Notice(note) for note in given.notes)
            if not same:
                for event in self._source(planned, given, folder):
                    if isinstance(event, Notice):
                        notices.append(event.text)
                    yield event
            source = self.store.source(same[0]) if same else folder / SOURCE
            self._cut(planned, source, folder)
            record = self._record(planned, name, source_key, cut_key, given, notices, same)
            self.store.write(folder, record)
        self._finish(planned, record, "cut anew" if same else "made")

    def _finish(self, planned: Planned, record: Record, how: How) -> None:
        file = self.store.file(record)
        if not file.exists():
            start = from_timecode(BODY_AT, self.scene.rate) - planned.take.head
            tags = {"title": record.name, "timecode": to_timecode(start, self.scene.rate)}
            join_segments(self.store.parts(record), file, fps=self.scene.rate.fps, metadata=tags)
        self.made[planned.shot.code] = Made(planned, record, how)

    def _given(self, planned: Planned) -> _Given:
        shot, settings = planned.shot, planned.take.settings
        needs = before([*self.scene.shots]).get(shot.code)
        if shot.picture is not None:
            picture, notes = read_picture(shot.picture, settings.width, settings.height)
            told = tuple(f"{shot.code}: {note}" for note in notes)
            return _Given(picture=picture, digest=checksum(picture), notes=told)
        if needs is None:
            return _Given()
        past = self.made[needs]
        if shot.after:
            wanted = last_frame(past.planned, self.scene.rate.fps)
            frames = lossless_frames(self.store.source(past.record))
            picture = next(frame for n, frame in enumerate(frames) if n == wanted)
            return _Given(picture=picture, digest=checksum(picture))
        return _Given(past=past.record.source_key)

    def _source_key(self, planned: Planned, given: _Given) -> str:
        take = {key: value for key, value in to_dict(planned.take).items() if key != "head"}
        return digest(
            take=take,
            picture=given.digest,
            past=given.past,
            model=self._pipe(planned.shot).model_hash,
            precision=self.pipe.precision,
        )

    def _free_key(self, planned: Planned) -> str:
        """The source key of a locked shot if it were not; empty if the model could not make it."""
        take = self.free.get(planned.shot.code)
        if take is None:
            return ""
        unlocked = replace(planned, take=take)
        return self._source_key(unlocked, self._given(unlocked))

    def _cut_key(self, planned: Planned, source_key: str) -> str:
        return digest(
            source=source_key,
            rate=self.scene.rate.name,
            retiming=self.retiming,
            head=planned.take.head,
            frames=planned.shot.frames,
            tail=planned.tail,
        )

    def _source(self, planned: Planned, given: _Given, folder: Path) -> Iterator[Progress | Notice]:
        take, pipe = planned.take, self._pipe(planned.shot)
        start = None
        if given.past:
            path = self.store.state(self.made[before(self.scene.shots)[planned.shot.code]].record)
            start = load_snapshot(path, pipe.identity, allow_different=self.allow_different)
        events = pipe.stream(
            take.prompt, take.settings, cues=take.cues, picture=given.picture, start=start
        )
        size = {"width": take.settings.width, "height": take.settings.height}
        with LosslessWriter(folder / SOURCE, **size) as writer:
            for event in events:
                match event:
                    case Frames():
                        writer.write(event.pixels)
                    case Border():
                        if event.snapshot.chunk == take.border:
                            save_snapshot(folder / STATE, event.snapshot, pipe.identity)
                    case Progress():
                        yield event
                    case Notice():
                        yield Notice(f"{planned.shot.code}: {event.text}")

    def _cut(self, planned: Planned, source: Path, folder: Path) -> None:
        """Encode the handles and the shot itself, each a film of its own."""
        rate, settings = self.scene.rate, planned.take.settings
        frames = retimed(lossless_frames(source), planned.shown, rate.fps, self.retiming)
        lengths = (planned.take.head, planned.shot.frames, planned.tail)
        for part, length in zip(PARTS, lengths, strict=True):
            if not length:
                continue
            writer = VideoWriter(
                folder / part, width=settings.width, height=settings.height, fps=rate.fps
            )
            with writer:
                for _ in range(length):
                    writer.write(next(frames)[None])

    def _record(
        self,
        planned: Planned,
        name: str,
        source_key: str,
        cut_key: str,
        given: _Given,
        notices: Sequence[str],
        same: Sequence[Record],
    ) -> Record:
        old = same[0] if same else None
        return Record(
            name=name,
            source_key=source_key,
            cut_key=cut_key,
            source=old.source if old else name,
            take=planned.take,
            rate=self.scene.rate.name,
            retiming=self.retiming,
            frames=planned.shot.frames,
            tail=planned.tail,
            model=old.model if old else self.pipe.name,
            model_hash=old.model_hash if old else self._pipe(planned.shot).model_hash,
            precision=old.precision if old else self.pipe.precision,
            version=__version__,
            picture=old.picture if old else given.digest,
            past=old.past if old else given.past,
            notices=old.notices if old else tuple(notices),
        )


def locked_takes(scene: ShotList, store: Store, named: Sequence[str]) -> dict[str, Record]:
    """The newest takes of locked shots, by code; a locked shot without a take is made once."""
    codes = {shot.code for shot in scene.shots if shot.lock} | set(named)
    found = {code: store.records(code) for code in sorted(codes)}
    return {code: records[0] for code, records in found.items() if records}
