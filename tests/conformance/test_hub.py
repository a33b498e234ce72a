"""Weights by name, from a stand-in of the hub on this machine: told first, pinned, then offline."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from longtake.checkpoints.hub import PATTERNS, fetch
from longtake.errors import CannotHere, ModelError
from longtake.presets import hub_id, is_public

pytest.importorskip("huggingface_hub", reason="the hub's library, in [official]")
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "model_index.json": b'{"_class_name": "SanaVideoPipeline"}',
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model.safetensors": b"w" * 3000,
    "tokenizer/tokenizer.json": b"{}",
    "evil.py": b"print('no')",
    "transformer/pytorch_model.bin": b"pickle",
    "README.md": b"read me",
}


class Hub(BaseHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, *, body=True):
        self.asked.append(self.path)
        found = re.fullmatch(r"/org/model/resolve/(\w+)/(.+)", self.path)
        if self.path.startswith("/api/models/org/model"):
            if "revision" in self.path and not re.search(rf"revision/(main|{COMMIT})", self.path):
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
                return
            siblings = [{"rfilename": n, "size": len(c)} for n, c in FILES.items()]
            info = {"id": "org/model", "sha": COMMIT, "siblings": siblings,
                    "cardData": {"license": "other"}}  # fmt: skip
            if "/tree/" in self.path:
                info = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40}
                        for n, c in FILES.items()]  # fmt: skip
            self._answer(200, json.dumps(info).encode(), {}, body=body)
        elif found and found[2] in FILES:
            content = FILES[found[2]]
            etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._answer(200, content, etag, body=body)
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def _answer(self, status, content, headers, *, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub():
    handler = type("Handler", (Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


def everything(folder):
    return (folder / "tokenizer" / "tokenizer.json").is_file()


def test_sizes_are_told_before_the_first_byte_and_only_data_comes(hub, tmp_path):
    address, asked = hub
    told = []
    folder = fetch(
        "org/model", None, complete=everything, cache=tmp_path, endpoint=address,
        tell=lambda what: told.append((what, [a for a in asked if "resolve" in a])),
    )  # fmt: skip
    ((what, before),) = told
    assert before == []
    assert what.commit == COMMIT
    assert what.licence == "other"
    assert what.total_bytes == 3000 + 2 + 2 + len(FILES["model_index.json"])
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {n for n in FILES if not n.endswith((".py", ".bin", ".md"))}


def test_what_is_here_is_not_asked_for_again(hub, tmp_path):
    address, asked = hub
    where = {"complete": everything, "cache": tmp_path, "endpoint": address}
    first = fetch("org/model", COMMIT, tell=lambda _: None, **where)
    asked.clear()
    again = fetch("org/model", COMMIT, tell=lambda _: pytest.fail("nothing to fetch"), **where)
    assert again == first
    assert asked == []


@pytest.mark.parametrize(("name", "revision"), [("org/none", None), ("org/model", "feed")])
def test_what_the_hub_does_not_have_is_told_in_one_line(hub, tmp_path, name, revision):
    with pytest.raises(ModelError, match=f"no model {name}") as caught:
        fetch(
            name, revision, complete=everything, tell=lambda _: None, cache=tmp_path,
            endpoint=hub[0],
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_without_a_way_to_the_hub_it_says_so(tmp_path):
    with pytest.raises(CannotHere, match="cannot be fetched") as caught:
        fetch(
            "org/model", COMMIT, complete=everything, tell=lambda _: None, cache=tmp_path,
            endpoint="http://127.0.0.1:1",
        )  # fmt: skip
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/model", ("org/model", None)),
        ("Org-A/SANA-Video_2B@main", ("Org-A/SANA-Video_2B", "main")),
        (f"org/model@{COMMIT}", ("org/model", COMMIT)),
        ("previz", None),
        ("../model", None),
        ("/abs/model", None),
        ("a/b/c", None),
        ("org/model@", None),
    ],
)
def test_only_names_of_the_hub_are_taken_for_such(text, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = hub_id(text)
    assert (None if made is None else (made.repository, made.revision)) == found
    assert is_public(text) == (found is not None)


def test_nothing_that_could_hold_code_is_fetched():
    assert not any(p.endswith((".py", ".bin", ".pth", ".pt", "*")) for p in PATTERNS)
