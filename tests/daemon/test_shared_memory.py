"""Pixels through shared memory: exact, falling back by itself, safe from what a bridge does, gone without a trace."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture import wire
from capture.frame import Descriptor
from capture.sender import FrameSender
from capture.shared_memory import Segment
from capture.take import Take
from daemon.ingest import Ingest
from daemon.session import Settings

from .engines import CAMERA, CHANNELS, Peer, arrays, assert_exact, engine, send, until

ROOT = Path(__file__).parents[2]
KILL_POINTS = int(os.environ.get("REALMASTER_KILL_POINTS", "2"))
"""At how many moments each side is killed; 50 when in doubt."""

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="no shared memory on this system")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of /proc and /dev/shm")


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True, previews=False) as running:
        yield running


def transport(ingest: Ingest) -> Any:
    """What the state says of the only session; None while there is none."""
    return next((session["transport"] for session in ingest.state.get("sessions", [])), None)


def take_of(ingest: Ingest, goodbye: wire.Goodbye | None) -> Take:
    assert goodbye is not None and goodbye.take is not None
    return Take(ingest.takes / goodbye.take)


def named() -> list[str]:
    """What of ours has a name in the system's shared memory: nothing ever should."""
    return [name for name in os.listdir("/dev/shm") if "realmaster" in name]


def mapped() -> int:
    """How many segments this process has mapped."""
    gc.collect()
    return Path("/proc/self/maps").read_text().count("/memfd:realmaster")


# -- the way that is meant


def test_every_frame_goes_through_shared_memory_and_is_exact(ingest: Ingest) -> None:
    with engine(ingest.endpoint) as sender:
        send(sender, 40)
        assert sender.transport == "shared memory" and sender.stats.shared == 40
        until(lambda: transport(ingest) == "shared memory")
    take = take_of(ingest, sender.goodbye)
    assert [frame.serial for frame in take] == list(range(40))
    for frame in take:
        assert_exact(frame)


def test_arrays_of_any_layout_are_sent_as_they_look(ingest: Ingest) -> None:
    def odd(serial: int) -> dict[str, np.ndarray]:
        normal = arrays(serial)
        return {name: np.asfortranarray(array)[::-1] for name, array in normal.items()}

    with engine(ingest.endpoint) as sender:
        for serial in range(5):
            sender.send(CAMERA, odd(serial), time=serial / 24)
        assert sender.stats.shared == 5
    for frame in take_of(ingest, sender.goodbye):
        for name, sent in odd(frame.serial).items():
            np.testing.assert_array_equal(frame.channels[name].data, sent)


@on_linux
def test_the_memory_cannot_be_found_once_attached_and_is_gone_after_the_session(ingest: Ingest) -> None:
    until(lambda: mapped() == 0)
    with SharingPeer(ingest.endpoint, ingest.token) as peer:
        peer.begin()
        peer.say(peer.placed(0, 0))
        until(lambda: transport(ingest) == "shared memory" and not attachable(peer.segment))
        assert mapped() == 2  # the daemon's and the bridge's, in one process here
        peer.say(wire.Bye())
        peer.hear_kind(wire.Goodbye)
        del peer.segment
    until(lambda: mapped() == 0)


def attachable(segment: Segment) -> bool:
    try:
        Segment.attach(segment.name, segment.key, len(segment.slots), segment.slot_bytes)
    except OSError:
        return False
    return True


# -- falling back


def test_without_it_on_either_side_pixels_travel_as_parts(tmp_path: Path, ingest: Ingest) -> None:
    with engine(ingest.endpoint, shared_memory=False) as sender:
        send(sender, 8)
        until(lambda: transport(ingest) == "tcp")
    assert sender.stats.shared == 0 and len(take_of(ingest, sender.goodbye)) == 8
    options: dict[str, Any] = {"settings": Settings(shared_memory=False), "auto_record": True, "previews": False}
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "other", **options) as other, engine(other.endpoint) as sender:
        send(sender, 8)
    assert sender.stats.shared == 0 and len(take_of(other, sender.goodbye)) == 8


@pytest.mark.parametrize("who", ["create", "attach"])
def test_where_it_cannot_be_had_pixels_travel_as_parts(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Segment, who, fail)
    caplog.set_level("INFO")
    with engine(ingest.endpoint) as sender:
        send(sender, 10)
        assert sender.transport == "tcp"
        until(lambda: transport(ingest) == "tcp")
    for frame in take_of(ingest, sender.goodbye):
        assert_exact(frame)
    assert sender.goodbye is not None and sender.goodbye.recorded == 10
    assert any("over tcp" in record.message and "Permission denied" in record.message for record in caplog.records)


def test_a_bridge_that_cannot_attach_is_not_asked_again(ingest: Ingest) -> None:
    with Peer(ingest.endpoint, ingest.token) as peer:
        peer.say(peer.hello_message(capabilities=(wire.SHARED_MEMORY,)))
        offer = peer.hear_kind(wire.Memory)
        peer.hear_kind(wire.Welcome)
        peer.say(wire.Attached(offer.key, "The bridge lives on another machine."))
        big = tuple(part._replace(array=np.tile(part.array, (3, 3, 1)[: part.array.ndim])) for part in
                    peer.frame_message(0).parts)  # fmt: skip
        peer.frame(0, parts=big)
        peer.frame(1)
        peer.say(wire.Bye())
        heard: list[wire.Message] = []
        until(lambda: heard.append(peer.hear()) or isinstance(heard[-1], wire.Goodbye))
    assert not [message for message in heard if isinstance(message, wire.Memory)]
    assert heard[-1].recorded == 2  # type: ignore[attr-defined]


def test_larger_frames_get_larger_slots_and_smaller_ones_keep_them(ingest: Ingest) -> None:
    def picture(serial: int, scale: int) -> dict[str, np.ndarray]:
        random_ = np.random.default_rng(serial)
        return {"color": random_.integers(0, 256, (48 * scale, 64 * scale, 3), dtype=np.uint8)}

    scales: list[int] = []
    with FrameSender(ingest.endpoint, engine="test", channels=CHANNELS[:1], mode="lossless") as sender:
        for scale in (1, 3, 2, 5, 1):
            for _ in range(4):
                sender.send(None, picture(len(scales), scale), time=len(scales) / 24)
                scales.append(scale)
            # The frame that did not fit went as parts; the next offer may take a moment.
            shared = sender.stats.shared
            while sender.stats.shared == shared:
                sender.send(None, picture(len(scales), scale), time=len(scales) / 24)
                scales.append(scale)
                assert len(scales) < 5000, "larger slots were never used"
        parts = len(scales) - sender.stats.shared
    assert 2 <= parts < len(scales)
    take = take_of(ingest, sender.goodbye)
    assert len(take) == len(scales) and take.events
    for frame, scale in zip(take, scales, strict=True):
        np.testing.assert_array_equal(frame.color, picture(frame.serial, scale)["color"])


def test_a_channel_that_appears_late_goes_through_shared_memory_too(ingest: Ingest) -> None:
    mask = Descriptor("mask", "uint8", (480, 640))
    full = np.full((480, 640), 7, np.uint8)
    with engine(ingest.endpoint) as sender:
        send(sender, 4)
        sender.describe([*CHANNELS, mask])
        shared, serial = sender.stats.shared, 4
        while sender.stats.shared == shared:
            sender.send(CAMERA, arrays(serial) | {"mask": full}, time=serial / 24, serial=serial)
            serial += 1
            assert serial < 5000, "larger slots were never used"
    take = take_of(ingest, sender.goodbye)
    assert [frame.serial for frame in take] == list(range(serial))
    for frame in take:
        assert_exact(frame)
        assert "mask" not in frame.channels if frame.serial < 4 else (frame.canonical("mask") == 7).all()


# -- bridges that err, or mean harm


class SharingPeer(Peer):
    """A peer that attaches what it is offered and writes where it likes."""

    def begin(self) -> wire.Welcome:
        self.say(self.hello_message(capabilities=(wire.SHARED_MEMORY,)))
        offer = self.hear_kind(wire.Memory)
        self.segment = Segment.attach(offer.name, offer.key, offer.slots, offer.slot_bytes)
        welcome = self.hear_kind(wire.Welcome)
        self.say(wire.Attached(offer.key))
        return welcome

    def placed(self, serial: int, slot: int, shift: int = 0) -> wire.FrameMessage:
        """A frame written to a slot, its header not yet sent."""
        message = self.frame_message(serial)
        offsets, _ = wire.slot_layout(part.array.nbytes for part in message.parts)
        for part, offset in zip(message.parts, offsets, strict=True):
            self.segment.slots[slot][offset : offset + part.array.nbytes] = part.array.tobytes()
        parts = tuple(part._replace(offset=offset + shift) for part, offset in zip(message.parts, offsets, strict=True))
        return replace(message, parts=parts, slot=slot)


def test_what_is_written_after_the_header_cannot_change_a_frame(ingest: Ingest) -> None:
    stop = threading.Event()
    blocked = [ingest._encoders.submit(stop.wait, 60) for _ in range(8)]
    try:
        with SharingPeer(ingest.endpoint, ingest.token) as peer:
            peer.begin()
            peer.say(peer.placed(0, 0))
            until(lambda: [session["frames"] for session in ingest.state["sessions"]] == [1])
            until(blocked[0].running, what="the blocking of all encoders")  # so nothing of the frame is encoded
            for slot in peer.segment.slots:
                slot[:] = b"\xff" * len(slot)
            stop.set()
            peer.say(wire.Bye())
            goodbye = peer.hear_kind(wire.Goodbye)
    finally:
        stop.set()
    (frame,) = take_of(ingest, goodbye)
    assert_exact(frame)


@pytest.mark.parametrize("wrong", ["slot", "offset", "overlap", "alignment", "parts"])
def test_headers_that_lie_end_that_session_only(ingest: Ingest, wrong: str) -> None:
    with engine(ingest.endpoint, game="good") as good, SharingPeer(ingest.endpoint, ingest.token) as peer:
        send(good, 3)
        peer.begin()
        message = peer.placed(0, 0)
        if wrong == "slot":
            message = replace(message, slot=len(peer.segment.slots))
        elif wrong == "offset":
            message = peer.placed(0, 0, shift=4096)
        elif wrong == "alignment":
            message = peer.placed(0, 0, shift=1)
        elif wrong == "overlap":
            message = replace(message, parts=tuple(part._replace(offset=0) for part in message.parts))
        if wrong == "parts":
            peer.say_parts([*wire.encode(message), b"more"])
        else:
            peer.say(message)
        peer.hear_error("malformed")
        for late in (wire.Event("marker", 0.0), peer.placed(1, 1)):  # may have been on their way
            peer.say(late)
            peer.hear_error("no_session")
        send(good, 3, first=3)
    assert good.goodbye is not None and good.goodbye.recorded == 6


def test_a_slot_without_memory_and_an_answer_to_no_offer(ingest: Ingest) -> None:
    with Peer(ingest.endpoint, ingest.token) as peer:
        peer.hello()
        peer.say(wire.Attached("0" * 32))  # nothing was offered
        peer.frame(0)
        message = peer.frame_message(1)
        offsets, _ = wire.slot_layout(part.array.nbytes for part in message.parts)
        parts = tuple(part._replace(offset=offset) for part, offset in zip(message.parts, offsets, strict=True))
        peer.say(replace(message, parts=parts, slot=0))
        assert "shared memory of this session has 0" in peer.hear_error("malformed").sentence


def test_an_answer_that_crosses_the_end_does_no_harm(ingest: Ingest) -> None:
    with Peer(ingest.endpoint, ingest.token) as peer:
        peer.say(peer.hello_message(capabilities=(wire.SHARED_MEMORY,)))
        offer = peer.hear_kind(wire.Memory)
        peer.hear_kind(wire.Welcome)
        peer.frame(0)
        peer.say(wire.Bye())
        peer.say(wire.Attached(offer.key))
        heard: list[wire.Message] = []
        until(lambda: heard.append(peer.hear()) or isinstance(heard[-1], wire.Goodbye))
    assert not [message for message in heard if isinstance(message, wire.Error)]


# -- sudden ends

DAEMON = """
import sys
from pathlib import Path
from daemon.ingest import Ingest
ingest = Ingest(sys.argv[2], takes=Path(sys.argv[1]), auto_record=True, previews=False)
print(ingest.bind(), flush=True)
ingest.run()
"""

ENGINE = """
import itertools, sys
from tests.daemon.engines import engine, send
sender = engine(sys.argv[1])
for serial in itertools.count():
    send(sender, 1, first=serial)
    assert sender.transport == "shared memory"
    print(sender.stats.acknowledged, flush=True)
"""


def child(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True, cwd=ROOT)


@on_linux
@pytest.mark.parametrize("seed", range(KILL_POINTS))
def test_a_killed_engine_loses_no_acknowledged_frame_and_leaves_no_memory(ingest: Ingest, seed: int) -> None:
    bridge = child(ENGINE, ingest.endpoint)
    assert bridge.stdout is not None
    try:
        for _ in range(random.Random(seed).randint(5, 80)):
            said = bridge.stdout.readline()
    finally:
        bridge.kill()
        bridge.wait(60)
    acknowledged = int(said) if said.strip() != "None" else -1
    until(lambda: ingest.state["sessions"] == [], timeout=60)
    (path,) = ingest.takes.iterdir()
    until(lambda: Take(path).state == "closed", timeout=60)
    take = frames(ingest.takes)
    assert [frame.serial for frame in take] == list(range(len(take))) and len(take) > acknowledged
    until(lambda: mapped() == 0)
    assert not named()
    with engine(ingest.endpoint) as sender:  # nobody is stuck
        send(sender, 3)
        assert sender.stats.shared == 3


def test_the_next_daemon_may_have_no_shared_memory(tmp_path: Path) -> None:
    options: dict[str, Any] = {"takes": tmp_path / "takes", "auto_record": True, "previews": False}
    first = Ingest("tcp://127.0.0.1:*", **options)
    endpoint = first.start()
    with engine(endpoint, connect_timeout=60.0) as sender:
        send(sender, 5)
        first.stop()
        with Ingest(endpoint, settings=Settings(shared_memory=False), token=first.token, **options):
            send(sender, 5, first=5)
            assert sender.transport == "tcp" and sender.stats.shared == 5
            sender.close(60)
    assert sender.goodbye is not None and sender.goodbye.recorded == 5


@on_linux
@pytest.mark.parametrize("seed", range(KILL_POINTS))
def test_a_killed_daemon_loses_no_acknowledged_frame_and_the_engine_goes_on_with_the_next(
    tmp_path: Path, seed: int
) -> None:
    first = child(DAEMON, str(tmp_path / "first"), "tcp://127.0.0.1:*")
    assert first.stdout is not None
    endpoint = first.stdout.readline().strip()
    daemons, acknowledged = [first], -1
    sender = engine(endpoint, connect_timeout=60.0)

    def end_first() -> None:
        """At some moment of its work; then the next daemon takes its place."""
        nonlocal acknowledged
        after = random.Random(seed).randint(1, 100)
        until(lambda: (sender.stats.acknowledged or 0) >= after, timeout=60)
        acknowledged = sender.stats.acknowledged or 0
        first.kill()
        first.wait(60)
        daemons.append(child(DAEMON, str(tmp_path / "second"), endpoint))

    killer = threading.Thread(target=end_first)
    killer.start()
    serial = left = 0
    try:
        while killer.is_alive() or left < 20:
            send(sender, 1, first=serial)
            serial, left = serial + 1, 0 if killer.is_alive() else left + 1
        assert sender.transport == "shared memory" and sender.stats.shared == serial and mapped() == 1
        sender.close(60)
    finally:
        killer.join(60)
        sender.close()
        for daemon in daemons:
            daemon.kill()
            daemon.wait(60)
    kept = [[frame.serial for frame in frames(folder)] for folder in (tmp_path / "first", tmp_path / "second")]
    assert kept[0] == list(range(len(kept[0]))) and len(kept[0]) > acknowledged
    assert kept[1] == list(range(kept[1][0], serial))
    assert kept[1][0] - len(kept[0]) <= sender.stats.lost, "more frames are missing than were under way"
    until(lambda: mapped() == 0)
    assert not named()


def frames(takes: Path) -> Take:
    """The only take of a folder, every frame of it compared with what was sent."""
    (path,) = takes.iterdir()
    take = Take(path)
    for frame in take:
        assert_exact(frame)
    return take
