"""The API on a running server: what a client asks, and what it gets."""

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace

import httpx
import pytest
from PIL import Image
from server_help import Server, wait, write_model

from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    Sampling,
    TextConfig,
    TransformerConfig,
)
from longtake.media.manifest import from_tags
from longtake.media.video import read_metadata, read_video
from longtake.server.guard import Guard
from longtake.server.metrics import Metrics
from longtake.server.settings import Limits, ServeConfig

TINY = ModelConfig(
    autoencoder=AutoencoderConfig(
        latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    ),
    transformer=TransformerConfig(
        latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
    ),
    text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
    sampling=Sampling(steps=3, guidance=1.0, shift=4.0, sampler="euler"),
    words=("a", "ball", "blue", "bounces", "green", "on", "grass", "red", "sphere"),
    max_frames=33,
)
FILM = {"prompt": "a red ball", "size": "64x64", "frames": 33, "steps": 2}
ENDED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module", params=[2, 0], ids=["chunks", "one-pass"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    model = write_model(folder / "tiny", replace(TINY, chunk=request.param))
    server = Server(folder, model)
    yield server
    server.stop()


@pytest.fixture
def chunked(request):
    if "[one-pass" in request.node.name:
        pytest.skip("for films by chunks")


@pytest.fixture
def client(served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def post(client, **fields):
    answer = client.post("/v1/videos", json={**FILM, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()


def ended(client, job):
    def look():
        found = client.get(f"/v1/videos/{job['id']}").json()
        return found if found["status"] in ENDED else None

    return wait(look, f"the end of {job['id']}")


def made(client, **fields):
    found = ended(client, post(client, **fields))
    assert found["status"] == "completed", found
    return found


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "param"}
    assert error["code"] == code, error
    assert "Traceback" not in answer.text
    assert "/" not in error["message"].replace("application/json", "").replace(
        "multipart/form-data", ""
    ).replace("/v1/models", "")
    return error


def test_a_film_is_asked_for_waited_for_and_fetched(client, tmp_path):
    job = made(client, seed=7)
    assert job["progress"] == 100
    assert (job["seconds"], job["size"], job["seed"], job["fps"]) == ("2", "64x64", 7, 16)
    film = tmp_path / "film.mp4"
    answer = client.get(f"/v1/videos/{job['id']}/content")
    assert answer.headers["content-type"] == "video/mp4"
    film.write_bytes(answer.content)
    pixels, _ = read_video(film)
    assert pixels.shape == (33, 64, 64, 3)
    assert from_tags(read_metadata(film)).settings.seed == 7


@pytest.mark.parametrize("variant", ["thumbnail", "spritesheet", "contact_sheet"])
def test_pictures_of_a_film_are_png(client, variant):
    job = made(client)
    answer = client.get(f"/v1/videos/{job['id']}/content", params={"variant": variant})
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).format == "PNG"


def test_the_manifest_says_what_the_film_was_made_from(client):
    job = made(client, seed=9)
    record = client.get(f"/v1/videos/{job['id']}/content?variant=manifest").json()
    assert record["settings"]["seed"] == 9
    assert record["prompt"] == "a red ball"


def test_variants_that_nobody_makes_are_refused_with_their_name(client):
    job = made(client)
    path = f"/v1/videos/{job['id']}/content"
    for variant in ("otio", "edl"):
        error = refused(client.get(path, params={"variant": variant}), 404, "variant_unavailable")
        assert variant in error["message"]
    refused(client.get(path, params={"variant": "gif"}), 422, "invalid_request")


def test_a_film_by_chunks_has_a_state_and_another_says_that_it_has_none(client, request):
    job = made(client)
    answer = client.get(f"/v1/videos/{job['id']}/content?variant=state")
    if "[chunks" in request.node.name:
        assert answer.status_code == 200
        assert int.from_bytes(answer.content[:8], "little") < 10**6
    else:
        refused(answer, 404, "variant_unavailable")


def test_what_a_request_does_not_say_is_as_the_model_is_sampled(client):
    asked = {"prompt": "a red ball", "size": "64x64", "frames": 17}
    assert client.post("/v1/videos/plan", json=asked).json()["steps"] == 3
    job = client.post("/v1/videos", json=asked).json()
    assert ended(client, job)["status"] == "completed"
    record = client.get(f"/v1/videos/{job['id']}/content?variant=manifest").json()
    said = {name: record["settings"][name] for name in ("steps", "guidance", "shift", "sampler")}
    assert said == {"steps": 3, "guidance": 1.0, "shift": 4.0, "sampler": "euler"}


def test_content_before_the_end_is_a_conflict(client):
    job = post(client, steps=500)
    refused(client.get(f"/v1/videos/{job['id']}/content"), 409, "not_completed")
    client.post(f"/v1/videos/{job['id']}/cancel")


def test_other_servers_names_mean_the_same(client):
    body = {
        "prompt": "a red ball", "width": 64, "height": 64, "num_frames": 33, "seed": 3,
        "num_inference_steps": 2, "guidance_scale": 2.0, "flow_shift": 5.0, "fps": 16, "n": 1,
    }  # fmt: skip
    theirs = ended(client, client.post("/v1/videos", json=body).json())
    ours = made(client, seed=3, guidance=2.0, shift=5.0)
    assert theirs["sha256"] == ours["sha256"]


def test_a_form_is_as_good_as_json(client):
    fields = {"prompt": "a red ball", "size": "64x64", "seconds": "2", "steps": "2", "seed": "4"}
    answer = client.post("/v1/videos", files={name: (None, text) for name, text in fields.items()})
    assert answer.status_code == 202, answer.text
    assert ended(client, answer.json())["sha256"] == made(client, seed=4)["sha256"]


BAD = [
    ({"prompt": ""}, "invalid_prompt", "prompt"),
    ({"prompt": "  \u202e \n "}, "invalid_prompt", "prompt"),
    ({"prompt": 5}, "invalid_request", "prompt"),
    ({"seed": -1}, "invalid_setting", "seed"),
    ({"seed": 2**64}, "invalid_setting", "seed"),
    ({"seed": True}, "invalid_request", "seed"),
    ({"seed": 1.5}, "invalid_request", "seed"),
    ({"frames": 0}, "invalid_setting", "frames"),
    ({"frames": 10**9}, "invalid_setting", "frames"),
    ({"frames": 10**300}, "invalid_setting", "frames"),
    ({"size": "1x1"}, "invalid_setting", None),
    ({"size": "100000x100000"}, "invalid_setting", "size"),
    ({"size": "99999x99999"}, "invalid_setting", None),
    ({"size": "4096x4096"}, "invalid_setting", "size"),
    ({"size": "65x64"}, "invalid_setting", None),
    ({"size": "big"}, "invalid_setting", "size"),
    ({"steps": 0}, "invalid_setting", "steps"),
    ({"steps": 10**6}, "invalid_setting", "steps"),
    ({"guidance": 0.5}, "invalid_setting", "guidance"),
    ({"fps": 0}, "invalid_request", "fps"),
    ({"fps": 24}, "invalid_request", "fps"),
    ({"n": 10**6}, "invalid_request", "n"),
    ({"sampler": "magic"}, "invalid_request", "sampler"),
    ({"num_frames": 33}, "invalid_setting", "num_frames"),
    ({"seconds": "x", "frames": None}, "invalid_setting", "seconds"),
    ({"seconds": "nan", "frames": None}, "invalid_setting", "seconds"),
    ({"seconds": -1, "frames": None}, "invalid_setting", "seconds"),
    ({"model": "../previz"}, "model_not_found", "model"),
    ({"model": "sora"}, "model_not_found", "model"),
    ({"sed": 1}, "invalid_request", "sed"),
    ({"input_reference": "http://127.0.0.1:1/x.png"}, "url_not_supported", "input_reference"),
    ({"input_reference": "file:picture"}, "url_not_supported", "input_reference"),
    ({"input_reference": {"image_url": "https://x"}}, "url_not_supported", "input_reference"),
    ({"prompt_at": [{"at_s": 0, "text": "x"}]}, "invalid_setting", "prompt_at.0"),
    ({"prompt_at": "x"}, "invalid_request", "prompt_at"),
]


@pytest.mark.parametrize(("fields", "code", "param"), BAD, ids=[str(b[0])[:40] for b in BAD])
def test_rows_28_29_30_and_40_bad_fields_are_refused_by_name(client, fields, code, param):
    error = refused(client.post("/v1/videos", json={**FILM, **fields}), 422, code)
    assert param is None or error["param"] == param


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b'{"prompt":"a","seed":NaN}',
        b'{"prompt":"a","guidance":1e400}', b'{"prompt":"a","prompt":"b"}', b"\xff\xfe",
        b'{"seed":' + b"9" * 5000 + b"}",
    ],
    ids=range(10),
)  # fmt: skip
def test_row_28_what_is_no_json_is_refused(client, raw):
    answer = client.post("/v1/videos", content=raw, headers={"content-type": "application/json"})
    refused(answer, 400, "invalid_json")


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"null", b"3"])
def test_row_28_json_that_is_no_object_is_refused(client, raw):
    answer = client.post("/v1/videos", content=raw, headers={"content-type": "application/json"})
    refused(answer, 422, "invalid_request")


def test_row_30_odd_prompts_are_cleaned_and_shown_as_text(client):
    job = post(client, prompt="a\x00 red\n<script>alert(1)</script> \u202eball")
    assert job["prompt"] == "a  red <script>alert(1)</script> ball"
    raw = b'{"prompt":"a \\ud800 ball","size":"64x64","frames":5}'
    answer = client.post("/v1/videos", content=raw, headers={"content-type": "application/json"})
    assert refused(answer, 422, "invalid_request")["param"] == "prompt"
    refused(client.post("/v1/videos", json={**FILM, "prompt": "x" * 20_000}), 422, "invalid_prompt")


@pytest.mark.parametrize(
    "name",
    [
        "..", "%2e%2e%2f%2e%2e%2fetc", "video_", "video_" + "0" * 32, "video_" + "0" * 300,
        "video_00000000000000000000000000000000.", "C:%5Cx", "a%00b", "%EF%BC%8F", "~",
    ],
)  # fmt: skip
def test_row_31_an_id_that_is_none_is_not_found(client, name):
    for path in ("", "/content", "/events", "/live"):
        answer = client.get(f"/v1/videos/{name}{path}")
        assert answer.status_code == 404, answer.text
        assert answer.json()["error"]["code"] == "not_found"


def test_row_25_a_key_gives_the_same_video_however_often_it_comes(client):
    found, threads = [], []

    def ask():
        head = {"Idempotency-Key": f"key-{client.base_url}"}
        with httpx.Client(base_url=client.base_url, timeout=60) as mine:
            found.append(mine.post("/v1/videos", json=FILM, headers=head))

    for _ in range(50):
        threads.append(threading.Thread(target=ask))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in found} == {202}
    assert len({answer.json()["id"] for answer in found}) == 1
    head = {"Idempotency-Key": f"key-{client.base_url}"}
    other = client.post("/v1/videos", json={**FILM, "seed": 1}, headers=head)
    refused(other, 409, "idempotency_key_reused")
    for key in ("", "x" * 256, "\x7f"):
        answer = client.post("/v1/videos", json=FILM, headers={"Idempotency-Key": key})
        refused(answer, 400, "bad_request")


def test_the_list_is_read_page_by_page(client):
    jobs = [post(client, seed=n, frames=5)["id"] for n in range(5)]
    found, after = [], None
    while True:
        query = {"limit": 2, "order": "asc", **({"after": after} if after else {})}
        page = client.get("/v1/videos", params=query).json()
        found += [job["id"] for job in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert found[-5:] == jobs
    assert client.get("/v1/videos?limit=1").json()["data"][0]["id"] == jobs[-1]
    for query in ("limit=0", "limit=101", "limit=x", "order=up"):
        refused(client.get(f"/v1/videos?{query}"), 422, "invalid_request")
    refused(client.get(f"/v1/videos?after=video_{'0' * 32}"), 404, "not_found")


def test_row_23_cancel_in_every_state(client):
    running = post(client, steps=900)
    queued = post(client)
    assert client.post(f"/v1/videos/{queued['id']}/cancel").json()["status"] == "cancelled"
    wait(lambda: client.get(f"/v1/videos/{running['id']}").json()["step"], "a step")
    asked = time.monotonic()
    answers = [client.post(f"/v1/videos/{running['id']}/cancel") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert ended(client, running)["status"] == "cancelled"
    assert time.monotonic() - asked < 5
    assert client.post(f"/v1/videos/{running['id']}/cancel").status_code == 200
    done = made(client)
    refused(client.post(f"/v1/videos/{done['id']}/cancel"), 409, "already_ended")
    refused(client.post(f"/v1/videos/video_{'0' * 32}/cancel"), 404, "not_found")


def test_row_24_a_deleted_video_is_gone_with_its_files(client, served):
    for steps in (2, 900):
        job = post(client, steps=steps)
        if steps == 2:
            ended(client, job)
        else:
            wait(lambda job=job: client.get(f"/v1/videos/{job['id']}").json()["step"], "a step")
        gone = client.delete(f"/v1/videos/{job['id']}").json()
        assert gone == {"id": job["id"], "object": "video.deleted", "deleted": True}
        refused(client.get(f"/v1/videos/{job['id']}"), 404, "not_found")
        refused(client.delete(f"/v1/videos/{job['id']}"), 404, "not_found")
        folder = served.data / "jobs" / job["id"]
        wait(lambda folder=folder: not folder.exists(), "the sweep")


def test_row_24_a_film_that_is_deleted_while_it_is_fetched_comes_whole(client, served):
    job = made(client)
    folder = served.data / "jobs" / job["id"]
    size = 64 * 2**20
    with next(folder.glob("video-*.mp4")).open("rb+") as film:
        film.truncate(size)
    with client.stream("GET", f"/v1/videos/{job['id']}/content") as answer:
        parts = answer.iter_raw()
        got = len(next(parts))
        assert client.delete(f"/v1/videos/{job['id']}").status_code == 200
        wait(lambda: not folder.exists(), "the sweep")
        assert got + sum(len(part) for part in parts) == size


def stream(client, job, last=None):
    """Events as (id, kind, data)."""
    head = {"Last-Event-ID": str(last)} if last is not None else {}
    found, event = [], {}
    with client.stream("GET", f"/v1/videos/{job['id']}/events", headers=head) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if not line and event:
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
            elif line and not line.startswith(":"):
                name, _, text = line.partition(": ")
                event[name] = text
    return found


def test_row_22_events_come_in_order_and_go_on_where_a_client_left(client):
    job = post(client, steps=30)
    whole = stream(client, job)
    kinds = [kind for _, kind, _ in whole]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "completed"
    assert {"stage", "step", "eta_s", "progress"} <= next(
        data for _, kind, data in whole if kind == "progress"
    ).keys()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        assert stream(client, job, last=whole[cut][0]) == whole[cut + 1 :]
    head = {"Last-Event-ID": "x"}
    answer = client.get(f"/v1/videos/{job['id']}/events", headers=head)
    refused(answer, 400, "bad_request")


@pytest.mark.usefixtures("chunked")
def test_a_film_by_chunks_can_be_watched_while_it_is_made(client, tmp_path):
    job = post(client, frames=129, steps=20)
    film, early = tmp_path / "live.mp4", None
    with client.stream("GET", f"/v1/videos/{job['id']}/live") as answer:
        assert answer.headers["content-type"] == "video/mp4"
        with film.open("wb") as file:
            for part in answer.iter_bytes():
                file.write(part)
                early = early or client.get(f"/v1/videos/{job['id']}").json()
    assert early["status"] == "in_progress"
    assert ended(client, job)["status"] == "completed"
    assert len(read_video(film)[0]) == 129


def test_a_film_in_one_pass_cannot_be_watched_before_its_end(client, request):
    if "[chunks" in request.node.name:
        pytest.skip("for films in one pass")
    job = post(client, steps=300)
    refused(client.get(f"/v1/videos/{job['id']}/live"), 409, "not_live")
    client.post(f"/v1/videos/{job['id']}/cancel")


@pytest.mark.usefixtures("chunked")
def test_a_film_is_extended(client):
    first = made(client, frames=33)
    body = {"video": {"id": first["id"]}, "seconds": "1", "prompt": "a blue ball"}
    job = client.post("/v1/videos/extensions", json=body).json()
    found = ended(client, job)
    assert (found["status"], found["frames"], found["parent_id"]) == ("completed", 49, first["id"])
    whole = made(client, frames=49, prompt_at=[{"at_s": 33 / 16, "text": "a blue ball"}])
    assert found["sha256"] == whole["sha256"]


def test_what_cannot_be_extended_is_told(client, request):
    missing = {"video": f"video_{'0' * 32}"}
    refused(client.post("/v1/videos/extensions", json=missing), 404, "not_found")
    job = post(client, steps=300)
    code = "not_completed" if "[chunks" in request.node.name else "not_resumable"
    refused(client.post("/v1/videos/extensions", json={"video": job["id"]}), 409, code)
    client.post(f"/v1/videos/{job['id']}/cancel")


def png(width=40, height=30):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.usefixtures("chunked")
def test_a_film_begins_with_a_picture_as_upload_or_inside_json(client):
    fields = {"prompt": "a red ball", "size": "64x64", "seconds": "1", "steps": "2"}
    files = {name: (None, text) for name, text in fields.items()}
    files["input_reference"] = ("../../x.html", png(), "text/html")
    form = client.post("/v1/videos", files=files)
    assert form.status_code == 202, form.text
    inside = base64.b64encode(png()).decode()
    job = made(client, frames=17, input_reference=inside)
    url = made(client, frames=17, input_reference=f"data:image/png;base64,{inside}")
    assert ended(client, form.json())["sha256"] == job["sha256"] == url["sha256"]
    assert job["sha256"] != made(client, frames=17)["sha256"]


def upload(client, raw, name="x.png"):
    files = {"prompt": (None, "a red ball"), "size": (None, "64x64"), "frames": (None, "17")}
    return client.post("/v1/videos", files={**files, "input_reference": (name, raw)})


@pytest.mark.usefixtures("chunked")
def test_rows_36_and_38_what_is_no_picture_is_refused(client, served):
    canary = served.data / "canary"
    canary.write_text("secret")
    for raw in (
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        f"ffconcat version 1.0\nfile {canary}\n".encode(),
        b"#EXTM3U\nhttp://127.0.0.1:1/x.ts\n",
        b"GIF89a" + bytes(100),
        b"II*\x00" + bytes(100),
        b"%PDF-1.7",
        b"%!PS-Adobe",
    ):
        refused(upload(client, raw), 422, "media_type_not_supported")
    for raw in (png()[:60], b"\xff\xd8\xff" + bytes(100), png(8, 8), bomb(13_000)):
        refused(upload(client, raw), 422, "media_decode_failed")
    jobs = [path.name for path in (served.data / "jobs").iterdir()]
    assert all(client.get(f"/v1/videos/{job}").status_code == 200 for job in jobs)


def bomb(side):
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def test_a_model_without_pictures_refuses_one_before_it_is_decoded(client, request):
    if "[chunks" in request.node.name:
        pytest.skip("for films in one pass")
    error = refused(upload(client, png()), 422, "invalid_setting")
    assert error["param"] == "input_reference"


def test_a_plan_tells_what_a_film_would_take_and_makes_nothing(client):
    before = client.get("/v1/videos?limit=1").json()["first_id"]
    body = {**FILM, "prompt": "a red ball dances"}
    found = client.post("/v1/videos/plan", json=body).json()
    assert (found["frames"], found["seconds"], found["steps"]) == (33, "2", 2)
    assert found["disk_bytes"] > 0
    assert any("dances" in note for note in found["notices"])
    assert client.get("/v1/videos?limit=1").json()["first_id"] == before
    refused(client.post("/v1/videos/plan", json={**FILM, "seed": -1}), 422, "invalid_setting")


def test_row_63_parts_of_a_film_by_range(client):
    job = made(client)
    path = f"/v1/videos/{job['id']}/content"
    whole = client.get(path).content
    size = len(whole)
    for asked, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=5-{10**17}", 5, size),
        ("bytes=1-2,4-5,9-9", 1, 3),
        ("bytes=0-0" + ",1-1" * 5000, 0, 1),
    ):
        answer = client.get(path, headers={"Range": asked})
        assert answer.status_code == 206, asked
        assert answer.content == whole[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for asked in (f"bytes={size}-", "bytes=9-2", "bytes=-0", "bytes=x", "bytes=" + "9" * 400):
        answer = client.get(path, headers={"Range": asked})
        refused(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"
    head = client.head(path)
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    stale = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert client.get(path, headers=stale).content == whole
    fresh = {"Range": "bytes=0-9", "If-Range": head.headers["etag"]}
    assert client.get(path, headers=fresh).status_code == 206


def test_row_33_nothing_is_served_as_anything_but_what_it_is(client):
    job = made(client)
    paths = [f"/v1/videos/{job['id']}/content", f"/v1/videos/{job['id']}", "/health", "/nowhere"]
    for path in paths:
        head = client.get(path).headers
        assert head["x-content-type-options"] == "nosniff"
        assert head["content-security-policy"].startswith("default-src 'none'")
        assert head["x-frame-options"] == "DENY"


def test_row_32_a_planted_link_is_not_followed(client, served, tmp_path):
    job = made(client)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = served.data / "jobs" / job["id"]
    film = next(folder.glob("video-*.mp4"))
    film.unlink()
    film.symlink_to(secret)
    refused(client.get(f"/v1/videos/{job['id']}/content"), 404, "not_found")
    film.unlink()
    moved = tmp_path / "moved"
    folder.rename(moved)
    (moved / film.name).write_text("secret")
    folder.symlink_to(moved)
    refused(client.get(f"/v1/videos/{job['id']}/content"), 404, "not_found")


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Host": "127.0.0.1.evil.example:80"}, "host_not_allowed"),
        ({"Host": "user@127.0.0.1"}, "host_not_allowed"),
        ({"Host": ""}, "host_not_allowed"),
        ({"Origin": "http://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"content-type": "text/plain"}, "content_type_not_allowed"),
        ({"content-type": "application/x-www-form-urlencoded"}, "content_type_not_allowed"),
    ],
)
def test_row_41_other_pages_cannot_use_the_server(client, head, code):
    before = client.get("/v1/videos?limit=1").json()["first_id"]
    raw = json.dumps(FILM).encode()
    answer = client.post(
        "/v1/videos", content=raw, headers={"content-type": "application/json", **head}
    )
    refused(answer, 403, code)
    assert client.get("/v1/videos?limit=1").json()["first_id"] == before


def test_row_41_its_own_origin_is_welcome_and_a_websocket_is_not(client):
    head = {"Origin": str(client.base_url).rstrip("/")}
    assert client.get("/v1/models", headers=head).status_code == 200
    upgrade = {
        "Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x", "Origin": "http://evil.example",
    }  # fmt: skip
    assert client.get("/v1/models", headers=upgrade).status_code == 403


def test_row_26_bodies_that_are_too_large_are_refused_early(client):
    head = {"content-type": "application/json"}
    refused(client.post("/v1/videos", content=b" " * 300_000, headers=head), 413, "too_large")

    def endless():
        for _ in range(100):
            yield b" " * 10_000

    refused(client.post("/v1/videos", content=endless(), headers=head), 413, "too_large")
    refused(upload(client, png() + bytes(27 * 2**20)), 413, "too_large")


def test_row_20_a_body_that_does_not_come_is_not_waited_for(tmp_path):
    async def never():
        await asyncio.sleep(60)

    async def app(_scope, receive, _send):
        await receive()

    sent = []

    async def send(message):
        sent.append(message)

    config = ServeConfig(data=tmp_path, limits=Limits(idle_s=0.1))
    head = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "headers": head}
    asyncio.run(Guard(app, config, Metrics())(scope, never, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_row_27_forms_of_many_parts_are_refused_quickly(client):
    began = time.monotonic()
    many = "".join(
        f'--b\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nx\r\n' for n in range(10_000)
    )
    head = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/videos", content=many + "--b--\r\n", headers=head)
    assert answer.status_code == 400
    nameless = "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"
    assert client.post("/v1/videos", content=nameless, headers=head).status_code in (400, 422)
    huge = client.get("/health", headers={"x": "y" * 2**20})
    assert huge.status_code == 400
    assert time.monotonic() - began < 10


def test_models_health_and_metrics(client, served):
    models = client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["tiny"]
    wait(lambda: client.get("/health").json()["status"] == "ok", "a worker")
    made(client)
    text = client.get("/metrics").text
    assert 'longtake_jobs{status="completed"}' in text
    assert "longtake_workers_ready 1.0" in text
    assert not re.search("video_[0-9a-f]{32}", text)
    assert str(served.data) not in text
    refused(client.get("/nowhere"), 404, "not_found")
    refused(client.put("/v1/videos"), 405, "method_not_allowed")


def test_the_openapi_page_names_every_setting_and_route(client):
    page = client.get("/openapi.json").json()
    body = page["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    fields = body["application/json"]["schema"]["properties"]
    assert {"prompt", "seconds", "size", "seed", "num_frames", "prompt_at"} <= fields.keys()
    assert "multipart/form-data" in body
    routes = set(page["paths"])
    assert {"/v1/videos/extensions", "/v1/videos/plan", "/v1/videos/{video_id}/events"} <= routes


def test_the_process_that_answers_does_without_torch():
    code = "import longtake.server.run, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
