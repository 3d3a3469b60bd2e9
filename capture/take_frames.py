"""A frame as records and back.

Works on `Frame` and the record bytes of one frame. Knows nothing of folders; files only as something to read from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from capture import codecs
from capture.camera import Camera, Conventions
from capture.errors import FrameError, TakeDamagedError, TakeError
from capture.frame import Channel, Descriptor, Entity, Frame
from capture.records import (
    HEADER_BYTES,
    Kind,
    Record,
    RecordFile,
    RecordHeader,
    check_payload,
    pack_map,
    record,
    unpack_map,
)
from capture.threads import cached_property

EXACT_ERROR = "none: bit-exact"
_ADVICE = "`realmaster takes verify` lists everything that is damaged."


@dataclass(frozen=True)
class EncodedFrame:
    """A frame ready to be written: its metadata and its channels' payloads."""

    serial: int
    time: float
    metadata: dict[str, Any]
    """The METADATA map without "index", which the take gives."""
    channels: tuple[tuple[Descriptor, int, str, bytes], ...]
    """(descriptor, serial, codec, payload)."""

    @property
    def nbytes(self) -> int:
        """Bytes of all payloads."""
        return sum(len(data) for *_, data in self.channels)

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return tuple(descriptor for descriptor, *_ in self.channels)

    def frame(self, conventions: Conventions, index: int = 0) -> Frame:
        """The frame again; its channels are decoded when first read."""
        stored: dict[str, Channel] = {
            descriptor.name: StoredChannel(descriptor, serial, codec, memoryview(payload), f"frame {self.serial}")
            for descriptor, serial, codec, payload in self.channels
        }
        return _frame_of(self.metadata | {"index": index}, stored, conventions)

    def records(self, index: int) -> list[bytes | memoryview]:
        """The frame's records as frame `index` of a take, COMMIT last."""
        place: dict[str, Any] = {"frame": index, "time": self.time}
        metadata = pack_map({"index": index} | self.metadata)
        parts = record(Kind.METADATA, metadata, serial=self.serial, codec="msgpack", **place)
        for descriptor, serial, codec, data in self.channels:
            parts += record(
                Kind.CHANNEL,
                data,
                serial=serial,
                channel=descriptor.name,
                codec=codec,
                raw_length=descriptor.nbytes,
                **place,
            )
        size = sum(len(part) for part in parts)
        return parts + record(Kind.COMMIT, serial=self.serial, raw_length=size, **place)


def encode_frame(
    frame: Frame, codec_of: Mapping[str, str] | None = None, precision: codecs.Precision = codecs.EXACT
) -> EncodedFrame:
    """Encode every channel; safe to call from many threads.

    codec_of: codec by channel name where it is not `capture.codecs.live_codec`.
    Raises TakeError when serial or time cannot be written, or a codec does not take its channel.
    """
    for what, serial in (("frame", frame.serial), *((f"channel {n}", c.serial) for n, c in frame.channels.items())):
        if not isinstance(serial, int | np.integer) or not 0 <= serial < 2**64:
            raise TakeError(f"the serial of {what} is {serial!r}, but must be an integer from 0 to 2^64 - 1.")
    if not math.isfinite(frame.time):
        raise TakeError(f"the time of frame {frame.serial} is {frame.time}, but must be finite seconds.")
    channels = []
    for name, channel in frame.channels.items():
        preferred = (codec_of or {}).get(name) or codecs.live_codec(channel.descriptor, precision)
        try:
            codec, payload = codecs.encode_preferably(preferred, channel.data)
        except ValueError as error:
            raise TakeError(f"channel {name} cannot be recorded: {error}.") from None
        channels.append((channel.descriptor, int(channel.serial), codec, payload))
    metadata = {
        "serial": int(frame.serial),
        "time": float(frame.time),
        "capture_time": None if frame.capture_time is None else float(frame.capture_time),
        "dropped_before": int(frame.dropped_before),
        "flags": list(frame.flags),
        "camera": None if frame.raw_camera is None else frame.raw_camera.to_dict(),
        "entities": [entity.to_dict() for entity in frame.entities],
        "channels": [channel.descriptor.to_dict() for channel in frame.channels.values()],
        "metres": {
            name: channel.descriptor.factor * frame.conventions.metres_per_unit
            for name, channel in frame.channels.items()
            if channel.descriptor.kind == "linear" and channel.descriptor.in_metres
        },
    }
    return EncodedFrame(int(frame.serial), float(frame.time), metadata, tuple(channels))


def read_frame(file: RecordFile, start: int, end: int, index: int, conventions: Conventions) -> Frame:
    """Frame `index` of a take, whose records are bytes [start, end) of `file`; channels decoded when first read.

    Raises TakeDamagedError naming file and frame when these bytes are not that frame; a damaged channel raises it
    when it is read.
    """
    file_name = file.path.name
    records, payloads = _read_records(file, start, end, index)
    metadata = check_payload(file_name, records[0], payloads[0])
    try:
        values = unpack_map(metadata)
        descriptors = {values_["name"]: Descriptor.from_dict(values_) for values_ in values["channels"]}
        stored: dict[str, Channel] = {}
        for found, payload in zip(records, payloads, strict=True):
            if found.header.kind == Kind.CHANNEL:
                name = found.header.channel
                if found.header.raw_length != descriptors[name].nbytes:
                    raise ValueError(f"channel {name} has {found.header.raw_length} bytes, not as its descriptor says")
                stored[name] = StoredChannel(
                    descriptors[name], found.header.serial, found.header.codec, payload,
                    f"{file_name}: frame {index}", partial(check_payload, file_name, found),
                )  # fmt: skip
        missing = descriptors.keys() - stored.keys()
        if missing:
            raise ValueError(f"channel {min(missing)} is missing")
        return _frame_of(values | {"index": index}, stored, conventions)
    except (KeyError, TypeError, ValueError, FrameError) as error:
        raise TakeDamagedError(_sentence(file_name, index, f"its metadata is wrong ({error})")) from None


def read_encoded(file: RecordFile, start: int, end: int, index: int) -> EncodedFrame:
    """The frame that `read_frame` reads, as its records hold it: nothing is decoded, every payload is checked against
    its checksum, and appending it to another take repeats it bit by bit. Raises TakeDamagedError."""
    file_name = file.path.name
    records, payloads = _read_records(file, start, end, index)
    metadata = check_payload(file_name, records[0], payloads[0])
    channels = []
    try:
        values = unpack_map(metadata)
        values.pop("index", None)
        descriptors = {values_["name"]: Descriptor.from_dict(values_) for values_ in values["channels"]}
        for found, payload in zip(records, payloads, strict=True):
            header = found.header
            if header.kind == Kind.CHANNEL:
                data = bytes(check_payload(file_name, found, payload))
                channels.append((descriptors.pop(header.channel), header.serial, header.codec, data))
        if descriptors:
            raise ValueError(f"channel {min(descriptors)} is missing")
        return EncodedFrame(values["serial"], values["time"], values, tuple(channels))
    except (KeyError, TypeError, ValueError, FrameError) as error:
        raise TakeDamagedError(_sentence(file_name, index, f"its metadata is wrong ({error})")) from None


def read_metadata(file: RecordFile, start: int) -> dict[str, Any]:
    """The METADATA map of the frame that begins at byte `start`; TakeDamagedError when it is not there or wrong."""
    header = RecordHeader.unpack(file.read(start, HEADER_BYTES))
    if header is None or header.kind != Kind.METADATA:
        raise TakeDamagedError(f"{file.path.name}: no frame begins at byte {start}.")
    found = Record(header, start)
    try:
        values = unpack_map(check_payload(file.path.name, found, file.read(found.payload_at, header.length)))
        _ = values["dropped_before"] + 0, [str(flag) for flag in values["flags"]]
        for descriptor in values["channels"]:
            Descriptor.from_dict(descriptor)
    except (KeyError, TypeError, ValueError, FrameError) as error:
        raise TakeDamagedError(_sentence(file.path.name, header.frame, f"its metadata is wrong ({error})")) from None
    return values


def channel_entry(descriptor: Descriptor, codec: str | None = None) -> dict[str, Any]:
    """What the manifest says about a channel."""
    codec = codec or codecs.live_codec(descriptor)
    bound = codecs.codec(codec).bound
    entry = descriptor.to_dict() | {"codec": codec, "error": str(bound or EXACT_ERROR)}
    return entry if bound is None else entry | {"bound": {"most": bound.most, "unit": bound.unit}}


class StoredChannel(Channel):
    """A channel whose array is decoded when `data` is first read; the array is read-only."""

    def __init__(
        self,
        descriptor: Descriptor,
        serial: int,
        codec: str,
        payload: memoryview,
        where: str,
        check: Callable[[memoryview], Any] = lambda payload: payload,
    ) -> None:
        """where: what errors name. check: raises TakeDamagedError when the payload is not what was written."""
        self.descriptor = descriptor
        self.serial = serial
        self.codec = codec
        self._payload, self._where, self._check = payload, where, check

    @property
    def stored_bytes(self) -> int:
        """Bytes of the payload."""
        return len(self._payload)

    def __repr__(self) -> str:
        return f"StoredChannel({self.descriptor.name}, codec={self.codec}, serial={self.serial})"

    @cached_property
    def data(self) -> NDArray[Any]:  # type: ignore[override]
        """The array as sent; TakeDamagedError names file and frame when its bytes are damaged, TakeError when this
        realmaster does not know their codec."""
        payload = self.payload
        if self.codec not in codecs.CODECS:
            raise TakeError(
                f"{self._where}: channel {self.descriptor.name} is in codec {self.codec!r}, which this realmaster "
                "does not know: update it."
            )
        try:
            array = codecs.decode(self.codec, payload, self.descriptor.dtype, self.descriptor.shape)
        except ValueError as error:
            what = f"channel {self.descriptor.name} cannot be decoded: {error}"
            raise TakeDamagedError(f"{self._where}: {what}; {_ADVICE}") from None
        array.flags.writeable = False
        return array

    @property
    def payload(self) -> memoryview:
        """The bytes as stored, their checksum proven."""
        self._check(self._payload)
        return self._payload

    @property
    def error(self) -> tuple[float, codecs.Bound] | None:
        """The largest error of these very numbers, as measured when they were encoded, and the bound that their codec
        keeps; None where every bit is kept. ValueError when the bytes do not say it."""
        if self.codec not in codecs.CODECS:
            return None
        codec = codecs.codec(self.codec)
        if codec.bound is None:
            return None
        return cast(codecs.QuantisingCodec, codec).measured(self.payload), codec.bound


def _frame_of(values: Mapping[str, Any], channels: dict[str, Channel], conventions: Conventions) -> Frame:
    """A frame of its METADATA map; KeyError, TypeError, ValueError or FrameError when that is wrong."""
    camera = values["camera"]
    return Frame(
        values["index"],
        values["serial"],
        values["time"],
        None if camera is None else Camera.from_dict(camera),
        channels,
        conventions,
        flags=values["flags"],
        entities=[Entity.from_dict(entity) for entity in values["entities"]],
        dropped_before=values["dropped_before"],
        capture_time=values["capture_time"],
    )


def _read_records(file: RecordFile, start: int, end: int, index: int) -> tuple[Sequence[Record], list[memoryview]]:
    """Records and payloads of frame `index`; TakeDamagedError when bytes [start, end) are not that frame."""
    file_name, view = file.path.name, memoryview(file.read(start, end - start))
    records = _split(view, start)
    if records is None or not records or records[0].header.kind != Kind.METADATA:
        raise TakeDamagedError(_sentence(file_name, index, "its records are cut or overwritten"))
    if any(found.header.frame != index for found in records):
        raise TakeDamagedError(_sentence(file_name, index, f"frame {records[0].header.frame} is in its place"))
    return records, [view[found.payload_at - start : found.end - start] for found in records]


def _split(view: memoryview, start: int) -> Sequence[Record] | None:
    """The records that fill `view` exactly, or None."""
    records, at = [], 0
    while at < len(view):
        header = RecordHeader.unpack(view[at : at + HEADER_BYTES])
        if header is None:
            return None
        records.append(Record(header, start + at))
        at += HEADER_BYTES + header.length
    return records if at == len(view) else None


def _sentence(file_name: str, index: int, what: str) -> str:
    return f"{file_name}: frame {index}: {what}; {_ADVICE}"
