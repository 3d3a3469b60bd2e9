"""The city over real sockets: what it sends, what it obeys, what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from capture import wire
from capture.errors import FrameError
from capture.take import Take
from daemon.ingest import Ingest
from engine_bridges.city.__main__ import main
from engine_bridges.city.bridge import city_from_take, game_name, run
from engine_bridges.city.scene import City

SIZE = (96, 64)


class Daemon:
    """The smallest daemon: a ROUTER that grants credit and keeps what it is told."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._peer = b""

    def receive(self, timeout: float = 60.0) -> wire.Message | None:
        """The next message, or None when none comes in time."""
        if not self._socket.poll(timeout * 1000):
            return None
        self._peer, *parts = self._socket.recv_multipart()
        return wire.decode(parts)

    def send(self, message: wire.Message) -> None:
        self._socket.send_multipart([self._peer, *wire.encode(message)])

    def welcome(self, mode: str, credit: int) -> wire.Hello:
        hello = self.receive()
        assert isinstance(hello, wire.Hello)
        names = tuple(descriptor.name for descriptor in hello.channels)
        self.send(wire.Welcome(session=hello.session, channels=names, mode=mode, credit=credit, max_frame_bytes=2**24))
        return hello

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("REALMASTER_TOKEN", "a token")
    daemon = Daemon()
    yield daemon
    daemon.close()


def in_background(daemon: Daemon, **settings) -> threading.Thread:
    thread = threading.Thread(target=run, args=(City(4, SIZE), daemon.endpoint), kwargs=settings, daemon=True)
    thread.start()
    return thread


def test_what_is_announced_and_sent(daemon: Daemon) -> None:
    thread = in_background(daemon, frames=3, mode="lossless")
    hello = daemon.welcome("lossless", credit=3)
    assert (hello.engine, hello.game, hello.fps) == ("city", "city seed 4", 24.0)
    assert hello.legend["segmentation"][5] == "vehicle"
    city = City(4, SIZE)
    for index in range(3):
        message, truth = daemon.receive(), city.frame(index)
        assert isinstance(message, wire.FrameMessage)
        assert (message.serial, message.time) == (index, pytest.approx(index / 24))
        arrays = {part.channel: part.array for part in message.parts}
        for name in ("color", "depth", "motion", "segmentation", "instance"):
            assert np.array_equal(arrays[name], getattr(truth, name)), name
        np.testing.assert_allclose(arrays["normal"] / 32767, truth.normal, atol=2e-5)
        assert np.allclose(message.camera.pose, truth.camera.pose)
        assert [entity.id for entity in message.entities] == [entity.id for entity in truth.entities]
    assert isinstance(daemon.receive(), wire.Bye)
    daemon.send(wire.Goodbye(received=3, recorded=0, dropped=0, take=None))
    thread.join(60)
    assert not thread.is_alive()


def test_pause_and_step(daemon: Daemon) -> None:
    thread = in_background(daemon, frames=6, mode="lossless")
    daemon.welcome("lossless", credit=1)
    assert daemon.receive().serial == 0
    daemon.send(wire.Control("pause", {"on": True}))
    daemon.send(wire.Credit(50))
    assert isinstance(daemon.receive(4.0), wire.FrameMessage | None)  # one may have been waiting for its credit
    assert daemon.receive(0.3) is None
    daemon.send(wire.Control("step", {"frames": 2}))
    assert isinstance(daemon.receive(), wire.FrameMessage) and isinstance(daemon.receive(), wire.FrameMessage)
    assert daemon.receive(0.3) is None
    daemon.send(wire.Control("pause"))
    message = daemon.receive()
    while isinstance(message, wire.FrameMessage):
        last = message.serial
        message = daemon.receive()
    assert last == 5 and isinstance(message, wire.Bye)
    daemon.send(wire.Goodbye(received=6, recorded=0, dropped=0, take=None))
    thread.join(60)
    assert not thread.is_alive()


def test_live_leaves_out_frames_without_credit(daemon: Daemon) -> None:
    thread = in_background(daemon, frames=2, mode="live")
    daemon.welcome("live", credit=1)
    assert daemon.receive().serial == 0
    assert daemon.receive(1.0) is None  # frames go by unsent
    daemon.send(wire.Credit(1))
    second = daemon.receive()
    assert second.serial > 1 and second.dropped_before == second.serial - 1
    assert second.time == pytest.approx(second.serial / 24)
    assert isinstance(daemon.receive(), wire.Bye)
    daemon.send(wire.Goodbye(received=2, recorded=0, dropped=second.dropped_before, take=None))
    thread.join(60)


def test_recorded_frames_find_their_reference(tmp_path: Path) -> None:
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True) as ingest:
        command = [sys.executable, "-m", "engine_bridges.city", "--endpoint", ingest.endpoint, "--seed", "11",
                   "--frames", "5", "--size", "96x64", "--fps", "12", "--mode", "lossless",
                   "--weather", "dusk"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    (name,) = [path.name for path in (tmp_path / "takes").iterdir()]
    take = Take(tmp_path / "takes" / name)
    assert len(take) == 5 and take.legend["segmentation"][6] == "person"
    city = city_from_take(take)
    assert city.weather == "dusk"
    for recorded in take:
        truth = city.frame(recorded.serial)
        assert np.array_equal(recorded.color, truth.color) and np.array_equal(recorded.depth, truth.depth)
        np.testing.assert_allclose(recorded.normal, truth.normal, atol=5e-5)
        np.testing.assert_allclose(recorded.camera.pose, truth.camera.pose)
    assert city.reference(take[4].serial).shape == take[4].color.shape


def test_a_take_names_what_overruled_its_seed() -> None:
    city = City(11, SIZE, layout="old town", weather="wet dusk")
    assert game_name(city) == "city seed 11, layout old town, weather wet dusk"

    class Take:
        engine, game, fps = "city", game_name(city), 24.0
        manifest = {"channels": [{"name": "color", "shape": [SIZE[1], SIZE[0], 3]}]}

    again = city_from_take(Take())
    assert again.overrides == city.overrides and np.array_equal(again.reference(3), city.reference(3))


def test_a_take_of_another_engine_has_no_reference() -> None:
    class Other:
        engine, game, fps, manifest = "panda3d", "sample", 24.0, {"channels": []}

    with pytest.raises(FrameError, match="a take of panda3d sample has no reference"):
        city_from_take(Other())


def test_errors_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--size", "large"])
    assert ended.value.code == 2 and "not a size such as 320x180" in capsys.readouterr().err
    assert main(["--endpoint", "nonsense", "--frames", "1"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
