"""Films and pictures on their way out: ranges, and films that are still being made."""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from longtake.server.files import JobFiles
from longtake.server.refusals import Refused, not_found

PIECE = 256 * 1024
LOOK_EVERY_S = 0.1
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*(?:,.*)?")
_MOST_RANGE = 65_536


def open_own(files: JobFiles, path: Path) -> int:
    """Open a file of a job; a link is not followed.

    Raises:
        Refused: it is not there, or not the job's own.
    """
    if not files.own(path):
        raise not_found()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise not_found() from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_found()
    return descriptor


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and byte after the last that are asked for; of many ranges the first.

    Returns:
        None where the whole is to be sent.

    Raises:
        Refused: no such bytes.
    """
    if header is None or not header.startswith("bytes"):
        return None
    match = _RANGE.fullmatch(header[:_MOST_RANGE])
    start = stop = -1
    if match is not None and (match[1] or match[2]):
        if match[1]:
            start = int(match[1])
            stop = min(int(match[2]) + 1, size) if match[2] else size
        else:
            start, stop = max(size - int(match[2]), 0), size
    if not 0 <= start < stop:
        text = f"the file has {size} bytes"
        extra = {"Content-Range": f"bytes */{size}"}
        raise Refused(416, "range_not_satisfiable", text, headers=extra)
    return start, stop


class OwnFile(Response):
    """A file that is open already: it is sent to its end even if it is deleted meanwhile."""

    def __init__(self, descriptor: int, kind: str, name: str, etag: str) -> None:
        """Take over an open file.

        Args:
            descriptor: Closed after sending.
            kind: Its media type.
            name: What a browser saves it as.
            etag: Changes when the bytes do.
        """
        super().__init__(media_type=kind)
        self.descriptor, self.size, self.etag = descriptor, os.fstat(descriptor).st_size, etag
        shown = "inline" if kind.startswith(("video/", "image/")) else "attachment"
        self.headers["content-disposition"] = f'{shown}; filename="{name}"'
        self.headers["accept-ranges"] = "bytes"
        self.headers["etag"] = f'"{etag}"'
        self.headers["cache-control"] = "private, no-cache"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it, or the part of it that is asked for."""
        try:
            headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
            span = self._span(headers)
            start, stop = span or (0, self.size)
            if span:
                self.headers["content-range"] = f"bytes {start}-{stop - 1}/{self.size}"
            self.headers["content-length"] = str(stop - start)
            head = {"type": "http.response.start", "status": 206 if span else 200}
            await send({**head, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                start = stop
            while start < stop:
                part = await anyio.to_thread.run_sync(
                    os.pread, self.descriptor, min(PIECE, stop - start), start
                )
                if not part:
                    raise ConnectionAbortedError
                start += len(part)
                await send({"type": "http.response.body", "body": part, "more_body": start < stop})
            if self.size == 0 or scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self.descriptor)

    def _span(self, headers: Mapping[bytes, str]) -> tuple[int, int] | None:
        if headers.get(b"if-range", f'"{self.etag}"') != f'"{self.etag}"':
            return None
        return byte_range(headers.get(b"range"), self.size)


async def growing(
    files: JobFiles, name: Callable[[], str], ended: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What is in a film and what is written to it, until nothing more will be.

    An attempt that takes over from a killed one writes the same bytes again from the beginning,
    into a file of its own; what was sent is not sent again.

    Args:
        files: The job's folder.
        name: Name of the file of the attempt that runs.
        ended: Whether the job has ended.
    """
    descriptor, opened, place = -1, "", 0
    try:
        while True:
            last, current = ended(), name()
            if current != opened and files.own(files.path(current)):
                if descriptor >= 0:
                    os.close(descriptor)
                descriptor, opened = open_own(files, files.path(current)), current
            while descriptor >= 0 and (part := os.pread(descriptor, PIECE, place)):
                place += len(part)
                yield part
                # Others have their turn between two pieces.
                await asyncio.sleep(0)
            if last:
                return
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
