"""What the daemon's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.service import DaemonConfig, Service

from .engines import engine, send


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running daemon on free ports of this machine, with its processes."""
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with Service(config) as running:
        yield running


@pytest.fixture
def take(service: Service) -> str:
    """Name of a closed take of 12 frames in the daemon's folder."""
    return record(service, 12)


def record(service: Service, frames: int, game: str = "recorded") -> str:
    from .engines import until

    with engine(service.endpoint, game=game) as sender:
        (name,) = service.record_start()
        send(sender, frames)
    until(lambda: [t for t in service.state()["takes"] if t["name"] == name and t["state"] == "closed"])
    return name
