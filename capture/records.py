"""The bytes of a take: record kinds, record headers, and a forward reader that survives damage.

Works on `frames-NNN.rmk` files, which are nothing but records one after another. Knows nothing of codecs, folders or
manifests (`capture.take`). docs/take-format.md describes the same layout for people who read takes without us.

A record is a header of 104 bytes and a payload. A segment file begins with one SEGMENT record; then every frame is

    METADATA, CHANNEL, CHANNEL, ..., COMMIT

written at once. A frame counts only when its COMMIT is there; bytes after the last COMMIT are an unfinished frame, or
the zeros with which a file ends that is being written in whole blocks.
"""

from __future__ import annotations

import enum
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from capture.errors import TakeDamagedError

MAGIC = b"\xabRMK"
"""First bytes of every record; the first byte is no ASCII and no UTF-8, so text never looks like a record."""

VERSION = 1
"""Version of the record layout."""

PADDING = 4096
"""A file that is being written, or whose writer died, may end in fewer zeros than these: they stand for nothing."""

_LAYOUT = struct.Struct("<4sBBHQQd32s16sQQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _LAYOUT.size + _CRC.size


class Kind(enum.IntEnum):
    """What a record holds."""

    SEGMENT = 1
    """First record of a file; payload: msgpack map {take, segment, first_frame, session}."""
    METADATA = 2
    """First record of a frame; payload: msgpack map, see `capture.take`."""
    CHANNEL = 3
    """One channel of a frame; payload: the array in `codec`."""
    COMMIT = 4
    """Last record of a frame, no payload; `raw_length` is the number of bytes of the frame's records before it."""


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The header of one record. Little-endian, 104 bytes; the last four are the CRC-32 of the 100 before them."""

    kind: int
    """A `Kind`; readers skip records of a kind they do not know."""
    frame: int = 0
    """Position of the frame in the take, from 0; in a SEGMENT record that of the file's first frame."""
    serial: int = 0
    """Engine's frame number: the frame's in METADATA and COMMIT, the channel's own in CHANNEL."""
    time: float = 0.0
    """Engine seconds of the frame."""
    channel: str = ""
    """Name of the channel, at most 32 bytes of UTF-8; empty elsewhere."""
    codec: str = ""
    """Codec of the payload, at most 16 bytes: a name of `capture.codecs`, or "msgpack"."""
    length: int = 0
    """Bytes of payload that follow."""
    raw_length: int = 0
    """CHANNEL: bytes of the decoded array. COMMIT: bytes of the frame's records before it."""
    payload_crc: int = 0
    """CRC-32 (zlib) of the payload."""

    def pack(self) -> bytes:
        """The 104 bytes."""
        head = _LAYOUT.pack(
            MAGIC,
            VERSION,
            self.kind,
            0,
            self.frame,
            self.serial,
            self.time,
            self.channel.encode(),
            self.codec.encode(),
            self.length,
            self.raw_length,
            self.payload_crc,
        )
        return head + _CRC.pack(zlib.crc32(head))

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> RecordHeader | None:
        """The header in the first 104 bytes of `data`, or None when they are no valid header of this version."""
        if len(data) < HEADER_BYTES or bytes(data[:4]) != MAGIC:
            return None
        if zlib.crc32(data[: _LAYOUT.size]) != _CRC.unpack_from(data, _LAYOUT.size)[0]:
            return None
        _, version, kind, _, frame, serial, time, channel, codec, length, raw, crc = _LAYOUT.unpack_from(data)
        if version != VERSION:
            return None
        try:
            names = channel.rstrip(b"\0").decode(), codec.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return None
        return cls(kind, frame, serial, time, *names, length, raw, crc)


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record found in a file; its payload is `header.length` bytes from `payload_at`."""

    header: RecordHeader
    at: int
    """Byte at which the header begins."""

    @property
    def payload_at(self) -> int:
        return self.at + HEADER_BYTES

    @property
    def end(self) -> int:
        return self.payload_at + self.header.length


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes [start, end) of a file that are no record, or a record cut off by the end of the file."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FrameSpan:
    """A committed frame: where its records lie in its file."""

    frame: int
    serial: int
    time: float
    start: int
    """Byte at which its METADATA record begins."""
    end: int
    """Byte after its COMMIT record."""


@dataclass
class SegmentScan:
    """What a forward walk over one segment file found."""

    frames: list[FrameSpan] = field(default_factory=list)
    unfinished: list[tuple[int, int, int]] = field(default_factory=list)
    """(frame, start, end) of frames of which some records are there, but not all from METADATA to COMMIT."""
    damage: list[Damage] = field(default_factory=list)
    head: Record | None = None
    """The file's SEGMENT record."""
    committed: int = 0
    """Byte after the last COMMIT (or after the SEGMENT record when no frame is whole)."""
    size: int = 0
    """Bytes of the file that the walk saw, without padding."""


class RecordFile:
    """A file read at any place by any thread, without a shared position where the system allows."""

    _fd = -1  # until it is open, for `close` after a failure to open

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes in the file now; it may be growing."""
        return os.fstat(self._fd).st_size

    def read(self, at: int, length: int) -> bytes:
        """Up to `length` bytes from byte `at`; fewer at the end of the file."""
        if hasattr(os, "pread"):
            data = os.pread(self._fd, length, at)
            if len(data) == length or not data:
                return data
            parts = [data]
            while data and sum(map(len, parts)) < length:  # a read may be cut at 2 GiB or by a signal
                data = os.pread(self._fd, length - sum(map(len, parts)), at + sum(map(len, parts)))
                parts.append(data)
            return b"".join(parts)
        with self._lock:
            os.lseek(self._fd, at, os.SEEK_SET)
            parts, left = [], length
            while left and (data := os.read(self._fd, left)):
                parts.append(data)
                left -= len(data)
            return b"".join(parts)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def record(kind: Kind, payload: bytes | memoryview = b"", **fields: Any) -> list[bytes | memoryview]:
    """Header and payload of a new record, ready to be written one after the other."""
    header = RecordHeader(kind, length=len(payload), payload_crc=zlib.crc32(payload), **fields)
    return [header.pack(), payload] if len(payload) else [header.pack()]


def pack_map(values: dict[str, Any]) -> bytes:
    """A METADATA or SEGMENT payload."""
    return msgpack.packb(values, use_bin_type=True)


def unpack_map(payload: bytes | memoryview) -> dict[str, Any]:
    """Inverse of `pack_map`; ValueError when the bytes are no msgpack map."""
    try:
        values = msgpack.unpackb(payload, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack raises half a dozen unrelated types for broken bytes
        raise ValueError(f"the bytes are no msgpack ({type(error).__name__})") from None
    if not isinstance(values, dict):
        raise ValueError("the bytes are no msgpack map")
    return values


def payload(file: RecordFile, found: Record) -> bytes:
    """The payload of a record, checked against its CRC; TakeDamagedError names the file and the frame."""
    return check_payload(file.path.name, found, file.read(found.payload_at, found.header.length))


def check_payload(file_name: str, found: Record, data: Any) -> Any:
    """`data` if it is the record's payload; TakeDamagedError otherwise."""
    header = found.header
    if len(data) == header.length and zlib.crc32(data) == header.payload_crc:
        return data
    if header.kind == Kind.SEGMENT:
        what = "its first record"
    else:
        what = f"frame {header.frame}, " + (f"channel {header.channel}" if header.channel else "metadata")
    raise TakeDamagedError(
        f"{file_name}: {what}: bytes {found.payload_at} to {found.end} do not match their checksum; "
        "`realmaster takes verify` lists everything that is damaged."
    )


def walk(file: RecordFile, start: int = 0, end: int | None = None) -> Iterator[Record | Damage]:
    """Every record between two bytes of a file, and the damage between them.

    Reads headers only. After damage it goes on at the next magic that begins a valid header. A payload that runs
    past `end` is damage from its header to `end`, unless a valid record follows inside it.
    """
    end = file.size if end is None else end
    at = start
    while at < end:
        header = RecordHeader.unpack(file.read(at, min(HEADER_BYTES, end - at)))
        if header is not None and at + HEADER_BYTES + header.length <= end:
            found = Record(header, at)
            yield found
            at = found.end
            continue
        resumed = _next_header(file, at + 1, end)
        yield Damage(at, resumed)
        at = resumed


def scan(file: RecordFile, start: int = 0) -> SegmentScan:
    """Group the records of a segment file from byte `start` (the begin of a record) into committed frames."""
    result = SegmentScan(size=file.size, committed=start)
    frame, frame_at, whole = -1, start, False
    for found in walk(file, start, result.size):
        if isinstance(found, Damage):
            result.damage.append(found)
            whole = False
            continue
        header = found.header
        if header.kind == Kind.SEGMENT and found.at == 0:
            result.head, result.committed = found, found.end
        if header.kind not in (Kind.METADATA, Kind.CHANNEL, Kind.COMMIT):
            continue
        if header.frame != frame or header.kind == Kind.METADATA:
            if frame >= 0:
                result.unfinished.append((frame, frame_at, found.at))
            # Without its METADATA a frame is lost, and what lies before belongs to the loss.
            whole = header.kind == Kind.METADATA
            frame_at = found.at if whole or frame >= 0 else result.committed
            frame = header.frame
        if header.kind == Kind.COMMIT:
            if whole and header.raw_length == found.at - frame_at:
                result.frames.append(FrameSpan(frame, header.serial, header.time, frame_at, found.end))
            else:
                result.unfinished.append((frame, frame_at, found.end))
            result.committed = found.end
            frame = -1
    if frame >= 0:
        result.unfinished.append((frame, frame_at, result.size))
    elif 0 < result.size - result.committed < PADDING and not any(
        file.read(result.committed, result.size - result.committed)
    ):
        result.size = result.committed
        result.damage.pop()
    return result


def _next_header(file: RecordFile, at: int, end: int) -> int:
    """Where the next valid header begins, at or after `at`; `end` when there is none."""
    chunk = 1 << 20
    while at < end:
        data = file.read(at, min(chunk, end - at))
        if not data:
            break
        found = data.find(MAGIC)
        while found >= 0:
            if RecordHeader.unpack(file.read(at + found, HEADER_BYTES)) is not None:
                return at + found
            found = data.find(MAGIC, found + 1)
        if len(data) < chunk:
            break
        at += len(data) - len(MAGIC) + 1  # a magic may lie across two chunks
    return end
