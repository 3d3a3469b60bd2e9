"""What the numbers of each channel look like by themselves: black, flat, stuck, coarse.

Works on small frames as sent and their canonical arrays. Knows nothing of how channels fit each other.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError
from capture.frame import Frame
from capture.health.report import ChannelFacts
from capture.health.runs import EXAMINED, Run

_ENOUGH = 3
"""Frames from which something can be said about repetition."""

_VISIBLE, _MOVING = 8, 0.002
"""A pixel has changed by more levels than this; more of them than this share say that the view moves. (A resting
camera in a game: at most 0.0002 of the pixels in nine frames of ten; a slowly moving one: 0.006.)"""


@dataclass
class Numbers:
    """Of one channel, over all frames examined."""

    name: str
    facts: ChannelFacts
    stuck: int = 0
    """Frames in which this channel is bit by bit the one before, though the colour or the camera is not."""
    could_stick: int = 0
    """Frames in which it could have been seen."""
    distinct: int = 0
    """Different numbers stored in a frame, at most (depth only)."""
    uniform: bool = False
    """Every pixel of every frame looked at holds the same."""
    unreadable: str = ""
    """Why it has no canonical form."""


@dataclass
class _Sums:
    count: int = 0
    finite: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, array: NDArray[Any]) -> None:
        array = array[::2, ::2]
        finite = array[np.isfinite(array)].astype(np.float64)
        self.count += array.size
        self.finite += finite.size
        if finite.size:
            self.total += float(finite.sum())
            self.squares += float((finite**2).sum())
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))


def look_at(runs: list[Run]) -> dict[str, Numbers]:
    """Numbers of every examined channel that the frames have."""
    names = [n for n in EXAMINED if any(n in frame.channels for run in runs for frame in run)]
    return {name: _channel(name, runs) for name in names}


def _channel(name: str, runs: list[Run]) -> Numbers:
    sums, repeated, compared, stuck, could_stick, unreadable = _Sums(), 0, 0, 0, 0, ""
    distinct, uniform = 0, True
    for run in runs:
        before: Frame | None = None
        for i, frame in enumerate(run):
            if name not in frame.channels:
                continue
            if i % 3 == 0:
                try:
                    sums.add(frame.canonical(name))
                except FrameError as error:
                    unreadable = str(error)
                raw = frame.channels[name].data
                uniform = uniform and bool((raw == raw[:1, :1]).all())
                if name == "depth":
                    distinct = max(distinct, np.unique(raw[::2, ::2]).size)
            if before is not None and name in before.channels:
                same = _crc(frame, name) == _crc(before, name)
                compared += 1
                repeated += same
                if _changes(before, frame, name):
                    could_stick += 1
                    stuck += same
            before = frame
    n = max(1, sums.finite)
    mean = sums.total / n
    facts = ChannelFacts(
        name, sums.low if sums.finite else 0.0, sums.high if sums.finite else 0.0, mean,
        max(0.0, sums.squares / n - mean**2), sums.finite / max(1, sums.count), repeated, compared,
    )  # fmt: skip
    return Numbers(name, facts, stuck, could_stick, distinct, uniform, unreadable)


def _changes(before: Frame, after: Frame, name: str) -> bool:
    """Whether another channel, or the camera, says that time went on: then this one should have changed."""
    both = before.channels.keys() & after.channels.keys()
    others = [n for n in EXAMINED if n in both - {name, "color", "motion"}]
    if any(_crc(before, other) != _crc(after, other) for other in others):
        return True
    if "color" in both - {name} and _moves(before, after):
        return True
    a, b = before.raw_camera, after.raw_camera
    return a is not None and b is not None and not np.allclose(a.pose, b.pose, atol=1e-9)


def _moves(before: Frame, after: Frame) -> bool:
    """Whether the picture changes by more than a clock or a line of text on it: while the camera rests, those go on
    and depth rightly stays."""
    if before.channels["color"].data.shape != after.channels["color"].data.shape:
        return True
    a, b = (frame.channels["color"].data[::2, ::2].astype(np.int16) for frame in (before, after))
    changed = np.abs(a - b).max(axis=-1) > _VISIBLE
    return bool(changed.mean() > _MOVING)


def _crc(frame: Frame, name: str) -> int:
    channel = frame.channels[name]
    known = channel.__dict__.get("_health_crc")
    if known is None:
        known = channel.__dict__["_health_crc"] = zlib.crc32(channel.data.tobytes())
    return int(known)


def enough(numbers: Numbers) -> bool:
    """Whether repetition can be judged."""
    return numbers.could_stick >= _ENOUGH
