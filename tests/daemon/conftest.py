"""What the daemon's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.service import DaemonConfig, Service

from .engines import engine, send, until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running daemon on free ports of this machine, with its processes."""
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with Service(config) as running:
        yield running


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
    """Record so many frames of a test engine and return the name of the closed take."""
    with engine(service.endpoint, token=service.token, game=game) as sender:
        (name,) = service.record_start()
        send(sender, frames)
    until(lambda: [t for t in service.state()["takes"] if t["name"] == name and t["state"] == "closed"])
    return name
