"""What each route does with videos."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, BinaryIO, Literal

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from longtake.config import FPS, Cue, from_dict, to_dict
from longtake.errors import OutputError
from longtake.server.answers import Plan, Video, VideoDeleted, VideoPage
from longtake.server.bodies import (
    Wanted,
    read_extension,
    read_form,
    read_json,
    read_wanted,
)
from longtake.server.files import ID, JobFiles
from longtake.server.house import House
from longtake.server.jobs import (
    ENDED,
    AlreadyEnded,
    FilmRequest,
    Job,
    Key,
    KeyReused,
    QueueFull,
    new_id,
)
from longtake.server.refusals import Refused, not_found, storage_full
from longtake.server.sending import OwnFile, growing, open_own
from longtake.server.store import Store
from longtake.server.streams import EventStream
from longtake.server.studio import speed
from longtake.server.uploads import check_picture, from_base64, store_picture
from longtake.server.views import video

Variant = Literal[
    "video", "thumbnail", "spritesheet", "contact_sheet", "manifest", "otio", "edl", "state"
]
_PICTURES = ("thumbnail", "spritesheet", "contact_sheet")
_NOT_MADE = ("otio", "edl")
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_MOST_FIELDS, _MOST_FIELD = 40, 65_536
_PARAM, _AFTER = "input_reference", "after"


async def create(house: House, request: Request, key: str | None) -> Video:
    """Read a request for a film, keep its picture, and queue it."""
    async with _read(request) as (data, upload):
        wanted = read_wanted(data, house.studio.defaults)
        picture = _picture(house, wanted, upload)
        film = house.studio.request(wanted)
        if picture is None:
            return await _add(house, request, film, key, "")
        house.studio.check_picture()
        return await _add_with(house, request, film, key, picture)


async def _add_with(
    house: House, request: Request, film: FilmRequest, key: str | None, picture: BinaryIO
) -> Video:
    """Queue a film whose picture is kept first; without the film the picture goes."""
    files = house.files(new_id())
    try:
        digest = await store_picture(picture, files, film.settings)
        made = await _add(house, request, replace(film, picture=True), key, digest, job=files.job)
    except BaseException as error:
        files.remove()
        if isinstance(error, OutputError):
            raise storage_full() from None
        raise
    if made.id != files.job:
        files.remove()
    return made


async def extend(house: House, request: Request, key: str | None) -> Video:
    """Queue a film that goes on with a finished one."""
    parent_id, prompt, added = read_extension(await _read_json(request))
    parent = _find(house, request, parent_id, param="video")
    was = from_dict(FilmRequest, parent.request)
    frames = was.settings.frames
    cues = was.cues if prompt is None else (*was.cues, Cue(at_s=frames / FPS, text=prompt))
    settings = replace(was.settings, frames=frames + added)
    more = replace(was, settings=settings, cues=cues, parent=parent.id, picture=False)
    return await _add(house, request, house.studio.extension(parent, more), key, "")


async def plan(house: House, request: Request) -> Plan:
    """What a film would take."""
    wanted = read_wanted(await _read_json(request), house.studio.defaults)
    film = house.studio.request(wanted)
    settings = film.settings
    newest = house.store.page(_owner(request), after=None, limit=20, newest_first=True)
    pace = speed(list(newest or ()))
    work = settings.width * settings.height * settings.frames * settings.steps
    disk, state = house.studio.disk(settings)
    return Plan(
        model=film.model,
        frames=settings.frames,
        seconds=f"{(settings.frames - 1) / FPS:g}",
        size=f"{settings.width}x{settings.height}",
        steps=settings.steps,
        blocks_total=house.studio.blocks(settings),
        disk_bytes=disk,
        state_bytes=state,
        estimate_s=None if pace is None else round(pace * work, 2),
        notices=house.studio.notices(film),
    )


async def cancel(house: House, request: Request, video_id: str) -> Video:
    """Ask for the end of a job."""
    job = _find(house, request, video_id)
    try:
        return video(await house.write(lambda store: store.cancel(job.id)))
    except AlreadyEnded as error:
        raise Refused(409, "already_ended", str(error)) from None


async def delete(house: House, request: Request, video_id: str) -> VideoDeleted:
    """Hide a job, stop it, and let its files go."""
    job = _find(house, request, video_id)
    await house.write(lambda store: store.delete(job.id))
    return VideoDeleted(id=job.id)


def get(house: House, request: Request, video_id: str) -> Video:
    """A job as it stands."""
    return video(_find(house, request, video_id))


def page(house: House, request: Request, *, after: str | None, limit: int, order: str) -> VideoPage:
    """A page of the owner's jobs."""
    newest_first = order == "desc"
    if after is not None and not ID.fullmatch(after):
        raise not_found(_AFTER)
    found = house.store.page(
        _owner(request), after=after, limit=limit + 1, newest_first=newest_first
    )
    if found is None:
        raise not_found(_AFTER)
    shown = [video(job) for job in found[:limit]]
    return VideoPage(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(found) > limit,
    )


def content(house: House, request: Request, video_id: str, variant: Variant) -> Response:
    """A file of a finished job."""
    job = _find(house, request, video_id)
    if variant in _NOT_MADE:
        text = f"this release makes no {variant}"
        raise Refused(404, "variant_unavailable", text, param="variant")
    if job.result is None:
        text = f"the video is {job.status}; its content is there when it is completed"
        raise Refused(409, "not_completed", text)
    if variant == "manifest":
        return JSONResponse(dict(job.result["manifest"]))
    files, sha256 = house.files(job.id), job.result["sha256"]
    etag = sha256 if variant == "video" else f"{sha256}-{variant}"
    if variant == "video":
        path, kind, name = files.path(job.result["file"]), "video/mp4", f"{job.id}.mp4"
    elif variant in _PICTURES:
        path = files.path(job.result["pictures"][variant])
        kind, name = "image/png", f"{job.id}-{variant}.png"
    else:
        path, name = _state(files, job), f"{job.id}.safetensors"
        kind = "application/octet-stream"
    return OwnFile(open_own(files, path), kind, name, etag)


def live(house: House, request: Request, video_id: str) -> Response:
    """A film while it is made."""
    job = _find(house, request, video_id)
    if not house.studio.config.chunk and job.result is None:
        text = f"{job.request['model']} makes films in one pass; there is nothing to see before"
        raise Refused(409, "not_live", text)
    if job.status in ENDED and job.result is None:
        raise Refused(409, "not_live", f"the video is {job.status}")

    def current() -> Job | None:
        return house.store.find(job.id, job.owner)

    def ended() -> bool:
        found = current()
        return found is None or found.status in ENDED

    def name() -> str:
        found = current() or job
        return found.result["file"] if found.result else f"video-{found.attempt}.mp4"

    return StreamingResponse(growing(house.files(job.id), name, ended), media_type="video/mp4")


def events(house: House, request: Request, video_id: str, last: str | None) -> Response:
    """What happens to a job."""
    job = _find(house, request, video_id)
    after = 0
    if last is not None:
        if not (last.isascii() and last.isdecimal() and len(last) <= 18):
            text = "Last-Event-ID is a number that an event had"
            raise Refused(400, "bad_request", text, param="Last-Event-ID")
        after = int(last)
    return EventStream(house.hub, job.id, after, house.metrics)


async def _add(
    house: House, request: Request, film: FilmRequest, key: str | None, digest: str, job: str = ""
) -> Video:
    """Queue a film; answered when it is on the disk."""
    if key is not None and not _KEY.fullmatch(key):
        text = "an Idempotency-Key has 1 to 255 printable ASCII characters"
        raise Refused(400, "bad_request", text, param="Idempotency-Key")
    wanted, owner = to_dict(film), _owner(request)
    body = hashlib.sha256(f"{json.dumps(wanted, sort_keys=True)}{digest}".encode()).hexdigest()
    stored = None if key is None else Key(request.url.path, key, body)
    most = house.config.limits.waiting

    def add(store: Store) -> Job:
        return store.add(owner, wanted, job=job, key=stored, most=most)[0]

    try:
        return video(await house.write(add))
    except KeyReused as error:
        raise Refused(409, "idempotency_key_reused", str(error)) from None
    except QueueFull:
        text = "the queue is full; try again later"
        raise Refused(429, "queue_full", text, headers={"Retry-After": "30"}) from None


@asynccontextmanager
async def _read(request: Request) -> AsyncIterator[tuple[Any, BinaryIO | None]]:
    """A body's fields, and its upload if it has one, on the disk as long as the block lasts."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        yield await _read_json(request), None
        return
    fields: list[tuple[str, str]] = []
    upload: BinaryIO | None = None
    async with request.form(
        max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, str):
                fields.append((name, value))
            elif name in (_PARAM, "image_reference"):
                # The name that the client gave is not looked at.
                upload = value.file
            else:
                raise Refused(422, "invalid_request", "this field takes no file", param=name[:200])
        yield read_form(fields), upload


async def _read_json(request: Request) -> Any:  # noqa: ANN401 - JSON
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "content_type_not_supported", "send application/json")
    return read_json(await request.body())


def _picture(house: House, wanted: Wanted, upload: BinaryIO | None) -> BinaryIO | None:
    most = house.config.limits.upload_bytes
    if upload is not None:
        check_picture(upload, most)
        return upload
    return None if wanted.picture is None else from_base64(wanted.picture, most)


def _state(files: JobFiles, job: Job) -> Any:  # noqa: ANN401
    state = job.result["state"] if job.result else ""
    if not state:
        text = f"{job.request['model']} makes films in one pass and has no state"
        raise Refused(404, "variant_unavailable", text, param="variant")
    return files.take / state


def _find(house: House, request: Request, video_id: str, param: str | None = None) -> Job:
    """The owner's job of that id; another's is as one that is not there."""
    found = house.store.find(video_id, _owner(request)) if ID.fullmatch(video_id) else None
    if found is None:
        raise not_found(param)
    return found


def _owner(request: Request) -> str:
    return request.scope["owner"]
