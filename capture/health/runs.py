"""Frames made small enough to be examined, in runs of consecutive ones.

Works on frames, raw as sent, and keeps them so: a small frame is a frame with fewer pixels and the same meaning, so
that it can be read under any other declaration. Knows nothing of what is examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera, Conventions
from capture.errors import TakeDamagedError
from capture.frame import Channel, Frame
from capture.picking import picked, picked_camera, picked_color
from capture.take import Take

Run = list[Frame]
"""Frames that follow each other, of one size and one set of descriptors."""

EXAMINED = ("color", "depth", "normal", "motion")
LONGEST_SIDE = 640
RUN_FRAMES = 14
"""Enough for lags of 4 frames either way and some left to compare."""


def small_frame(frame: Frame, longest_side: int = LONGEST_SIDE) -> Frame:
    """The frame with every n-th pixel of the channels in EXAMINED, so that no side exceeds `longest_side`.

    Numbers that are measured (depth, normals, motion) are picked, never mixed; colours are averaged around the same
    pixels. The camera follows exactly; motion stays in pixels of the frame as sent.
    """
    channels, camera = {}, frame.raw_camera
    owner = "color" if "color" in frame.channels else next(iter(frame.channels), None)
    for name, channel in frame.channels.items():
        if name not in EXAMINED and name != owner:
            continue
        height, width = channel.data.shape[:2]
        step = -(-max(height, width) // longest_side)
        data = np.array((picked_color if channel.descriptor.family == "color" else picked)(channel.data, step))
        channels[name] = Channel(channel.descriptor.with_shape(data.shape), data, channel.serial)
        if name == owner and camera is not None:
            camera = picked_camera(camera, step, channel.data.shape)
    return Frame(
        frame.index, frame.serial, frame.time, camera, channels, frame.conventions, frame.flags, frame.entities,
        frame.dropped_before, frame.capture_time,
    )  # fmt: skip


def runs_of(frames: Iterable[Frame]) -> list[Run]:
    """Frames cut where a description changes, and at cuts of the camera."""
    runs: list[Run] = []
    meaning: Any = None
    for frame in frames:
        descriptors = [channel.descriptor for channel in frame.channels.values()]
        now = (descriptors, frame.conventions, frame.has_pose)
        if not runs or now != meaning or "cut" in frame.flags:
            runs.append([])
        meaning = now
        runs[-1].append(frame)
    return runs


def take_runs(take: Take, runs: int = 4, run_frames: int = RUN_FRAMES) -> list[Run]:
    """Small frames from places all over a take, its first and its last frames among them; damaged ones left out."""
    count = len(take)
    if count <= runs * run_frames:
        return runs_of(_small(take, range(count)))
    starts = [round(i * (count - run_frames) / max(1, runs - 1)) for i in range(runs)]
    return [run for start in starts for run in runs_of(_small(take, range(start, start + run_frames)))]


def redeclared(
    frame: Frame,
    channels: Mapping[str, Channel] | None = None,
    *,
    camera: Camera | None = None,
    conventions: Conventions | None = None,
) -> Frame:
    """The same frame with some of its declarations or channels exchanged."""
    return Frame(
        frame.index, frame.serial, frame.time, camera or frame.raw_camera, {**frame.channels, **(channels or {})},
        conventions or frame.conventions, frame.flags, frame.entities, frame.dropped_before, frame.capture_time,
    )  # fmt: skip


def described(channel: Channel, **fields: Any) -> Channel:
    """The same numbers under a descriptor with other fields."""
    return Channel(replace(channel.descriptor, **fields), channel.data, channel.serial)


def holding(channel: Channel, data: NDArray[Any], **fields: Any) -> Channel:
    """Other numbers (of any dtype and shape) under the channel's descriptor with other fields."""
    changed = replace(channel.descriptor, dtype=str(data.dtype), shape=data.shape, **fields)
    return Channel(changed, np.ascontiguousarray(data), channel.serial)


def late(run: Run, name: str, frames: int) -> Run:
    """The run with channel `name` (or "camera") taken from `frames` frames earlier (later when negative)."""
    shifted = []
    for here, other in _pairs(run, frames):
        if name == "camera":
            shifted.append(redeclared(here, camera=other.raw_camera))
        else:
            channel = other.channels[name]
            own = Channel(channel.descriptor, channel.data, here.serial)
            shifted.append(redeclared(here, {name: own}))
    return shifted


def _pairs(run: Sequence[Frame], lag: int) -> Iterator[tuple[Frame, Frame]]:
    for i, frame in enumerate(run):
        if 0 <= i - lag < len(run):
            yield frame, run[i - lag]


def _small(take: Take, indices: Iterable[int]) -> Iterator[Frame]:
    for index in indices:
        try:
            yield small_frame(take[index])
        except TakeDamagedError:
            continue
