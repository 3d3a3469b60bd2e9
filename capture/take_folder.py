"""The take folder: its manifest, its lock, its index, and where each frame lies in it.

Works on file names, bytes and record headers. Knows nothing of what is inside a frame (`capture.take_frames`) and
never writes to a take that somebody else records.
"""

from __future__ import annotations

import json
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from capture.camera import Conventions
from capture.errors import FrameError, TakeDamagedError, TakeError, TakeNotFoundError
from capture.files import write_atomically
from capture.records import RecordFile, SegmentScan, pack_map, payload, scan, unpack_map

FORMAT = "realmaster-take"
VERSION = 3
"""Version of the folder's format. Readers refuse higher ones and read all lower ones. 2: codecs ffvhuff, webp, log16
and oct16; a segment file for each change of the channels. 3: codec avi; codec depth for numbers of 1 byte."""

MANIFEST = "take.json"
INDEX = "index"
EVENTS = "events.jsonl"
PREVIEW = "preview.mp4"
LOCK = "writing.lock"

SESSION_KEYS = ("id", "created", "engine", "game", "fps", "conventions", "legend", "metadata")
"""Parts of the manifest that every segment file repeats, so that a lost manifest can be made again."""

_SEGMENT = re.compile(r"frames-(\d{3,})\.rmk")
_MOST_FRAMES = 2**31
_ROW = np.dtype("<u8, <u4, <u8, <u8, <u8, <f8")
"""A row of the index: frame, file, start, end, serial, time."""


class FrameLocation(NamedTuple):
    """Where a committed frame lies."""

    file: str
    start: int
    end: int
    serial: int
    time: float


@dataclass
class Survey:
    """All segment files of a take, walked."""

    frames: dict[int, FrameLocation] = field(default_factory=dict)
    scans: dict[str, SegmentScan] = field(default_factory=dict)
    """By file name."""
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    """SEGMENT payloads by file name."""
    headless: list[str] = field(default_factory=list)
    """Files whose first record is unreadable."""
    problems: list[str] = field(default_factory=list)
    """Files that are not what their name says."""

    @property
    def session(self) -> dict[str, Any] | None:
        """What the last readable segment says about the session, or None when none is readable."""
        return next((head["session"] for head in reversed(self.heads.values())), None)


def segment_name(number: int) -> str:
    return f"frames-{number:03d}.rmk"


def segment_paths(folder: Path) -> list[Path]:
    """Segment files of a take in the order of their numbers."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _SEGMENT.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def check_folder(folder: Path) -> None:
    """TakeNotFoundError unless there is a take in `folder`."""
    if not folder.is_dir():
        raise TakeNotFoundError(f"there is no take at {folder}: the folder does not exist.")
    if not (folder / MANIFEST).exists() and not segment_paths(folder):
        raise TakeNotFoundError(f"{folder} is not a take: it holds neither {MANIFEST} nor frames-000.rmk.")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest, or None when there is none.

    TakeDamagedError when it is no manifest; TakeError when it was written by a newer realmaster.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        manifest = None
    except OSError as error:
        raise TakeError(f"{path} cannot be read ({error.strerror}).") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TakeDamagedError(
            f"{path} is not the manifest of a take; `realmaster takes repair {folder.name}` makes it again."
        )
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise TakeError(
            f"take {folder.name} has format version {version}, but this realmaster reads up to {VERSION}: update it."
        )
    wrong = _wrong_field(manifest)
    if wrong:
        raise TakeDamagedError(
            f"{path}: {wrong!r} is missing or wrong; `realmaster takes repair {folder.name}` makes the manifest again."
        )
    return manifest


def _wrong_field(manifest: dict[str, Any]) -> str | None:
    """Name of a field that is missing or of the wrong type, so that readers may rely on the others."""

    def listed(key: str, types: dict[str, Any]) -> bool:
        entries = manifest.get(key)
        return isinstance(entries, list) and all(
            isinstance(entry, dict) and all(isinstance(entry.get(part), kind) for part, kind in types.items())
            for entry in entries
        )

    number, count = int | float, int | None
    text = {"id": str, "created": str, "engine": str, "game": str, "state": str}
    optional = {"frames": count, "bytes": count, "dropped": count, "desync": count, "seconds": number | None}
    types = text | optional | {"fps": number, "conventions": dict, "legend": dict, "metadata": dict}
    for key, kind in types.items():
        if not isinstance(manifest.get(key), kind):
            return key
    if manifest["state"] not in ("open", "closed") or not 0 < manifest["fps"] < np.inf:
        return "state" if manifest["fps"] > 0 else "fps"
    try:
        Conventions.from_dict(manifest["conventions"])
    except FrameError:
        return "conventions"
    if not listed("channels", {"name": str, "shape": list}):
        return "channels"
    segment = {"file": str, "first_frame": int, "frames": int, "bytes": int}
    if "segments" in manifest and not listed("segments", segment):
        return "segments"
    return None


def manifest_from_survey(found: Survey) -> dict[str, Any] | None:
    """A manifest of an open take, made from what its segments repeat; None when no segment is readable."""
    session = found.session
    if session is None:
        return None
    head = {"format": FORMAT, "version": VERSION, "state": "open"}
    manifest = head | {key: session.get(key) for key in (*SESSION_KEYS, "channels")}
    return None if _wrong_field(manifest) else manifest


def survey(folder: Path, take_id: str | None) -> Survey:
    """Walk every segment file. Files of another take than `take_id` are named as a problem and left out."""
    result = Survey()
    for path in segment_paths(folder):
        with RecordFile(path) as file:
            found = scan(file)
            head = _head(file, found)
        result.scans[path.name] = found
        if head is None:
            result.headless.append(path.name)
        else:
            number = head["segment"]
            take_id = take_id or head["take"]
            if head["take"] != take_id:
                result.problems.append(f"{path.name}: belongs to another take ({head['take']}).")
                continue
            result.heads[path.name] = head
            if segment_name(number) != path.name:
                result.problems.append(
                    f"{path.name}: holds segment {number}, which belongs into {segment_name(number)} "
                    f"(frames from {head['first_frame']}); the files were renamed or swapped."
                )
        twice = []
        for span in found.frames:
            if span.frame in result.frames or span.frame >= _MOST_FRAMES:
                twice.append(span.frame)
            else:
                result.frames[span.frame] = FrameLocation(path.name, span.start, span.end, span.serial, span.time)
        if twice:
            result.problems.append(f"{path.name}: {ranges(twice)} is there a second time.")
    return result


def _head(file: RecordFile, found: SegmentScan) -> dict[str, Any] | None:
    if found.head is None:
        return None
    try:
        head = unpack_map(payload(file, found.head))
    except (TakeDamagedError, ValueError):
        return None
    whole = isinstance(head.get("segment"), int) and isinstance(head.get("first_frame"), int)
    return head if whole and isinstance(head.get("session"), dict) and isinstance(head.get("take"), str) else None


def write_index(folder: Path, take_id: str, frames: Mapping[int, FrameLocation]) -> None:
    """Write the cache of frame locations."""
    files = [path.name for path in segment_paths(folder)]
    number = {name: n for n, name in enumerate(files)}
    rows = np.array(
        [(i, number[at.file], at.start, at.end, at.serial, at.time) for i, at in sorted(frames.items())], _ROW
    )
    body = pack_map({
        "take": take_id,
        "files": [[name, (folder / name).stat().st_size] for name in files],
        "frames": rows.tobytes(),
    })  # fmt: skip
    write_atomically(folder / INDEX, struct.pack("<I", zlib.crc32(body)) + body)


def read_index(folder: Path, take_id: str) -> dict[int, FrameLocation] | None:
    """What `write_index` wrote, or None when it is missing, damaged, of another take, or older than the segments."""
    try:
        data = (folder / INDEX).read_bytes()
        (crc,) = struct.unpack_from("<I", data)
        if zlib.crc32(data[4:]) != crc:
            return None
        body = unpack_map(data[4:])
        files = [path.name for path in segment_paths(folder)]
        if body["take"] != take_id or body["files"] != [[name, (folder / name).stat().st_size] for name in files]:
            return None
        rows = np.frombuffer(body["frames"], _ROW)
        if rows.size and rows["f1"].max() >= len(files):
            return None
        return {
            frame: FrameLocation(files[file], start, end, serial, at)
            for frame, file, start, end, serial, at in rows.tolist()
        }
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


class WriteLock:
    """Held by the process that records or repairs a take; the system releases it when the process dies."""

    def __init__(self, folder: Path) -> None:
        """TakeError when somebody else holds it."""
        self._path = folder / LOCK
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        for _ in range(5):  # `is_being_written` holds it for a moment
            if _lock(self._fd, exclusive=True):
                return
            time.sleep(0.05)
        os.close(self._fd)
        raise TakeError(f"take {folder.name} is being recorded: stop the recording first.")

    def release(self) -> None:
        if self._fd < 0:
            return
        if os.name == "nt":
            os.close(self._fd)  # Windows cannot delete an open file
        with suppress(OSError):
            self._path.unlink()
        if os.name != "nt":
            os.close(self._fd)
        self._fd = -1


def is_being_written(folder: Path) -> bool:
    """Whether a living process records or repairs the take."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(fd, exclusive=False)
    finally:
        os.close(fd)


def _lock(fd: int, exclusive: bool) -> bool:
    """Try to lock an open file; True also where the file system knows no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return os.name != "nt"
    return True


def ranges(frames: Iterable[int]) -> str:
    """ "frame 3" or "frames 3-5, 9"."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"frame {text}" if len(runs) == 1 and runs[0][0] == runs[0][1] else f"frames {text}"


def plain(value: Any) -> Any:
    """`value` with everything that strict JSON does not know replaced by text; for data that came from outside."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return value.hex() if isinstance(value, bytes) else str(value)
