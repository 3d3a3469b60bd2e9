"""Frames are compressed once, in the codecs that there is time for; what the threads need is there before."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from capture.camera import Conventions
from capture.codecs import EXACT, Precision, hasty_codec, live_codec
from capture.frame import Channel, Descriptor, Frame
from capture.frame_pool import FramePool
from capture.take import EncodedFrame
from daemon.encoding import Encoders, Encoding


def textured(serial: int, height: int = 72, width: int = 128) -> Frame:
    rng = np.random.default_rng(serial)
    ramp = np.add.outer(np.arange(height), np.arange(width))
    picture = (ramp[..., None] + rng.integers(0, 2, (height, width, 3))).astype(np.uint8)
    arrays = {"color": picture, "depth": (1 + ramp).astype(np.float32), "segmentation": (ramp // 40).astype(np.uint8)}
    channels = {n: Channel(Descriptor(n, a.dtype.name, a.shape), a, serial) for n, a in arrays.items()}
    return Frame(serial, serial, serial / 60, None, channels)


def codecs_of(encoded: EncodedFrame) -> dict[str, str]:
    return {descriptor.name: name for descriptor, _, name, _ in encoded.channels}


def test_in_haste_pictures_are_kept_as_they_are_and_everything_is_exact() -> None:
    frames, stop = [textured(serial) for serial in range(6)], threading.Event()
    with Encoders(haste_bytes=3 * frames[0].nbytes, threads=1) as encoders:
        blocked = encoders.submit(stop.wait, 60)
        encodings = [Encoding(frame, encoders, EXACT) for frame in frames]
        stop.set()
        assert blocked.result(60)
        encoded = [encoding.result(60) for encoding in encodings]
    for sent, kept in zip(frames, encoded, strict=True):
        codecs, back = codecs_of(kept), kept.frame(Conventions())
        assert (codecs["color"] == "raw") == (sent.serial < 3)  # then fewer than three wait behind it
        assert codecs["depth"] == "depth" and codecs["segmentation"] == "zstd"
        for name, channel in sent.channels.items():
            assert back.channels[name].data.tobytes() == channel.data.tobytes()


def test_haste_changes_nothing_that_has_a_bound() -> None:
    for precision in (EXACT, Precision("log16", "oct16")):
        for descriptor in (
            Descriptor("depth", "float32", (9, 16), kind="linear"),
            Descriptor("normal", "float32", (9, 16, 3)),
            Descriptor("instance", "uint16", (9, 16)),
        ):
            assert hasty_codec(descriptor, precision) == live_codec(descriptor, precision)
    assert hasty_codec(Descriptor("normal", "int8", (9, 16, 3))) == "raw"


def test_preparing_reaches_every_thread_and_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []
    monkeypatch.setattr("daemon.encoding.rehearse", lambda d, p: seen.append((threading.get_ident(), d.name)))
    pool, channels = FramePool(2), [channel.descriptor for channel in textured(0).channels.values()]
    with Encoders(threads=3) as encoders:
        for _ in range(4):  # sessions that open together
            encoders.prepare(channels, pool, EXACT)
    assert len(seen) == 4 * 3 * 3 and len({thread for thread, _ in seen}) == 3
    assert len(pool._free) == 2 and all(block.size >= textured(0).nbytes for block in pool._free)


@pytest.mark.parametrize("precision", [EXACT, Precision("log16", "oct16")])
def test_preparing_takes_any_channel(precision: Precision, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "realmaster.daemon")
    kinds: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
        ("color", "uint8", (3, 5, 3), {}),
        ("color", "uint8", (90, 50, 4), {}),
        ("normal", "float32", (9, 5, 3), {}),
        ("depth", "float32", (9, 5), {"kind": "linear"}),
        ("depth", "uint16", (9, 5), {}),
        ("motion", "float16", (9, 5, 2), {}),
        ("instance", "uint32", (9, 5), {}),
    ]
    with Encoders(threads=2) as encoders:
        for name, dtype, shape, fields in kinds:
            encoders.prepare([Descriptor(name, dtype, shape, **fields)], FramePool(1), precision)
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="memory that is kept is glibc's matter")
def test_memory_of_a_frame_is_not_mapped_anew_each_time() -> None:
    import resource

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            np.empty(12 * 2**20, np.uint8).fill(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with Encoders(threads=1):
        faults()
        assert faults() < 20 * 3  # without it, 20 times 3072, or 6 where pages are huge
