"""The store: nothing accepted is lost, nobody does a job twice, owners take turns."""

import json
import shutil
import sqlite3
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.config import from_dict
from longtake.errors import OutputError, StateError
from longtake.server.clocks import Clocks
from longtake.server.jobs import AlreadyEnded, FilmRequest, Key, KeyReused, LeaseLost, QueueFull
from longtake.server.schema import VERSION, StoreError
from longtake.server.store import MOST_STRIKES, Store
from longtake.server.views import video


class Watch:
    """Clocks that go when told."""

    def __init__(self):
        self.wall_s, self.steady_s = 1_000_000.0, 500.0
        self.clocks = Clocks(lambda: self.wall_s, lambda: self.steady_s, "boot-1")


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def store(tmp_path, watch):
    store = Store(tmp_path / "store.sqlite", clocks=watch.clocks)
    yield store
    store.close()


def add(store, owner="ann", prompt="a red ball", **more):
    job, _ = store.add(owner, {"prompt": prompt}, **more)
    return job


def kinds(store, job):
    return [json.loads(event.data)["type"] for event in store.events(0, job=job.id)]


def test_an_accepted_job_is_there_after_the_store_is_opened_again(tmp_path, store):
    job = add(store)
    store.close()
    again = Store(tmp_path / "store.sqlite")
    assert again.find(job.id, "ann") == job
    assert again.claim("w").job.id == job.id


def test_jobs_of_one_owner_keep_their_order(store):
    jobs = [add(store) for _ in range(5)]
    assert [store.claim("w").job.id for _ in range(5)] == [job.id for job in jobs]
    assert store.claim("w") is None


def test_an_owner_of_one_job_does_not_wait_for_one_of_a_thousand(store):
    many = [add(store, "ann") for _ in range(1000)]
    first = store.claim("w")
    one = add(store, "bob")
    assert first.job.id == many[0].id
    assert one.id in {store.claim("w").job.id, store.claim("w").job.id}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_owners_whose_jobs_wait_take_turns(tmp_path_factory, owners):
    store = Store(tmp_path_factory.mktemp("s") / "store.sqlite")
    for owner in owners:
        add(store, owner)
    served = [store.claim("w").job.owner for _ in owners]
    store.close()
    for n in range(len(served)):
        counts = {o: served[: n + 1].count(o) for o in set(owners)}
        waiting = [o for o in counts if counts[o] < owners.count(o)]
        assert all(counts[o] >= max(counts.values()) - 1 for o in waiting)


def test_two_workers_never_hold_one_job(tmp_path):
    path = tmp_path / "store.sqlite"
    store = Store(path)
    jobs = {add(store).id for _ in range(40)}
    taken, lock = [], threading.Lock()

    def work(name):
        mine = Store(path)
        while lease := mine.claim(name):
            with lock:
                taken.append(lease.job.id)
        mine.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40
    assert set(taken) == jobs


def test_row_8_a_worker_that_slept_through_its_lease_cannot_end_the_job(store, watch):
    job = add(store)
    slow = store.claim("slow")
    watch.steady_s += store.lease_s + 1
    quick = store.claim("quick")
    assert quick.attempt == slow.attempt + 1
    for late in (
        lambda: store.complete(slow, {}, keep_s=9),
        lambda: store.tell(slow, {"type": "progress"}),
        lambda: store.fail(slow, "x", "y"),
        lambda: store.strike(slow, "x", "y"),
        lambda: store.park(slow),
        lambda: store.pause(slow, "x", "y", 1),
        lambda: store.drop(slow),
        lambda: store.beat(slow),
        lambda: store.wished_away(slow),
    ):
        with pytest.raises(LeaseLost):
            late()
    store.complete(quick, {"sha256": "1"}, keep_s=9)
    assert store.find(job.id, "ann").result == {"sha256": "1"}
    assert kinds(store, job).count("completed") == 1


def test_a_sign_of_life_prolongs_a_lease(store, watch):
    add(store)
    lease = store.claim("w")
    for _ in range(5):
        watch.steady_s += store.lease_s * 0.9
        assert not store.beat(lease)
    assert store.claim("other") is None


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_row_9_a_jump_of_the_wall_clock_ends_no_lease(store, watch, jump):
    add(store)
    lease = store.claim("w")
    watch.wall_s += jump
    assert store.claim("other") is None
    store.complete(lease, {}, keep_s=9)


def test_row_9_a_lease_of_an_earlier_boot_is_over_at_once(tmp_path, store, watch):
    add(store)
    old = store.claim("w")
    rebooted = replace(watch.clocks, boot="boot-2", steady=lambda: 1.0)
    again = Store(tmp_path / "store.sqlite", clocks=rebooted)
    assert again.claim("w").attempt == old.attempt + 1


def test_row_17_a_job_that_takes_down_its_workers_fails_after_three(store):
    job, other = add(store), add(store)
    for n in range(MOST_STRIKES):
        assert store.claim(f"w{n}").job.id == job.id
        store.strike_worker(f"w{n}")
    failed = store.find(job.id, "ann")
    assert (failed.status, failed.error["code"], failed.attempt) == ("failed", "worker_died", 3)
    assert store.claim("w").job.id == other.id


def test_strikes_are_forgiven_where_work_was_stored_meanwhile(store):
    job = add(store)
    for n in range(10):
        lease = store.claim(f"w{n}")
        store.tell(lease, {"type": "progress"}, better=True)
        store.strike_worker(f"w{n}")
    assert store.find(job.id, "ann").status == "queued"


def test_a_parked_job_is_the_next_again_without_a_strike(store):
    first, _ = add(store), add(store)
    for _ in range(5):
        lease = store.claim("w")
        assert lease.job.id == first.id
        store.park(lease)


def test_a_paused_job_is_tried_again_after_its_wait_and_not_before(store, watch):
    job = add(store)
    store.pause(store.claim("w"), "insufficient_storage", "no space", 5)
    paused = store.find(job.id, "ann")
    assert (paused.status, paused.error["code"]) == ("paused", "insufficient_storage")
    assert store.claim("w") is None
    watch.steady_s += 6
    assert store.claim("w").job.id == job.id
    assert store.find(job.id, "ann").error is None


def test_row_23_cancel_in_every_state(store):
    queued, running, done = add(store), add(store), add(store)
    assert store.cancel(queued.id).status == "cancelled"
    assert store.cancel(queued.id).status == "cancelled"
    lease = store.claim("w")
    assert lease.job.id == running.id
    assert store.cancel(running.id).status == "in_progress"
    assert store.wished_away(lease)
    assert store.beat(lease)
    store.drop(lease)
    assert store.cancel(running.id).status == "cancelled"
    store.complete(store.claim("w"), {}, keep_s=9)
    with pytest.raises(AlreadyEnded):
        store.cancel(done.id)


def test_a_cancelled_job_whose_worker_dies_is_not_begun_again(store):
    job = add(store)
    store.claim("w")
    store.cancel(job.id)
    store.strike_worker("w")
    assert store.find(job.id, "ann").status == "cancelled"


def test_row_24_a_deleted_job_is_gone_at_once_and_its_files_when_its_worker_lets_go(store):
    job = add(store)
    lease = store.claim("w")
    store.delete(job.id)
    assert store.find(job.id, "ann") is None
    assert store.page("ann", after=None, limit=9, newest_first=True) == []
    assert store.forgotten() == []
    store.drop(lease)
    assert store.forgotten() == [job.id]
    store.forget(job.id)
    assert store.known() == set()


def test_row_25_a_key_stands_for_one_request_of_one_owner_and_route(tmp_path, store):
    key = Key("/v1/videos", "k", "digest")
    job, fresh = store.add("ann", {"prompt": "a"}, key=key)
    assert fresh
    assert store.add("ann", {"prompt": "a"}, key=key) == (job, False)
    with pytest.raises(KeyReused):
        store.add("ann", {"prompt": "b"}, key=replace(key, digest="other"))
    assert store.add("bob", {"prompt": "a"}, key=key)[1]
    assert store.add("ann", {"prompt": "a"}, key=replace(key, route="/other"))[1]
    again = Store(tmp_path / "store.sqlite")
    assert again.add("ann", {"prompt": "a"}, key=key)[0].id == job.id


def test_a_full_queue_refuses_and_keeps_what_it_has(store):
    for _ in range(3):
        add(store, most=3)
    with pytest.raises(QueueFull):
        add(store, most=3)
    assert store.waiting() == 3


def test_one_owner_does_not_see_the_jobs_of_another(store):
    job = add(store, "ann")
    assert store.find(job.id, "bob") is None
    assert store.page("bob", after=None, limit=9, newest_first=True) == []
    assert store.page("bob", after=job.id, limit=9, newest_first=True) is None


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_put_together_are_the_whole_list(store, newest_first):
    jobs = [add(store).id for _ in range(10)]
    found, after = [], None
    while page := store.page("ann", after=after, limit=3, newest_first=newest_first):
        found += [job.id for job in page]
        after = page[-1].id
    assert found == (jobs[::-1] if newest_first else jobs)


def test_events_rise_and_can_be_read_on_from_any_of_them(store):
    job, other = add(store), add(store)
    lease = store.claim("w")
    for n in range(5):
        store.tell(lease, {"type": "progress", "step": n})
    events = store.events(0, job=job.id)
    assert all(a.seq < b.seq for a, b in pairwise(events))
    assert store.events(events[3].seq, job=job.id) == events[4:]
    assert {event.job for event in store.events(0)} == {job.id, other.id}


def test_finished_jobs_are_deleted_when_their_time_is_over(store, watch):
    job = add(store)
    store.complete(store.claim("w"), {}, keep_s=60)
    store.expire()
    assert store.find(job.id, "ann")
    watch.wall_s += 61
    store.expire()
    assert store.find(job.id, "ann") is None


def test_a_part_that_fails_leaves_the_parts_beside_it(store):
    with store.writing():
        kept = add(store)
        with pytest.raises(RuntimeError), store.writing():
            lost = add(store)
            raise RuntimeError
    assert store.known() == {kept.id}
    assert lost.id not in store.known()


def test_row_11_a_full_disk_refuses_the_job_and_the_store_stays_whole(tmp_path, store):
    add(store)
    store._db.execute(f"PRAGMA max_page_count = {store._number('PRAGMA page_count')}")
    with pytest.raises(StoreError):
        for _ in range(1000):
            add(store, prompt="x" * 1000)
    known = store.known()
    store.close()
    again = Store(tmp_path / "store.sqlite")
    assert again.known() == known
    assert again._one("PRAGMA integrity_check") == ("ok",)


def test_row_56_a_store_of_a_newer_release_is_refused(tmp_path, store):
    store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="newer release"):
        Store(tmp_path / "store.sqlite")


def test_a_file_that_is_no_store_is_refused_and_stays(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database, certainly not" * 100)
    with pytest.raises(StateError, match="not a store"):
        Store(path)
    assert path.read_bytes().startswith(b"not a database")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE pets (name)")
    db.close()
    with pytest.raises(StateError, match="something else"):
        Store(foreign)


def test_row_13_a_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot open the store"):
        Store(tmp_path / "missing" / "store.sqlite")


GOLDENS = Path(__file__).parent / "goldens"
STORES = sorted(path.name for path in GOLDENS.glob("store_format_*"))


def test_row_55_the_present_format_has_a_real_store_that_stays():
    assert f"store_format_{VERSION}" == STORES[-1]


@pytest.mark.parametrize("name", STORES)
def test_row_55_a_store_of_an_earlier_day_is_read_and_gone_on_with(tmp_path, name):
    shutil.copy(GOLDENS / name / "store.sqlite", tmp_path)
    expected = json.loads((GOLDENS / name / "expected.json").read_text())
    later = Clocks(boot="a later start of the machine")
    store = Store(tmp_path / "store.sqlite", clocks=later)
    for status, job in expected["jobs"].items():
        found = store.find(job, expected["owners"][status])
        assert found.status == status
        from_dict(FilmRequest, found.request)
        assert video(found).status == status
    done = store.find(expected["jobs"]["completed"], "ann")
    assert done.result["sha256"] == expected["sha256"]
    again = store.add("ann", {}, key=Key("/v1/videos", "key-1", "digest-1"))
    assert (again[0].id, again[1]) == (done.id, False)
    taken = {store.claim("w").job.id for _ in range(3)}
    assert taken == {expected["jobs"][status] for status in ("in_progress", "paused", "queued")}
    assert store.claim("w") is None
    store.close()
