"""The messages between a bridge and the daemon, version 1, and their bytes.

Works on lists of message parts: a msgpack map first (the header, see `capture.wire_header`), raw C-ordered
little-endian arrays after it. Knows nothing of sockets, sessions or files. `encode` and `decode` are inverse to each
other; `decode` accepts any bytes and raises nothing but ProtocolError. It checks before it allocates, and arrays are
views of the parts that came in.

The same layout in prose, for other languages: engine_bridges/PROTOCOL.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, get_args

import msgpack
import numpy as np
from numpy.typing import NDArray

from capture.camera import Axes, Camera, Conventions
from capture.conventions import check_handedness
from capture.errors import FrameError, ProtocolError
from capture.frame import DTYPES, Channel, Descriptor, Entity, Frame, check_shape
from capture.reduction import Coded, Reduction, coded
from capture.wire_header import (
    Header,
    Limits,
    as_count,
    as_legend,
    as_list,
    as_list_of,
    as_map,
    as_mode,
    as_number,
    as_optional,
    as_plain_map,
    as_positive,
    as_session,
    as_text,
    as_word,
    malformed,
    unpack,
)

VERSION = 1
"""The protocol version that this code speaks, `v` in every header."""

FATAL_CODES = {
    "version": "the message is of another protocol version",
    "malformed": "the message breaks the layout that this document describes",
    "unknown_type": "the message type does not exist in this direction",
    "too_large": "the header or a frame exceeds the limits",
    "token": "the hello carries no token or a wrong one",
    "channels": "a channel was announced that cannot be accepted, or one arrived that was not announced",
    "busy": "the daemon has as many sessions as it takes, or is shutting down",
    "recording": "the recording cannot go on, for instance because the disk is full",
}
"""Error codes after which the session is over; the bridge may begin a new one with a hello."""

MILD_CODES = {
    "no_session": "a message came before hello, or after the session ended; say hello and go on",
    "no_credit": "a frame came without a credit and was not processed",
    "order": "the serial of a frame does not rise; the frame was not processed",
    "command": "an event asked for something that is not possible now",
}
"""Error codes after which the session goes on."""

ERROR_CODES = FATAL_CODES | MILD_CODES
"""Every error code with its meaning."""


class Part(NamedTuple):
    """One channel of a frame message."""

    channel: str
    """Name of the channel, as announced in hello."""
    serial: int
    """Serial of the frame that this array was rendered with."""
    array: NDArray[Any] | Coded
    """The pixels, (H, W) or (H, W, C), C-ordered; packed where `welcome` asks for that."""
    offset: int | None = None
    """Where they begin in the frame's slot, in bytes; None when they travel with the message."""

    @property
    def plain(self) -> NDArray[Any]:
        """The pixels of a part that is not packed."""
        assert not isinstance(self.array, Coded)
        return self.array


class _Pixels(NamedTuple):
    """Where the arrays of a message may be."""

    parts: list[memoryview]
    """The array parts that came with it."""
    slots: Sequence[memoryview] | None
    """The slots of the session's shared memory; none when there is no such memory, None when there is no session."""
    most: int
    """Bytes that the arrays of one frame may have."""


@dataclass(frozen=True)
class Hello:
    """Bridge to daemon: begins a session. Answered by `welcome` or `error`."""

    type: ClassVar[str] = "hello"
    session: str
    """Random id of this session, 32 lower-case hex digits; a new one for every hello."""
    token: str
    """The token from the daemon's connection file."""
    engine: str
    """The engine, e.g. "panda3d"."""
    game: str
    """The game or scene; may be empty."""
    conventions: Conventions
    """Axes of world and camera, and metres per engine unit (sent as the fields `axes` and `metres_per_unit`)."""
    fps: float
    """Nominal frames per second of engine time."""
    mode: str
    """"live" or "lossless"."""
    channels: tuple[Descriptor, ...]
    """Descriptors of all channels that the bridge can send."""
    legend: dict[str, dict[int, str]] = field(default_factory=dict)
    """Per id channel, what its ids mean: {"segmentation": {1: "road"}}."""
    capabilities: tuple[str, ...] = ()
    """Names of the control messages that the bridge obeys, SHARED_MEMORY if it can use that, and what it can do for a
    slow link: those of `capture.reduction.CAPABILITIES`."""

    def _header(self) -> dict[str, Any]:
        world, camera = self.conventions.world_axes.to_dict(), self.conventions.camera_axes.to_dict()
        return {
            "session": self.session,
            "token": self.token,
            "engine": self.engine,
            "game": self.game,
            "axes": {"world": world, "camera": camera},
            "metres_per_unit": float(self.conventions.metres_per_unit),
            "fps": float(self.fps),
            "mode": self.mode,
            "channels": [descriptor.to_dict() for descriptor in self.channels],
            "legend": {channel: dict(names) for channel, names in self.legend.items()},
            "capabilities": list(self.capabilities),
        }

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Hello:
        axes = h.take("axes", as_map)
        if axes.keys() != {"world", "camera"}:
            raise malformed("axes must be a map with the fields world and camera")
        return cls(
            session=h.take("session", as_session),
            token=h.take("token", as_text),
            engine=h.take("engine", as_text),
            game=h.take("game", as_text),
            conventions=Conventions(
                Axes.from_dict(axes["world"]), Axes.from_dict(axes["camera"]), h.take("metres_per_unit", as_number)
            ),
            fps=h.take("fps", as_positive),
            mode=h.take("mode", as_mode),
            channels=_take_descriptors(h),
            legend=h.take("legend", as_legend),
            capabilities=h.take("capabilities", as_list_of(as_text)),
        )


@dataclass(frozen=True, eq=False)
class FrameMessage:
    """Bridge to daemon: one frame; spends one credit."""

    type: ClassVar[str] = "frame"
    serial: int
    """Number of the frame in the engine; rises from frame to frame, gaps are lost frames."""
    time: float
    """Engine time in seconds."""
    camera: Camera | None
    """The camera that rendered it, in engine units and axes, or nil."""
    parts: tuple[Part, ...]
    """The channels; in the header {channel, serial, dtype, shape} for each part, in the order of the parts."""
    flags: tuple[str, ...] = ()
    """Marks, see `capture.frame.FLAGS`."""
    dropped_before: int = 0
    """Frames that the bridge dropped or lost since the last frame that it sent."""
    entities: tuple[Entity, ...] = ()
    """Named things in the scene."""
    capture_time: float | None = None
    """Seconds of the bridge's monotonic clock when the frame was read back, or nil."""
    slot: int | None = None
    """The slot of the shared memory that holds the pixels; None (and not in the header) when they travel as parts."""

    def _header(self) -> dict[str, Any]:
        header = {
            "serial": int(self.serial),
            "time": float(self.time),
            "camera": None if self.camera is None else self.camera.to_dict(),
            "flags": list(self.flags),
            "dropped_before": int(self.dropped_before),
            "entities": [entity.to_dict() for entity in self.entities],
            "capture_time": None if self.capture_time is None else float(self.capture_time),
            "parts": [
                {
                    "channel": part.channel,
                    "serial": int(part.serial),
                    "dtype": part.array.dtype.name,
                    "shape": [int(n) for n in part.array.shape],
                }
                | ({} if self.slot is None else {"offset": part.offset})
                | ({"codec": part.array.codec} if isinstance(part.array, Coded) else {})
                for part in self.parts
            ],
        }
        return header if self.slot is None else header | {"slot": int(self.slot)}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> FrameMessage:
        infos = h.take("parts", as_list_of(as_map), [1, 32])
        slot = h.take_optional("slot", as_count)
        if slot is not None:
            parts = _parts_in_slot(infos, slot, pixels)
        elif len(infos) != len(pixels.parts):
            raise malformed(f"the header lists {len(infos)} parts, but {len(pixels.parts)} came")
        else:
            parts = tuple(_part(info, buffer) for info, buffer in zip(infos, pixels.parts, strict=True))
            if (size := sum(_pixel_bytes(part.array) for part in parts)) > pixels.most:
                raise ProtocolError("too_large", f"The frame has {size} bytes unpacked; {pixels.most} are allowed.")
        names = [part.channel for part in parts]
        if len(set(names)) != len(names):
            raise malformed("the frame carries a channel twice")
        camera = h.take("camera", as_optional(as_map))
        return cls(
            serial=h.take("serial", as_count),
            time=h.take("time", as_number),
            camera=None if camera is None else Camera.from_dict(camera),
            flags=h.take("flags", as_list_of(as_text), [0, 32]),
            dropped_before=h.take("dropped_before", as_count),
            entities=tuple(Entity.from_dict(e) for e in h.take("entities", as_list_of(as_map))),
            capture_time=h.take("capture_time", as_optional(as_number)),
            slot=slot,
            parts=parts,
        )


@dataclass(frozen=True)
class Channels:
    """Bridge to daemon: from the next frame on the session's channels are these; not answered unless refused."""

    type: ClassVar[str] = "channels"
    channels: tuple[Descriptor, ...]
    """Descriptors of all channels that the bridge can send from now on, in place of those in hello."""

    def _header(self) -> dict[str, Any]:
        return {"channels": [descriptor.to_dict() for descriptor in self.channels]}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Channels:
        return cls(_take_descriptors(h))


@dataclass(frozen=True)
class Event:
    """Bridge to daemon: something happened in the engine. The daemon acts on the names in EVENTS, keeps the rest."""

    type: ClassVar[str] = "event"
    name: str
    """What happened, e.g. "marker"."""
    time: float
    """Engine time in seconds."""
    data: dict[str, Any] = field(default_factory=dict)
    """Free details: nil, booleans, integers, finite floats, text, lists and maps with text keys."""

    def _header(self) -> dict[str, Any]:
        return {"name": self.name, "time": float(self.time), "data": self.data}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Event:
        return cls(h.take("name", as_word), h.take("time", as_number), h.take("data", as_plain_map))


@dataclass(frozen=True)
class Bye:
    """Bridge to daemon: ends the session. Answered by `goodbye` when every frame is dealt with."""

    type: ClassVar[str] = "bye"

    def _header(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Bye:
        return cls()


@dataclass(frozen=True)
class Attached:
    """Bridge to daemon: what became of the shared memory last offered; from now on frames may lie in its slots."""

    type: ClassVar[str] = "attached"
    key: str
    """The key of the offer."""
    problem: str | None = None
    """Why it cannot be used, as one sentence, or nil; then the frames of this session travel as parts."""

    def _header(self) -> dict[str, Any]:
        return {"key": self.key, "problem": self.problem}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Attached:
        return cls(h.take("key", as_session), h.take("problem", as_optional(as_text)))


@dataclass(frozen=True)
class Probed:
    """Bridge to daemon: the answer to `probe`, two of these, one right behind the other: of no bytes, and of as many as
    were asked for."""

    type: ClassVar[str] = "probed"
    session: str
    """The id from hello."""
    bytes: int
    """Bytes of the array part; of none there is no part. What they are says nothing."""

    def _header(self) -> dict[str, Any]:
        return {"session": self.session, "bytes": int(self.bytes)}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Probed:
        session, size = h.take("session", as_session), h.take("bytes", as_count)
        came = [part.nbytes for part in pixels.parts]
        if came != [size] * (size > 0):
            raise malformed(f"the probed is of {size} bytes, but has parts of {came}")
        return cls(session, size)


@dataclass(frozen=True)
class Probe:
    """Daemon to bridge: send this many bytes, so that it is seen what the link carries; answered by `probed`.

    Comes before `welcome`, perhaps several times; only to a bridge with the capability `capture.reduction.PROBE`.
    """

    type: ClassVar[str] = "probe"
    session: str
    """The id from hello."""
    bytes: int
    """1 to MOST_PROBE_BYTES."""

    def _header(self) -> dict[str, Any]:
        return {"session": self.session, "bytes": int(self.bytes)}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Probe:
        session, size = h.take("session", as_session), h.take("bytes", as_count)
        if not 1 <= size <= MOST_PROBE_BYTES:
            raise malformed(f"the probe asks for {size} bytes; 1 to {MOST_PROBE_BYTES} are allowed")
        return cls(session, size)


@dataclass(frozen=True)
class Memory:
    """Daemon to bridge: shared memory for the pixels of this session; answered by `attached`.

    Comes before `welcome`, and again when frames have outgrown the slots; only to a bridge with the capability
    SHARED_MEMORY.
    """

    type: ClassVar[str] = "memory"
    session: str
    """The id from hello."""
    key: str
    """32 lower-case hex digits that the memory begins with."""
    name: str
    """Where it is found: see `capture.shared_memory`."""
    slots: int
    """How many slots it has, at least 1."""
    slot_bytes: int
    """Bytes of each."""

    def _header(self) -> dict[str, Any]:
        return {
            "session": self.session,
            "key": self.key,
            "name": self.name,
            "slots": int(self.slots),
            "slot_bytes": int(self.slot_bytes),
        }

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Memory:
        return cls(
            h.take("session", as_session),
            h.take("key", as_session),
            h.take("name", as_text),
            h.take("slots", as_count),
            h.take("slot_bytes", as_count),
        )


@dataclass(frozen=True)
class Welcome:
    """Daemon to bridge: the session is accepted."""

    type: ClassVar[str] = "welcome"
    session: str
    """The id from hello."""
    channels: tuple[str, ...]
    """Names of the accepted channels; send no others."""
    mode: str
    """The mode that the session runs in, normally the one asked for."""
    credit: int
    """Frames that may be sent now."""
    max_frame_bytes: int
    """Most bytes of all parts of one frame."""
    reduction: Reduction | None = None
    """What to do with frames before they are sent, within the capabilities from hello; None (and not in the header):
    nothing."""

    def _header(self) -> dict[str, Any]:
        header = {
            "session": self.session,
            "channels": list(self.channels),
            "mode": self.mode,
            "credit": int(self.credit),
            "max_frame_bytes": int(self.max_frame_bytes),
        }
        if self.reduction is None:
            return header
        return header | {"reduction": {"shrink": self.reduction.shrink, "codecs": dict(self.reduction.codecs)}}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Welcome:
        return cls(
            h.take("session", as_session),
            h.take("channels", as_list_of(as_text)),
            h.take("mode", as_mode),
            h.take("credit", as_count),
            h.take("max_frame_bytes", as_count),
            h.take_optional("reduction", _as_reduction),
        )


@dataclass(frozen=True)
class Credit:
    """Daemon to bridge: memory of frames was released; as many more may be sent."""

    type: ClassVar[str] = "credit"
    n: int
    """How many credits are added."""
    recorded: int | None = None
    """Serial of the last frame that is safely in the take, or nil when nothing is recorded: the acknowledgement."""

    def _header(self) -> dict[str, Any]:
        return {"n": int(self.n), "recorded": self.recorded}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Credit:
        return cls(h.take("n", as_count), h.take("recorded", as_optional(as_count)))


@dataclass(frozen=True)
class Control:
    """Daemon to bridge: please do this. Names are in CONTROLS; a bridge ignores what it does not know."""

    type: ClassVar[str] = "control"
    name: str
    """What to do, e.g. "pause"."""
    args: dict[str, Any] = field(default_factory=dict)
    """Details, of the same kinds as an event's data."""

    def _header(self) -> dict[str, Any]:
        return {"name": self.name, "args": self.args}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Control:
        return cls(h.take("name", as_word), h.take("args", as_plain_map))


@dataclass(frozen=True)
class Error:
    """Daemon to bridge: the last message was refused and not processed."""

    type: ClassVar[str] = "error"
    code: str
    """One of ERROR_CODES."""
    sentence: str
    """One sentence for the user: what is wrong and how to mend it."""

    @property
    def fatal(self) -> bool:
        """Whether the session is over; so after any code that this version does not know."""
        return self.code not in MILD_CODES

    def _header(self) -> dict[str, Any]:
        return {"code": self.code, "sentence": self.sentence}

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Error:
        return cls(h.take("code", as_word), h.take("sentence", as_text))


@dataclass(frozen=True)
class Goodbye:
    """Daemon to bridge: the session is over; what became of its frames."""

    type: ClassVar[str] = "goodbye"
    received: int
    """Frames that arrived whole."""
    recorded: int
    """Frames that are in the take."""
    dropped: int
    """Frames that the bridge reported as dropped or lost."""
    take: str | None = None
    """Name of the take, or nil when nothing was recorded."""

    def _header(self) -> dict[str, Any]:
        return {
            "received": int(self.received),
            "recorded": int(self.recorded),
            "dropped": int(self.dropped),
            "take": self.take,
        }

    @classmethod
    def _from_header(cls, h: Header, pixels: _Pixels) -> Goodbye:
        return cls(
            h.take("received", as_count),
            h.take("recorded", as_count),
            h.take("dropped", as_count),
            h.take("take", as_optional(as_text)),
        )


FromBridge = Hello | FrameMessage | Channels | Event | Attached | Probed | Bye
FromDaemon = Memory | Probe | Welcome | Credit | Control | Error | Goodbye
Message = FromBridge | FromDaemon
MESSAGES: dict[str, Any] = {cls.type: cls for cls in get_args(Message)}
"""Every message class by its type."""

FROM_BRIDGE = ("hello", "frame", "channels", "event", "attached", "probed", "bye")
"""Message types that a daemon receives."""

FROM_DAEMON = tuple(kind for kind in MESSAGES if kind not in FROM_BRIDGE)
"""Message types that a bridge receives."""

EVENTS = ("marker", "cut", "record_start", "record_stop", "record_toggle", "replay_save")
"""Event names that the daemon acts on."""

SHARED_MEMORY = "shared_memory"
"""Capability of a bridge that can leave its pixels in shared memory, where the daemon offers it."""

MOST_PROBE_BYTES = 8 * 2**20
"""Most bytes that a `probe` asks for."""

_NUMBERS = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}

ALIGNMENT = 64
"""Arrays in a slot begin at multiples of so many bytes: a cache line, and the widest vector registers."""

CONTROLS = ("record_start", "record_stop", "replay_save", "step", "pause", "hide_hud", "dump")
"""Control names that a bridge may obey."""


def slot_layout(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Where arrays of so many bytes each begin in a slot, one behind the other, and how many bytes they need."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, end


def encode(message: Message) -> list[bytes | memoryview]:
    """Bytes of a message: the header, then one flat memoryview per array.

    Arrays that are C-ordered are not copied. Raises ProtocolError("malformed" or "too_large") for what `decode` on
    the other side would refuse for its dtype or header size.
    """
    header = {"v": VERSION, "type": message.type} | message._header()
    try:
        packed = msgpack.packb(header, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise malformed(f"the {message.type} cannot be packed: {error}") from None
    if len(packed) > Limits.header_bytes:
        raise ProtocolError("too_large", f"The header of the {message.type} exceeds {Limits.header_bytes} bytes.")
    parts: list[bytes | memoryview] = [packed]
    if isinstance(message, FrameMessage) and message.slot is None:
        parts += [part.array.data if isinstance(part.array, Coded) else _bytes_of(part.array) for part in message.parts]
    elif isinstance(message, Probed) and message.bytes:
        parts.append(_noise(message.bytes))
    return parts


def decode(
    parts: Sequence[Any],
    limits: Limits | None = None,
    *,
    accept: Sequence[str] | None = None,
    slots: Sequence[memoryview] | None = (),
) -> Message:
    """The message in `parts` (bytes, memoryviews or zmq Frames); arrays are read-only views of them, or of a slot, and
    packed ones (`Coded`) stay so.

    accept: message types that make sense here, e.g. FROM_BRIDGE; by default all.
    slots: the slots of the session's shared memory, for a frame whose pixels lie there. The other side may still
    write to them, so copy what must not change. None where the session has ended: such a frame then has no parts.
    Raises ProtocolError with a code of ERROR_CODES for anything that is not a valid message.
    """
    limits = limits or Limits()
    try:
        return _decode(parts, limits, accept, slots)
    except FrameError as error:
        raise malformed(str(error).rstrip(".")) from None


def frame_of(message: FrameMessage, hello: Hello, index: int) -> Frame:
    """The Frame that `message` carries in the session that `hello` began; arrays are shared, not copied, and those that
    are packed are unpacked.

    A frame whose channels carry different serials gets the flag "desync". Raises ProtocolError("channels") for a
    channel that was not announced or came with another dtype or number of components, ("malformed") for a camera
    that does not fit the session's axes and for packed data that is broken.
    """
    announced = {descriptor.name: descriptor for descriptor in hello.channels}
    channels = {}
    for part in message.parts:
        descriptor = announced.get(part.channel)
        if descriptor is None:
            raise ProtocolError("channels", f"Channel {part.channel} was not announced: name it in hello or channels.")
        if part.array.dtype.name != descriptor.dtype:
            raise ProtocolError(
                "channels",
                f"Channel {part.channel} came as {part.array.dtype.name}, but was announced as {descriptor.dtype}.",
            )
        try:
            pixels = part.array.pixels() if isinstance(part.array, Coded) else part.array
        except FrameError as error:
            raise malformed(f"of channel {part.channel}, {str(error).rstrip('.')}") from None
        try:
            channels[part.channel] = Channel(descriptor.with_shape(part.array.shape), pixels, part.serial)
        except FrameError as error:
            raise ProtocolError("channels", str(error)) from None
    if message.camera is not None:
        try:
            check_handedness(message.camera, hello.conventions)
        except FrameError as error:
            raise malformed(str(error).rstrip(".")) from None
    flags = message.flags
    if any(part.serial != message.serial for part in message.parts) and "desync" not in flags:
        flags = (*flags, "desync")
    return Frame(
        index=index,
        serial=message.serial,
        time=message.time,
        camera=message.camera,
        channels=channels,
        conventions=hello.conventions,
        flags=flags,
        entities=message.entities,
        dropped_before=message.dropped_before,
        capture_time=message.capture_time,
    )


def _decode(
    parts: Sequence[Any], limits: Limits, accept: Sequence[str] | None, slots: Sequence[memoryview] | None
) -> Message:
    if not parts:
        raise malformed("the message has no header")
    if len(parts) - 1 > limits.parts:
        raise ProtocolError("too_large", f"The message has {len(parts) - 1} array parts; {limits.parts} are allowed.")
    views = [_view(part) for part in parts]
    if views[0].nbytes > limits.header_bytes:
        raise ProtocolError("too_large", f"The header has {views[0].nbytes} bytes; {limits.header_bytes} are allowed.")
    header = unpack(views[0], limits)
    version = header.pop("v", None)
    if type(version) is not int:
        raise malformed("the header lacks the version v")
    if version != VERSION:
        raise ProtocolError(
            "version", f"The message is of protocol version {version}, but this side speaks version {VERSION}."
        )
    kind = header.pop("type", None)
    if not isinstance(kind, str) or kind not in (MESSAGES if accept is None else accept):
        raise ProtocolError("unknown_type", f"The message type {str(kind)[:40]!r} is not understood here.")
    arrays = views[1:]
    if arrays and kind not in (FrameMessage.type, Probed.type):
        raise malformed(f"a {kind} has no array parts, but {len(arrays)} came")
    total = sum(view.nbytes for view in arrays)
    if total > limits.frame_bytes:
        raise ProtocolError("too_large", f"The frame has {total} bytes; {limits.frame_bytes} are allowed.")
    fields_left = Header(kind, header)
    message = MESSAGES[kind]._from_header(fields_left, _Pixels(arrays, slots, limits.frame_bytes))
    fields_left.finish()
    return message


def _noise(size: int) -> bytes:
    """Bytes that no tunnel makes fewer."""
    noise = random.Random(0).randbytes(min(size, 65536))
    return (noise * (size // 65536 + 1))[:size]


def _take_descriptors(h: Header) -> tuple[Descriptor, ...]:
    descriptors = tuple(Descriptor.from_dict(d) for d in h.take("channels", as_list_of(as_map), [1, 32]))
    names = [descriptor.name for descriptor in descriptors]
    if len(set(names)) != len(names):
        raise malformed(f"{h.kind} announces a channel twice")
    return descriptors


def _view(part: Any) -> memoryview:
    try:
        view = memoryview(part)
        return view if view.format == "B" and view.ndim == 1 else view.cast("B")
    except (TypeError, ValueError):
        raise malformed("a message part is not a contiguous run of bytes") from None


def _parts_in_slot(infos: Sequence[dict[str, Any]], slot: int, pixels: _Pixels) -> tuple[Part, ...]:
    """The parts that lie in a slot: each within it, none over another."""
    if pixels.parts:
        raise malformed(f"the pixels of the frame are in slot {slot}, yet {len(pixels.parts)} parts came")
    if pixels.slots is None:
        return ()
    if slot >= len(pixels.slots):
        raise malformed(f"there is no slot {slot}: the shared memory of this session has {len(pixels.slots)}")
    parts = tuple(_part(info, pixels.slots[slot], in_slot=True) for info in infos)
    end = 0
    for part in sorted(parts, key=lambda part: part.offset or 0):
        if (part.offset or 0) < end:
            raise malformed(f"channel {part.channel} lies over another one in slot {slot}")
        end = (part.offset or 0) + part.array.nbytes
    return parts


def _part(info: dict[str, Any], data: memoryview, in_slot: bool = False) -> Part:
    h = Header("part", dict(info))
    channel, serial, dtype = h.take("channel", as_word), h.take("serial", as_count), h.take("dtype", as_text)
    if dtype not in DTYPES:
        raise malformed(f"channel {channel} has the dtype {dtype[:20]!r}, which is not one of {', '.join(DTYPES)}")
    shape = check_shape(h.take("shape", as_list), f"channel {channel}")
    offset = h.take("offset", as_count) if in_slot else None
    codec = None if in_slot else h.take_optional("codec", as_word)
    h.finish()
    if codec is not None:
        return Part(channel, serial, coded(codec, data, dtype, shape))
    number = _NUMBERS[dtype]
    need = math.prod(shape) * number.itemsize
    if offset is not None:
        if offset % ALIGNMENT:
            raise malformed(f"channel {channel} begins at byte {offset}, which is no multiple of {ALIGNMENT}")
        data = data[offset : offset + need]
    if data.nbytes != need:
        raise malformed(
            f"channel {channel} of shape {list(shape)} and dtype {dtype} needs {need} bytes, but {data.nbytes} came"
        )
    array = np.frombuffer(data, number).reshape(shape)
    array.flags.writeable = False
    return Part(channel, serial, array, offset)


def _as_reduction(value: object) -> Reduction:
    h = Header("reduction", as_map(value))
    reduction = Reduction(h.take("shrink", as_count), h.take("codecs", _as_codecs))
    h.finish()
    return reduction


def _as_codecs(value: object) -> dict[str, str]:
    return {as_word(channel): as_word(codec) for channel, codec in as_map(value).items()}


def _pixel_bytes(array: NDArray[Any] | Coded) -> int:
    return array.pixel_bytes if isinstance(array, Coded) else array.nbytes


def _bytes_of(array: NDArray[Any]) -> memoryview:
    if array.dtype.name not in DTYPES:
        raise malformed(f"an array has the dtype {array.dtype.name}, which is not one of {', '.join(DTYPES)}")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.data.cast("B")
