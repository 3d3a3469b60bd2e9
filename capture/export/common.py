"""What every export needs: which frames and channels, what became of them, what a file says about its take, and
folders that are filled file by file.

Works on a Take. Knows nothing of any format.
"""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError, TakeDamagedError, TakeError
from capture.files import replacing
from capture.frame import Frame
from capture.take import Take
from capture.take_check import Progress
from capture.take_folder import plain

Range = tuple[int | None, int | None]
"""(first, last) as in a slice."""

OPENCV_AXES = "OpenCV: x right, y down, z forward; pose maps camera to world, column vectors"
PIXELS = "pixel (0, 0) is the centre of the top-left pixel"


@dataclass
class ExportReport:
    """What an export wrote."""

    out: str
    frames: int = 0
    skipped: list[int] = field(default_factory=list)
    """Positions of frames that were left out: damaged, or without the channel."""
    missing: int = 0
    """Frames that once were recorded in the range asked for and are not in the export because they are damaged, lost
    or without the channel."""
    files: list[str] = field(default_factory=list)
    """The files that hold it, where they are few."""
    notes: list[str] = field(default_factory=list)
    """What a user should know, one sentence each: left out, derived, of unknown unit."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"exported": self.frames}

    def note(self, sentence: str) -> None:
        """Add a sentence that is not there yet."""
        if sentence not in self.notes:
            self.notes.append(sentence)


class Selection:
    """The readable frames of a part of a take, one at a time, with the channels that are wanted.

    channels: names that every frame must have (normals may be derived from depth); None for what each frame has.
    cameras: whether the export tells where the camera is, so that it must say where that is not known.

    Raises TakeError when the range is none or the take lacks a channel.
    """

    def __init__(
        self,
        take: Take,
        frames: Range,
        channels: Sequence[str] | None,
        report: ExportReport,
        progress: Progress | None = None,
        cameras: bool = True,
    ) -> None:
        self.take = take
        self.start, self.end = take.clip_range(*frames)
        self.channels = None if channels is None else list(channels)
        self.report = report
        self._to_the_end = frames[1] is None
        self._progress, self._cameras = progress, cameras
        offered = available_channels(take)
        missing = [name for name in self.channels or () if name not in offered]
        if missing or self.channels == []:
            what = f"channel {missing[0]!r}" if missing else "channels to export"
            raise TakeError(f"take {take.name} has no {what}, it has: {', '.join(offered) or 'none'}.")

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.start, self.end):
            frame = self.read(index)
            if frame is None:
                self.report.skipped.append(index)
            else:
                yield frame
            self.done(index)

    def done(self, index: int) -> None:
        """Move the progress bar behind a frame."""
        if self._progress is not None:
            self._progress(index - self.start + 1, len(self))

    def read(self, index: int) -> Frame | None:
        """A frame with all that is wanted of it decoded, so that damage shows before anything is written; None when
        it is damaged or lacks a channel."""
        try:
            frame = self.take[index]
            names = self.names(frame)
            for name in names:
                frame.canonical(name)
        except (TakeDamagedError, FrameError):
            return None
        if any(not channel.descriptor.in_metres for name, channel in frame.channels.items() if name in names):
            self.report.note("The engine's unit is not known in metres: depth and positions are in engine units.")
        if self._cameras and not frame.has_pose:
            self.report.note("The camera's pose is not known in some frames.")
        if "normal" in names and "normal" not in frame.channels:
            self.report.note("The engine sent no normals: they are derived from depth.")
        return frame

    def names(self, frame: Frame) -> list[str]:
        """The channels wanted of a frame."""
        if self.channels is not None:
            return self.channels
        return [*frame.channels, *(name for name in frame.available if name not in frame.channels)]

    def sample(self, wanted: int) -> Iterator[Frame]:
        """Up to `wanted` readable frames, evenly spread; not counted in the report."""
        for index in np.unique(np.linspace(self.start, self.end - 1, wanted).astype(int)):
            try:
                yield self.take[int(index)]
            except TakeDamagedError:
                continue

    def depths(self, wanted: int) -> Iterator[NDArray[np.float32]]:
        """Depth of a sample of the frames, as far as it can be read."""
        for frame in self.sample(wanted):
            try:
                yield frame.depth
            except (TakeDamagedError, FrameError):
                continue

    def nothing(self) -> TakeError:
        """The error of an export that found no frame."""
        return TakeError(
            f"take {self.take.name}: none of the frames {self.start} to {self.end - 1} can be exported; "
            f"`realmaster takes verify {self.take.name}` says why."
        )

    def finish(self) -> ExportReport:
        """The report of an export that went through; TakeError when there was no frame to export."""
        report, take = self.report, self.take
        if not report.frames:
            raise self.nothing()
        report.missing = len(report.skipped) + (take.recorded - len(take) if self._to_the_end else 0)
        return report


def available_channels(take: Take) -> list[str]:
    """The channels that a take lists, and normals where depth gives them."""
    names = list(take.channels)
    return [*names, "normal"] if "depth" in names and "normal" not in names else names


def chosen_channels(text: str | None) -> list[str] | None:
    """`"color, depth"` as a list; None for None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def depth_unit(frame: Frame) -> str:
    """ "metres", or "engine units" where their length is unknown."""
    return "metres" if all(c.descriptor.in_metres for c in _depths(frame)) else "engine units"


def camera_entry(frame: Frame) -> dict[str, Any] | None:
    """A frame's camera for JSON: pose (4x4, or None where it is unknown), intrinsics in pixels of the frame, near and
    far (None: infinite)."""
    camera = frame.camera
    if camera is None:
        return None
    numbers = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "near")}
    far = camera.far if math.isfinite(camera.far) else None
    return {"pose": camera.pose.tolist() if frame.has_pose else None, **numbers, "far": far}


def frame_entry(frame: Frame) -> dict[str, Any]:
    """What a frame is, for JSON: serial, time, flags, size, camera, unit of its depth, origin of its normals."""
    entry: dict[str, Any] = {"serial": frame.serial, "time": frame.time, "flags": list(frame.flags)}
    entry |= {"dropped_before": frame.dropped_before, "width": frame.shape[1], "height": frame.shape[0]}
    if "depth" in frame.channels:
        entry["depth_unit"] = depth_unit(frame)
        entry["projection"] = frame.channels["depth"].descriptor.projection or "engine"
    if "normal" in frame.available:
        entry["normals"] = "engine" if "normal" in frame.channels else "derived from depth"
    return entry | {"camera": camera_entry(frame)}


def take_entry(take: Take) -> dict[str, Any]:
    """What a take is, for JSON."""
    unknown = any(entry.get("scale") == "unknown" for entry in take.manifest["channels"])
    unit = "engine units, their length in metres is unknown" if unknown else "metres"
    return plain({
        "take": take.name,
        "take_id": take.manifest["id"],
        "created": take.manifest["created"],
        "engine": take.engine,
        "game": take.game,
        "fps": take.fps,
        "axes": OPENCV_AXES,
        "lengths": unit,
        "pixels": PIXELS,
        "legend": take.legend,
    })  # fmt: skip


class ExportFolder:
    """A folder that is filled file by file, each file at once, and that can be taken up again where a crash left it.

    While it is unfinished it holds `unfinished.json`, which says what it is made from.

    made_from: take and options; an unfinished folder of the same ones is gone on with.
    resumable: whether what is there after a failure is worth keeping.

    Raises TakeError when the folder holds anything else, or cannot be made.
    """

    MARK = "unfinished.json"

    def __init__(self, path: Path, take: Take, made_from: Mapping[str, Any], resumable: bool = True) -> None:
        self.path = path
        self.resumed = False
        """Whether there was something to go on with."""
        self._keep = False
        self._resumable = resumable
        mark = plain({"take": take.manifest["id"], **made_from})
        with self._errors():
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                try:
                    self.resumed = json.loads((path / self.MARK).read_text("utf-8")) == mark
                except (FileNotFoundError, ValueError):
                    self.resumed = False
                if not self.resumed:
                    raise TakeError(f"the folder {path} is not empty: export into a new one.")
                for partial in path.rglob(".*.partial*"):
                    partial.unlink()
                self._keep = resumable
            else:
                self.write_json(self.MARK, mark)

    def has(self, *names: str) -> bool:
        """Whether all these files are there."""
        return all((self.path / name).exists() for name in names)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to be written to, which becomes file `name` of the folder when the block ends well."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            yield partial
        self._keep = self._resumable and name != self.MARK

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as path:
            path.write_bytes(data)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())

    @contextmanager
    def filling(self) -> Iterator[None]:
        """A block that fills the folder; it is whole when the block ends well. What the disk refuses is one sentence,
        and a failure leaves what can be gone on with, or nothing."""
        try:
            with self._errors():
                yield
                (self.path / self.MARK).unlink(missing_ok=True)
        except BaseException:
            if not self._keep:  # all that is in the folder is ours: it was empty
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with disk_errors(self.path, "the folder", "choose another one, or make room and export again to go on"):
            yield


@contextmanager
def disk_errors(path: Path, what: str, mend: str = "choose another place") -> Iterator[None]:
    """OSError as a TakeError that names `what` at `path`."""
    try:
        yield
    except OSError as error:
        raise TakeError(f"{what} {path} cannot be written ({error.strerror or error}): {mend}.") from None


def png(image: NDArray[Any], level: int = 1) -> bytes:
    """A PNG of (H, W, 3) uint8 or (H, W) uint8/uint16."""
    from PIL import Image

    return _bytes(lambda file: Image.fromarray(image).save(file, format="png", compress_level=level))


def npy(array: NDArray[Any]) -> bytes:
    """An NPY file."""
    return _bytes(lambda file: np.save(file, array))


def nearest(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The array at another size, by the nearest pixel: neither depth nor ids may be mixed."""
    if array.shape[:2] == shape:
        return array
    rows = (np.arange(shape[0]) + 0.5) * array.shape[0] // shape[0]
    columns = (np.arange(shape[1]) + 0.5) * array.shape[1] // shape[1]
    return array[rows.astype(int)[:, None], columns.astype(int)]


def _bytes(write: Callable[[io.BytesIO], None]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _depths(frame: Frame) -> list[Any]:
    return [channel for channel in frame.channels.values() if channel.descriptor.family == "depth"]
