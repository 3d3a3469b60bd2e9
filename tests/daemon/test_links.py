"""Engines on slow links: what they are asked for, what gets through, and what the take says of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture import sender as sender_module
from capture import wire
from capture.camera import Camera
from capture.frame import Descriptor
from capture.reduction import CAPABILITIES, Reduction
from capture.sender import FrameSender
from capture.take import Take
from daemon.ingest import Ingest
from daemon.links import LinkProbe, choose
from daemon.session import Settings

from .engines import CAMERA, CHANNELS, Peer, arrays, engine, send, until

HD = (
    Descriptor("color", "uint8", (720, 1280, 3)),
    Descriptor("depth", "float32", (720, 1280)),
    Descriptor("normal", "int8", (720, 1280, 3)),
    Descriptor("segmentation", "uint8", (720, 1280)),
)
EXACT = {"color": "image", "depth": "depth", "normal": "image", "segmentation": "zstd"}


def test_as_little_is_lost_as_the_link_allows():
    def asked(mbit: float, mode: str = "live", can: tuple[str, ...] = CAPABILITIES) -> Reduction:
        return choose(HD, 30, mode, can, mbit)[0]

    assert asked(10_000) == Reduction()
    assert asked(2_000) == Reduction(1, EXACT)
    assert asked(1_000) == Reduction(1, EXACT | {"color": "jpeg"})
    assert [asked(mbit).shrink for mbit in (300, 140, 70)] == [2, 3, 4]
    assert asked(70, "lossless") == Reduction(1, EXACT)  # its engine waits
    assert asked(70, can=("codec:zstd",)) == Reduction(1, {"segmentation": "zstd"})
    assert asked(400, can=("shrink",)) == Reduction(3)
    assert asked(70, can=()) == Reduction()


def test_what_does_not_come_through_all_the_same_is_said():
    assert [choose(HD, 30, "live", CAPABILITIES, mbit)[1] for mbit in (10_000, 2_000, 300)] == ["", "", ""]
    sentence = choose(HD, 30, "live", (), 300)[1]
    assert "2433 Mbit/s" in sentence and "cannot send fewer" in sentence and "90% of its frames are lost" in sentence
    assert "its engine waits" in choose(HD, 30, "lossless", CAPABILITIES, 10)[1]
    assert "cannot" not in choose(HD, 30, "live", CAPABILITIES, 10)[1]


def measure(mbit: float, read: float = 0.0, other_traffic: float = 0.0) -> tuple[float | None, int, float]:
    """What LinkProbe makes of a link of so many Mbit/s whose first answer always comes `read` seconds after the
    question and the second, once, later by `other_traffic`: Mbit/s, bytes of the last question, seconds in all."""
    now, delays = 100.0, [0.0, other_traffic]
    probe = LinkProbe(now)
    while probe.mbit is None:
        now += read
        assert not probe.hear(0, now)
        now += probe.bytes * 8e-6 / mbit + (delays.pop() if probe.bytes > 100_000 and delays else 0.0)
        assert probe.hear(probe.bytes, now)
    return probe.mbit, probe.bytes, now - 100


@pytest.mark.parametrize("mbit", [0.5, 8, 90, 240, 1000, 25_000])
def test_a_link_is_measured_in_a_moment(mbit):
    assert measure(mbit)[0] == pytest.approx(mbit)
    found, size, seconds = measure(mbit, read=0.04)  # however far it is
    assert found == pytest.approx(mbit) and seconds < 2.5 and 16384 <= size <= wire.MOST_PROBE_BYTES
    if mbit > 5:
        assert measure(mbit, other_traffic=0.3)[0] == pytest.approx(mbit)


def test_answers_that_were_not_asked_for_measure_nothing():
    probe = LinkProbe(0.0)
    assert not probe.hear(probe.bytes, 1.0)  # without the one before it
    assert not probe.hear(0, 1.0) and not probe.hear(5, 2.0)
    assert probe.mbit is None


@contextmanager
def ingest(takes: Path, mbit: float | None, **options) -> Iterator[Ingest]:
    settings = Settings(remote_mbit=mbit)
    with Ingest("tcp://127.0.0.1:*", takes=takes, settings=settings, previews=False, **options) as running:
        yield running


def only_take(takes: Path) -> Take:
    (path,) = (path for path in takes.iterdir() if path.is_dir())
    return Take(path)


def test_a_take_says_what_was_recorded(tmp_path):
    with ingest(tmp_path, 1.0, auto_record=True) as daemon:
        with engine(daemon.endpoint, mode="live", token=daemon.token, shared_memory=False) as sender:
            reduction = sender.reduction
            assert reduction is not None and reduction.shrink > 1 and reduction.codecs["color"] == "jpeg"
            (session,) = daemon.state["sessions"] or until(lambda: daemon.state["sessions"])
            assert session["reduced"]["shrink"] == reduction.shrink
            serial = 0
            while sender.stats.acknowledged is None:
                send(sender, 1, first=serial)
                serial += 1
                time.sleep(0.01)
            (session,) = daemon.state["sessions"]
    take = only_take(tmp_path)
    assert take.manifest["metadata"]["reduced"] == {
        "how": str(reduction), "size": [64, 48], "shrink": reduction.shrink, "codecs": dict(reduction.codecs),
        "lossy": ["color"],
    }  # fmt: skip
    frame = take[0]
    assert frame.shape == tuple(-(-side // reduction.shrink) for side in (48, 64))
    y0, x0 = ((side - 1) % reduction.shrink // 2 for side in (48, 64))
    for name in ("depth", "normal"):  # picked, bit for bit
        sent = arrays(frame.serial)[name][y0 :: reduction.shrink, x0 :: reduction.shrink]
        assert frame.channels[name].data.tobytes() == sent.tobytes(), name
    assert frame.camera.fx == pytest.approx(CAMERA.fx / reduction.shrink)


def test_on_this_machine_nothing_is_reduced(tmp_path):
    with ingest(tmp_path, 1.0, auto_record=True) as daemon:
        with engine(daemon.endpoint, token=daemon.token) as sender:
            assert sender.reduction is None and sender.transport == "shared memory"
            send(sender, 3)
        assert sender.goodbye is not None and sender.goodbye.recorded == 3
    take = only_take(tmp_path)
    assert "reduced" not in take.manifest["metadata"] and take[0].shape == (48, 64)


def test_a_bridge_that_cannot_attach_the_memory_is_on_another_machine(tmp_path, monkeypatch):
    def elsewhere(*_: object) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(sender_module.Segment, "attach", elsewhere)
    with ingest(tmp_path, 1.0) as daemon:
        with engine(daemon.endpoint, mode="live", token=daemon.token) as sender:
            assert sender.reduction is not None and sender.transport == "tcp"


def test_a_bridge_that_can_nothing_is_asked_for_nothing_and_the_user_is_told(tmp_path):
    with ingest(tmp_path, 1.0) as daemon, Peer(daemon.endpoint, daemon.token) as peer:
        assert peer.hello(mode="live").reduction is None
        peer.frame(0)
        (session,) = until(lambda: [s for s in daemon.state["sessions"] if s["frames"]])
        assert session["reduced"] is None
        (notice,) = session["notices"]
        assert "cannot send fewer" in notice


def test_packed_data_that_is_broken_ends_the_session_and_not_the_daemon(tmp_path):
    with ingest(tmp_path, 1.0) as daemon, Peer(daemon.endpoint, daemon.token) as peer:
        assert peer.hello(mode="live", capabilities=CAPABILITIES).reduction is not None
        good = peer.frame_message(0)
        packed = tuple(
            part._replace(array=Reduction(1, {"color": "jpeg"}).array(channel, part.array))
            for channel, part in zip(CHANNELS, good.parts, strict=True)
        )
        color = replace(packed[0].array, data=packed[0].array.data[:50])
        peer.say(replace(good, parts=(packed[0]._replace(array=color), *packed[1:])))
        peer.hear_error("malformed")
        peer.hello(mode="live", capabilities=CAPABILITIES)
        peer.say(replace(good, parts=packed))
        until(lambda: [s for s in daemon.state["sessions"] if s["frames"] == 1])


class SlowLink:
    """A tcp proxy that lets so many bits a second through towards the daemon, and everything back."""

    def __init__(self, endpoint: str, mbit: float) -> None:
        self.bytes = 0
        """Towards the daemon."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._to, self._rate = (host, int(port)), mbit * 1e6 / 8
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> SlowLink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._server.accept()[0]
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
                far = socket.create_connection(self._to)
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slowly: bool) -> None:
        due = 0.0  # when what was sent has gone through
        with suppress(OSError), source, sink:
            while data := source.recv(8192):
                if slowly:
                    self.bytes += len(data)
                    due = max(due, time.monotonic()) + len(data) / self._rate
                    time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(data)


def through(takes: Path, mbit: float | None, frames: int = 40) -> tuple[int, int]:
    """Play live over a link of 8 Mbit/s that the daemon is told of, or not: frames received, and bytes sent."""
    y, x = np.mgrid[:240, :320].astype(np.float32)
    channels = (Descriptor("color", "uint8", (240, 320, 3)), Descriptor("depth", "float32", (240, 320)))
    color = np.repeat((128 + 90 * np.sin(x / 11) * np.cos(y / 7)).astype(np.uint8)[..., None], 3, axis=2)
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, 320, 240)
    with ingest(takes, mbit) as daemon, SlowLink(daemon.endpoint, 8.0) as link:
        with FrameSender(
            link.endpoint, engine="test", channels=channels, fps=20, token=daemon.token, shared_memory=False,
            connect_timeout=60,
        ) as sender:  # fmt: skip
            for serial in range(frames):
                sender.send(camera, {"color": color, "depth": 2 + x / 40 + y / 90}, time=serial / 20)
                time.sleep(1 / 20)
            sender.close(60)
            assert sender.goodbye is not None
            return sender.goodbye.received, link.bytes


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the daemon all bridges are on other machines."""
    monkeypatch.setattr("daemon.ingest.is_loopback", lambda address: False)


def test_a_link_is_measured_before_the_welcome(tmp_path, elsewhere):
    with ingest(tmp_path, None) as daemon, SlowLink(daemon.endpoint, 8.0) as link:
        with engine(
            link.endpoint, mode="live", token=daemon.token, shared_memory=False, fps=60, connect_timeout=60
        ) as sender:
            (session,) = until(lambda: [s for s in daemon.state["sessions"] if s["mbit"]])
            assert 4 < session["mbit"] < 12  # of eight; the machine is busy
            assert sender.reduction is not None and session["reduced"]["how"] == str(sender.reduction)


def test_a_bridge_that_is_not_on_a_slow_link_sends_all(tmp_path, elsewhere):
    with ingest(tmp_path, None) as daemon:
        with engine(daemon.endpoint, token=daemon.token, shared_memory=False, connect_timeout=60) as sender:
            assert sender.reduction is None
            (session,) = until(lambda: [s for s in daemon.state["sessions"] if s["mbit"]])
            assert session["mbit"] > 40 and session["reduced"] is None
    with ingest(tmp_path, float("inf")) as daemon:
        with engine(daemon.endpoint, token=daemon.token, shared_memory=False) as sender:
            assert sender.reduction is None
            assert until(lambda: daemon.state["sessions"])[0]["mbit"] is None


def test_a_bridge_that_never_answers_is_welcomed_all_the_same(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr("daemon.links.PROBE_SECONDS", 0.5)
    with ingest(tmp_path, None) as daemon, Peer(daemon.endpoint, daemon.token) as peer:
        assert peer.hello(mode="live", capabilities=CAPABILITIES).reduction is None
        peer.say(wire.Probed("0" * 32, 5))  # too late, and of another session
        peer.say(wire.Probed("0" * 32, 0))
        peer.frame(0)
        until(lambda: [s for s in daemon.state["sessions"] if s["frames"] == 1])


@pytest.mark.timeout(240)
def test_frames_through_a_slow_link_that_the_daemon_knows_of_are_a_tenth_as_large(tmp_path):
    # A frame has 0.54 MB: of 20 in a second, 8 Mbit/s carry two. How many come depends on how busy the machine is, how
    # large each is does not.
    received, sent = through(tmp_path / "raw", None)
    assert received and sent > 500_000 * received
    received, sent = through(tmp_path / "reduced", 8.0)
    assert received and sent < 60_000 * received
