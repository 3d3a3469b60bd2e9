"""`realmaster doctor --bridge`: of a take, of a bridge that connects, and of a running daemon."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from capture.connection import Connection, connection_file, read_connection, write_connection
from capture.frame import Frame
from capture.health import read_health
from capture.health.mistakes import plant, without_geometry
from capture.sender import FrameSender
from capture.take import TakeWriter
from daemon.service import DaemonConfig, Service
from realmaster.cli import main
from tests.capture.health_scenes import city

PATIENCE = 120.0


def write(path: Path, frames: list[Frame]) -> Path:
    descriptors = [channel.descriptor for channel in frames[0].channels.values()]
    with TakeWriter(
        path, conventions=frames[0].conventions, descriptors=descriptors, engine="city", preview=False
    ) as writer:
        for frame in frames:
            writer.append(frame)
    return path


def send(endpoint: str, token: str, frames: list[Frame], stay: threading.Event | None = None) -> None:
    descriptors = [channel.descriptor for channel in frames[0].channels.values()]
    with FrameSender(endpoint, token=token, engine="test", game="g", channels=descriptors, mode="lossless") as sender:
        for frame in frames:
            arrays = {name: channel.data for name, channel in frame.channels.items()}
            sender.send(frame.raw_camera, arrays, time=frame.time, serial=frame.serial, flags=frame.flags)
        if stay is not None:
            stay.wait(PATIENCE)


def test_healthy_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take = write(tmp_path / "good", city())
    assert main(["doctor", "--bridge", str(take)]) == 0
    shown = capsys.readouterr().out
    assert "in sync" in shown
    assert (take / "health.png").stat().st_size > 20_000
    kept = read_health(take)
    assert kept is not None and kept["line"] == "in sync"


def test_sick_take_is_one_sentence_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take = write(tmp_path / "sick", plant(without_geometry(city()), "depth_rows"))
    out = tmp_path / "look.png"
    assert main(["doctor", "--bridge", str(take), "--json", "-o", str(out)]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out.splitlines()[-1])
    assert report["mistakes"] == ["depth_rows"]
    assert report["line"] == "the depth is upside down"
    assert "The depth is upside down" in report["error"]
    assert captured.err.strip().splitlines()[-1].startswith("realmaster: sick: The depth is upside down")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["doctor", "-o", "x.png"])
    assert error.value.code == 2
    assert main(["doctor", "--bridge", "no-such-take"]) == 1
    assert "no-such-take" in capsys.readouterr().err


def test_bridge_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str], own_folders: Path) -> None:
    def bridge() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            files = list((own_folders / "run").glob("daemon-*.json"))
            if files:
                found = json.loads(files[0].read_text())
                send(found["endpoint"], found["token"], plant(city(), "color_late"))
                return
            time.sleep(0.05)

    thread = threading.Thread(target=bridge)
    thread.start()
    out = tmp_path / "live.png"
    code = main(["doctor", "--bridge", "--listen", "tcp://127.0.0.1:*", "-o", str(out), "--json"])
    thread.join(PATIENCE)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 1, report
    assert report["mistakes"] == ["color_late"]
    assert report["what"] == "test g"
    assert out.exists()


def test_live_session_of_a_running_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with Service(config) as service:
        # The daemon of the default endpoint is asked; this one has taken a free port.
        here = read_connection(service.endpoint)
        default = Connection("tcp://127.0.0.1:5790", here.token, here.pid, service.http_url)
        write_connection(default)
        assert connection_file(5790).exists()
        assert main(["doctor", "--bridge", "-o", str(tmp_path / "a.png")]) == 1
        assert "No engine is connected" in capsys.readouterr().err
        stay = threading.Event()
        frames = plant(city(), "normal_rows")
        thread = threading.Thread(target=send, args=(service.endpoint, service.token, frames, stay))
        thread.start()
        try:
            deadline = time.monotonic() + PATIENCE
            while not (sessions := service.state()["sessions"]) or sessions[0]["frames"] < len(frames):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert main(["doctor", "--bridge", "-o", str(tmp_path / "b.png"), "--json"]) == 1
        finally:
            stay.set()
            thread.join(PATIENCE)
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert report["mistakes"] == ["normal_rows"]
        assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
