"""The C++ sender over real sockets: against the daemon's Ingest, and against a small daemon that does as it is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from capture import wire
from capture.camera import Camera
from capture.frame import Frame
from capture.shared_memory import Segment
from capture.take import Take, repair, verify
from daemon.ingest import Ingest

from ...capture.small_daemon import TOKEN, SmallDaemon
from ...daemon.engines import until

pytestmark = pytest.mark.timeout(180, func_only=True)  # what is tested is built by the first test


class Stream:
    """A running realmaster_stream: it does what it is told, one line each, and answers."""

    def __init__(self, program: Path, log: Path) -> None:
        self._log = log
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
        )

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program is gone with {self.process.wait(10)}: {self.log}"
        return json.loads(line)

    def ask(self, command: str) -> Any:
        self.tell(command)
        return self.answer()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def connected(self) -> bool:
        return self.ask("status")["connected"]

    def send_one(self) -> None:
        """One frame more, however many are dropped until there is a credit."""
        until(lambda: self.ask("frames 1"), what="a credit")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


def pixels(serial: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour and depth as tests/stream.cpp fills them."""
    color = (31 * serial + np.arange(height * width * 3)).astype(np.uint8).reshape(height, width, 3)
    depth = (1 + serial + 0.25 * np.arange(height * width, dtype=np.float32)).reshape(height, width)
    return color, depth.astype(np.float32)


def assert_exact(frame: Frame, height: int = 48, width: int = 64) -> None:
    color, depth = pixels(frame.serial, height, width)
    np.testing.assert_array_equal(frame.channels["color"].data, color)
    np.testing.assert_array_equal(frame.channels["depth"].data, depth)
    pose = np.eye(4)
    pose[2, 3] = frame.serial
    sent = Camera(pose, 50.0, 50.0, (width - 1) / 2, (height - 1) / 2, 0.1, 1e6)
    assert frame.raw_camera == sent and frame.time == frame.serial / 24


def use(monkeypatch: pytest.MonkeyPatch, daemon: SmallDaemon, token: str = TOKEN) -> None:
    """Programs started from now on find this daemon."""
    monkeypatch.setenv("REALMASTER_ENDPOINT", daemon.endpoint)
    monkeypatch.setenv("REALMASTER_TOKEN", token)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# -- against the daemon


@pytest.mark.parametrize("transport", ["", "tcp"], ids=["shared memory", "tcp"])
def test_a_take_is_whole_and_bit_exact(
    transport: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolution, channels and meaning change on the way; the token comes from the connection file."""
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True, previews=False) as ingest:
        monkeypatch.setenv("REALMASTER_ENDPOINT", ingest.endpoint)
        stream = Stream(programs / "realmaster_stream", tmp_path / "log")
        stream.ask(f"start lossless {transport}")
        until(lambda: stream.connected, what="a session")
        assert stream.ask("frames 12") == 12
        stream.ask("size 24 32")
        assert stream.ask("frames 2") == 2
        stream.ask("describe measured")
        assert stream.ask("frames 2") == 2
        stream.ask("late 9")
        assert stream.ask("event marker") is True
        stream.ask("broken")
        assert stream.ask("frames 1") == 1
        goodbye = stream.ask("close 30")
        status = stream.ask("status")
        stream.stop()
    assert goodbye == {"received": 18, "recorded": 18, "dropped": 1, "take": goodbye["take"]}
    assert (status["sent"], status["dropped"], status["lost"], status["acknowledged"]) == (18, 1, 0, 18)
    assert status["shared"] == (0 if transport == "tcp" or sys.platform not in ("linux", "win32") else 18)
    assert "the rotation of the camera pose is not orthonormal" in stream.log
    take = Take(tmp_path / "takes" / goodbye["take"])
    assert verify(take.path).ok
    assert [frame.serial for frame in take] == [*range(17), 18]
    for frame in take:
        if frame.serial != 16:
            assert_exact(frame, *((48, 64) if frame.serial < 12 else (24, 32)))
    assert ["mask" in frame.channels for frame in take] == [False] * 14 + [True] * 4
    assert [frame.channels["depth"].descriptor.in_metres for frame in take] == [True] * 14 + [False] * 4
    assert take[14].channels["depth"].descriptor.projection == "measured"
    assert take[14].canonical("mask")[0, 0] == 14
    assert take[16].flags == ("desync",) and take[16].channels["depth"].serial == 9
    assert take[17].dropped_before == 1
    assert take[1].flags == ("cut",)
    (car,) = take[1].entities
    assert (car.id, car.cls, car.model, car.size, car.velocity) == (7, "car", "sedan", (1.0, 2.0, 3.0), None)
    events = {event["name"]: event for event in take.events}
    assert events["marker"]["data"] == {"from": "stream", "n": 3} and events["marker"]["time"] == 1.5
    assert (take.engine, take.game, take.fps) == ("cpp", "stream", 24.0)


@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="no shared memory here")
def test_frames_that_outgrow_the_shared_memory_get_more_of_it(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True, previews=False) as ingest:
        monkeypatch.setenv("REALMASTER_ENDPOINT", ingest.endpoint)
        stream = Stream(programs / "realmaster_stream", tmp_path / "log")
        stream.ask("start lossless")
        until(lambda: stream.connected, what="a session")
        stream.ask("frames 3")
        stream.ask("size 96 128")
        stream.ask("frames 1")
        until(lambda: stream.ask("status")["sent"] == 4, what="four frames")
        before, sent = stream.ask("status")["shared"], 4

        def shared_again() -> bool:
            nonlocal sent
            sent += stream.ask("frames 1")
            return stream.ask("status")["shared"] > before

        until(shared_again, what="larger slots")
        goodbye = stream.ask("close 30")
        stream.stop()
    take = Take(tmp_path / "takes" / goodbye["take"])
    assert len(take) == sent and verify(take.path).ok
    for frame in take:
        assert_exact(frame, *((48, 64) if frame.serial < 3 else (96, 128)))


@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="no shared memory here")
def test_memory_that_cannot_be_attached_is_told_and_done_without(stream_to: Any) -> None:
    daemon, stream = stream_to("lossless")
    session, key = daemon.of(wire.Hello)[0].session, "0" * 32
    segment = Segment.create(2, 4096)
    assert wire.SHARED_MEMORY in daemon.of(wire.Hello)[0].capabilities
    for name, slots, slot_bytes in (
        ("/etc/passwd", 2, 4096), ("/proc/1/fd/99999", 2, 4096), (f"/proc/{os.getpid()}/fd/../environ", 2, 4096),
        (segment.name, 2, 8192), (segment.name, 2**62, 2**62), (segment.name, 0, 4096), (segment.name, 2, 4096),
    ):  # fmt: skip
        daemon.say(wire.Memory(session, key, name, slots, slot_bytes))
    answers = daemon.wait_for(wire.Attached, 7)
    assert all(answer.key == key and "cannot be attached" in answer.problem for answer in answers)
    assert "other memory than was offered" in answers[-1].problem
    stream.ask("frames 2")
    assert [message.slot for message in daemon.wait_for(wire.FrameMessage, 2)] == [None, None]
    assert stream.ask("status")["shared"] == 0


DAEMON = """
import sys, pathlib
from daemon.ingest import Ingest
ingest = Ingest(sys.argv[1], takes=pathlib.Path(sys.argv[2]), auto_record=True, previews=False)
ingest.bind()
print("bound", flush=True)
ingest.run()
"""


class Daemon:
    """An Ingest in a process of its own, to be killed."""

    def __init__(self, endpoint: str, takes: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, endpoint, str(takes)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "bound\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


@pytest.mark.parametrize("mode", ["live", "lossless"])
def test_a_daemon_that_is_killed_and_comes_back_costs_only_what_was_in_flight(
    mode: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, takes = f"tcp://127.0.0.1:{free_port()}", tmp_path / "takes"
    monkeypatch.setenv("REALMASTER_ENDPOINT", endpoint)
    daemon = Daemon(endpoint, takes)
    stream = Stream(programs / "realmaster_stream", tmp_path / "log")
    try:
        stream.ask(f"start {mode}")
        until(lambda: stream.connected, what="a session")
        for _ in range(10):
            stream.send_one()
        until(lambda: stream.ask("status")["acknowledged"] is not None, what="an acknowledgement")
        if mode == "live":
            daemon.kill()
            until(lambda: not stream.connected, what="the end of the session")
            assert stream.ask("frames 5") == 0  # the game goes on
        else:
            stream.tell("frames 300")  # it is at it when the daemon dies, and waits for the one that comes back
            daemon.kill()
        daemon = Daemon(endpoint, takes)
        if mode == "live":
            until(lambda: stream.connected, what="a new session")
        else:
            assert stream.answer() == 300
        for _ in range(10):
            stream.send_one()
        goodbye = stream.ask("close 60")
        status = stream.ask("status")
    finally:
        stream.stop()
        daemon.kill()
    first, second = (Take(path) for path in sorted(takes.iterdir()))
    assert goodbye["take"] == second.name and goodbye["recorded"] == len(second)
    assert first.state == "open" and second.state == "closed"
    repair(first.path, preview=False)
    assert verify(first.path).ok and verify(second.path).ok
    serials = [frame.serial for take in (first, second) for frame in take]
    assert serials == sorted(set(serials))
    for take in (first, second):
        for frame in take:
            assert_exact(frame)
    missing = set(range(serials[-1] + 1)) - set(serials)
    assert len(missing) <= status["dropped"] + status["lost"], "frames are missing that nobody counted"
    if mode == "lossless":
        assert status["dropped"] == 0
    assert "is gone" in stream.log and "is there now" in stream.log


# -- against a small daemon


@pytest.fixture
def stream_to(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a small daemon and a stream whose session it has welcomed."""
    started: list[tuple[SmallDaemon, Stream]] = []

    def start(wanted: str = "live", **options: Any) -> tuple[SmallDaemon, Stream]:
        daemon = SmallDaemon(**options)
        use(monkeypatch, daemon)
        stream = Stream(programs / "realmaster_stream", tmp_path / "log")
        started.append((daemon, stream))
        stream.ask(f"start {wanted}")
        until(lambda: stream.connected, what="a session")
        return started[-1]

    yield start
    for daemon, stream in started:
        stream.stop()
        daemon.close()


def test_live_drops_without_credit_and_tells_how_many(stream_to: Any) -> None:
    daemon, stream = stream_to(credit=2, give_back=False)
    assert stream.ask("frames 10") == 2
    assert stream.ask("status")["dropped"] >= 8  # those before the welcome count too
    daemon.wait_for(wire.FrameMessage, 2)
    daemon.say(wire.Credit(2, None))
    stream.send_one()
    stream.send_one()
    assert stream.ask("close 30") == {"received": 4, "recorded": 4, "dropped": 0, "take": None}
    last = -1
    for message in daemon.frames:
        assert message.dropped_before == message.serial - last - 1
        last = message.serial
    assert daemon.frames[2].dropped_before >= 8 and isinstance(daemon.messages[-1], wire.Bye)


def test_lossless_waits_for_credit(stream_to: Any) -> None:
    daemon, stream = stream_to("lossless", credit=2, give_back=False)
    stream.tell("frames 9")
    daemon.wait_for(wire.FrameMessage, 2)
    threading.Event().wait(0.3)
    assert len(daemon.frames) == 2
    for _ in range(7):
        daemon.say(wire.Credit(1, None))
    assert stream.answer() == 9
    daemon.wait_for(wire.FrameMessage, 9)
    assert [message.serial for message in daemon.frames] == list(range(9))
    assert all(message.dropped_before == 0 for message in daemon.frames)


def test_the_daemon_decides_the_mode(stream_to: Any) -> None:
    daemon, stream = stream_to("live", credit=1, give_back=False, mode="lossless")
    stream.tell("frames 3")
    daemon.wait_for(wire.FrameMessage, 1)
    daemon.say(wire.Credit(2, None))
    assert stream.answer() == 3


def test_a_frame_that_is_given_back_gives_its_credit_back(stream_to: Any) -> None:
    daemon, stream = stream_to(credit=1, give_back=False)
    assert stream.ask("hold") is True
    assert stream.ask("frames 3") == 0
    stream.ask("release")
    assert stream.ask("hold") is True
    stream.ask("submit")
    (message,) = daemon.wait_for(wire.FrameMessage, 1)
    assert message.serial == message.dropped_before  # all before it


def test_a_daemon_that_does_not_read_costs_frames_and_no_time(stream_to: Any) -> None:
    daemon, stream = stream_to(credit=100)
    stream.ask("size 720 1280")
    daemon.deaf.set()
    acquired = stream.ask("frames 20")  # returns although nobody reads: the pool is what there is
    assert 0 < acquired < 20
    daemon.deaf.clear()
    # It may have been deaf for so long that the connection broke: then they greet each other again.
    until(
        lambda: stream.ask("frames 1") is not None and daemon.frames and daemon.frames[-1].serial >= 20, 60, "a frame"
    )
    for message in (daemon.frames[0], daemon.frames[-1]):
        color, depth = pixels(message.serial, 720, 1280)
        assert message.parts[0].array.tobytes() == color.tobytes()
        assert message.parts[1].array.tobytes() == depth.tobytes()


def test_channels_that_are_not_accepted_are_not_sent(stream_to: Any) -> None:
    daemon, stream = stream_to("lossless", channels=("depth",))
    stream.ask("frames 1")
    stream.ask("describe declared")
    stream.ask("frames 1")
    first, second = daemon.wait_for(wire.FrameMessage, 2)
    assert [part.channel for part in first.parts] == ["depth"]
    assert [part.channel for part in second.parts] == ["depth", "mask"]
    (channels,) = daemon.of(wire.Channels)
    assert [d.projection for d in channels.channels] == [None, "declared", None]


def test_controls_and_events(stream_to: Any) -> None:
    daemon, stream = stream_to()
    daemon.say(wire.Control("pause", {"on": True}))
    daemon.say(wire.Control("record_start", {"take": "t"}))
    heard: list[str] = []
    until(lambda: heard.extend(stream.ask("status")["controls"]) or len(heard) == 2, what="two controls")
    assert heard == ["pause", "record_start"]
    assert stream.ask("event record_toggle") is True
    assert daemon.wait_for(wire.Event) == [wire.Event("record_toggle", 1.5, {"from": "stream", "n": 3})]


def test_a_daemon_that_forgot_the_session_is_greeted_again(stream_to: Any) -> None:
    daemon, stream = stream_to()
    first = daemon.of(wire.Hello)[0]
    daemon.forget()
    stream.ask("frames 1")
    until(lambda: len(daemon.of(wire.Hello)) == 2 and stream.connected, what="a second session")
    stream.send_one()
    daemon.wait_for(wire.FrameMessage, 1)
    assert daemon.of(wire.Hello)[1].session != first.session


def test_a_sender_may_start_before_the_daemon(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("REALMASTER_ENDPOINT", f"tcp://127.0.0.1:{port}")
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    stream = Stream(programs / "realmaster_stream", tmp_path / "log")
    try:
        stream.ask("start live")
        assert stream.ask("frames 3") == 0 and not stream.connected
        assert stream.ask("event marker") is False
        with SmallDaemon(port) as daemon:
            stream.send_one()
            (message,) = daemon.wait_for(wire.FrameMessage, 1)
            assert message.serial == message.dropped_before >= 3
    finally:
        stream.stop()


def test_a_wrong_token_is_a_sentence_and_live_goes_on(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmallDaemon() as daemon:
        use(monkeypatch, daemon, "wrong")
        stream = Stream(programs / "realmaster_stream", tmp_path / "log")
        stream.ask("start live")
        until(lambda: "The token is wrong" in stream.log, what="the sentence")
        assert stream.ask("frames 2") == 0 and stream.ask("status")["failure"] == ""
        stream.ask("start lossless")
        assert stream.ask("frames 9") < 9
        assert "The token is wrong" in stream.ask("status")["failure"]
        assert stream.ask("close 1") is None
        stream.stop()
    assert stream.log.count("The token is wrong") == 2  # told once by each, not with every attempt


def test_what_is_no_daemon_is_a_sentence(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    monkeypatch.setenv("REALMASTER_ENDPOINT", f"tcp://127.0.0.1:{port}")
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    stream = Stream(programs / "realmaster_stream", tmp_path / "log")
    try:
        stream.ask("start live")
        assert router.poll(30000)
        peer, _ = router.recv_multipart()
        for garbage in ([b"\xc1"], [b""], [b"\x93\x01"], [b"x"] * 50):
            router.send_multipart([peer, *garbage])
        until(lambda: "is not a realmaster daemon" in stream.log, what="the sentence")
        assert stream.ask("frames 2") == 0
    finally:
        stream.stop()
        context.destroy(linger=0)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("REALMASTER_GIVE_UP_AFTER", "0.2", "is gone: start it"),
        ("REALMASTER_GIVE_UP_AFTER", "soon", "must be a number of seconds"),
        ("REALMASTER_ENDPOINT", "127.0.0.1:5790", "must have the form tcp://HOST:PORT"),
    ],
)
def test_a_live_sender_fails_with_a_sentence(
    name: str, value: str, sentence: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALMASTER_ENDPOINT", f"tcp://127.0.0.1:{free_port()}")
    monkeypatch.setenv(name, value)
    stream = Stream(programs / "realmaster_stream", tmp_path / "log")
    stream.ask("start live")
    until(lambda: sentence in stream.ask("status")["failure"], what="the failure")
    assert stream.ask("frames 3") == 0 and stream.ask("close 5") is None
    stream.stop()
    assert sentence in stream.log


def test_lossless_fails_without_a_daemon(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALMASTER_ENDPOINT", f"tcp://127.0.0.1:{free_port()}")
    stream = Stream(programs / "realmaster_stream", tmp_path / "log")
    stream.ask("start lossless 0.2")
    assert stream.ask("frames 20") < 20
    assert "No daemon answers" in stream.ask("status")["failure"]
    stream.stop()


def test_a_missing_connection_file_is_a_sentence(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmallDaemon() as daemon:
        monkeypatch.setenv("REALMASTER_ENDPOINT", daemon.endpoint)
        stream = Stream(programs / "realmaster_stream", tmp_path / "log")
        stream.ask("start live")
        until(lambda: "No daemon has left a connection file" in stream.log, what="the sentence")
        stream.stop()
