"""A browser, a server with a tiny model, and a page whose errors fail the test."""

import shutil
from dataclasses import replace

import pytest
from server_help import Server, write_model

from longtake.config import (
    AutoencoderConfig,
    ModelConfig,
    Sampling,
    TextConfig,
    TransformerConfig,
)

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MODEL = ModelConfig(
    autoencoder=AutoencoderConfig(
        latent_channels=8, widths=(16, 24, 32), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    ),
    transformer=TransformerConfig(
        latent_channels=8, width=48, depth=2, heads=2, text_width=24, segment=2
    ),
    text=TextConfig(width=24, depth=1, heads=2, max_tokens=12),
    sampling=Sampling(steps=2, guidance=1.0, shift=4.0, sampler="euler"),
    words=("a", "ball", "blue", "bounces", "green", "on", "grass", "red", "sphere"),
    max_frames=33,
    chunk=2,
)


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny", MODEL)


@pytest.fixture(scope="session")
def one_pass(tmp_path_factory):
    """A model that goes on by no chunks."""
    return write_model(tmp_path_factory.mktemp("model") / "once", replace(MODEL, chunk=0))


@pytest.fixture(scope="session")
def server(model, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), model)
    yield server
    server.stop()


@pytest.fixture
def open_page(browser):
    """Opens pages of one visitor; an error in a page's program fails the test."""
    contexts, errors = [], []

    def open_page(url, *, script="", **options):
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: _note(said, errors))
        page.goto(url)
        playwright = pytest.importorskip("playwright.sync_api")
        playwright.expect(page.locator("#model[data-status]")).to_be_visible(timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def _note(said, errors):
    # The browser tells of every answer that is no success; what the page does with it is tested.
    if said.type == "error" and "Failed to load resource" not in said.text:
        errors.append(said.text)
