"""The app: routes, and errors in one shape."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from longtake import __version__
from longtake.config import to_dict
from longtake.errors import LongtakeError
from longtake.server import bodies, pages, timeline, videos
from longtake.server.answers import (
    Health,
    Model,
    ModelPage,
    Plan,
    Video,
    VideoDeleted,
    VideoPage,
)
from longtake.server.guard import App, Guard
from longtake.server.house import House
from longtake.server.refusals import ErrorBody, Refused, refusal_of, storage_full
from longtake.server.schema import StoreError

_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorBody, "description": "An error, in the one shape of all errors"},
    422: {"model": ErrorBody, "description": "A field cannot be as it is"},
}
_CONTENTS = (
    "video/mp4", "image/png", "application/json", "text/plain", "application/octet-stream",
)  # fmt: skip
_TEXTS = {404: "not_found", 405: "method_not_allowed"}
IdempotencyKey = Annotated[
    str | None,
    Header(description="The same key and body give the same video, however often they come."),
]


def create_app(house: House) -> App:
    """The app behind its door."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with house.open():
            yield

    app = FastAPI(
        title="Longtake",
        version=__version__,
        summary="Films from sentences.",
        lifespan=lifespan,
        # The usual pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    _handle_errors(app)
    _add_making(app, house)
    _add_watching(app, house)
    _add_cuts(app, house)
    _add_house(app, house)
    _add_studio(app)
    return Guard(app, house.config, house.metrics)


def _body(model: type[bodies.BaseModel], *, upload: bool) -> dict[str, Any]:
    """A body as the OpenAPI page shows it; it is read by hand, for FastAPI's way is lenient."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if upload:
        form = {**schema, "properties": {**schema["properties"]}}
        for name in bodies.PICTURES:
            form["properties"][name] = {"type": "string", "format": "binary"}
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def _add_making(app: FastAPI, house: House) -> None:
    create = _body(bodies.CreateVideo, upload=True)

    @app.post("/v1/videos", status_code=202, openapi_extra=create)
    async def create_video(request: Request, idempotency_key: IdempotencyKey = None) -> Video:
        """Put a film into the queue."""
        return await videos.create(house, request, idempotency_key)

    extend = _body(bodies.ExtendVideo, upload=False)

    @app.post("/v1/videos/extensions", status_code=202, openapi_extra=extend)
    async def extend_video(request: Request, idempotency_key: IdempotencyKey = None) -> Video:
        """Put a film into the queue that goes on with a finished one."""
        return await videos.extend(house, request, idempotency_key)

    @app.post("/v1/videos/plan", openapi_extra=_body(bodies.CreateVideo, upload=False))
    async def plan_video(request: Request) -> Plan:
        """What a film would take; nothing is made."""
        return await videos.plan(house, request)

    @app.post("/v1/videos/{video_id}/cancel")
    async def cancel_video(request: Request, video_id: str) -> Video:
        """Stop a film within a step; a second time is as one."""
        return await videos.cancel(house, request, video_id)

    @app.delete("/v1/videos/{video_id}")
    async def delete_video(request: Request, video_id: str) -> VideoDeleted:
        """Stop a film if it is being made, and delete it with all its files."""
        return await videos.delete(house, request, video_id)


def _add_watching(app: FastAPI, house: House) -> None:
    @app.get("/v1/videos")
    async def list_videos(
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> VideoPage:
        """Films, newest first; `after` is the last id of the page before."""
        return videos.page(house, request, after=after, limit=limit, order=order)

    @app.get("/v1/videos/{video_id}")
    async def get_video(request: Request, video_id: str) -> Video:
        """A film's state."""
        return videos.get(house, request, video_id)

    @app.api_route(
        "/v1/videos/{video_id}/content",
        methods=["GET", "HEAD"],
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in _CONTENTS}}},
    )
    async def get_content(
        request: Request, video_id: str, variant: videos.Variant = "video"
    ) -> Response:
        """The film, or a picture or record of it; parts by Range."""
        return videos.content(house, request, video_id, variant)

    @app.get(
        "/v1/videos/{video_id}/live",
        response_class=Response,
        responses={200: {"content": {"video/mp4": {}}}},
    )
    async def get_live(request: Request, video_id: str) -> Response:
        """The film while it is made, as fragmented mp4."""
        return videos.live(house, request, video_id)

    @app.get(
        "/v1/videos/{video_id}/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def get_events(
        request: Request,
        video_id: str,
        last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
    ) -> Response:
        """What happens to a film, as server-sent events, from its first to its last."""
        return videos.events(house, request, video_id, last_event_id)


def _add_cuts(app: FastAPI, house: House) -> None:
    @app.get(
        "/v1/timeline",
        response_class=Response,
        responses={200: {"content": {"application/json": {}, "text/plain": {}}}},
    )
    async def get_timeline(
        request: Request,
        video: Annotated[list[str], Query(min_length=1, max_length=1000)],
        kind: Annotated[timeline.Format, Query(alias="format")] = "otio",
    ) -> Response:
        """Finished films one after the other, as a timeline for an editor."""
        return videos.cut(house, request, video, kind)


def _add_house(app: FastAPI, house: House) -> None:
    preset, config = house.studio.preset, house.studio.config

    @app.get("/v1/models")
    async def list_models() -> ModelPage:
        """What makes films here."""
        model = Model(
            id=preset.name,
            summary=preset.summary,
            max_frames=config.max_frames,
            chunk=config.chunk,
            most_frames=house.studio.most_frames,
            most_pixels=house.studio.limits.pixels,
            defaults=to_dict(house.studio.defaults),
            resumable=bool(config.chunk),
        )
        return ModelPage(data=[model])

    @app.get("/health")
    async def health() -> Health:
        """Whether films can be made; needs no token."""
        crew = house.crew
        status = "ok" if crew.ready else "failing" if crew.problem else "starting"
        return Health(status=status, workers=crew.size, workers_ready=len(crew.ready))

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        crew = house.crew
        text = house.metrics.page(house.store.counts, len(crew.ready), crew.restarts)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_studio(app: FastAPI) -> None:
    files = pages.read_pages()

    @app.get("/", include_in_schema=False)
    async def studio(request: Request) -> Response:
        """The Studio, a page for people."""
        return pages.send(files, "", request)

    @app.get(f"{pages.PLACE}{{name}}", include_in_schema=False)
    async def studio_file(request: Request, name: str) -> Response:
        """What the page is made of."""
        return pages.send(files, name, request)


def _handle_errors(app: FastAPI) -> None:
    def answer(refused: Refused) -> Response:
        return JSONResponse(refused.body(), refused.status, headers=refused.headers)

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> Response:
        return answer(error)

    @app.exception_handler(LongtakeError)
    async def known(_request: Request, error: LongtakeError) -> Response:
        return answer(storage_full() if isinstance(error, StoreError) else refusal_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(
            Refused(422, "invalid_request", first["msg"], param=str(first["loc"][-1])[:200])
        )

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        code = _TEXTS.get(error.status_code, "bad_request")
        return answer(
            Refused(error.status_code, code, str(error.detail), headers=error.headers or {})
        )
