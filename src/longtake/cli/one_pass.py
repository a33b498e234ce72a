"""A film whose frames come in one pass: the mp4 and its contact sheet, both or none."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Protocol, runtime_checkable

from longtake.cli.interrupts import raise_if_stopped
from longtake.cli.output import Output
from longtake.cli.progress import Display
from longtake.cli.take import SHEET_FRAMES
from longtake.config import FPS
from longtake.media.sheet import contact_sheet, spread
from longtake.media.video import VideoWriter
from longtake.pipeline import Event, Frames, Notice, Progress
from longtake.storage import atomic_write, output_errors


@runtime_checkable
class Size(Protocol):
    """How large a film is."""

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def frames(self) -> int:
        """All of them."""
        ...


@runtime_checkable
class Made(Protocol):
    """What a film is made from."""

    @property
    def prompt(self) -> str:
        """As the user wrote it."""
        ...

    @property
    def settings(self) -> Size:
        """Its size among them."""
        ...


def follow(events: Iterable[Event]) -> None:
    """Make a film that another process writes."""
    for _ in events:
        raise_if_stopped()


def write_film(
    events: Iterable[Event], made: Made, output: Output, tags: dict[str, str], show: Display
) -> list[str]:
    """Write the film and its sheet as the frames come; return the model's notices."""
    settings, notices, picked = made.settings, [], []
    numbers = spread(settings.frames, SHEET_FRAMES)
    with ExitStack() as stack:
        # The film is finished first and the sheet right after: both or none.
        sheet = stack.enter_context(atomic_write(output.sheet)) if output.sheet else None
        writer = stack.enter_context(
            VideoWriter(output.film, width=settings.width, height=settings.height, metadata=tags)
        )
        for event in events:
            raise_if_stopped()
            match event:
                case Progress():
                    show.stage(event.stage, event.step, event.total)
                case Notice():
                    notices.append(event.text)
                    show.note(event.text)
                case Frames():
                    first, after = writer.frames, writer.frames + len(event.pixels)
                    picked += [event.pixels[n - first] for n in numbers if first <= n < after]
                    writer.write(event.pixels)
        if output.sheet and sheet:
            image = contact_sheet(picked, [n / FPS for n in numbers], made.prompt)
            with output_errors(output.sheet):
                image.save(sheet, format="PNG")
    return notices
