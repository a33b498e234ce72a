"""What a client is told when it is refused: one shape, a code, a sentence, and the field meant."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from longtake.errors import (
    CannotHere,
    LongtakeError,
    MediaError,
    ModelError,
    PromptError,
    SettingError,
)


class Refused(Exception):  # noqa: N818 - a refusal, no fault of ours
    """A request that gets an error as its answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say what, in words for a client; never a path, never what another client wrote."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.headers = param, dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": self.message, "param": self.param}}


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str
    message: str
    param: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


_CODES: tuple[tuple[type[LongtakeError], int, str], ...] = (
    (PromptError, 422, "invalid_prompt"),
    (SettingError, 422, "invalid_setting"),
    (ModelError, 422, "model_not_found"),
    (MediaError, 422, "media_decode_failed"),
    (CannotHere, 503, "cannot_here"),
)


def refusal_of(error: LongtakeError, param: str | None = None) -> Refused:
    """An error of the rooms below as an answer."""
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return Refused(status, code, str(error), param=param)
    return Refused(500, "internal_error", "the server failed; its log tells more")


def not_found(param: str | None = None) -> Refused:
    """There is none, or it is someone else's."""
    return Refused(404, "not_found", "there is no such video", param=param)


def storage_full() -> Refused:
    """Nothing can be kept now."""
    text = "the server cannot store this now, its disk is full or busy; try again later"
    return Refused(503, "insufficient_storage", text, headers={"Retry-After": "5"})
