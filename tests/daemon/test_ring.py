"""The ring keeps the newest frames within its two bounds."""

from __future__ import annotations

import numpy as np

from capture.frame import Channel, Descriptor, Frame
from daemon.ring import Ring

COLOR = Descriptor("color", "uint8", (10, 10, 3))  # 300 bytes a frame


def frame(serial: int, time: float) -> Frame:
    return Frame(serial, serial, time, None, {"color": Channel(COLOR, np.zeros((10, 10, 3), np.uint8), serial)})


def serials(ring: Ring) -> list[int]:
    return [frame.serial for frame in ring.newest()]


def test_keeps_the_last_seconds() -> None:
    ring = Ring(2.0, 10**9)
    for i in range(10):
        ring.append(frame(i, i * 0.5))
    assert serials(ring) == [5, 6, 7, 8, 9]
    assert ring.span == 2.0
    assert ring.bytes == 5 * 300


def test_never_holds_more_than_its_bytes() -> None:
    ring = Ring(100.0, 1000)
    for i in range(10):
        ring.append(frame(i, i * 0.1))
        assert ring.bytes <= 1000
    assert serials(ring) == [7, 8, 9]


def test_a_frame_larger_than_the_ring_is_not_kept() -> None:
    ring = Ring(100.0, 299)
    ring.append(frame(0, 0.0))
    assert len(ring) == ring.bytes == 0


def test_shrinks_at_once() -> None:
    ring = Ring(100.0, 10**6)
    for i in range(5):
        ring.append(frame(i, float(i)))
    ring.resize(600)
    assert serials(ring) == [3, 4]


def test_a_clock_that_jumps_back_does_not_make_old_frames_immortal() -> None:
    ring = Ring(1.0, 10**9)
    ring.append(frame(0, 1000.0))
    for i in range(1, 10):
        ring.append(frame(i, i * 0.5))
    assert serials(ring) == [7, 8, 9]


def test_newest_gives_the_end_oldest_first() -> None:
    ring = Ring(100.0, 10**6)
    for i in range(5):
        ring.append(frame(i, float(i)))
    assert [f.serial for f in ring.newest(2)] == [3, 4]
    assert [f.serial for f in ring.newest(99)] == [0, 1, 2, 3, 4]
    ring.clear()
    assert ring.newest() == [] and ring.bytes == 0
