"""The door: who may come in, with what, and what every answer carries; for every route."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from longtake.errors import LongtakeError
from longtake.server.log import log
from longtake.server.metrics import Metrics
from longtake.server.pages import PLACE
from longtake.server.refusals import Refused, refusal_of, storage_full
from longtake.server.schema import StoreError
from longtake.server.settings import Doorkeeper, ServeConfig

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/health"})
"""Paths that need no token, beside the Studio's files."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:@/\s]+)(?::\d{1,5})?")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Guard:
    """Wraps the app."""

    def __init__(self, app: App, config: ServeConfig, metrics: Metrics) -> None:
        """Take the app and the rules."""
        self.app, self.config, self.metrics = app, config, metrics
        self._door = Doorkeeper(config.tokens)
        self._rates: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send, self.metrics, scope)
        try:
            self._check(scope)
            limited = _Body(receive, self.config, _one(scope, b"content-length"), scope)
            await self.app(scope, limited.receive, answer.send)
        except Refused as refused:
            await answer.refuse(refused)
        except StoreError:
            await answer.refuse(storage_full())
        except LongtakeError as error:
            await answer.refuse(refusal_of(error))
        except ClientDisconnect:
            return
        except OSError as error:
            log(f"server: {type(error).__name__} {error.errno} at {scope['method']}")
            await answer.refuse(storage_full())
        except Exception as error:  # noqa: BLE001 - the edge: no trace leaves the process
            log(f"server: {type(error).__name__} at {scope['method']}")
            text = "the server failed; its log tells more"
            await answer.refuse(Refused(500, "internal_error", text))

    def _check(self, scope: Scope) -> None:
        host = _one(scope, b"host")
        match = _HOST.fullmatch(host or "")
        if match is None or match[1].lower() not in self.config.names:
            text = "this server is not reached by that name; --allow-host adds one"
            raise Refused(403, "host_not_allowed", text)
        origin = _one(scope, b"origin")
        if origin is not None and not self._own_origin(origin, host or ""):
            text = "pages of that origin may not use this server; --allow-origin adds one"
            raise Refused(403, "origin_not_allowed", text)
        owner = self._door.owner(_one(scope, b"authorization"))
        if owner is None and scope["path"] not in OPEN and not scope["path"].startswith(PLACE):
            text = "a token is needed: Authorization: Bearer TOKEN"
            raise Refused(401, "unauthorized", text, headers={"WWW-Authenticate": "Bearer"})
        scope["owner"] = owner
        if scope["method"] in _CHANGES and owner is not None:
            self._check_rate(owner)
            self._check_body(scope)

    def _own_origin(self, origin: str, host: str) -> bool:
        return origin in self.config.origins or origin in (f"http://{host}", f"https://{host}")

    def _check_body(self, scope: Scope) -> None:
        kind = (_one(scope, b"content-type") or "").partition(";")[0].strip().lower()
        if kind in ("text/plain", "application/x-www-form-urlencoded"):
            text = "send application/json or multipart/form-data"
            raise Refused(403, "content_type_not_allowed", text)

    def _check_rate(self, owner: str) -> None:
        limits, now = self.config.limits, time.monotonic()
        tokens, then = self._rates.get(owner, (float(limits.burst), now))
        tokens = min(limits.burst, tokens + (now - then) * limits.posts_per_s)
        if tokens < 1:
            text = f"more than {limits.posts_per_s:g} requests a second; slow down"
            raise Refused(429, "rate_limited", text, headers={"Retry-After": "1"})
        self._rates[owner] = (tokens - 1, now)


class _Body:
    """A request's body, counted while it comes."""

    def __init__(
        self, receive: Receive, config: ServeConfig, length: str | None, scope: Scope
    ) -> None:
        kind = (_one(scope, b"content-type") or "").lower()
        limits = config.limits
        upload = kind.startswith("multipart/form-data")
        # Room for the other fields and the boundaries.
        self._most = limits.upload_bytes + 65_536 if upload else limits.json_bytes
        self._receive, self._idle_s, self._seen, self._more = receive, limits.idle_s, 0, True
        if length is not None and (not length.isdecimal() or int(length[:20]) > self._most):
            self._too_large()

    async def receive(self) -> Message:
        if not self._more:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._idle_s)
        except TimeoutError:
            text = "the body did not come; send it again"
            raise Refused(408, "timeout", text, headers={"Connection": "close"}) from None
        self._seen += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        if self._seen > self._most:
            self._too_large()
        return message

    def _too_large(self) -> None:
        text = f"the body is larger than {self._most:,} bytes"
        raise Refused(413, "too_large", text, headers={"Connection": "close"})


class _Answer:
    """An answer on its way, with what every answer carries."""

    def __init__(self, send: Send, metrics: Metrics, scope: Scope) -> None:
        self._send, self._metrics, self._scope = send, metrics, scope
        self._began, self._started, self._done = time.perf_counter(), False, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            own = {name for name, _ in message.get("headers", ())}
            extra = [pair for pair in _HEADERS if pair[0] not in own]
            message["headers"] = [*message.get("headers", ()), *extra]
            if b"cache-control" not in own:
                message["headers"].append((b"cache-control", b"no-store"))
            route = self._scope.get("route")
            path = getattr(route, "path", "other")
            took = time.perf_counter() - self._began
            self._metrics.answered(self._scope["method"], path, message["status"], took)
        elif not message.get("more_body", False):
            self._done = True
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        if self._done:
            return
        if self._started:
            # Too late for words; the closed connection says that the answer is not whole.
            raise ConnectionAbortedError
        body = json.dumps(refused.body()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(k.lower().encode(), v.encode()) for k, v in refused.headers.items()]
        await self.send(
            {"type": "http.response.start", "status": refused.status, "headers": headers}
        )
        end = b"" if self._scope["method"] == "HEAD" else body
        await self.send({"type": "http.response.body", "body": end})


def _one(scope: Scope, name: bytes) -> str | None:
    """A header that may come once; twice is an attempt to be understood in two ways."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise Refused(400, "bad_request", f"the header {name.decode()} is given more than once")
    return found[0].decode("latin-1") if found else None
