"""A daemon that dies, freezes and comes back while a game runs: the game goes on, only what was in flight is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.take import Take
from tests.daemon.engines import until

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from engine_bridges.opengl.launch import Game
from tests.engine_bridges.opengl.conftest import needs

pytestmark = pytest.mark.usefixtures("on_display")


class Daemon:
    """`realmaster record listen` on a port, as a process that can be killed."""

    def __init__(self, endpoint: str, takes: Path) -> None:
        command = [sys.executable, "-m", "realmaster", "record", "listen", "--listen", endpoint, "--takes", str(takes)]
        self.takes = takes
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def newest(self) -> Take | None:
        folders = sorted(self.takes.glob("*/take.json"), key=lambda path: path.stat().st_mtime)
        return Take(folders[-1].parent) if folders else None

    def frames(self) -> int:
        take = self.newest()
        return 0 if take is None else len(take)


@pytest.fixture
def endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def daemons(endpoint: str, tmp_path: Path) -> Iterator[list[Daemon]]:
    """Daemons that the test started; killed at its end."""
    started: list[Daemon] = []
    yield started
    for daemon in started:
        daemon.process.kill()
        daemon.process.wait()


def drawn(truth: Path) -> int:
    """Frames that the zoo has drawn so far."""
    return max(0, truth.read_bytes().count(b"\n") - 1) if truth.exists() else 0


def more(truth: Path, count: int, what: str) -> None:
    """Wait until the game has drawn so many frames more: it does not hang."""
    already = drawn(truth)
    until(lambda: drawn(truth) >= already + count, timeout=60, what=what)


@pytest.mark.parametrize("mode", ("live", "lossless"))
def test_killed_and_started_again(
    mode: str, zoo: Path, library: Path, tmp_path: Path, endpoint: str, daemons: list[Daemon]
) -> None:
    truth = tmp_path / "truth.jsonl"
    environment = {"REALMASTER_ENDPOINT": endpoint, "REALMASTER_GL_MODE": mode}
    command = [str(zoo), "fixed", "--truth", str(truth), "--pause", "10"]
    daemons.append(Daemon(endpoint, tmp_path / "first"))
    with Game(command, library, environment) as game:
        until(lambda: daemons[0].frames() > 20, timeout=60, what="the first recording")
        daemons[0].process.kill()
        daemons[0].process.wait()
        more(truth, 50, "drawing without a daemon")
        daemons.append(Daemon(endpoint, tmp_path / "second"))
        until(lambda: daemons[1].frames() > 20, timeout=60, what="the second recording")
        assert game.running
    assert not game.failed, game.news()

    first, second = daemons[0].newest(), daemons[1].newest()
    assert first is not None and second is not None
    for take in (first, second):
        serials = [take[i].serial for i in range(len(take))]
        lost = sum(take[i].dropped_before for i in range(1, len(take)))
        assert serials[-1] - serials[0] + 1 == len(take) + lost, "every frame is there or counted"
        assert mode == "live" or lost == 0
    assert second[0].time > first[len(first) - 1].time


def test_frozen_and_thawed(zoo: Path, library: Path, tmp_path: Path, endpoint: str, daemons: list[Daemon]) -> None:
    truth = tmp_path / "truth.jsonl"
    daemons.append(Daemon(endpoint, tmp_path / "takes"))
    command = [str(zoo), "fixed", "--truth", str(truth), "--pause", "5"]
    with Game(command, library, {"REALMASTER_ENDPOINT": endpoint, "REALMASTER_GL_MODE": "live"}) as game:
        until(lambda: daemons[0].frames() > 5, timeout=60, what="the recording")
        daemons[0].process.send_signal(signal.SIGSTOP)
        try:
            more(truth, 300, "drawing while nobody reads")
        finally:
            daemons[0].process.send_signal(signal.SIGCONT)
        before = daemons[0].frames()
        until(lambda: daemons[0].frames() > before + 20, timeout=60, what="the recording after the thaw")
        assert game.running
    take = daemons[0].newest()
    assert take is not None and sum(frame.dropped_before for frame in take) > 0


def test_a_game_without_any_daemon_just_runs(zoo: Path, library: Path, tmp_path: Path, endpoint: str) -> None:
    truth = tmp_path / "truth.jsonl"
    command = [str(zoo), "fixed", "--truth", str(truth), "--frames", "100"]
    with Game(command, library, {"REALMASTER_ENDPOINT": endpoint}) as game:
        until(lambda: game.wait(0.1), timeout=60, what="the end of the game")
        assert not game.failed, game.news()
    assert drawn(truth) == 100


def test_keys_start_and_end_a_take(zoo: Path, library: Path, tmp_path: Path, display: str) -> None:
    needs("xdotool")
    from daemon.ingest import Ingest

    events: list[str] = []
    ingest = Ingest(
        "tcp://127.0.0.1:*", takes=tmp_path, previews=False, on_event=lambda event: events.append(event["event"])
    )

    def press(key: str) -> None:
        environment = {**os.environ, "DISPLAY": display}
        subprocess.run(["xdotool", "key", key], check=True, timeout=30, env=environment)

    with ingest:
        environment = {"REALMASTER_ENDPOINT": ingest.endpoint, "REALMASTER_TOKEN": ingest.token}
        with Game([str(zoo), "fixed", "--pause", "5"], library, environment):
            until(lambda: any(s["frames"] for s in ingest.state.get("sessions", [])), timeout=60, what="frames")
            assert "take_started" not in events
            press("F9")
            until(lambda: "take_started" in events, timeout=30, what="F9")
            press("F9")
            until(lambda: "take_closed" in events, timeout=30, what="the second F9")
