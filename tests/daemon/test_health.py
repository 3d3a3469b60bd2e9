"""What the daemon says of a session's health: while it runs, when asked, and kept in its takes."""

from __future__ import annotations

import httpx

from capture.frame import Frame
from capture.health.keeping import read_health
from capture.health.mistakes import plant
from capture.sender import FrameSender
from daemon.service import Service
from tests.capture.health_scenes import city

from .engines import until

PATIENCE = 150.0
"""An examination takes a second or two of a processor that is free."""


def sender_of(service: Service, frames: list[Frame]) -> FrameSender:
    return FrameSender(
        service.endpoint, token=service.token, engine="test", game="sick", mode="lossless",
        channels=[channel.descriptor for channel in frames[0].channels.values()],
    )  # fmt: skip


def send(sender: FrameSender, frames: list[Frame]) -> None:
    for frame in frames:
        arrays = {name: channel.data for name, channel in frame.channels.items()}
        sender.send(frame.raw_camera, arrays, time=frame.time, serial=frame.serial)


def test_session_take_and_api_name_the_mistake(service: Service) -> None:
    frames = plant(city(), "depth_late")
    with sender_of(service, frames) as sender:
        (name,) = service.record_start()
        send(sender, frames)

        def report() -> dict | None:
            sessions = service.state()["sessions"]
            health = sessions[0]["health"] if sessions else None
            return health if health and health["verdict"] == "wrong" else None

        found = until(report, PATIENCE, "the examination")
        assert found["line"] == "the depth is one frame late"
        assert {"name", "verdict", "sentence", "figure"} <= set(found["checks"][0])

        session = service.state()["sessions"][0]["id"]
        address = f"{service.http_url}/api/v1/sessions/{session}/health"
        answer = httpx.get(address, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        assert answer.json()["mistakes"] == ["depth_late"]
        picture = httpx.get(f"{address}.png", timeout=PATIENCE)
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
    take = service.config.takes / name
    kept = until(lambda: read_health(take), PATIENCE, "health.json")
    assert kept["mistakes"] == ["depth_late"]


def test_health_of_a_session_that_is_not_there_is_a_sentence(service: Service) -> None:
    answer = httpx.get(f"{service.http_url}/api/v1/sessions/nobody/health", timeout=PATIENCE)
    assert answer.status_code == 409
    assert answer.json()["error"].startswith("No engine is connected")
    answer = httpx.get(f"{service.http_url}/api/v1/sessions/nobody/health.png", timeout=PATIENCE)
    assert answer.status_code == 409
    assert "has not been examined" in answer.json()["error"]


def test_examiner_that_dies_is_started_again(service: Service) -> None:
    frames = city()
    with sender_of(service, frames) as sender:
        send(sender, frames)
        until(lambda: service.state()["sessions"], what="the session")
        session = service.state()["sessions"][0]["id"]
        first = service.health.examine(session).result(PATIENCE)
        assert first["line"] == "in sync"
        child = service.health._child
        assert child is not None
        child.kill()
        until(lambda: not child.alive, what="its end")
        again = service.health.examine(session).result(PATIENCE)
        assert again["line"] == "in sync"
