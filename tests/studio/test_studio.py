"""The Studio as people use it, in a browser, against a running server."""

import io
import re
import time
from pathlib import Path

import httpx
import pytest
from opentimelineio.adapters import read_from_string
from PIL import Image
from playwright.sync_api import expect
from server_help import Server, wait

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
LONG = 60_000
pytestmark = pytest.mark.studio


def write(page, text, *, seed="7", size="64x64", steps="2"):
    page.fill("#text", text)
    page.fill("#size", size)
    page.fill("#seed", seed)
    if not page.is_visible("#steps"):
        page.get_by_text("Finer settings").click()
    page.fill("#steps", steps)


def until(page, holds):
    """Wait for something to be true in the page, whose policy lets no text become a program."""
    wait(lambda: page.evaluate(holds), holds, LONG / 1000)


def made(page):
    expect(page.locator("#state")).to_contain_text("Made in", timeout=LONG)
    return page.evaluate("location.hash.slice(1)")


def film(server, video_id):
    return httpx.get(f"{server.url}/v1/videos/{video_id}").json()


def newly_made(page, before):
    until(page, f"location.hash.slice(1) !== '{before}'")
    return made(page)


def downloaded(page, item):
    page.locator(".menu > summary").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name=item).click()
    return Path(waiting.value.path()).read_bytes()


def test_a_new_user_makes_watches_branches_extends_redoes_and_downloads_a_film(
    open_page, server, record_property
):
    page = open_page(server.url)
    began = time.monotonic()
    page.evaluate("addEventListener('click', () => self.clicks = (self.clicks ?? 0) + 1)")
    write(page, "1s a red ball\n1s a blue ball bounces", steps="40")
    expect(page.locator("#plan")).to_contain_text("33 frames, 4 blocks")
    page.click("#make")
    # The picture is there before the film is.
    until(page, "document.querySelector('video')?.currentTime > 0.2")
    assert film(server, page.evaluate("location.hash.slice(1)"))["status"] == "in_progress"
    first = made(page)
    assert [cue["text"] for cue in film(server, first)["prompt_at"]] == ["a blue ball bounces"]
    expect(page.locator("#prompts li")).to_have_count(2)
    expect(page.locator("#legend b").first).to_contain_text("%")
    page.click("#play")  # it plays on from the live picture: stop it

    page.locator("#track").press("Home")
    page.locator("#track").press("ArrowRight")
    page.locator("#track").press("ArrowRight")
    page.get_by_role("button", name="Branch", exact=True).click()
    page.fill("#turn-text", "a green sphere")
    page.get_by_role("button", name="Make the branch").click()
    branch = film(server, newly_made(page, first))
    assert (branch["parent_id"], branch["from_block"], branch["frames"]) == (first, 2, 33)

    page.get_by_role("button", name="Extend").first.click()
    page.fill("#turn-seconds", "0.5")
    page.locator("#turn").get_by_role("button", name="Extend").click()
    longer = film(server, newly_made(page, branch["id"]))
    assert (longer["parent_id"], longer["frames"]) == (branch["id"], 41)

    page.locator("#takes .card").first.click()
    until(page, f"location.hash.slice(1) === '{first}'")
    made(page)
    page.locator("#track").press("End")
    page.get_by_role("button", name="Redo").first.click()
    page.select_option("#turn-from", label="the shot’s beginning, 00:01:01")
    page.fill("#turn-seed", "9")
    page.locator("#turn").get_by_role("button", name="Redo").click()
    again = film(server, newly_made(page, first))
    assert again["prompt_at"] == [{"at_s": 17 / 16, "text": "a blue ball bounces", "seed": 9}]
    assert again["frames"] == 33

    mp4 = downloaded(page, "Film, mp4")
    assert mp4[4:8] == b"ftyp"
    cut = read_from_string(downloaded(page, "Timeline, OTIO").decode())
    assert cut.duration().value == 33
    assert downloaded(page, "Contact sheet").startswith(b"\x89PNG")
    page.get_by_role("button", name="Take 1 side by side").click()
    expect(page.locator("video")).to_have_count(2)
    clicks = page.evaluate("self.clicks")
    took = time.monotonic() - began
    record_property("clicks", clicks)
    assert clicks <= 25
    assert took < 120


def test_a_reload_and_a_restart_of_the_server_in_the_middle_lose_nothing(
    open_page, model, tmp_path
):
    server = Server(tmp_path, model)
    try:
        page = open_page(server.url)
        write(page, "3s a red ball", steps="60")
        page.click("#make")
        expect(page.locator("#state")).to_contain_text("block", timeout=LONG)
        page.fill("#text", "what I write meanwhile")
        page.reload()
        expect(page.locator("#text")).to_have_value("what I write meanwhile")
        expect(page.locator("#state")).to_contain_text("block", timeout=LONG)
        server.kill()
        expect(page.locator("#banner")).to_contain_text("does not answer")
        page.click("#make")
        expect(page.locator("#refusal")).to_contain_text("What you wrote is kept")
        expect(page.locator("#text")).to_have_value("what I write meanwhile")
        port = server.url.rpartition(":")[2]
        server.command[server.command.index("--port") + 1] = port
        server.start()
        expect(page.locator("#banner")).to_be_hidden(timeout=LONG)
        video_id = made(page)
        assert film(server, video_id)["frames"] == 49
        until(
            page,
            "document.querySelector('video')?.videoWidth > 0 && "
            "Math.abs(document.querySelector('video')?.duration - 49 / 16) < 0.1",
        )
    finally:
        server.stop()


def test_the_keyboard_alone_makes_a_film_and_branches_it(open_page, server):
    page = open_page(server.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("1s a red ball")
    write(page, "1s a red ball", seed="21")
    page.focus("#text")
    page.keyboard.press("Control+Enter")
    first = newly_made(page, "")
    page.focus("#list")
    page.keyboard.press("Home")
    reached = []
    page.focus("#forth")
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
        if reached[-1] == "track":
            break
    assert reached[:3] == ["Branch", "Redo", "Extend"]
    assert reached[-1] == "track"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert "block 2" in page.get_attribute("#track", "aria-valuetext")
    page.keyboard.press("Shift+ArrowRight")
    assert page.get_attribute("#track", "aria-valuenow") == "10"
    page.keyboard.press("b")
    assert page.evaluate("document.activeElement.id") == "turn-text"
    page.keyboard.type("a blue ball")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert film(server, newly_made(page, first))["from_block"] == 1


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_everything_without_scrolling_sideways(open_page, server, width):
    page = open_page(
        server.url, viewport={"width": width, "height": 780}, has_touch=True, is_mobile=True
    )
    write(page, "1s a red ball", seed="31")
    assert overflow(page) <= 0
    page.click("#make")
    made(page)
    assert overflow(page) <= 0
    small = page.evaluate(
        "[...document.querySelectorAll('button, summary')].filter(one => one.offsetHeight && "
        "one.offsetHeight < 24).map(one => one.textContent)"
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(open_page, server, scheme, width):
    if not AXE.exists():
        pytest.skip("no axe-core here; run: npm install --no-save axe-core")
    page = open_page(
        server.url, color_scheme=scheme, bypass_csp=True, viewport={"width": width, "height": 800}
    )
    write(page, "1s a red ball\n1s a blue ball", seed="41")
    if httpx.get(f"{server.url}/v1/videos").json()["data"]:
        page.locator("#list li").first.click()
    else:
        page.click("#make")
    made(page)
    page.get_by_role("button", name="Redo").first.click()
    page.add_script_tag(content=AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_both_themes_are_there_and_the_choice_stays(open_page, server):
    page = open_page(server.url, color_scheme="light")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == dark


def test_script_tags_are_text_and_four_megabytes_are_kept_and_refused_with_a_reason(
    open_page, server
):
    page = open_page(server.url)
    page.evaluate("self.harmed = false")
    evil = "1s <script>harmed = true</script><img src=x onerror='harmed = true'> ball"
    write(page, evil, seed="51")
    page.click("#make")
    made(page)
    expect(page.locator("#title")).to_have_text(evil[3:])
    assert page.locator("#stage script, #list script, #title img").count() == 0
    assert page.evaluate("self.harmed") is False
    page.evaluate(
        "const area = document.getElementById('text'); area.value = 'x'.repeat(4 * 2 ** 20);"
        "area.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.click("#make")
    expect(page.locator("#refusal")).to_contain_text("the most is 10,000")
    assert page.evaluate("document.getElementById('text').value.length") == 4 * 2**20
    page.wait_for_timeout(400)
    page.reload()
    assert page.evaluate("document.getElementById('text').value.length") == 4 * 2**20


def test_a_full_browser_store_is_told_and_the_text_stays_in_the_tab(open_page, server):
    script = (
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
    )
    page = open_page(server.url, script=script)
    page.fill("#text", "a red ball")
    expect(page.locator("#tabs")).to_contain_text("no room to keep this text")
    expect(page.locator("#text")).to_have_value("a red ball")


def picture(kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "orange").save(file, kind)
    return file.getvalue()


def drop(page, name, raw):
    page.evaluate(
        """([name, raw]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(raw)], name));
          document.querySelector('.drop').dispatchEvent(
            new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        [name, list(raw)],
    )


def test_a_picture_begins_a_film_and_a_file_of_another_kind_is_told(open_page, server):
    page = open_page(server.url)
    drop(page, "notes.png", b"not a picture at all")
    expect(page.locator("#picture [role=alert]")).to_contain_text("notes.png is no PNG")
    drop(page, "first.png", picture())
    expect(page.locator("#picture img")).to_be_visible()
    drop(page, "notes.txt", b"hello")
    expect(page.locator("#picture [role=alert]")).to_contain_text("nothing was changed")
    expect(page.locator("#picture img")).to_be_visible()
    write(page, "1s a red ball", seed="61")
    page.click("#make")
    assert film(server, made(page))["begins_with_picture"]


def test_two_tabs_do_not_overwrite_each_other(open_page, server):
    one = open_page(server.url)
    two = one.context.new_page()
    two.goto(server.url)
    one.fill("#text", "words of the first")
    # Nobody wrote in the second: it follows.
    expect(two.locator("#text")).to_have_value("words of the first")
    two.fill("#text", "words of the second")
    expect(one.locator("#tabs")).to_contain_text("changed in another tab")
    expect(one.locator("#text")).to_have_value("words of the first")
    one.get_by_role("button", name="Take that one").click()
    expect(one.locator("#text")).to_have_value("words of the second")


def test_a_browser_without_media_source_says_so_and_shows_the_film_at_the_end(open_page, server):
    page = open_page(server.url, script="delete self.MediaSource; delete self.ManagedMediaSource;")
    write(page, "2s a red ball", seed="71", steps="60")
    page.click("#make")
    expect(page.locator("#watch-note")).to_contain_text("Media Source", timeout=LONG)
    made(page)
    until(page, "document.querySelector('video')?.videoWidth > 0")


def test_a_full_server_is_told_and_the_request_is_not_lost(open_page, server):
    page = open_page(server.url)
    full = {"code": "insufficient_storage", "message": "its disk is full", "param": None}
    page.route(
        "**/v1/videos",
        lambda route: (
            route.fulfill(status=503, json={"error": full})
            if route.request.method == "POST"
            else route.continue_()
        ),
    )
    write(page, "1s a red ball", seed="81")
    page.click("#make")
    expect(page.locator("#refusal")).to_contain_text("its disk is full")
    expect(page.locator("#text")).to_have_value("1s a red ball")


def test_a_film_is_cancelled_and_deleted(open_page, server):
    page = open_page(server.url)
    write(page, "9s a red ball", seed="91", steps="200")
    page.click("#make")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Cancelled", timeout=LONG)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good?").click()
    expect(page.locator("#empty")).to_be_visible()


def test_a_model_of_one_pass_offers_what_it_can_and_says_what_it_cannot(
    open_page, one_pass, tmp_path
):
    server = Server(tmp_path, one_pass)
    try:
        page = open_page(server.url)
        expect(page.locator("#no-picture")).to_contain_text("does not begin with a picture")
        expect(page.locator("#picture")).to_be_hidden()
        write(page, "1s a red ball\n1s a blue ball beside a zebra", seed="5", size="128x64")
        expect(page.locator("#plan")).to_contain_text("2 films")
        expect(page.locator("#plan")).to_contain_text("zebra")
        page.click("#make")
        made(page)
        until(page, "document.querySelector('video')?.videoWidth === 128")
        expect(page.locator("#legend b").first).to_contain_text("%")
        expect(page.locator("#scene .card")).to_have_count(2)
        expect(page.locator("#watch-note")).to_contain_text("in one pass")
        for name in ("Branch", "Extend", "Redo"):
            assert page.get_by_role("button", name=name, exact=True).count() == 0
        page.locator("#track").press("b")
        expect(page.locator("#action-refusal")).to_contain_text("makes films in one pass")
        before = page.evaluate("location.hash.slice(1)")
        page.get_by_role("button", name="Another take").click()
        again = film(server, newly_made(page, before))
        assert (again["shot"], again["scene"]) == (1, film(server, before)["scene"])
        expect(page.locator("#takes .card")).to_have_count(2)
        # The server knows of the end a moment before the page, which cuts nothing unfinished.
        done = "document.querySelector('#scene').cut.every((shot) => shot.status === 'completed')"
        until(page, done)
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Scene as OTIO").click()
        cut = read_from_string(Path(waiting.value.path()).read_text("utf-8"))
        assert [clip.name for clip in cut.tracks[0]] == ["SH001", "SH002"]
        page.get_by_role("button", name="Play the scene").click()
        until(page, f"location.hash.slice(1) !== '{again['id']}'")
        assert film(server, page.evaluate("location.hash.slice(1)"))["shot"] == 2
    finally:
        server.stop()


def test_a_server_with_tokens_lets_the_page_in_and_asks_for_one(open_page, model, tmp_path):
    token = "x" * 32
    (tmp_path / "tokens").write_text(token)
    server = Server(tmp_path, model, "--token-file", str(tmp_path / "tokens"))
    try:
        page = open_page(server.url)
        page.fill("#token", token)
        page.get_by_role("button", name="Come in").click()
        expect(page.locator("#model")).to_have_text(re.compile("ready"))
        write(page, "1s a red ball")
        page.click("#make")
        expect(page.locator("#state")).to_contain_text("Made in", timeout=LONG)
        until(page, "document.querySelector('video')?.videoWidth > 0")
        expect(page.locator("#list img")).to_have_count(1)
    finally:
        server.stop()
