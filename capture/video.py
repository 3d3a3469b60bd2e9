"""Video files: RGB images in, RGB images out.

Works on uint8 images and their times, through PyAV. Knows nothing of takes or frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import UserError

TIME_BASE = Fraction(1, 90_000)
"""Resolution of the timestamps that `write_video` writes, seconds."""


class VideoError(UserError):
    """A video cannot be written or read."""


def write_video(
    path: str | os.PathLike[str],
    images: Iterable[NDArray[np.uint8]],
    *,
    fps: float = 24.0,
    times: Iterable[float] | None = None,
    crf: int = 18,
    preset: str = "veryfast",
) -> int:
    """Write an H.264 video (yuv420p, BT.709, index at the front) that browsers play; returns the number of images.

    images: (H, W, 3) uint8 sRGB, all of one size; odd sizes get one more row or column, a copy of the last.
    fps: images per second when there are no `times`, and how long the last image stays.
    times: seconds of each image; they decide the speed, so gaps stay gaps. Times that do not rise are moved up.
    crf: x264's constant rate factor, 0 (lossless) to 51.

    The file appears under its name when it is whole. Raises VideoError when there are no images, sizes differ, or
    the file cannot be written.
    """
    import av

    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix or '.mp4'}")
    if not np.isfinite(fps) or fps <= 0:
        raise VideoError(f"{path.name}: fps is {fps}, but must be a positive number.")
    clock = _pts(fps, times)
    count, size = 0, (0, 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream: Any = None
            for image in images:
                if stream is None:
                    size = image.shape[:2]
                    stream = _stream(container, image, fps, crf, preset)
                elif image.shape[:2] != size:
                    raise VideoError(
                        f"{path.name}: the images change from {size[1]}x{size[0]} to "
                        f"{image.shape[1]}x{image.shape[0]}; export a part of one size."
                    )
                container.mux(stream.encode(_frame(image, *next(clock))))
                count += 1
            if stream is None:
                raise VideoError(f"{path.name}: there are no images to write.")
            container.mux(stream.encode(None))
        os.replace(partial, path)
    except StopIteration:
        raise VideoError(f"{path.name}: there are more images than times.") from None
    except (OSError, av.FFmpegError) as error:
        raise VideoError(f"the video {path} cannot be written ({_reason(error)}).") from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return count


def iterate_video(path: str | os.PathLike[str]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """(seconds, (H, W, 3) uint8 image) of every frame of a video's first picture stream; VideoError."""
    import av

    path = Path(path)
    if not path.is_file():
        raise VideoError(f"there is no video {path}.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no pictures.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                time = frame.time if frame.time is not None else number / float(stream.average_rate or 24)
                yield float(time), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video ({_reason(error)}).") from None


def read_video(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A whole video: images (T, H, W, 3) uint8 and their times (T,) in seconds. Raises VideoError."""
    times, images = [], []
    for time, image in iterate_video(path):
        times.append(time)
        images.append(image)
    if not images:
        raise VideoError(f"{path} has no pictures.")
    return np.stack(images), np.array(times, np.float64)


def _stream(container: Any, image: NDArray[np.uint8], fps: float, crf: int, preset: str) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = (side + side % 2 for side in image.shape[:2])
    stream.pix_fmt = "yuv420p"
    # Without B-frames the decoding times are the times: with them, uneven times give a container that claims to end
    # before its last images.
    stream.options = {"crf": str(crf), "preset": preset, "bf": "0"}
    stream.codec_context.time_base = TIME_BASE
    # Players guess untagged colours by the picture's size; say what the conversion below does.
    stream.codec_context.colorspace = 1  # BT.709
    stream.codec_context.color_primaries = 1  # BT.709, which are also those of sRGB
    stream.codec_context.color_trc = 13  # sRGB
    stream.codec_context.color_range = 1  # limited
    return stream


def _frame(image: NDArray[np.uint8], pts: int, duration: int) -> Any:
    import av

    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="itu709", dst_color_range=1)
    frame.pts, frame.time_base, frame.duration = pts, TIME_BASE, duration
    return frame


def _pts(fps: float, times: Iterable[float] | None) -> Iterator[tuple[int, int]]:
    """(timestamp, duration) of each image in units of TIME_BASE, rising from 0."""
    ticks = 1 / TIME_BASE
    step = max(1, round(float(ticks) / fps))
    if times is None:
        number = 0
        while True:
            yield round(float(ticks) * number / fps), step
            number += 1
    first, last = None, -1
    for time in times:
        first = time if first is None else first
        last = max(last + 1, round((time - first) * float(ticks)))
        yield last, step


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
