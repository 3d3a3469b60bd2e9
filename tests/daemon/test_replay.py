"""Saving what just happened: the ring becomes a take, quickly, and nothing live is lost meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture import codecs
from capture.errors import UserError
from capture.take import Take, verify
from daemon.ingest import Ingest
from daemon.service import DaemonConfig, Service, default_replay_bytes

from .engines import assert_exact, engine, send, until

ROOT = Path(__file__).parents[2]


class Running:
    """An ingest and what it told."""

    def __init__(self, takes: Path, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.ingest = Ingest("tcp://127.0.0.1:*", takes=takes, previews=False, on_event=self.events.append, **options)
        self.takes = takes

    def __enter__(self) -> Running:
        self.ingest.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ingest.stop()

    def closed(self, name: str) -> dict[str, Any]:
        def event() -> dict[str, Any] | None:
            return next((e for e in self.events if e["event"] == "take_closed" and e["take"] == name), None)

        return until(event, 60, f"the end of take {name}")

    def kept(self, frames: int) -> None:
        """Wait until the ring holds so many frames, all of them compressed."""
        until(lambda: self.session["frames"] >= frames and all(e.nbytes for e in self.ring.newest()), 60)

    @property
    def ring(self) -> Any:
        (session,) = self.ingest._sessions.values()
        return session.ring

    @property
    def session(self) -> dict[str, Any]:
        return next(iter(self.ingest.state.get("sessions", [])), {"frames": 0})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "takes", replay_seconds=100.0) as started:
        yield started


def test_the_hotkey_in_the_game_saves_a_replay(running: Running) -> None:
    with engine(running.ingest.endpoint) as sender:
        send(sender, 12)
        sender.event("replay_save", time=0.5)
        until(lambda: [e for e in running.events if e["event"] == "take_closed"], 60)
    (name,) = [e["take"] for e in running.events if e["event"] == "take_closed"]
    take = Take(running.takes / name)
    assert [frame.serial for frame in take] == list(range(12)) and take.manifest["metadata"]["replay"] is True
    for frame in take:
        assert_exact(frame)


def test_some_of_the_last_seconds(running: Running) -> None:
    with engine(running.ingest.endpoint) as sender:
        send(sender, 49)  # 24 a second
        running.kept(49)
        (name,) = running.ingest.command("replay_save", seconds=0.5).result(60)
        running.closed(name)
    assert [frame.serial for frame in Take(running.takes / name)] == list(range(36, 49))


def test_a_replay_tells_of_the_frames_that_it_lacks(running: Running) -> None:
    """Those, and not what is dropped while it is saved or was before."""
    with engine(running.ingest.endpoint) as sender:
        for first in (10, 30, 37):
            send(sender, 12 if first == 10 else 6, first=first)
        until(lambda: running.session["frames"] == 24, 60)
        (name,) = running.ingest.command("replay_save", seconds=0.6).result(60)
        running.closed(name)
    assert [frame.serial for frame in Take(running.takes / name)] == [*range(30, 36), *range(37, 43)]
    assert [e["dropped"] for e in running.events if e["event"] == "take_closed"] == [1]


def test_replays_beside_a_recording_lose_nothing(running: Running) -> None:
    """Recording goes on while the ring is saved, twice; each frame is compressed once for all of them."""
    with engine(running.ingest.endpoint) as sender:
        send(sender, 30)
        until(lambda: running.session["frames"] == 30, 60)
        (recorded,) = running.ingest.command("record_start").result(60)
        saved = []
        for first in (30, 60):
            send(sender, 30, first=first)
            until(lambda first=first: running.session["frames"] == first + 30, 60)
            saved += running.ingest.command("replay_save").result(60)
        send(sender, 30, first=90)
    goodbye = sender.goodbye
    assert goodbye is not None and (goodbye.received, goodbye.recorded, goodbye.dropped) == (120, 90, 0)
    for name in (recorded, *saved):
        running.closed(name)
        assert verify(running.takes / name).problems == []
    assert [f.serial for f in Take(running.takes / recorded)] == list(range(30, 120))
    for name, end in zip(saved, (60, 90), strict=True):
        serials = [frame.serial for frame in Take(running.takes / name)]
        assert serials == list(range(end))
        for frame in Take(running.takes / name):
            assert_exact(frame)


def test_the_ring_says_when_its_memory_is_too_small(tmp_path: Path) -> None:
    with Running(tmp_path / "takes", replay_seconds=100.0, replay_bytes=200_000) as running:
        with engine(running.ingest.endpoint) as sender:
            send(sender, 40)
            until(lambda: running.session["frames"] == 40 and running.session["ring"]["cut"], 60)
            ring = running.session["ring"]
            assert 0 < ring["bytes"] <= 200_000 and 0 < ring["frames"] < 40 and ring["wanted"] == 100.0
            (name,) = running.ingest.command("replay_save").result(60)
            running.closed(name)
        serials = [frame.serial for frame in Take(running.takes / name)]
        assert serials == list(range(serials[0], 40)) and serials[0] > 0


def test_without_seconds_nothing_is_compressed_and_nothing_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a frame was compressed that nobody keeps")

    monkeypatch.setattr("daemon.ingest.Encoding", never)
    with Running(tmp_path / "takes", replay_seconds=0.0) as running, engine(running.ingest.endpoint) as sender:
        send(sender, 10)
        until(lambda: running.session["frames"] == 10, 60)
        with pytest.raises(UserError, match="--replay-seconds above 0"):
            running.ingest.command("replay_save").result(60)


def test_the_newest_frames_come_back_as_sent(running: Running) -> None:
    with engine(running.ingest.endpoint) as sender:
        send(sender, 10)
        until(lambda: running.session["frames"] == 10, 60)
        _, frames = running.ingest.newest(count=3)
        assert [frame.serial for frame in frames] == [7, 8, 9]
        for frame in frames:
            assert_exact(frame)


def test_a_codec_that_fails_ends_the_take_in_one_sentence(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames before are kept, the session goes on, and the next take is whole."""
    right, broken = codecs.encode_preferably, [False]

    def sometimes(name: str, array: Any, dense: bool = False) -> tuple[str, bytes]:
        if broken[0]:
            raise MemoryError("no memory for the codec")
        return right(name, array, dense)

    monkeypatch.setattr(codecs, "encode_preferably", sometimes)
    with engine(running.ingest.endpoint) as sender:
        (first,) = running.ingest.command("record_start").result(60)
        send(sender, 10)
        until(lambda: running.session["recorded"] == 10, 60)
        broken[0] = True
        send(sender, 1, first=10)
        report = running.closed(first)
        assert "no memory for the codec" in report["problem"] and report["frames"] == 10
        broken[0] = False
        (second,) = running.ingest.command("record_start").result(60)
        send(sender, 10, first=11)
        until(lambda: running.session["frames"] == 21, 60)
        (replay,) = running.ingest.command("replay_save").result(60)
    running.closed(second)
    running.closed(replay)
    for name, serials in ((first, range(10)), (second, range(11, 21)), (replay, [*range(10), *range(11, 21)])):
        take = Take(running.takes / name)
        assert [frame.serial for frame in take] == list(serials) and verify(take.path).ok
        for frame in take:
            assert_exact(frame)


def test_recording_to_a_bound(tmp_path: Path) -> None:
    precision = codecs.Precision(depth="log16", normals="oct16")
    with Running(tmp_path / "takes", auto_record=True, replay_seconds=0.0, precision=precision) as running:
        with engine(running.ingest.endpoint) as sender:
            send(sender, 5)
        assert sender.goodbye is not None
        report = verify(running.takes / str(sender.goodbye.take))
    assert report.ok and report.good == 5 and report.errors.keys() == {"depth", "normal"}


def test_twenty_seconds_of_720p_have_room_by_default() -> None:
    textured = 1280 * 720 * (3 / 2.7 + 4 / 6 + 3 / 2.4)  # bytes a frame at the ratios of benchmarks/codecs.py
    assert default_replay_bytes() >= min(20 * 30 * textured, default_replay_bytes())
    assert 20 * 30 * textured < 2**31


# -- from the command line


def replay(service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "realmaster", "record", "replay", "--listen", service.endpoint, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=dict(os.environ))


def test_the_command_line_saves_a_replay_of_a_running_daemon(tmp_path: Path) -> None:
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with Service(config) as service:
        nothing = replay(service)
        assert nothing.returncode == 1 and "No engine is connected" in nothing.stderr, nothing.stderr
        with engine(service.endpoint, token=service.token) as sender:
            send(sender, 48)
            until(lambda: [s for s in service.state()["sessions"] if s["frames"] == 48], 60)
            done = replay(service, "--seconds", "1", "--json")
            assert done.returncode == 0, done.stderr
            body = json.dumps({"seconds": -1}).encode()
            request = urllib.request.Request(
                f"{service.http_url}/api/v1/replay/save", body, {"Content-Type": "application/json"}
            )
            with pytest.raises(urllib.error.HTTPError, match="422"):
                urllib.request.urlopen(request, timeout=30)
        report = json.loads(done.stdout.splitlines()[-1])
        take = Take(report["take"])
        assert take.path.parent == config.takes and take.state == "closed"
        assert [frame.serial for frame in take] == list(range(23, 48)) and report["frames"] == 25
    gone = replay(service)
    assert gone.returncode == 1 and "No daemon runs at" in gone.stderr and "Traceback" not in gone.stderr
    assert replay(service, "--name", "x").returncode == 2
