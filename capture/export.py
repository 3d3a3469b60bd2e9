"""Takes as files that other tools open: video, and folders of images.

Works on a Take and an output path. Knows nothing of how takes are stored. Damaged frames are left out and counted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError, TakeDamagedError, TakeError
from capture.frame import CANONICAL, Frame
from capture.pictures import channel_picture, depth_range, shrink, tile
from capture.take import Take
from capture.take_check import Progress
from capture.take_folder import PREVIEW
from capture.video import write_video

SIDE_BY_SIDE = "side_by_side"
"""Name that stands for colour, depth and normals beside each other."""

_PREVIEW_FRAMES = 600
_PREVIEW_WIDTH = 480


@dataclass
class ExportReport:
    """What an export wrote."""

    out: str
    frames: int = 0
    skipped: list[int] = field(default_factory=list)
    """Positions of frames that were left out: damaged, or without the channel."""
    missing: int = 0
    """Frames that once were recorded in the range asked for and are not in the export: those left out, and, where the
    range runs to the end, those that are gone from the end of the take."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"exported": self.frames}


def export_mp4(
    take: Take,
    out: str | os.PathLike[str],
    channel: str = "color",
    *,
    frames: tuple[int | None, int | None] = (None, None),
    crf: int = 18,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as an H.264 video whose speed is that of the frames' times.

    channel: a channel's name, several joined by commas (beside each other, with captions), or "side_by_side" for
        those of color, depth and normal that the take has. Depth is coloured with one range for the whole video.
    frames: (first, last) as in a slice.

    Raises TakeError when the take lacks the channel or no frame is readable, VideoError when the file cannot be
    written.
    """
    names = _channels(take, channel)
    start, end = take.clip_range(*frames)
    near, far = _depth_range(take, start, end) if any(n.startswith("depth") for n in names) else (None, None)
    report = ExportReport(str(out))
    written: list[float] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for frame in _readable(take, start, end, names, report, progress, written):
            pictures = [channel_picture(frame, name, near, far) for name in names]
            yield pictures[0] if len(pictures) == 1 else tile(pictures, names)

    report.frames = write_video(out, images(), fps=take.fps, times=_following(written), crf=crf)
    report.missing = _missing(take, report, frames[1])
    return report


def export_frames(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: tuple[int | None, int | None] = (None, None),
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as images and arrays, canonical, top row first:

        color/000000.png          8-bit sRGB (every colour channel by its name)
        depth/000000.npy          float32 metres along the optical axis, inf for sky
        depth/000000.png          16-bit millimetres, 65535 for 65.535 m and farther (sky too), 0 where unknown
        normal/000000.png         8-bit RGB, n = value / 255 * 2 - 1 in OpenCV camera axes; (128, 128, 128) is sky
        motion/000000.npy         float32 (H, W, 2) pixels, position in the previous frame minus position now
        segmentation/, instance/  16-bit PNG of ids (.npy where ids exceed 65535)
        cameras.json              per frame: file number, serial, time, pose (camera to world, 4x4), fx, fy, cx, cy

    Channels of other names are written as sent, as .npy. The folder must not exist or be empty. Raises TakeError.
    """
    folder = Path(out)
    start, end = take.clip_range(*frames)
    report = ExportReport(str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise TakeError(f"the folder {folder} is not empty: export into a new one.")
        entries = []
        for frame in _readable(take, start, end, None, report, progress):
            for name in frame.channels:
                _write_channel(folder / name, frame, name)
            entries.append(_frame_entry(frame))
            report.frames += 1
        document = {
            "take": take.name,
            "engine": take.engine,
            "fps": take.fps,
            "axes": "OpenCV: x right, y down, z forward; metres; pose maps camera to world, column vectors",
            "pixels": "pixel (0, 0) is the centre of the top-left pixel",
            "legend": take.legend,
            "frames": entries,
        }
        (folder / "cameras.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TakeError(f"the folder {folder} cannot be written ({error.strerror}): choose another one.") from None
    if not report.frames:
        raise TakeError(f"take {take.name}: none of the frames {start} to {end - 1} can be read.")
    report.missing = _missing(take, report, frames[1])
    return report


def export_preview(path: str | os.PathLike[str]) -> bool:
    """Write preview.mp4 into a take: colour, at most 480 pixels wide and 600 frames; False when there is nothing
    to show. Longer takes lose frames evenly, not speed."""
    with Take(path) as take:
        shown = next((n for n in take.channels if n.startswith("color")), None) or next(iter(take.channels), None)
        readable = take.readable
        if shown is None or not readable:
            return False
        chosen = readable[:: max(1, math.ceil(len(readable) / _PREVIEW_FRAMES))]
        written: list[float] = []

        def images() -> Iterator[NDArray[np.uint8]]:
            size = None
            for index in chosen:
                try:
                    frame = take[index]
                    image = shrink(channel_picture(frame, shown), _PREVIEW_WIDTH)
                except TakeDamagedError:
                    continue
                size = size or image.shape
                if image.shape == size:
                    written.append(frame.time)
                    yield image

        step = len(readable) / len(chosen)
        write_video(take.path / PREVIEW, images(), fps=take.fps / step, times=_following(written), crf=26)
    return True


def _missing(take: Take, report: ExportReport, last: int | None) -> int:
    gone_from_the_end = take.recorded - len(take) if last is None else 0
    return len(report.skipped) + gone_from_the_end


def _channels(take: Take, channel: str) -> list[str]:
    names: list[str]
    if channel == SIDE_BY_SIDE:
        names = [name for name in ("color", "depth", "normal") if name in take.channels]
    else:
        names = [name.strip() for name in channel.split(",") if name.strip()]
    missing = [name for name in names if name not in take.channels]
    if missing or not names:
        have = ", ".join(take.channels) or "none"
        raise TakeError(f"take {take.name} has no channel {(missing or [channel])[0]!r}, it has: {have}.")
    return names


def _readable(
    take: Take,
    start: int,
    end: int,
    names: list[str] | None,
    report: ExportReport,
    progress: Progress | None,
    times: list[float] | None = None,
) -> Iterator[Frame]:
    """Frames whose channels `names` (None: all they have) can be read; the others are listed in the report."""
    for index in range(start, end):
        try:
            frame = take[index]
            for name in frame.channels if names is None else names:
                frame.channel(name).data  # noqa: B018 (reading shows damage before anything is written)
        except (TakeDamagedError, FrameError):
            report.skipped.append(index)
            continue
        if times is not None:
            times.append(frame.time)
        yield frame
        if progress is not None:
            progress(index - start + 1, end - start)


def _following(written: list[float]) -> Iterator[float]:
    """Times of the images in the order in which they are made."""
    position = 0
    while True:
        yield written[position]
        position += 1


def _depth_range(take: Take, start: int, end: int) -> tuple[float, float]:
    depths = []
    for index in np.unique(np.linspace(start, end - 1, 8).astype(int)):
        try:
            depths.append(take[int(index)].depth)
        except TakeDamagedError:
            continue
    return depth_range(depths)


def _write_channel(folder: Path, frame: Frame, name: str) -> None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    file = folder / f"{frame.index:06d}.png"
    family = frame.channels[name].descriptor.family
    if family not in CANONICAL:
        np.save(file.with_suffix(".npy"), frame.channels[name].data)
        return
    array = frame.canonical(name)
    if family == "color":
        Image.fromarray(array).save(file, compress_level=1)
    elif family == "depth":
        np.save(file.with_suffix(".npy"), array)
        millimetres = np.nan_to_num(array * np.float32(1000), nan=0.0, posinf=65535.0)
        Image.fromarray(np.clip(millimetres + 0.5, 0, 65535).astype(np.uint16)).save(file, compress_level=1)
    elif family == "normal":
        Image.fromarray(np.clip((array * 0.5 + 0.5) * 255 + 0.5, 0, 255).astype(np.uint8)).save(file, compress_level=1)
    elif family == "motion" or array.max(initial=0) > 65535:
        np.save(file.with_suffix(".npy"), array)
    else:
        Image.fromarray(array.astype(np.uint16)).save(file, compress_level=1)


def _frame_entry(frame: Frame) -> dict[str, Any]:
    camera = frame.camera
    entry: dict[str, Any] = {"file": f"{frame.index:06d}", "serial": frame.serial, "time": frame.time}
    entry |= {"flags": list(frame.flags), "dropped_before": frame.dropped_before}
    if camera is None:
        return entry | {"camera": None}
    numbers = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "near")}
    far = camera.far if math.isfinite(camera.far) else None
    return entry | {"camera": {"pose": camera.pose.tolist(), **numbers, "far": far}}
