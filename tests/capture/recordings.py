"""Frames and takes for the tests of everything that records or reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Entity, Frame
from capture.take import TakeWriter

WIDTH, HEIGHT = 40, 24


def descriptors(width: int = WIDTH, height: int = HEIGHT) -> list[Descriptor]:
    return [
        Descriptor("color", "uint8", (height, width, 3)),
        Descriptor("depth", "float32", (height, width)),
        Descriptor("normal", "uint8", (height, width, 3)),
        Descriptor("instance", "uint16", (height, width)),
    ]


def make_frame(serial: int, width: int = WIDTH, height: int = HEIGHT, **changes: Any) -> Frame:
    """A frame that is wholly decided by its serial: colour with noise, an inclined floor under a sky, ids."""
    noise = np.random.default_rng(serial)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    color = np.stack([x * 5 + serial, y * 9, x + y], axis=-1) + noise.integers(0, 4, (height, width, 3))
    depth = np.where(y > height / 3, 30 / (y + 1) + serial / 7, math.inf).astype(np.float32)
    normal = np.broadcast_to(np.array([128, 20, 100], np.uint8), (height, width, 3)) + noise.integers(
        0, 2, (height, width, 3), dtype=np.uint8
    )
    instance = ((x // 8) * 300 + serial).astype(np.uint16)
    arrays = {"color": color.astype(np.uint8), "depth": depth, "normal": normal.astype(np.uint8), "instance": instance}
    pose = np.eye(4)
    pose[0, 3] = serial * 0.1
    values: dict[str, Any] = {
        "index": serial,
        "serial": serial,
        "time": serial / 24,
        "camera": Camera.from_vertical_fov(pose, 1.0, width, height),
        "channels": {d.name: Channel(d, arrays[d.name], serial) for d in descriptors(width, height)},
        "entities": [Entity(7, "person", "postman", pose, (0.5, 0.5, 1.8), (1.0, 0.0, 0.0))],
        "capture_time": 100 + serial / 24,
    }
    return Frame(**values | changes)


def start_take(path: Path, **options: Any) -> TakeWriter:
    values: dict[str, Any] = {
        "conventions": Conventions(),
        "descriptors": descriptors(),
        "engine": "city",
        "legend": {"instance": {300: "postman"}},
        "preview": False,
    }
    return TakeWriter(path, **values | options)


def record_take(path: Path, frames: int = 12, **options: Any) -> Path:
    """A closed take of `frames` frames, serials from 0."""
    with start_take(path, **options) as writer:
        for serial in range(frames):
            writer.append(make_frame(serial))
    return path


def assert_same(read: Frame, sent: Frame) -> None:
    """Everything that was sent is what was read, bit by bit."""
    assert (read.serial, read.time, read.flags, read.dropped_before, read.capture_time) == (
        sent.serial, sent.time, sent.flags, sent.dropped_before, sent.capture_time
    )  # fmt: skip
    assert read.raw_camera == sent.raw_camera
    assert read.entities == sent.entities
    assert list(read.channels) == list(sent.channels)
    for name, channel in sent.channels.items():
        got = read.channels[name]
        assert got.descriptor == channel.descriptor
        assert got.serial == channel.serial
        assert got.data.dtype == channel.data.dtype
        assert got.data.tobytes() == channel.data.tobytes(), name
