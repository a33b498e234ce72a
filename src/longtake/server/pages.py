"""The Studio's own files: read once, sent as they are, to whoever comes; they hold no film."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import Request
from fastapi.responses import Response

from longtake.server.refusals import Refused

PLACE = "/studio/"
"""Where all but the page itself lie."""
_INDEX = "index.html"
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    # Nothing from elsewhere, no code in the page's text, no string that becomes code.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the Studio."""

    kind: str
    body: bytes
    etag: str


def read_pages() -> dict[str, Page]:
    """Every file by its name."""
    found = {}
    for file in (resources.files("longtake.server") / "web").iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = Page(kind, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def send(pages: dict[str, Page], name: str, request: Request) -> Response:
    """A file, or word that the browser's copy is still right.

    Raises:
        Refused: there is none of that name.
    """
    page = pages.get(name or _INDEX)
    if page is None:
        raise Refused(404, "not_found", "the Studio has no such file")
    headers = {**_HEADERS, "etag": page.etag}
    if request.headers.get("if-none-match") == page.etag:
        return Response(status_code=304, headers=headers)
    return Response(page.body, media_type=page.kind, headers=headers)
