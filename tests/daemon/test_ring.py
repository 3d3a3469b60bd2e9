"""The ring keeps the newest frames, compressed, within its two bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from capture.camera import Conventions
from capture.codecs import EXACT
from capture.frame import Channel, Descriptor, Frame
from daemon.encoding import Encoders, Encoding
from daemon.ring import Ring

from .engines import until

IDS = Descriptor("instance", "uint16", (10, 15))
SIZE = 40  # fewer bytes than any frame of these takes when compressed

Make = Callable[[int, float], Encoding]


def frame(serial: int, time: float) -> Frame:
    ids = np.random.default_rng(abs(serial)).integers(0, 9, IDS.shape).astype(np.uint16)
    return Frame(serial, serial, time, None, {"instance": Channel(IDS, ids, serial)})


@pytest.fixture
def encoders() -> Iterator[Encoders]:
    with Encoders(threads=2) as pool:
        yield pool


@pytest.fixture
def make(encoders: Encoders) -> Make:
    """Encodings that are done."""

    def made(serial: int, time: float) -> Encoding:
        encoding = Encoding(frame(serial, time), encoders, EXACT)
        encoding.result(60)
        return encoding

    return made


def serials(ring: Ring) -> list[int]:
    return [encoding.serial for encoding in ring.newest()]


def test_keeps_the_last_seconds(make: Make) -> None:
    ring = Ring(2.0, 10**9)
    encodings = [make(i, i * 0.5) for i in range(10)]
    for encoding in encodings:
        ring.append(encoding)
    assert serials(ring) == [5, 6, 7, 8, 9]
    assert ring.span == 2.0 and not ring.cut
    assert ring.bytes == sum(encoding.nbytes for encoding in encodings[5:])
    back = ring.newest(1)[0].result().frame(Conventions())
    assert np.array_equal(back.instance, frame(9, 4.5).instance)


def test_never_holds_more_than_its_bytes_and_says_so(make: Make) -> None:
    encodings = [make(i, i * 0.1) for i in range(10)]
    ring = Ring(100.0, sum(encoding.nbytes for encoding in encodings[7:]))
    for encoding in encodings:
        ring.append(encoding)
        assert ring.bytes <= ring.max_bytes
    assert serials(ring)[-3:] == [7, 8, 9] and len(ring) <= 4
    assert ring.cut


def test_a_frame_larger_than_the_ring_is_not_kept(make: Make) -> None:
    ring = Ring(100.0, SIZE)
    ring.append(make(0, 0.0))
    assert len(ring) == ring.bytes == 0


def test_shrinks_at_once(make: Make) -> None:
    ring = Ring(100.0, 10**6)
    encodings = [make(i, float(i)) for i in range(5)]
    for encoding in encodings:
        ring.append(encoding)
    ring.resize(encodings[3].nbytes + encodings[4].nbytes)
    assert serials(ring) == [3, 4]


def test_a_clock_that_jumps_back_does_not_make_old_frames_immortal(make: Make) -> None:
    ring = Ring(1.0, 10**9)
    ring.append(make(0, 1000.0))
    for i in range(1, 10):
        ring.append(make(i, i * 0.5))
    assert serials(ring) == [7, 8, 9]


def test_newest_gives_the_end_oldest_first(make: Make) -> None:
    ring = Ring(100.0, 10**6)
    for i in range(5):
        ring.append(make(i, float(i)))
    assert [e.serial for e in ring.newest(2)] == [3, 4]
    assert [e.serial for e in ring.newest(99)] == [0, 1, 2, 3, 4]
    ring.clear()
    assert ring.newest() == [] and ring.bytes == 0


def test_frames_count_once_they_are_compressed() -> None:
    gate = threading.Event()
    ring = Ring(1.0, 10**6)
    with Encoders(threads=1) as blocked:
        blocked.submit(gate.wait, 60)
        encodings = [Encoding(frame(i, i * 0.5), blocked, EXACT) for i in range(5)]
        for encoding in encodings:
            ring.append(encoding)
        assert ring.bytes == 0 and serials(ring) == [2, 3, 4]
        gate.set()
        until(lambda: ring.bytes == sum(e.nbytes for e in encodings[2:]) > 0)  # the dropped ones count for nothing


def test_a_frame_that_cannot_be_compressed_is_left_out(encoders: Encoders, make: Make) -> None:
    ring = Ring(10.0, 10**6)
    ring.append(make(0, 0.0))
    broken = Encoding(frame(-1, 0.1), encoders, EXACT)  # no take can hold this serial
    ring.append(broken)
    ring.append(make(2, 0.2))
    until(lambda: not broken.ok)
    assert serials(ring) == [0, 2]
