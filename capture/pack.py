"""Making a closed take smaller without losing a bit: every channel anew in its archive codec.

Works on take folders, one segment file at a time. A packed file takes the place of the old one only when it was
written, read back from the disk and compared with the old one, frame by frame and bit by bit; the take is whole and
readable at every moment, whatever kills the process, and packing goes on where it was. What was quantised when it was
recorded stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from capture import codecs
from capture.errors import TakeDamagedError, TakeError
from capture.frame import Descriptor
from capture.records import Kind, RecordFile, pack_map, record
from capture.take_folder import (
    VERSION,
    FrameLocation,
    Survey,
    WriteLock,
    check_folder,
    read_manifest,
    survey,
    write_index,
    write_manifest,
)
from capture.take_frames import EncodedFrame, channel_entry, read_encoded
from capture.threads import in_threads

Progress = Callable[[int, int], None]
"""Called with (done, total) frames."""


@dataclass
class PackReport:
    """What `pack` did."""

    path: str
    frames: int = 0
    """Frames in the take."""
    packed: int = 0
    """Frames that were packed now; the others had been before."""
    bytes_before: int = 0
    """Bytes of all segment files when it began."""
    bytes: int = 0
    """Bytes of all segment files now."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def pack(path: str | os.PathLike[str], progress: Progress | None = None) -> PackReport:
    """Pack every segment file of a take that is not packed yet.

    Raises TakeError when the take is open, being recorded, or the disk is full; TakeDamagedError when a frame is
    damaged, which packing would hide. The take is then as whole as it was, the files packed so far are kept, and
    another call goes on with the next one.
    """
    folder = Path(path)
    check_folder(folder)
    try:
        lock = WriteLock(folder)
        try:
            return _pack(folder, progress or (lambda done, total: None))
        finally:
            lock.release()
    except OSError as error:
        raise TakeError(
            f"take {folder.name} could not be packed ({error.strerror or error}); it is whole as it was: make room or "
            "make it writable, and pack it again."
        ) from None


def _pack(folder: Path, progress: Progress) -> PackReport:
    manifest = read_manifest(folder)
    if manifest is None or manifest["state"] != "closed":
        raise TakeError(f"take {folder.name} was never closed: run `realmaster takes repair {folder.name}` first.")
    _settle(folder, manifest)
    found = survey(folder, manifest["id"])
    damaged = any(scan.damage or scan.unfinished for scan in found.scans.values())
    if damaged or found.problems or len(found.frames) != manifest["frames"]:
        raise TakeDamagedError(
            f"take {folder.name} is damaged, and packing would hide it: see `realmaster takes verify {folder.name}`."
        )
    manifest["version"] = VERSION
    report = PackReport(str(folder), frames=len(found.frames))
    report.bytes_before = sum(entry["bytes"] for entry in manifest["segments"])
    done = sum(entry["frames"] for entry in manifest["segments"] if entry.get("packed"))
    progress(done, report.frames)
    for entry in manifest["segments"]:
        if entry.get("packed"):
            continue
        _pack_segment(folder, manifest, entry, found, partial(_report, progress, done, report.frames))
        done += entry["frames"]
        report.packed += entry["frames"]
    report.bytes = sum(entry["bytes"] for entry in manifest["segments"])
    return report


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _settle(folder: Path, manifest: dict[str, Any]) -> None:
    """Finish what a killed `pack` left between two steps, and take its unfinished file away."""
    for entry in manifest["segments"]:
        with suppress(FileNotFoundError):
            _new_name(folder, entry).unlink()
        if "packed_bytes" in entry:
            _note_swap(folder, manifest, entry)


def _pack_segment(
    folder: Path, manifest: dict[str, Any], entry: dict[str, Any], found: Survey, progress: Callable[[int], None]
) -> None:
    path, new = folder / entry["file"], _new_name(folder, entry)
    indices = range(entry["first_frame"], entry["first_frame"] + entry["frames"])
    head = found.heads[entry["file"]]
    session = head["session"] | {"channels": [_archived(channel) for channel in head["session"]["channels"]]}
    parts = record(Kind.SEGMENT, pack_map(head | {"session": session}), frame=entry["first_frame"], codec="msgpack")
    locations: dict[int, FrameLocation] = {}
    try:
        with RecordFile(path) as old:

            def packed(index: int) -> list[bytes | memoryview]:
                at = found.frames[index]
                return _packed(read_encoded(old, at.start, at.end, index)).records(index)

            with open(new, "wb") as file:
                file.write(b"".join(parts))
                for index, records in zip(indices, in_threads(packed, indices), strict=True):
                    start = file.tell()
                    file.write(b"".join(records))
                    at = found.frames[index]
                    locations[index] = FrameLocation(entry["file"], start, file.tell(), at.serial, at.time)
                    progress(index - indices.start)
                file.flush()
                os.fsync(file.fileno())
            with RecordFile(new) as written:

                def check(index: int) -> None:
                    at, now = found.frames[index], locations[index]
                    _compare(
                        folder, index, read_encoded(old, at.start, at.end, index),
                        read_encoded(written, now.start, now.end, index),
                    )  # fmt: skip

                for _ in in_threads(check, indices):
                    pass
        entry["packed_bytes"] = new.stat().st_size  # so that either file is the right one when we die between
        write_manifest(folder, manifest)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    found.frames.update(locations)
    _note_swap(folder, manifest, entry)
    write_index(folder, manifest["id"], found.frames)
    progress(len(indices))


def _note_swap(folder: Path, manifest: dict[str, Any], entry: dict[str, Any]) -> None:
    """Have the manifest say what lies there now: the packed file or still the old one."""
    size = entry.pop("packed_bytes")
    if (folder / entry["file"]).stat().st_size == size:
        entry["bytes"], entry["packed"] = size, True
        if "channels" in entry:
            entry["channels"] = [_archived(channel) for channel in entry["channels"]]
        manifest["bytes"] = sum(other["bytes"] for other in manifest["segments"])
        if all(other.get("packed") for other in manifest["segments"]):
            manifest["channels"] = [_archived(channel) for channel in manifest["channels"]]
            manifest["packed"] = True
    write_manifest(folder, manifest)


def _archived(channel: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of a channel once it is packed."""
    if "bound" in channel:
        return channel
    fields = {key: value for key, value in channel.items() if key not in ("codec", "error")}
    descriptor = Descriptor.from_dict(fields)
    return channel_entry(descriptor, codecs.archive_codec(descriptor))


def _packed(frame: EncodedFrame) -> EncodedFrame:
    """The frame with each channel in its archive codec where that is smaller."""
    channels = []
    for descriptor, serial, name, payload in frame.channels:
        if codecs.codec(name).bound is None:
            array = _decoded((descriptor, serial, name, payload))
            new = codecs.encode_preferably(codecs.archive_codec(descriptor), array, dense=True)
            name, payload = min((name, payload), new, key=lambda pair: len(pair[1]))
        channels.append((descriptor, serial, name, payload))
    return replace(frame, channels=tuple(channels))


def _compare(folder: Path, index: int, old: EncodedFrame, new: EncodedFrame) -> None:
    """TakeError unless both are the same frame to the last bit."""
    same = old.metadata == new.metadata and len(old.channels) == len(new.channels)
    for before, after in zip(old.channels, new.channels, strict=False):
        same = same and before[:2] == after[:2]
        if same and before[2:] != after[2:]:
            same = _decoded(before).tobytes() == _decoded(after).tobytes()
    if not same:
        raise TakeError(
            f"take {folder.name}: frame {index} is not the same when it is read back packed, so its file was left as "
            "it was: check the disk and the memory of this machine."
        )


def _decoded(channel: tuple[Descriptor, int, str, bytes]) -> NDArray[Any]:
    descriptor, _, name, payload = channel
    return codecs.decode(name, payload, descriptor.dtype, descriptor.shape)


def _new_name(folder: Path, entry: dict[str, Any]) -> Path:
    return folder / f"{entry['file']}.packing"
