"""What the daemon's tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.service import DaemonConfig, Service

from .engines import engine, send, until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running daemon on free ports of this machine, with its processes."""
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with Service(config) as running:
        yield running


CHROMIUM = os.environ.get("CHROMIUM") or next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Any]:
    """The page of the test's daemon; no test may leave an error on its console, but for pictures of a take that has
    just been renamed or deleted, and what the daemon refuses."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(90_000)
    wrong: list[str] = []

    def hear(message: Any) -> None:
        expected = "404 (Not Found)", "409 (Conflict)"
        if message.type in ("error", "warning") and not any(answer in message.text for answer in expected):
            wrong.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(service.http_url)
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running daemon for all tests of a module, for those that only ask."""
    folder = tmp_path_factory.mktemp("shared")
    config = DaemonConfig(takes=folder / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REALMASTER_RUNTIME_DIR", str(folder / "run"))
        service = Service(config).start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def take(shared: Service) -> str:
    """Name of a closed take of 12 frames in the shared daemon's folder."""
    return record(shared, 12)


def record(service: Service, frames: int, game: str = "recorded") -> str:
    """Record so many frames of a test engine and return the name of the closed take; its session is over."""
    with engine(service.endpoint, token=service.token, game=game) as sender:
        (name,) = service.record_start()
        send(sender, frames)
    until(lambda: [t for t in service.state()["takes"] if t["name"] == name and t["state"] == "closed"])
    until(lambda: not [s for s in service.state()["sessions"] if s["game"] == game])
    return name
