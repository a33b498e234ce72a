"""The client: waits, listens, fetches, and cleans up after itself."""

from dataclasses import replace

import pytest
from server_help import Server, wait, write_model

from longtake.media.video import read_video
from longtake.server.client import Client, FilmFailed, ServerRefused

TINY = {"size": "64x64", "frames": 33, "steps": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from test_server_api import TINY as MODEL  # noqa: PLC0415 - the same tiny model

    folder = tmp_path_factory.mktemp("client")
    server = Server(folder, write_model(folder / "tiny", replace(MODEL, chunk=2)))
    yield server
    server.stop()


def test_a_film_is_made_listened_to_and_fetched(server, tmp_path):
    with Client(server.url) as client, client.make("a red ball", **TINY) as film:
        kinds = [event["type"] for event in film.events()]
        path = film.download(tmp_path / "film.mp4")
        assert film.download(tmp_path / "sheet.png", "contact_sheet").stat().st_size > 100
        more = film.extend(seconds=1)
        assert more.wait()["frames"] == 49
        assert film.extend(seconds=1, from_block=2, seed=5).wait()["from_block"] == 2
        assert film.id in [one["id"] for one in client.films()]
        film.delete()
        with pytest.raises(ServerRefused, match="no such video"):
            film.state()
    assert kinds[-1] == "completed"
    assert len(read_video(path)[0]) == 33


def test_what_is_refused_names_its_field(server):
    client = Client(server.url)
    with pytest.raises(ServerRefused, match="seed must be") as refused:
        client.make("a red ball", seed=-1)
    assert (refused.value.status, refused.value.param) == (422, "seed")
    assert client.plan("a red ball", **TINY)["frames"] == 33


def test_a_film_is_watched_while_it_is_made(server, tmp_path):
    film = Client(server.url).make("a red ball", size="64x64", frames=97, steps=10)
    (tmp_path / "live.mp4").write_bytes(b"".join(film.watch()))
    assert len(read_video(tmp_path / "live.mp4")[0]) == 97


def test_a_block_that_fails_cancels_its_film(server, tmp_path):
    film = Client(server.url).make("a red ball", size="64x64", frames=33, steps=900)
    with pytest.raises(ZeroDivisionError), film:
        raise ZeroDivisionError
    wait(lambda: film.state()["status"] == "cancelled", "the cancel")
    with pytest.raises(FilmFailed, match="cancelled"):
        film.download(tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.slow
def test_row_22_a_broken_line_is_taken_up_where_it_broke(server):
    film = Client(server.url).make("a red ball", size="64x64", frames=193, steps=10)
    ids, kills = [], 0
    for event in film.events():
        ids.append(event["id"])
        if event["type"] == "border" and kills < 2:
            kills += 1
            server.kill()
            port = server.url.rpartition(":")[2]
            server.command[server.command.index("--port") + 1] = port
            server.start()
    assert kills == 2
    assert ids == sorted(set(ids))
    assert film.state()["status"] == "completed"
