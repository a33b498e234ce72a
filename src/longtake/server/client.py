"""A client: asks for films, waits, listens and fetches, with nothing but the standard library.

>>> with Client("http://127.0.0.1:8000") as client:
...     with client.make("a red ball bounces on grass", seconds=5) as film:
...         for event in film.events():
...             print(event)
...         film.download(Path("film.mp4"))
"""

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from longtake.errors import LongtakeError
from longtake.storage import atomic_write, output_errors

_PIECE = 256 * 1024
_ENDED = frozenset({"completed", "failed", "cancelled"})
_AGAIN_S = 0.5


class ServerRefused(LongtakeError):  # noqa: N818 - said as one says it
    """The server answered with an error."""

    def __init__(self, status: int, code: str, message: str, param: str | None) -> None:
        """Keep what it said."""
        super().__init__(f"{param}: {message}" if param else message)
        self.status, self.code, self.param = status, code, param


class FilmFailed(LongtakeError):  # noqa: N818
    """The film was asked for and did not come to be."""


class Client:
    """Talks to one server; every call opens a line of its own."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 60.0) -> None:
        """Say where it is.

        Args:
            url: As http://127.0.0.1:8000.
            token: Where the server wants one.
            timeout_s: Longest wait for an answer, or for a sign of life of a stream.
        """
        self._url, self._timeout_s = urlsplit(url), timeout_s
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __enter__(self) -> "Client":  # noqa: PYI034 - the shape checker knows no Self
        """Nothing is open yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open any more."""

    def make(self, prompt: str, *, key: str | None = None, **settings: object) -> "RemoteFilm":
        """Ask for a film.

        Args:
            prompt: What to show.
            key: The same key and settings give the same film, however often they are sent.
            settings: Other fields of the request: seconds, size, seed …

        Raises:
            ServerRefused: it cannot be made as asked.
            OSError: the server is not there.
        """
        head = {} if key is None else {"Idempotency-Key": key}
        video = self._json("POST", "/v1/videos", {"prompt": prompt, **settings}, head)
        return RemoteFilm(self, video["id"])

    def film(self, video_id: str) -> "RemoteFilm":
        """A film that was asked for before."""
        return RemoteFilm(self, video_id)

    def plan(self, prompt: str, **settings: object) -> Mapping[str, Any]:
        """What a film would take.

        Raises:
            ServerRefused: it cannot be made as asked.
        """
        return self._json("POST", "/v1/videos/plan", {"prompt": prompt, **settings})

    def films(self) -> Iterator[Mapping[str, Any]]:
        """All films, newest first."""
        query: dict[str, object] = {"limit": 100}
        while True:
            page = self._json("GET", f"/v1/videos?{urlencode(query)}")
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        with self._ask(method, path, body, headers) as answer:
            return json.loads(answer.read())

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        secure = self._url.scheme == "https"
        line = (HTTPSConnection if secure else HTTPConnection)(
            self._url.hostname or "", self._url.port, timeout=self._timeout_s
        )
        # The answer then owns the line, and closes it when it is read.
        head = {"Connection": "close", **self._headers, **(headers or {})}
        data = None
        if body is not None:
            data, head["Content-Type"] = json.dumps(body).encode(), "application/json"
        line.request(method, path, data, head)
        answer = line.getresponse()
        if answer.status >= 400:
            with answer:
                raise _refused(answer)
        return answer


class RemoteFilm:
    """A film on a server; leaving the context before its end cancels it."""

    def __init__(self, client: Client, video_id: str) -> None:
        """Name it."""
        self._client, self.id = client, video_id
        self._path = f"/v1/videos/{video_id}"

    def __enter__(self) -> "RemoteFilm":  # noqa: PYI034
        """Be responsible for it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel it if the block failed."""
        if error is not None and self.state()["status"] not in _ENDED:
            self.cancel()

    def state(self) -> Mapping[str, Any]:
        """How it stands."""
        return self._client._json("GET", self._path)

    def events(self, after: int = 0) -> Iterator[Mapping[str, Any]]:
        """What happens to it, up to its end; a broken line is taken up where it broke.

        Args:
            after: Number of the last event that is known.
        """
        while True:
            try:
                for number, event in self._listen(after):
                    after = number
                    yield {"id": number, **event}
                    if event["type"] in _ENDED or event["type"] == "deleted":
                        return
                if self.state()["status"] in _ENDED:
                    return
            except (OSError, HTTPException):
                time.sleep(_AGAIN_S)

    def wait(self) -> Mapping[str, Any]:
        """Wait for its end.

        Raises:
            FilmFailed: it failed or was cancelled.
        """
        for _ in self.events():
            pass
        state = self.state()
        if state["status"] != "completed":
            why = (state["error"] or {}).get("message", state["status"])
            msg = f"{self.id} was not made: {why}"
            raise FilmFailed(msg)
        return state

    def download(self, path: Path, variant: str = "video") -> Path:
        """Wait for it and fetch it; the file is whole or absent.

        Raises:
            FilmFailed: it failed or was cancelled.
            ServerRefused: there is no such variant.
        """
        self.wait()
        answer = self._client._ask("GET", f"{self._path}/content?variant={variant}")
        with answer, atomic_write(path) as temp, temp.open("wb") as file:
            while part := answer.read(_PIECE):
                with output_errors(path):
                    file.write(part)
        return path

    def watch(self) -> Iterator[bytes]:
        """The film while it is made, as pieces of fragmented mp4."""
        with self._client._ask("GET", f"{self._path}/live") as answer:
            while part := answer.read1(_PIECE):
                yield part

    def cancel(self) -> Mapping[str, Any]:
        """Stop it."""
        return self._client._json("POST", f"{self._path}/cancel")

    def delete(self) -> None:
        """Stop it if it is being made, and delete it."""
        self._client._json("DELETE", self._path)

    def extend(
        self, prompt: str | None = None, *, seconds: float = 5.0, **more: object
    ) -> "RemoteFilm":
        """Ask for a film that goes on with this one.

        Args:
            prompt: What happens then; None: the same words go on.
            seconds: How long it goes on.
            more: Other fields of the API: `from_block`, `seed`, `prompt_at`.
        """
        body: dict[str, object] = {"video": self.id, "seconds": seconds, **more}
        if prompt is not None:
            body["prompt"] = prompt
        video = self._client._json("POST", "/v1/videos/extensions", body)
        return RemoteFilm(self._client, video["id"])

    def _listen(self, after: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        head, number = {"Last-Event-ID": str(after)}, after
        with self._client._ask("GET", f"{self._path}/events", headers=head) as answer:
            for raw in answer:
                name, _, text = raw.decode().rstrip("\n").partition(": ")
                if name == "id":
                    number = int(text)
                elif name == "data":
                    yield number, json.loads(text)


def _refused(answer: HTTPResponse) -> ServerRefused:
    try:
        error = json.loads(answer.read())["error"]
        return ServerRefused(answer.status, error["code"], error["message"], error.get("param"))
    except (ValueError, KeyError, TypeError):
        return ServerRefused(answer.status, "unknown", f"the server answered {answer.status}", None)
