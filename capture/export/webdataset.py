"""WebDataset: tar shards of frames or clips, for training.

Works on a Take and a folder. Shards are plain tar files, written with the standard library; the `webdataset` package
reads them. The same take and options give the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from capture.errors import TakeError
from capture.export.common import (
    ExportFolder,
    ExportReport,
    Range,
    Selection,
    disk_errors,
    frame_entry,
    npy,
    png,
    take_entry,
)
from capture.export.frames import unit_to_bytes
from capture.frame import CANONICAL, Frame
from capture.take import Take
from capture.take_check import Progress
from capture.video import VideoWriter

SHARD_BYTES = 256 * 2**20


def export_webdataset(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: Range = (None, None),
    channels: Sequence[str] | None = None,
    clip: int = 1,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as TAKE-000000.tar, TAKE-000001.tar ..., and dataset.json with what is in them.

    A sample of a frame (`clip` 1), key TAKE-000120 for frame 120:
        color.png, depth.npy (float32 metres, inf for sky), normal.png (n = value / 255 * 2 - 1, OpenCV camera axes),
        motion.npy, segmentation.png, instance.png (16 bit) or .npy, NAME.npy for other channels, json (serial, time,
        flags, camera, unit of depth)
    A sample of a clip, key TAKE-000120 for the clip that begins with frame 120:
        color.mp4 (even pace), depth.npy (T, H, W) float32, normal.npy (T, H, W, 3) uint8, and so on stacked, json
        (fps, and the frames as above)

    clip: consecutive frames in a sample. Clips do not overlap, and none goes across a cut, a lost frame, a change of
        size or of channels; frames that fill none are left off.
    shard_bytes: a new shard begins when the next sample would make the shard larger than this.

    The folder must not exist or be empty, or be what the same export left unfinished. Raises TakeError.
    """
    if clip < 1 or shard_bytes < 1:
        raise TakeError("clips have at least one frame, and shards at least one byte.")
    report = ExportReport(str(out))
    selection = Selection(take, frames, channels, report, progress)
    options = {"to": "webdataset", "frames": frames, "channels": channels, "clip": clip, "shard_bytes": shard_bytes}
    folder = ExportFolder(Path(out), take, options)
    stem = re.sub(r"[^\w-]+", "_", take.name)  # a key ends at its first dot
    with folder.filling():
        with _Shards(folder, stem, shard_bytes) as shards:
            for group in _groups(selection, clip):
                key = f"{stem}-{group[0].index:06d}"
                if not shards.has(key):
                    sample = _frame_files(group[0], selection) if clip == 1 else _clip_files(group, selection, take)
                    shards.add(key, sample)
                report.frames += len(group)
        selection.finish()
        about = {"samples": sum(shard["samples"] for shard in shards.done), "clip": clip, "shards": shards.done}
        folder.write_json("dataset.json", take_entry(take) | about)
    left_off = len(selection) - len(report.skipped) - report.frames
    if left_off:
        report.note(f"{left_off} frames were left off: they do not fill a clip of {clip}.")
    report.files = [str(folder.path / shard["file"]) for shard in shards.done]
    return report


class _Shards:
    """Samples into tar files of a limited size; shards that an earlier attempt finished are kept."""

    def __init__(self, folder: ExportFolder, stem: str, limit: int) -> None:
        self.done: list[dict[str, Any]] = []
        """File, samples and bytes of each whole shard."""
        self._folder, self._stem, self._limit = folder, stem, limit
        self._kept: set[str] = set()
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None
        self._size = self._samples = 0
        while folder.has(self._name):
            with tarfile.open(folder.path / self._name) as tar:
                keys = {name.split(".", 1)[0] for name in tar.getnames()}
            self._kept |= keys
            size = (folder.path / self._name).stat().st_size
            self.done.append({"file": self._name, "samples": len(keys), "bytes": size})

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._end()
        else:
            self._stack.__exit__(*error)

    @property
    def _name(self) -> str:
        return f"{self._stem}-{len(self.done):06d}.tar"

    def has(self, key: str) -> bool:
        return key in self._kept

    def add(self, key: str, files: dict[str, bytes]) -> None:
        data = b"".join(_member(f"{key}.{name}", content) for name, content in sorted(files.items()))
        if self._samples and self._size + len(data) > self._limit:
            self._end()
        if self._file is None:
            path = self._stack.enter_context(self._folder.writing(self._name))
            self._file = self._stack.enter_context(open(path, "wb"))
        self._file.write(data)
        self._size += len(data)
        self._samples += 1

    def _end(self) -> None:
        if self._file is None:
            return
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        shard = {"file": self._name, "samples": self._samples, "bytes": self._size + 2 * tarfile.BLOCKSIZE}
        self._stack.close()
        self.done.append(shard)
        self._file, self._size, self._samples = None, 0, 0


def _member(name: str, content: bytes) -> bytes:
    """Header, contents and padding of a file in a tar; nothing in it depends on when or by whom it was made."""
    head = tarfile.TarInfo(name)
    head.size = len(content)
    padding = -len(content) % tarfile.BLOCKSIZE
    return head.tobuf(tarfile.USTAR_FORMAT) + content + bytes(padding)


def _groups(selection: Selection, length: int) -> Iterator[list[Frame]]:
    """Runs of `length` frames that belong together; constant memory but for the run itself."""
    group: list[Frame] = []
    for frame in selection:
        if group and not _continues(group[-1], frame):
            group = []
        group.append(frame)
        if len(group) == length:
            yield group
            group = []


def _continues(before: Frame, frame: Frame) -> bool:
    same = frame.index == before.index + 1 and "cut" not in frame.flags and frame.shape == before.shape
    return same and frame.dropped_before == 0 and _layout(frame) == _layout(before)


def _layout(frame: Frame) -> dict[str, tuple[int, ...]]:
    return {name: channel.descriptor.shape for name, channel in frame.channels.items()}


def _frame_files(frame: Frame, selection: Selection) -> dict[str, bytes]:
    files = {"json": _json(frame_entry(frame))}
    for name in selection.names(frame):
        array = frame.canonical(name)
        family = _family(frame, name)
        if family == "color" and array.dtype == np.uint8:
            files[f"{name}.png"] = png(array)
        elif family == "normal":
            files[f"{name}.png"] = png(unit_to_bytes(array))
        elif family in ("segmentation", "instance") and array.max(initial=0) <= 65535:
            files[f"{name}.png"] = png(array.astype(np.uint16))
        else:
            files[f"{name}.npy"] = npy(array)
    return files


def _clip_files(group: list[Frame], selection: Selection, take: Take) -> dict[str, bytes]:
    files = {"json": _json({"fps": take.fps, "frames": [{"frame": f.index, **frame_entry(f)} for f in group]})}
    for name in selection.names(group[0]):
        family = _family(group[0], name)
        arrays = [frame.canonical(name) for frame in group]
        if family == "color" and arrays[0].dtype == np.uint8:
            files[f"{name}.mp4"] = _video(arrays, take.fps)
        elif family == "normal":
            files[f"{name}.npy"] = npy(np.stack([unit_to_bytes(array) for array in arrays]))
        else:
            files[f"{name}.npy"] = npy(np.stack(arrays))
    return files


def _video(images: list[Any], fps: float) -> bytes:
    with tempfile.TemporaryDirectory(prefix="realmaster-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        with disk_errors(path, "the clip"), VideoWriter(path, fps=fps, crf=10) as video:
            for image in images:
                video.add(image)
        return path.read_bytes()


def _family(frame: Frame, name: str) -> str:
    family = frame.channels[name].descriptor.family if name in frame.channels else name
    return family if family in CANONICAL else "other"


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
