"""Video of one channel, or of several side by side, at the speed at which it was played.

Works on a Take and an .mp4 path. The frames' times decide the speed: gaps stay gaps, dropped frames leave a longer
still, and a clock that was set back goes on from where it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError, TakeDamagedError
from capture.export.common import ExportReport, Range, Selection, available_channels, chosen_channels, take_entry
from capture.frame import Frame
from capture.pictures import channel_picture, depth_range, edges_picture, letterbox, motion_to_picture, tile
from capture.take import Take
from capture.take_check import Progress
from capture.video import VideoWriter

SIDE_BY_SIDE = "side_by_side"
"""Name that stands for colour, depth and normals beside each other."""

EDGES = "edges"
"""Name that stands for the silhouettes and creases of the geometry."""

_SAMPLED = 12
"""Frames that are looked at for ranges that must not change within a video."""


def export_mp4(
    take: Take,
    out: str | os.PathLike[str],
    channel: str = "color",
    *,
    frames: Range = (None, None),
    fit: bool = False,
    crf: int = 18,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as an H.264 video whose speed is that of the frames' times.

    channel: a channel's name, "edges", or several joined by commas (beside each other, with captions); "side_by_side"
        stands for those of color, depth and normal that the take has. Depth and motion are coloured with one range
        for the whole video; normals are derived from depth where the engine sent none.
    frames: (first, last) as in a slice.
    fit: scale pictures of another size than the first into its frame, with bars. Otherwise each change of size begins
        a new file, NAME-2.mp4, NAME-3.mp4 ..., so that every pixel stays as it was.

    Raises TakeError when the take lacks the channel or no frame is readable, VideoError when a file cannot be written.
    """
    names = _names(take, channel)
    report = ExportReport(str(out))
    selection = Selection(take, frames, _sources(names), report, progress, cameras=False)
    pictures = Pictures(selection, names)
    path = Path(out)
    with ExitStack() as finished:
        video: VideoWriter | None = None
        for frame in selection:
            picture = pictures.of(frame)
            if video is not None and picture.shape[:2] != video.size:
                if fit and video.size is not None:
                    picture = letterbox(picture, video.size)
                else:
                    finished.close()
                    video = None
            if video is None:
                number = len(report.files) + 1
                file = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
                video = finished.enter_context(VideoWriter(file, fps=take.fps, crf=crf, comment=pictures.comment))
                report.files.append(str(file))
            video.add(picture, frame.time)
            report.frames += 1
        if report.frames:
            finished.close()
    if len(report.files) > 1:
        report.note(f"The picture changes its size: there are {len(report.files)} files, one for each stretch.")
    return selection.finish()


class Pictures:
    """Frames as pictures, with ranges of depth and motion that hold for the whole selection."""

    def __init__(self, selection: Selection, names: list[str]) -> None:
        self.names = names
        self.comment = f"take {selection.take.name}, {', '.join(names)}"
        self._near = self._far = self._fastest = None
        if any(name.startswith("depth") for name in names):
            self._near, self._far = depth_range(selection.depths(_SAMPLED))
            unit = "m" if take_entry(selection.take)["lengths"] == "metres" else "engine units"
            self.comment += f"; depth from {self._near:.4g} {unit} (red) to {self._far:.4g} {unit} (blue), logarithmic"
        if any(name.startswith("motion") for name in names):
            self._fastest = max([1.0, *_speeds(selection)])
            self.comment += f"; motion up to {self._fastest:.4g} pixels"

    def of(self, frame: Frame) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        pictures = [self._picture(frame, name) for name in self.names]
        columns = len(pictures) if len(pictures) <= 3 else math.ceil(len(pictures) / 2)
        return pictures[0] if len(pictures) == 1 else tile(pictures, self.names, columns)

    def _picture(self, frame: Frame, name: str) -> NDArray[np.uint8]:
        if name == EDGES:
            return edges_picture(frame)
        if name == "motion":
            return motion_to_picture(frame.motion, self._fastest)
        return channel_picture(frame, name, self._near, self._far)


def _names(take: Take, channel: str) -> list[str]:
    """The pictures that `channel` asks for, each once."""
    offered = available_channels(take)
    beside = [name for name in ("color", "depth", "normal") if name in offered]
    named = chosen_channels(channel) or []
    return list(dict.fromkeys(one for name in named for one in (beside if name == SIDE_BY_SIDE else [name])))


def _speeds(selection: Selection) -> Iterator[float]:
    """How far most of the picture moves, in pixels, in some frames."""
    for frame in selection.sample(_SAMPLED):
        try:
            length = np.hypot(*np.moveaxis(frame.motion[::4, ::4], -1, 0))
        except (TakeDamagedError, FrameError):
            continue
        if np.isfinite(length).any():
            yield float(np.percentile(length[np.isfinite(length)], 99))


def _sources(names: list[str]) -> list[str]:
    """The channels that these pictures are made from."""
    return list(dict.fromkeys("depth" if name == EDGES else name for name in names))
