"""Render and lift beside each other, as one video to show to people.

Works on a take and the folder of one of its lifts; knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from capture.errors import TakeDamagedError
from capture.pictures import letterbox, tile
from capture.take import Take
from capture.video import iterate_video, write_video
from realmaster.lift.lifter import LiftError


def compare(take: Take, lift: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write `out`, an mp4: the render left, the lift right, at the take's own times; returns the number of frames.

    Frames of the take that are damaged are shown as the one before. Raises LiftError when the folder `lift` holds no
    finished lift of this take, VideoError when a video cannot be read or written.
    """
    try:
        first, end = json.loads((lift / "report.json").read_bytes())["frames"]
    except (OSError, ValueError, KeyError, TypeError):
        raise LiftError(f"{lift.name} of take {take.name} has no report: it is no finished lift.") from None
    if not 0 <= first < end <= len(take):
        raise LiftError(f"{lift.name} is a lift of frames {first}:{end}, but take {take.name} has {len(take)}.")

    def pairs() -> Iterator[np.ndarray]:
        render: np.ndarray | None = None
        for place, (_, lifted) in enumerate(iterate_video(lift / "lifted.mp4")):
            if first + place >= end:
                break
            try:
                render = take[first + place].color
            except TakeDamagedError:
                render = np.zeros_like(lifted) if render is None else render
            yield tile([letterbox(render, lifted.shape[:2]), lifted], labels=["render", "lifted"])
            if progress is not None:
                progress(place + 1, end - first)

    return write_video(out, pairs(), times=take.times[first:end])
