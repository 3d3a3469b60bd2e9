"""The whole loop in a real browser with a real engine and a real model: see, record, lift, compare, export, find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.take import Take
from capture.video import read_video
from daemon.service import Service

from .engines import until
from .test_page import drag_the_wipe

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LONG = 600.0
"""Seconds that the model libraries may take to load on a busy machine."""


@pytest.fixture
def city(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """The embedded engine, live, in a process of its own."""
    command = [sys.executable, "-m", "engine_bridges.city", "--endpoint", service.endpoint, "--size", "192x112"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    engine = subprocess.Popen([*command, "--fps", "12", "--seed", "7"], env=environment)
    yield engine
    engine.terminate()
    engine.wait(30)


def picture(page: Any, side: str) -> Callable[[], str]:
    """What a side of the live view shows, as text that differs where the picture does."""
    return lambda: page.evaluate(
        "(selector) => document.querySelector(selector).toDataURL('image/png')", f"#live-stage .{side} canvas"
    )


def moves(shown: Callable[[], str], what: str) -> None:
    """Wait until a picture has changed twice."""
    for _ in range(2):
        before = shown()
        until(lambda before=before: shown() != before, 120, what)


def test_see_record_lift_compare_and_find(page: Any, service: Service, city: Any, tmp_path: Path) -> None:
    page.locator("#live-stage .render .empty").wait_for(state="hidden", timeout=LONG * 1000)
    moves(picture(page, "render"), "the render moving")
    page.get_by_role("switch", name="Live lift").check()
    page.locator("#live-stage .lifted .empty").wait_for(state="hidden", timeout=LONG * 1000)
    moves(picture(page, "lifted"), "the lift moving")
    playwright.expect(page.locator("#live-detail")).to_contain_text("behind", timeout=120_000)

    page.locator("#live-layouts").get_by_label("Wipe").check()
    drag_the_wipe(page, page.get_by_role("slider", name="Wipe"), 25)
    moves(picture(page, "render"), "the render under the wipe moving")

    page.get_by_role("switch", name="Live lift").uncheck()
    page.get_by_role("button", name="Save replay").click()
    page.get_by_role("button", name="Open it").click()
    (replay,) = until(lambda: [t for t in service.state()["takes"] if t["state"] == "closed"], 120, "the replay")
    playwright.expect(page.locator("#take-name")).to_have_text(replay["name"], timeout=120_000)
    take = Take(service.config.takes / replay["name"])
    assert len(take) >= 2 and take.engine == "city"
    city.terminate()  # the lift may have the cores

    page.reload()
    page.get_by_role("button", name="Lift …", exact=True).click()
    page.locator("#lift-dialog").get_by_label("Up to").fill("2")
    page.locator("#lift-dialog").get_by_role("button", name="Lift", exact=True).click()
    playwright.expect(page.locator("#work .job.done")).to_have_count(1, timeout=LONG * 1000)
    playwright.expect(page.locator("#take .lifted .title")).to_have_text("embedded-1", timeout=120_000)
    page.locator("#take .lifted .empty").wait_for(state="hidden")
    playwright.expect(page.locator("table.scores")).to_contain_text("Depth edges kept", timeout=120_000)
    lift = take.path / "lifts" / "embedded-1"
    assert len(read_video(lift / "lifted.mp4")[0]) == 2

    page.get_by_role("button", name="Export lift embedded-1").click()
    page.get_by_label("Render and lift").check()
    page.locator("#export-dialog").get_by_role("button", name="Export", exact=True).click()
    playwright.expect(page.locator("#work .path")).to_have_count(1, timeout=LONG * 1000)
    path = Path(page.locator("#work .path").inner_text())
    assert path.parent == service.config.takes / "exports" and len(read_video(path)[0]) == 2
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {path.name}").click()
    download.value.save_as(tmp_path / "saved.mp4")
    assert (tmp_path / "saved.mp4").read_bytes() == path.read_bytes()
