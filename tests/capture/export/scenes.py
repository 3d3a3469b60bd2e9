"""Takes for the tests of the exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from capture.frame import Channel, Descriptor, Frame
from capture.records import Record, RecordFile, walk
from capture.take import Take

from ..analytic import Scene, see
from ..recordings import start_take


def scene_frame(index: int, scene: Scene, **changes: Any) -> Frame:
    """A frame of the analytic scene: every byte as colour, exact depth and normals, known motion and ids."""
    height, width = scene.depth.shape
    color = (np.arange(height * width * 3) % 256).astype(np.uint8).reshape(height, width, 3)
    ids = np.arange(height * width, dtype=np.uint32).reshape(height, width) + 66_000
    motion = np.zeros((height, width, 2), np.float32) + np.array([3.25, -7.5], np.float32)
    arrays: dict[str, Any] = {
        "color": color,
        "depth": scene.depth.astype(np.float32),
        "normal": scene.normal.astype(np.float32),
        "motion": motion,
        "segmentation": (ids % 9).astype(np.uint8),
        "instance": ids,
    }
    channels = {
        name: Channel(Descriptor(name, str(array.dtype), array.shape), array, index) for name, array in arrays.items()
    }
    values: dict[str, Any] = {"index": index, "serial": index, "time": index / 24, "camera": scene.camera}
    return Frame(**values | {"channels": channels} | changes)


def scene_take(path: Path, frames: int = 3, **changes: Any) -> tuple[Take, list[Scene]]:
    """A take of the analytic scene seen by a camera that turns, rolls and moves, and the truth of each frame."""
    scenes = [see(yaw=0.2 - 0.1 * i, pitch=0.15, roll=0.1 * i, at=(0.3 * i, -0.2, 0.1 * i)) for i in range(frames)]
    with start_take(path, descriptors=[]) as writer:
        for index, scene in enumerate(scenes):
            writer.append(scene_frame(index, scene, **changes))
    return Take(path), scenes


def damage(path: Path, index: int, channel: str = "instance") -> None:
    """Flip a byte in the payload of a channel of a frame."""
    at = Take(path)._frames[index]
    with RecordFile(path / at.file) as file:
        found = [one for one in walk(file, at.start, at.end) if isinstance(one, Record)]
    (place,) = (one.payload_at + one.header.length // 2 for one in found if one.header.channel == channel)
    data = bytearray((path / at.file).read_bytes())
    data[place] ^= 1
    (path / at.file).write_bytes(data)


def without(frame: Frame, *names: str) -> Frame:
    """The frame less some channels."""
    for name in names:
        del frame.channels[name]
    return frame


def redescribed(frame: Frame, name: str, **changes: Any) -> Frame:
    """The frame with another descriptor of a channel's same numbers."""
    channel = frame.channels[name]
    descriptor = Descriptor.from_dict(channel.descriptor.to_dict() | changes)
    frame.channels[name] = Channel(descriptor, channel.data, channel.serial)
    return frame
