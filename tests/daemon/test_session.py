"""Counts and credits of one session."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture import wire
from capture.camera import Conventions
from capture.codecs import EXACT
from capture.frame import Channel, Descriptor, Frame
from capture.take import TakeWriter
from daemon.encoding import Encoders, Encoding
from daemon.recorder import Recorder
from daemon.ring import Ring
from daemon.session import Session, Settings

COLOR = Descriptor("color", "uint8", (4, 6, 3))
FRAME_BYTES = 4 * 6 * 3


def session(wanted: bool = False, **settings: int) -> Session:
    hello = wire.Hello(uuid.uuid4().hex, "", "test", "", Conventions(), 24.0, "live", (COLOR,))
    return Session(b"peer", hello, Settings(**settings), Ring(1.0, 10**6), wanted)


def frame(serial: int, dropped_before: int = 0, channel_serial: int | None = None) -> Frame:
    channel = Channel(COLOR, np.zeros((4, 6, 3), np.uint8), serial if channel_serial is None else channel_serial)
    return Frame(0, serial, serial / 24, None, {"color": channel}, dropped_before=dropped_before)


def test_credits_while_nothing_is_recorded() -> None:
    s = session(live_window=3)
    s.held = 0
    assert s.free_credits == 3
    s.held, s.busy = 1, 1
    assert s.free_credits == 1
    s.busy = 5  # more were allowed a moment ago
    assert s.free_credits == 0
    s.held = s.busy = 0
    s.leaving = True
    assert s.free_credits == 0


@pytest.mark.parametrize(("fitting", "credits"), [(100, 6), (4, 4), (0, 1)])
def test_credits_while_recording_are_few_and_bounded_by_bytes(fitting: int, credits: int) -> None:
    s = session(wanted=True, record_credits=6, record_bytes=fitting * FRAME_BYTES)
    assert s.held == credits and s.free_credits == 0
    s.held = 1
    assert s.free_credits == credits - 1
    s.held, s.busy = 0, 1
    assert s.free_credits == {100: 6, 4: 3, 0: 0}[fitting]


@pytest.mark.parametrize("room", [1, 2, 5, 100])
def test_a_bridge_never_holds_more_than_its_welcome_gave(room: int) -> None:
    """Else a credit would say that a frame has been read, and its slot is free, which may still be on its way."""
    s = session(live_window=3, record_credits=6, record_bytes=room * FRAME_BYTES)
    assert s.held == s.credits == min(6, max(3, room))
    s.wanted = True  # a recording begins
    assert s.free_credits == 0
    s.announce([replace(COLOR, shape=(2, 3, 3))])  # smaller frames, of which more would fit
    assert s.free_credits == 0
    s.held = 0
    assert s.free_credits <= s.credits


def test_credits_leave_room_for_what_waits_for_the_disk(tmp_path: Path) -> None:
    gate, closed = threading.Event(), threading.Event()
    writer = TakeWriter(tmp_path / "t", conventions=Conventions(), descriptors=[COLOR], engine="test")
    s = session(live_window=2, record_credits=5, record_bytes=3 * FRAME_BYTES)
    s.recorder = Recorder(writer, on_frame=lambda *_: None, on_close=lambda report: closed.set())
    s.held = 0
    assert s.free_credits == 3 and s.describe(0.0)["recording"] == "t"
    with Encoders(threads=1) as encoders:
        encoders.submit(gate.wait, 60)
        s.recorder.put(Encoding(frame(0), encoders, EXACT))
        assert s.free_credits == 2
        gate.set()
        s.recorder.close()
        assert closed.wait(60)
    assert s.free_credits == 3


def test_counts() -> None:
    s = session()
    s.receive(frame(3))
    assert (s.received, s.dropped, s.desync, s.last_serial) == (1, 0, 0, 3), "the first serial leaves no gap"
    s.receive(frame(7, dropped_before=2))
    assert s.dropped == 3, "a gap and what the bridge says of it are the same frames"
    s.receive(frame(8, dropped_before=1, channel_serial=7))
    assert (s.received, s.dropped, s.desync) == (3, 4, 1)
    large = replace(COLOR, shape=(8, 6, 3))
    s.receive(Frame(0, 9, 0.5, None, {"color": Channel(large, np.zeros((8, 6, 3), np.uint8), 9)}))
    assert s.frame_bytes == 2 * FRAME_BYTES and s.last_time == 0.5


def test_what_the_bridge_says_is_amiss_is_shown_until_it_is_over() -> None:
    s = session()
    s.notice({"reason": "msaa", "sentence": "MSAA is on."})
    s.notice({"reason": "hdr", "sentence": "HDR is on."})
    assert s.describe(0.0)["notices"] == ["MSAA is on.", "HDR is on."]
    s.notice({"reason": "msaa", "sentence": None})
    s.notice({"reason": 7, "sentence": "No reason."})
    assert s.describe(0.0)["notices"] == ["HDR is on."]
    for number in range(100):
        s.notice({"reason": str(number), "sentence": "One of many."})
    assert len(s.describe(0.0)["notices"]) < 20
