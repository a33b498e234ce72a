"""Pictures of the Studio for its guide, from films of the embedded model and of a tiny random one.

python benchmarks/studio_figures.py [--folder docs/figures/studio]
"""

import argparse
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from bench_server import Server
from bench_studio import ARGUMENTS
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from soak_takes import write_model

FOLDER = Path(__file__).parents[1] / "docs" / "figures" / "studio"
PATIENCE_MS = 300_000
QUALITY, LARGEST_BYTES = 72, 130_000
SCENE = """2s a red car drives left to right across a desert at sunset
2s a large blue ball bounces on grass, the camera pans right
2s a green cone moves in a circle on the snow"""
TAKE = """2s a red ball on grass
2s a blue ball bounces
2s a green sphere"""


def save(page: Page, path: Path) -> None:
    """A JPEG, for a film's noise makes large PNGs."""
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    image.save(path, quality=QUALITY, optimize=True)
    assert path.stat().st_size < LARGEST_BYTES, f"{path.name} has {path.stat().st_size:,} bytes"


def open_page(
    browser: Browser, url: str, scheme: str, width: int = 1280, height: int = 800
) -> Page:
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": height},  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#model[data-status=ok]", timeout=PATIENCE_MS)
    return page


def made(page: Page) -> None:
    expect(page.locator("#state")).to_contain_text("Made in", timeout=PATIENCE_MS)
    page.wait_for_timeout(1500)


def scene(browser: Browser, server: Server, folder: Path) -> None:
    """A scene of the embedded model: waiting, watching, and on a phone."""
    page = open_page(browser, server.url, "dark")
    page.fill("#text", SCENE)
    page.fill("#seed", "4")
    expect(page.locator("#plan")).to_contain_text("3 films", timeout=PATIENCE_MS)
    page.keyboard.press("Control+Enter")
    made(page)
    expect(page.locator("#scene small").last).not_to_contain_text("%", timeout=PATIENCE_MS)
    expect(page.locator("#scene img")).to_have_count(3, timeout=PATIENCE_MS)
    before = page.url
    page.get_by_role("button", name="Another take").click()
    expect(page).not_to_have_url(before)
    made(page)
    page.locator("#takes .card").first.click()
    page.get_by_role("button", name="Take 2 side by side").click()
    page.wait_for_timeout(1500)
    page.locator("#track").press("Home")
    for _ in range(5):
        page.locator("#track").press("ArrowRight")
    page.wait_for_timeout(800)
    page.evaluate("document.activeElement.blur()")
    save(page, folder / "side_by_side.jpg")
    address = page.url
    page.context.close()
    light = open_page(browser, address, "light")
    made(light)
    for _ in range(4):
        light.locator("#track").press("ArrowRight")
    light.wait_for_timeout(800)
    light.evaluate("document.activeElement.blur()")
    save(light, folder / "scene.jpg")
    light.context.close()
    phone = open_page(browser, address, "dark", 390, 800)
    made(phone)
    phone.locator("#track").press("ArrowRight")
    phone.evaluate("document.getElementById('stage').scrollIntoView()")
    phone.evaluate("scrollBy(0, -50)")
    phone.wait_for_timeout(800)
    save(phone, folder / "phone.jpg")
    phone.context.close()


def take(browser: Browser, server: Server, folder: Path) -> None:
    """A take by chunks while it is made."""
    page = open_page(browser, server.url, "dark")
    page.fill("#text", TAKE)
    page.fill("#size", "128x64")
    page.fill("#seed", "7")
    page.get_by_text("Finer settings").click()
    page.fill("#steps", "60")
    page.get_by_text("Finer settings").click()
    expect(page.locator("#plan")).to_contain_text("blocks", timeout=PATIENCE_MS)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#state")).to_contain_text("block 8", timeout=PATIENCE_MS)
    page.evaluate("document.activeElement.blur()")
    save(page, folder / "take.jpg")
    page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temp, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        write_model(Path(temp) / "tiny")
        for model, draw in ((Path("previz"), scene), (Path(temp) / "tiny", take)):
            server = Server(Path(temp) / f"{model.name}-data", model)
            draw(browser, server, folder)
            server.stop()
        browser.close()


if __name__ == "__main__":
    main()
