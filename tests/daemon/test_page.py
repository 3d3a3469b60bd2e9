"""The page in a real browser: it shows a live session, and its buttons do what they say."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.take import Take
from daemon.service import Service

from .conftest import record
from .engines import engine, send

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CHROMIUM")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Any]:
    """The page of the test's daemon; no test may leave an error on its console."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(service.http_url)
    yield page
    page.close()
    assert wrong == []


@pytest.fixture
def game(service: Service) -> Iterator[str]:
    """A live engine, whose name would be HTML if anything took it for that."""
    name, stop = "<img src=x onerror=document.title='owned'>", threading.Event()

    def drive() -> None:
        with engine(service.endpoint, mode="live", game=name) as sender:
            serial = 0
            while not stop.wait(0.05):
                send(sender, 1, first=serial)
                serial += 1

    driver = threading.Thread(target=drive)
    driver.start()
    yield name
    stop.set()
    driver.join(60)


def drawn(page: Any, canvas: str) -> bool:
    """Whether the canvas shows more than one colour."""
    return page.evaluate(
        """(id) => { const c = document.getElementById(id);
        const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
        return d.some((pixel) => pixel !== d[0]); }""",
        canvas,
    )


def expect_text(page: Any, selector: str, text: str) -> None:
    playwright.expect(page.locator(selector)).to_contain_text(text, timeout=60_000)


def test_without_an_engine_the_page_says_what_to_do(page: Any, service: Service) -> None:
    expect_text(page, "#health", "No engine connected")
    expect_text(page, "#render-empty", service.endpoint)
    assert page.get_by_role("button", name="Record").is_disabled()


def test_a_live_session_is_shown_and_recorded(page: Any, service: Service, game: str) -> None:
    expect_text(page, "#health", "64×48")
    expect_text(page, "#health", game)
    page.locator("#render-empty").wait_for(state="hidden")
    assert drawn(page, "render-canvas")
    assert page.title() == "realmaster"
    for view in ("Depth", "Normals"):
        page.get_by_text(view, exact=True).click()
        expect_text(page, "#render-name", view)
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop").wait_for()
    expect_text(page, "#takes .badge", "recording")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Record").wait_for()
    playwright.expect(page.locator("#takes .badge")).to_have_count(0, timeout=60_000)
    name = page.locator("#takes .name").inner_text()
    assert len(Take(service.config.takes / name)) > 0
    page.get_by_role("button", name="Save replay").click()
    playwright.expect(page.locator("#takes .take")).to_have_count(2, timeout=60_000)


def test_the_wipe_is_moved_by_keys_and_by_hand(page: Any, game: str) -> None:
    page.get_by_text("Wipe", exact=True).last.click()
    page.get_by_role("slider", name="Wipe").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.getElementById('pictures').style.getPropertyValue('--wipe')") == "60%"
    box = page.locator("#pictures").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, middle)
    page.mouse.up()
    assert page.get_by_role("slider", name="Wipe").input_value() == "25"


def test_a_lift_is_asked_for_and_a_finished_one_plays_beside_its_render(page: Any, service: Service) -> None:
    import numpy as np

    from capture.video import write_video

    name = record(service, 12)
    folder = service.config.takes / name / "lifts" / "embedded-7"
    folder.mkdir(parents=True)
    pictures = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(8)]
    for picture in pictures:
        picture[:, 32:] = 255
    write_video(folder / "lifted.mp4", iter(pictures), fps=24)
    (folder / "report.json").write_text('{"frames": [2, 10]}')
    page.get_by_role("button", name="Play lift embedded-7").click()
    page.locator("#lifted-empty").wait_for(state="hidden")
    page.locator("#render-empty").wait_for(state="hidden")
    assert drawn(page, "lifted-canvas") and drawn(page, "render-canvas")
    expect_text(page, "#player-name", "embedded-7")
    page.get_by_role("button", name="Back to live").click()
    assert page.locator("#player").is_hidden()

    page.get_by_role("button", name=f"Lift take {name}").click()
    page.get_by_label("Prompt").fill("a <b>bold</b> street")
    page.get_by_label("Up to").fill("5")
    page.get_by_role("button", name="Lift", exact=True).click()
    expect_text(page, "#queue", "a <b>bold</b> street")
    (job,) = service.lifts.jobs()
    assert (job.frames, job.prompt) == ((0, 5), "a <b>bold</b> street")
    page.get_by_role("button", name="Cancel the lift").click()
    playwright.expect(page.get_by_role("button", name="Cancel the lift")).to_be_hidden(timeout=60_000)


def test_everything_fits_a_phone_and_has_a_name(page: Any, game: str, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    expect_text(page, "#health", "64×48")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, progress, a')]
        .filter((node) => !node.closest('[hidden]'))
        .filter((node) => !(node.labels?.length || node.getAttribute('aria-label') || node.textContent.trim()))
        .map((node) => node.outerHTML)"""
    )
    assert unnamed == []
