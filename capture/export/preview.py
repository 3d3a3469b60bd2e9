"""preview.mp4: the small video in a take's own folder, for people and file managers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from capture.errors import TakeDamagedError
from capture.pictures import channel_picture, shrink
from capture.take import Take
from capture.take_folder import PREVIEW
from capture.video import VideoWriter

_FRAMES = 600
_WIDTH = 480


class _Stopped(Exception):
    pass


def export_preview(path: str | os.PathLike[str], stop: Callable[[], bool] = lambda: False) -> bool:
    """Write preview.mp4 into a take: colour, at most 480 pixels wide and 600 frames; False when there is nothing
    to show. Longer takes lose frames evenly, not speed; of a take that changes its size the first one is shown.
    `stop` is asked before each frame; when it says so, nothing is left behind, and False returned."""
    try:
        return _export_preview(path, stop)
    except _Stopped:
        return False


def _export_preview(path: str | os.PathLike[str], stop: Callable[[], bool]) -> bool:
    with Take(path) as take:
        shown = next((n for n in take.channels if n.startswith("color")), None) or next(iter(take.channels), None)
        readable = take.readable
        if shown is None or not readable:
            return False
        chosen = readable[:: max(1, math.ceil(len(readable) / _FRAMES))]
        step = len(readable) / len(chosen)
        with VideoWriter(take.path / PREVIEW, fps=take.fps / step, crf=26) as video:
            for index in chosen:
                if stop():
                    raise _Stopped
                try:
                    frame = take[index]
                    image = shrink(channel_picture(frame, shown), _WIDTH)
                except TakeDamagedError:
                    continue
                if video.size in (None, image.shape[:2]):
                    video.add(image, frame.time)
    return True
