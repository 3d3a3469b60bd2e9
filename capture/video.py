"""Video files: RGB images in, RGB images out.

Works on uint8 images and their times, through PyAV. Knows nothing of takes or frames.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import UserError
from capture.files import replacing

TIME_BASE = Fraction(1, 90_000)
"""Resolution of the timestamps that `VideoWriter` writes, seconds."""


class VideoError(UserError):
    """A video cannot be written or read."""


class VideoWriter:
    """An H.264 video (yuv420p, BT.709, index at the front) that browsers play, written image by image.

        with VideoWriter("out.mp4", fps=24) as video:
            video.add(image, time=0.5)

    fps: images per second where `add` gets no time, and how long the last image stays.
    crf: x264's constant rate factor, 0 (lossless) to 51.
    comment: a line of text for the file's metadata.
    keep_odd: images of an odd size keep it, as yuv444p, which some players do not know; else they get one more row or
        column, a copy of the last.

    The file appears under its name when the block ends well, and not at all when it does not. Raises VideoError when
    there are no images, sizes differ, or the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float = 24.0,
        crf: int = 18,
        preset: str = "veryfast",
        comment: str = "",
        keep_odd: bool = False,
    ) -> None:
        self.path = Path(path)
        self.count = 0
        """Images added."""
        self.size: tuple[int, int] | None = None
        """(H, W) of the images, once there is one."""
        if not np.isfinite(fps) or fps <= 0:
            raise VideoError(f"{self.path.name}: fps is {fps}, but must be a positive number.")
        self._fps, self._crf, self._preset, self._comment, self._keep_odd = fps, crf, preset, comment, keep_odd
        self._clock = _Clock(fps)
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        import av

        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._stack.enter_context(replacing(self.path))
            # The container is entered last, so that it is closed before the file gets its name.
            options = {"movflags": "+faststart"}
            self._container = self._stack.enter_context(av.open(str(partial), "w", format="mp4", options=options))
            if self._comment:
                self._container.metadata["comment"] = self._comment
        return self

    def add(self, image: NDArray[np.uint8], time: float | None = None) -> None:
        """Append an image (H, W, 3) uint8 sRGB, of the size of the first.

        time: seconds; times decide the speed, so gaps stay gaps. Equal times are moved apart by a tick; where the
        clock was set back, the image comes one frame later and the others follow at the pace of the new times.
        """
        with self._explained():
            if self._stream is None:
                self.size = (image.shape[0], image.shape[1])
                # In yuv420p two by two pixels share their colour.
                pixels = "yuv444p" if self._keep_odd and any(side % 2 for side in self.size) else "yuv420p"
                self._stream = _stream(self._container, image, pixels, self._fps, self._crf, self._preset)
            elif image.shape[:2] != self.size:
                height, width = self.size or (0, 0)
                raise VideoError(
                    f"{self.path.name}: the images change from {width}x{height} to "
                    f"{image.shape[1]}x{image.shape[0]}; export a part of one size."
                )
            self._container.mux(self._stream.encode(_frame(image, self._stream.pix_fmt, *self._clock.next(time))))
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._explained():
            try:
                if kind is None:
                    if self._stream is None:
                        raise VideoError(f"{self.path.name}: there are no images to write.")
                    self._container.mux(self._stream.encode(None))
            except BaseException:
                self._stack.__exit__(*sys.exc_info())
                raise
            self._stack.__exit__(kind, error, trace)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong, as one sentence."""
        import av

        try:
            yield
        except (OSError, av.FFmpegError) as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise VideoError(
                    f"the video {self.path} cannot be written: the disk is full; make room there."
                ) from None
            raise VideoError(f"the video {self.path} cannot be written ({_reason(error)}).") from None


def write_video(
    path: str | os.PathLike[str],
    images: Iterable[NDArray[np.uint8]],
    *,
    fps: float = 24.0,
    times: Iterable[float] | None = None,
    crf: int = 18,
    preset: str = "veryfast",
    keep_odd: bool = False,
) -> int:
    """Write images as a `VideoWriter` does, with the times of each where given; returns the number of images."""
    with VideoWriter(path, fps=fps, crf=crf, preset=preset, keep_odd=keep_odd) as video:
        at = None if times is None else iter(times)
        for image in images:
            try:
                video.add(image, None if at is None else next(at))
            except StopIteration:
                raise VideoError(f"{video.path.name}: there are more images than times.") from None
        return video.count


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


def read_image(path: str | os.PathLike[str], seconds: float) -> NDArray[np.uint8]:
    """The image (H, W, 3) uint8 that a video shows at a moment, in seconds from its beginning; its first or last one
    for moments before or after it. Raises VideoError."""
    import av

    path = Path(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            start = stream.start_time or 0
            container.seek(start + max(0, math.floor(seconds / (stream.time_base or TIME_BASE))), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and frame.time is not None and frame.time > seconds + 1e-4:
                    break
                shown = frame
            if shown is None:
                raise VideoError(f"{path} has no pictures.")
            return np.asarray(shown.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError, IndexError) as error:
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


def _stream(container: Any, image: NDArray[np.uint8], pixels: str, fps: float, crf: int, preset: str) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = (side + side % 2 * (pixels == "yuv420p") for side in image.shape[:2])
    stream.pix_fmt = pixels
    # Without B-frames the decoding times are the times: with them, uneven times give a container that claims to end
    # before its last images.
    # What x264 makes depends on how many threads share the work, by default a matter of the cores: fixed, so that the
    # same images give the same bytes.
    stream.options = {"crf": str(crf), "preset": preset, "bf": "0", "threads": "4"}
    stream.codec_context.time_base = TIME_BASE
    # Players guess untagged colours by the picture's size; say what the conversion below does.
    stream.codec_context.colorspace = 1  # BT.709
    stream.codec_context.color_primaries = 1  # BT.709, which are also those of sRGB
    stream.codec_context.color_trc = 13  # sRGB
    stream.codec_context.color_range = 1  # limited
    return stream


def _frame(image: NDArray[np.uint8], pixels: str, pts: int, duration: int) -> Any:
    import av

    height, width = image.shape[:2]
    if pixels == "yuv420p" and (height % 2 or width % 2):
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(format=pixels, dst_colorspace="itu709", dst_color_range=1)
    frame.pts, frame.time_base, frame.duration = pts, TIME_BASE, duration
    return frame


class _Clock:
    """Timestamps and durations in units of TIME_BASE, rising from 0, for images at given times or of even pace."""

    def __init__(self, fps: float) -> None:
        self._ticks = float(1 / TIME_BASE)
        self._fps = fps
        self._step = max(1, round(self._ticks / fps))
        self._count, self._last = 0, -1
        self._origin = self._before = 0.0

    def next(self, time: float | None) -> tuple[int, int]:
        """(timestamp, duration) of the next image."""
        if time is None:
            time = self._count / self._fps
        if not self._count:
            self._origin = time
        elif time < self._before:  # the clock was set back: go on from here
            self._origin = time - (self._last + self._step) / self._ticks
        self._count, self._before = self._count + 1, time
        self._last = max(self._last + 1, round((time - self._origin) * self._ticks))
        return self._last, self._step


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
