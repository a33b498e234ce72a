"""What clients get: the bodies of answers."""

from typing import Any, Literal

from pydantic import BaseModel

from longtake.config import FPS


class Told(BaseModel):
    """What is said at a time of a film."""

    at_s: float
    text: str
    seed: int | None = None


class Video(BaseModel):
    """A job and its film."""

    id: str
    object: Literal["video"] = "video"
    status: Literal["queued", "in_progress", "paused", "completed", "failed", "cancelled"]
    progress: int
    created_at: int
    started_at: int | None
    completed_at: int | None
    expires_at: int | None
    error: dict[str, str] | None
    model: str
    prompt: str
    remixed_from_video_id: None = None
    parent_id: str | None
    from_block: int | None
    scene: str | None
    shot: int | None
    prompt_at: list[Told]
    begins_with_picture: bool
    settings: dict[str, Any]
    seconds: str
    size: str
    frames: int
    fps: int = FPS
    seed: int
    attempt: int
    stage: str | None
    block: int | None
    blocks_total: int | None
    step: int | None
    steps_total: int | None
    eta_s: float | None
    frames_ready: int
    notices: list[str]
    resumable: bool
    peak_memory_mb: int | None
    inference_time_s: float | None
    sha256: str | None


class VideoPage(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """A video that is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Plan(BaseModel):
    """What a film would take, found out without making it."""

    object: Literal["plan"] = "plan"
    model: str
    frames: int
    seconds: str
    size: str
    steps: int
    blocks_total: int
    disk_bytes: int
    state_bytes: int | None
    estimate_s: float | None
    notices: list[str]


class Model(BaseModel):
    """A model that makes films here."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "longtake"
    summary: str
    max_frames: int
    chunk: int
    most_frames: int
    most_pixels: int
    defaults: dict[str, Any]
    resumable: bool


class ModelPage(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether the server can make films."""

    status: Literal["ok", "starting", "failing"]
    workers: int
    workers_ready: int
