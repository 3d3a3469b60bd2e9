"""Recording a take: frames in, an append-only folder out.

Works on frames (or frames that were encoded before, on other threads) and one take folder. Knows nothing of sockets
and of reading takes. Everything that `append` acknowledged by returning is with the operating system: it survives
`kill -9` of this process, and loss of power once it is a second old.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import shutil
import time as clock
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from capture.append_file import AppendFile, new_buffer
from capture.camera import Conventions
from capture.codecs import CODECS, EXACT, Precision, codec, live_codec
from capture.errors import TakeError
from capture.frame import Descriptor, Frame
from capture.records import Kind, pack_map, record
from capture.take_folder import (
    EVENTS,
    FORMAT,
    SESSION_KEYS,
    VERSION,
    FrameLocation,
    WriteLock,
    plain,
    segment_name,
    write_index,
    write_manifest,
)
from capture.take_frames import EncodedFrame, channel_entry, encode_frame

log = logging.getLogger("realmaster.take")

OWN_EVENTS = ("gap", "serial_repeated", "clock_backwards", "channels_changed")
"""Names of the events that a writer notes by itself, from the frames."""


@dataclass(frozen=True)
class WriterSettings:
    """What recording seldom needs changed."""

    segment_bytes: int = 10**9
    """A new segment file begins when the next frame would make the file larger than this."""
    reserve_bytes: int = 64 * 2**20
    """The take stops cleanly when the disk would have less free space than this."""
    sync_seconds: float = 0.2
    """At most so much recording is lost when the power fails. Short, for the less is written at once, the less a disk
    holds up the next frame."""
    direct: bool = True
    """Write frames past the system's memory where the system can; see `capture.append_file`."""
    codecs: Mapping[str, str] = field(default_factory=dict)
    """Codec by channel name where it is not `capture.codecs.live_codec`."""
    precision: Precision = EXACT
    """What is kept of the numbers: all of them, or depth and float normals to a stated bound."""


class TakeWriter:
    """One take being recorded; use it as a context manager or call `close`. One thread at a time.

    path: folder to be made; it must not exist or be empty.
    descriptors: channels that the session announced (a frame may bring others, or other sizes).
    legend: {channel: {id: name}}, e.g. {"segmentation": {1: "road"}}.
    metadata: anything that JSON can hold, for people and tools.
    preview: whether `close` makes preview.mp4 (some seconds for a long take).

    Raises TakeError when the folder cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        conventions: Conventions,
        descriptors: Sequence[Descriptor],
        engine: str,
        game: str = "",
        fps: float = 24.0,
        legend: Mapping[str, Mapping[int, str]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        preview: bool = True,
        settings: WriterSettings | None = None,
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        """Frames committed."""
        self.bytes = 0
        """Bytes in all segment files."""
        self.last_serial: int | None = None
        """Serial of the last committed frame: what may be acknowledged to the bridge."""
        self.closed = False
        self.stopped: str | None = None
        """The sentence that says why the take stopped by itself, e.g. the disk is full."""
        self._settings = settings or WriterSettings()
        self._preview = preview
        if not math.isfinite(fps) or fps <= 0:
            raise TakeError(f"take {self.path.name}: fps is {fps}, but must be a positive number.")
        unknown = [name for name in self._settings.codecs.values() if name not in CODECS]
        if unknown:
            raise TakeError(f"codec {unknown[0]!r} is unknown, known are {', '.join(CODECS)}.")
        self._quantised: dict[str, str] = {}  # codec of channels that came quantised
        self._manifest = {
            "format": FORMAT,
            "version": VERSION,
            "state": "open",
            "id": uuid.uuid4().hex,
            "created": _now(),
            "engine": engine,
            "game": game,
            "fps": float(fps),
            "conventions": conventions.to_dict(),
            "legend": plain(legend or {}),
            "metadata": plain(metadata or {}),
            "channels": [self._channel_entry(descriptor) for descriptor in descriptors],
        }
        self._locations: dict[int, FrameLocation] = {}
        self._segments: list[dict[str, Any]] = []
        self._descriptors = {descriptor.name: descriptor for descriptor in descriptors}
        self._described = False  # other channels were announced: the next frame begins a new segment
        self._present: dict[str, Descriptor] | None = None  # the channels of the last frame
        self._first_time = self._last_time = math.nan
        self._dropped = self._desync = self._events = 0
        self._file: AppendFile  # the last segment
        self._buffer = new_buffer()
        self._events_fd = -1
        self._synced = clock.monotonic()
        self._syncing: Future[None] | None = None
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="take-sync")
        self._begin()

    def __enter__(self) -> TakeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def metadata(self) -> dict[str, Any]:
        """What the manifest will say under this name; may be added to until the take is closed."""
        return self._manifest["metadata"]

    def encode(self, frame: Frame) -> EncodedFrame:
        """Compress a frame without writing it; safe to call from many threads while another one appends."""
        return encode_frame(frame, self._settings.codecs, self._settings.precision)

    def append(self, frame: Frame | EncodedFrame) -> int:
        """Commit one frame and return its position in the take.

        When it returns, the frame survives the death of this process. The frame's own `index` is not used: a take
        counts its frames from 0. Serial gaps, clocks that go backwards and channels that come, go or change become
        events; a channel that is new or not what it was begins a new segment file.

        Raises TakeError when the take is closed or the disk full; then the take has been closed cleanly and every
        frame so far is readable.
        """
        if self.closed:
            raise TakeError(self.stopped or f"take {self.name} is closed: begin a new one.")
        encoded = frame if isinstance(frame, EncodedFrame) else self.encode(frame)
        parts = encoded.records(self.frames)
        size = sum(len(part) for part in parts)
        try:
            self._check_space(size)
            self._look_at(encoded)
            full = self._segments[-1]["bytes"] + size > self._settings.segment_bytes
            if self._described or (self._segments[-1]["frames"] and full):
                self._end_segment()
                self._begin_segment()
            segment = self._segments[-1]
            self._note_changes(encoded)
            start = segment["bytes"]
            self._file.append(parts)
            self._sync_sometimes()
        except OSError as error:
            raise self._stop(error) from None
        except BaseException:  # e.g. Ctrl-C: the next frame must begin where the last whole one ended
            self._cut_unfinished()
            raise
        segment["bytes"] += size
        segment["frames"] += 1
        self.bytes += size
        self._locations[self.frames] = FrameLocation(segment["file"], start, start + size, encoded.serial, encoded.time)
        self._count(encoded)
        self.frames += 1
        return self.frames - 1

    def describe(self, descriptors: Sequence[Descriptor]) -> None:
        """The channels of the session from the next frame on: it begins a new segment file, which lists them.

        What the manifest says of a channel is its last description; each frame carries its own. Raises TakeError as
        `append` does.
        """
        if self.closed:
            raise TakeError(self.stopped or f"take {self.name} is closed: begin a new one.")
        self._describe(descriptors)
        try:
            write_manifest(self.path, self._manifest)
        except OSError as error:
            raise self._stop(error) from None

    def event(self, name: str, time: float, /, **data: Any) -> None:
        """Append a line to events.jsonl; `time` in engine seconds. Raises TakeError as `append` does."""
        if self.closed:
            raise TakeError(self.stopped or f"take {self.name} is closed: begin a new one.")
        try:
            self._write_event(name, time, data)
        except OSError as error:
            raise self._stop(error) from None

    def close(self) -> None:
        """Sync everything, write index and final manifest, make the preview. A second call does nothing.

        Raises TakeError when the disk refuses; the frames are on it nevertheless, and `repair` closes the take.
        """
        if self.closed:
            return
        self.closed = True
        try:
            self._finalise()
        except OSError as error:
            raise TakeError(
                f"take {self.name} could not be closed ({error.strerror}), but its {self.frames} frames are readable: "
                f"make room and run `realmaster takes repair {self.name}`."
            ) from None
        if self._preview and self.frames:
            make_preview(self.path)

    def abandon(self) -> None:
        """Let go of a take that is going to be deleted; nothing happens after `close`."""
        if not self.closed:
            self.closed = True
            self._release()

    def _begin(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise TakeError(f"the folder {self.path} is not empty: give the take another name.")
            if shutil.disk_usage(self.path).free < self._settings.reserve_bytes:
                with suppress(OSError):
                    self.path.rmdir()
                raise TakeError(
                    f"the disk of {self.path} is nearly full: free some space, or record elsewhere with --takes."
                )
            self._lock = WriteLock(self.path)
            self._events_fd = _create(self.path / EVENTS)
            write_manifest(self.path, self._manifest)
            self._begin_segment()
            _sync_folder(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            self._release()
            raise TakeError(f"the take {self.path} cannot be made ({error.strerror}): choose another folder.") from None

    def _look_at(self, encoded: EncodedFrame) -> None:
        """Channels that are not what was described, or come quantised from another take, are described anew."""
        quantised = {d.name: name for d, _, name, _ in encoded.channels if codec(name).bound is not None}
        told = {name: self._codec_of(self._descriptors.get(name)) == used for name, used in quantised.items()}
        self._quantised |= quantised
        changed = [d for d in encoded.descriptors if self._descriptors.get(d.name) != d or not told.get(d.name, True)]
        if changed:
            self._describe(changed)
            write_manifest(self.path, self._manifest)

    def _describe(self, descriptors: Iterable[Descriptor]) -> None:
        self._descriptors |= {descriptor.name: descriptor for descriptor in descriptors}
        self._manifest["channels"] = [self._channel_entry(descriptor) for descriptor in self._descriptors.values()]
        self._described = True

    def _begin_segment(self) -> None:
        if self._segments and not self._segments[-1]["frames"]:  # its first record says what did not come to be
            gone = self._segments.pop()
            self.bytes -= gone["bytes"]
            (self.path / gone["file"]).unlink()
        number = len(self._segments)
        name = segment_name(number)
        head = {
            "take": self._manifest["id"],
            "segment": number,
            "first_frame": self.frames,
            "session": {key: self._manifest[key] for key in (*SESSION_KEYS, "channels")},
        }
        parts = record(Kind.SEGMENT, pack_map(head), frame=self.frames, codec="msgpack")
        self._file = AppendFile(self.path / name, self._buffer, self._settings.direct)
        self._described = False
        channels = self._manifest["channels"]
        self._segments.append({"file": name, "first_frame": self.frames, "frames": 0, "bytes": 0, "channels": channels})
        self._file.append(parts)
        self._segments[-1]["bytes"] = self._file.length
        self.bytes += self._file.length

    def _end_segment(self) -> None:
        if self._syncing is not None:
            syncing, self._syncing = self._syncing, None
            syncing.result()
        if hasattr(self, "_file"):
            self._file.close()

    def _sync_sometimes(self) -> None:
        """Start a sync on its own thread now and then, so that a slow disk does not hold up the next frame."""
        if self._syncing is not None and self._syncing.done():
            done, self._syncing = self._syncing, None
            done.result()
        now = clock.monotonic()
        if self._syncing is None and now - self._synced >= self._settings.sync_seconds:
            self._synced = now
            self._syncing = self._syncer.submit(self._file.sync)

    def _check_space(self, size: int) -> None:
        if shutil.disk_usage(self.path).free < self._settings.reserve_bytes + size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _stop(self, error: OSError) -> TakeError:
        """Cut off the unfinished frame, close the take, and say why in one sentence."""
        if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
            why, mend = "the disk is full", "free some space, or record elsewhere with --takes"
        else:
            why, mend = f"the disk refuses to write ({error.strerror or error})", "check the disk"
        many = "1 frame, which is" if self.frames == 1 else f"{self.frames} frames, which are all"
        self.stopped = f"{why}: take {self.name} was stopped after {many} readable; {mend}."
        self.closed = True
        self._cut_unfinished()
        try:
            self._finalise()
        except OSError:  # not even room for the manifest: the take stays open, and readable
            log.warning("take %s could not be finalised", self.name)
        return TakeError(self.stopped)

    def _cut_unfinished(self) -> None:
        with suppress(OSError):
            self._file.cut(self._segments[-1]["bytes"])

    def _finalise(self) -> None:
        try:
            self._end_segment()
            write_index(self.path, self._manifest["id"], self._locations)
            write_manifest(self.path, self._manifest | {
                "state": "closed",
                "closed": _now(),
                "frames": self.frames,
                "bytes": self.bytes,
                "seconds": self._seconds,
                "dropped": self._dropped,
                "desync": self._desync,
                "events": self._events,
                "stopped": self.stopped,
                "segments": self._segments,
            })  # fmt: skip
            _sync_folder(self.path)
        finally:
            self._release()

    def _release(self) -> None:
        self._syncer.shutdown()
        if hasattr(self, "_file"):
            self._file.release()
        if self._events_fd >= 0:
            with suppress(OSError):
                os.close(self._events_fd)
        self._events_fd = -1
        if hasattr(self, "_lock"):
            self._lock.release()

    @property
    def _seconds(self) -> float:
        return self._last_time - self._first_time + 1 / self._manifest["fps"] if self.frames else 0.0

    def _note_changes(self, encoded: EncodedFrame) -> None:
        """Write events for what a reader of the take would wonder about."""
        before, present = self._present, {descriptor.name: descriptor for descriptor in encoded.descriptors}
        self._present = present
        if before not in (None, present):
            changes = {
                "channels": {name: list(descriptor.shape) for name, descriptor in present.items()},
                "appeared": [name for name in present if name not in before],
                "missing": [name for name in before if name not in present],
                "changed": [name for name in present if name in before and present[name] != before[name]],
            }
            self._write_event("channels_changed", encoded.time, changes)
        if self.last_serial is None:
            return
        if encoded.serial != self.last_serial + 1:
            name = "gap" if encoded.serial > self.last_serial else "serial_repeated"
            self._write_event(name, encoded.time, {"after": self.last_serial, "serial": encoded.serial})
        if encoded.time <= self._last_time:
            self._write_event("clock_backwards", encoded.time, {"before": self._last_time})

    def _count(self, encoded: EncodedFrame) -> None:
        if not self.frames:
            self._first_time = encoded.time
        self._last_time = encoded.time
        self.last_serial = encoded.serial
        self._dropped += encoded.metadata["dropped_before"]
        self._desync += "desync" in encoded.metadata["flags"]

    def _write_event(self, name: str, time: float, data: Mapping[str, Any]) -> None:
        line = {"name": name, "time": plain(float(time)), "frame": self.frames, "data": plain(data)}
        _write(self._events_fd, json.dumps(line, allow_nan=False).encode() + b"\n")
        self._events += 1

    def _channel_entry(self, descriptor: Descriptor) -> dict[str, Any]:
        return channel_entry(descriptor, self._codec_of(descriptor))

    def _codec_of(self, descriptor: Descriptor | None) -> str | None:
        """The codec that the manifest names for a channel."""
        if descriptor is None:
            return None
        asked = self._settings.codecs.get(descriptor.name) or live_codec(descriptor, self._settings.precision)
        return self._quantised.get(descriptor.name, asked)


def make_preview(path: Path, stop: Callable[[], bool] = lambda: False) -> bool:
    """Make preview.mp4 of a closed take; False (and a log line) when that fails, for nothing depends on it. `stop` is
    asked again and again whether to leave off."""
    from capture.export import export_preview

    try:
        return export_preview(path, stop)
    except Exception as error:
        log.warning("no preview of take %s: %s", path.name, error)
        return False


def _create(path: Path) -> int:
    """A new file for appending, not inherited by children."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o644)


def _write(fd: int, line: bytes) -> None:
    while line:
        line = line[os.write(fd, line) :]


def _sync_folder(path: Path) -> None:
    """Make new names in a folder survive loss of power; only POSIX can and needs to."""
    if os.name == "nt":
        return
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
