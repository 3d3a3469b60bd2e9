"""How a Python bridge delivers its frames: sessions, credits, and coming back after the daemon went away.

Works on arrays and `capture.wire` messages over one ZeroMQ DEALER socket, and on shared memory where the daemon
offers it. Knows nothing of engines, nor of what the
daemon does with a frame. There is no thread of our own: every call first reads what has arrived, ZeroMQ's own thread
keeps the connection alive, and nothing is ever queued beyond the credits that the daemon granted.
"""

from __future__ import annotations

import logging
import math
import os
import time as clock
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import recv_monitor_message

from capture import wire
from capture.camera import Camera, Conventions
from capture.connection import DEFAULT_ENDPOINT, endpoint_port, read_connection
from capture.conventions import check_handedness
from capture.errors import FrameError, ProtocolError, SenderError, UserError
from capture.frame import Descriptor, Entity
from capture.frame_pool import FramePool
from capture.keys import BridgeKey, read_bridge_key
from capture.reduction import CAPABILITIES, Reduction
from capture.shared_memory import Segment
from capture.wire_header import MODES

log = logging.getLogger("realmaster.bridge")

STALL_SECONDS = 120.0
"""How long a lossless send waits for a daemon that is there but returns no credit."""

GOODBYE_SECONDS = 10.0
"""How long close() waits for the daemon to finish with the last frames."""

_HEARTBEAT_MS = 1000
_PATIENCE_MS = 5000
_TOKEN_SECONDS = 3.0
_SPARE_BLOCKS = 3
_NOT_LET_IN = "does not let this key in: take one that `realmaster daemon keys` writes there"
_NO_AGREEMENT = (
    "asks for a key, or has none itself: set REALMASTER_KEY to a file that `realmaster daemon keys` wrote there, "
    "or to nothing"
)
_MONITORED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


@dataclass
class SenderStats:
    """What became of the frames of one sender, over all its sessions."""

    sent: int = 0
    """Frames handed to ZeroMQ."""
    shared: int = 0
    """Those of them whose pixels went through shared memory."""
    dropped: int = 0
    """Frames not sent: no credit in live mode."""
    lost: int = 0
    """Frames sent that were neither recorded nor, where nothing was recorded, released when the daemon went away."""
    acknowledged: int | None = None
    """Serial of the last frame that the daemon has safely recorded."""


class FrameSender:
    """Sends frames to the daemon; one thread at a time.

    endpoint: "tcp://HOST:PORT"; by default the environment variable REALMASTER_ENDPOINT, else port 5790 here.
    channels: descriptors of everything that `send` may be given.
    mode: "live" never blocks: without credit a frame is dropped and counted, and the next one tells how many.
        "lossless" waits for credit, so the engine's clock waits too. The daemon may impose one of them.
    token: by default the environment variable REALMASTER_TOKEN, else the daemon's connection file.
    key: the key file for a daemon on another machine (`realmaster daemon keys`), which takes the token's place; by
        default the environment variable REALMASTER_KEY. Over a link that the daemon says is slow, frames are packed
        or made smaller before they are sent, see `reduction`.
    capabilities: names of the control messages that the caller obeys (see `controls`).
    shared_memory: leave pixels in shared memory where the daemon offers it and it can be attached; without, or for a
        frame larger than its slots, they travel as parts of the message. Nothing else differs.
    connect_timeout: seconds to wait for the daemon, at the start and, lossless, whenever it goes away. With 0 a live
        sender starts without a daemon and drops frames until there is one.
    give_up_after: seconds without a daemon after which a live sender fails too; by default the environment variable
        REALMASTER_GIVE_UP_AFTER, else never. Whoever starts a bridge sets it, so that the bridge ends with it.

    Raises SenderError when no daemon answers in time or it refuses the session, here and in every method.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        engine: str,
        game: str = "",
        channels: Sequence[Descriptor],
        conventions: Conventions | None = None,
        fps: float = 24.0,
        legend: Mapping[str, Mapping[int, str]] | None = None,
        mode: str = "live",
        token: str | None = None,
        key: str | Path | None = None,
        capabilities: Sequence[str] = (),
        shared_memory: bool = True,
        connect_timeout: float = 10.0,
        give_up_after: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise SenderError(f"The mode is {mode!r}, but must be live or lossless.")
        self.endpoint = endpoint or os.environ.get("REALMASTER_ENDPOINT") or DEFAULT_ENDPOINT
        endpoint_port(self.endpoint)
        self.mode = mode
        self.stats = SenderStats()
        self.goodbye: wire.Goodbye | None = None
        self._descriptors = {descriptor.name: descriptor for descriptor in channels}
        self._token = token or os.environ.get("REALMASTER_TOKEN")
        key = key or os.environ.get("REALMASTER_KEY")
        self._key = read_bridge_key(key) if key else None
        self._connect_timeout = connect_timeout
        self._give_up_after = _patience() if give_up_after is None else give_up_after
        self._hello = wire.Hello(
            session="0" * 32,
            token="",
            engine=engine,
            game=game,
            conventions=conventions if conventions is not None else Conventions(),
            fps=fps,
            mode=mode,
            channels=tuple(channels),
            legend={channel: dict(names) for channel, names in (legend or {}).items()},
            capabilities=(*capabilities, *([wire.SHARED_MEMORY] if shared_memory else []), *CAPABILITIES),
        )
        _own_check(self._hello)
        self._welcome: wire.Welcome | None = None
        self._pool = FramePool(spare=_SPARE_BLOCKS)
        self._segment: Segment | None = None
        self._next_slot = 0
        self._credit = 0
        self._unanswered: deque[int] = deque()  # serials of frames sent that the daemon is not known to have dealt with
        self._recording = False
        self._missed = 0  # frames dropped or lost since the last one sent
        self._announced: set[str] = set()  # names of the channels in the last hello that was sent
        self._declined: set[str] = set()  # those of them that the daemon did not accept
        self._undescribed = False  # descriptors changed, and the present session has not been told
        self._next_serial = 0
        self._controls: list[wire.Control] = []
        self._failure: SenderError | None = None
        self._connected = False
        self._alone_since = clock.monotonic()  # since when there has been no connection, while there is none
        self._hello_due = math.inf  # when to say hello, in clock.monotonic() seconds; inf when not due
        self._token_deadline = 0.0
        self._trouble: SenderError | None = None  # why the last hello had no valid token
        self._said_bye = False
        self._closed = False
        self._open_socket()
        try:
            if connect_timeout > 0:
                self._wait_for_daemon(connect_timeout)
        except BaseException:
            self._close_socket()
            raise

    @property
    def credit(self) -> int:
        """Frames that may be sent now."""
        return self._credit

    @property
    def connected(self) -> bool:
        """Whether the daemon has welcomed the present session."""
        self._pump()
        return self._welcome is not None

    @property
    def transport(self) -> str:
        """How pixels travel now: "shared memory", or "tcp"."""
        return "tcp" if self._segment is None else "shared memory"

    @property
    def reduction(self) -> Reduction | None:
        """What the daemon has this session do with its frames, for a slow link; None where they go as they are."""
        return None if self._welcome is None else self._welcome.reduction

    def send(
        self,
        camera: Camera | None,
        arrays: Mapping[str, NDArray[Any]],
        *,
        time: float,
        serial: int | None = None,
        serials: Mapping[str, int] | None = None,
        flags: Sequence[str] = (),
        entities: Sequence[Entity] = (),
        capture_time: float | None = None,
    ) -> bool:
        """Sends one frame; False when it was dropped for lack of credit (live mode only).

        camera: as the engine has it, in the session's conventions.
        arrays: by channel name, raw, with the dtype and components announced; copied before this returns.
        time: engine seconds.  serial: the engine's frame number, rising; by default the number of this call, so that
        dropped frames leave a gap.  serials: serial of a channel that was rendered with another frame.
        Raises FrameError for arrays that do not fit their descriptors, SenderError when the daemon cannot take it.
        """
        self._check_open()
        serial = self._next_serial if serial is None else int(serial)
        if serial < self._next_serial:
            raise FrameError(f"frame serial {serial} must be greater than the one before, {self._next_serial - 1}.")
        if not math.isfinite(time):
            raise FrameError(f"frame {serial} has the time {time}, but it must be a finite number of seconds.")
        parts = self._parts(arrays, serial, serials or {})
        if camera is not None:
            check_handedness(camera, self._hello.conventions)
        self._next_serial = serial + 1
        message = wire.FrameMessage(
            serial=serial,
            time=time,
            camera=camera,
            parts=parts,
            flags=tuple(flags),
            entities=tuple(entities),
            capture_time=clock.monotonic() if capture_time is None else capture_time,
        )
        self._pump()
        while True:
            if self._mode == "lossless":
                self._wait_for_credit()
            if self._ready() and self._deliver(placed := self._placed(self._accepted(message))):
                break
            if self._mode == "live":
                self.stats.dropped += 1
                self._missed += 1
                return False
            self._pump(0.05)  # the connection broke this very moment, or its buffer is full
        if placed.slot is not None:
            self._next_slot += 1
            self.stats.shared += 1
        self._credit -= 1
        self._unanswered.append(serial)
        self._missed = 0
        self.stats.sent += 1
        return True

    def skip(self) -> bool:
        """True when the next frame could not be sent now: it is counted as dropped and takes a serial, and the
        caller need not read it back. Always False in lossless mode."""
        self._check_open()
        self._pump()
        if self._mode == "lossless" or self._ready():
            return False
        self._next_serial += 1
        self.stats.dropped += 1
        self._missed += 1
        return True

    def describe(self, channels: Sequence[Descriptor]) -> None:
        """From the next frame on these descriptors hold, in place of all earlier ones: a projection that was found
        later, a channel that appears. The daemon goes on in a new segment of the take.

        Raises SenderError when they contradict each other.
        """
        self._check_open()
        hello = replace(self._hello, channels=tuple(channels))
        _own_check(hello)
        if hello.channels == self._hello.channels:
            return
        self._hello = hello
        self._descriptors = {descriptor.name: descriptor for descriptor in channels}
        self._undescribed = True

    def event(self, name: str, *, time: float = 0.0, **data: Any) -> bool:
        """Tells the daemon of an event (see capture.wire.EVENTS) at engine `time`; False when it is not there."""
        self._check_open()
        self._pump()
        return self._welcome is not None and self._deliver(wire.Event(name, time, data))

    def controls(self) -> list[wire.Control]:
        """Control messages that arrived since the last call, oldest first."""
        self._check_open()
        self._pump()
        arrived, self._controls = self._controls, []
        return arrived

    def close(self, timeout: float = GOODBYE_SECONDS) -> None:
        """Says bye and waits up to `timeout` seconds for the goodbye, then left in `self.goodbye`. Never raises
        for a daemon that is gone."""
        if self._closed:
            return
        try:
            self._said_bye = True
            if self._welcome is not None and self._deliver(wire.Bye()):
                deadline = clock.monotonic() + timeout
                while self.goodbye is None and self._welcome is not None and clock.monotonic() < deadline:
                    self._pump(0.05)
        except UserError:
            pass
        finally:
            self._close_socket()

    def __enter__(self) -> FrameSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error, and above all after Ctrl-C, nobody wants to wait for long.
        self.close(GOODBYE_SECONDS if kind is None else 1.0)

    @property
    def _mode(self) -> str:
        return self.mode if self._welcome is None else self._welcome.mode

    def _parts(
        self, arrays: Mapping[str, NDArray[Any]], serial: int, serials: Mapping[str, int]
    ) -> tuple[wire.Part, ...]:
        if not arrays:
            raise FrameError("a frame needs at least one channel.")
        parts = []
        for name, array in arrays.items():
            descriptor = self._descriptors.get(name)
            if descriptor is None:
                raise FrameError(f"channel {name} was not announced: add its descriptor to FrameSender(channels=...).")
            array = np.asarray(array)
            if array.dtype.name != descriptor.dtype:
                raise FrameError(f"channel {name} has dtype {array.dtype}, but its descriptor says {descriptor.dtype}.")
            descriptor.with_shape(array.shape)
            parts.append(wire.Part(name, int(serials.get(name, serial)), array))
        return tuple(parts)

    def _ready(self) -> bool:
        """Whether a frame may be sent now; tells the session of new descriptors before."""
        if self._welcome is None or self._credit <= 0:
            return False
        if self._undescribed:
            describe = (self.reduction or Reduction()).describe
            channels = tuple(describe(descriptor) for descriptor in self._hello.channels)
            self._undescribed = not self._deliver(wire.Channels(channels))
        return not self._undescribed

    def _accepted(self, message: wire.FrameMessage) -> wire.FrameMessage:
        """The message as the present session takes it: accepted channels only, reduced where the daemon asked for that,
        with the count of missed frames."""
        assert self._welcome is not None
        parts = tuple(part for part in message.parts if part.channel not in self._declined)
        if not parts:
            raise SenderError(
                f"The daemon takes none of the channels {', '.join(part.channel for part in message.parts)}, "
                f"only {', '.join(self._welcome.channels)}."
            )
        if self.reduction is not None:
            return self._reduced(replace(message, parts=parts, dropped_before=self._missed), self.reduction)
        size = sum(part.array.nbytes for part in parts)
        if size > self._welcome.max_frame_bytes:
            raise SenderError(
                f"A frame of {size} bytes exceeds the {self._welcome.max_frame_bytes} that the daemon takes: "
                "send a lower resolution or fewer channels."
            )
        return replace(message, parts=parts, dropped_before=self._missed)

    def _reduced(self, message: wire.FrameMessage, reduction: Reduction) -> wire.FrameMessage:
        """Of an engine's frame what is sent over a slow link, in memory of its own."""
        owner = next((part for part in message.parts if part.channel == "color"), message.parts[0])
        return replace(
            message,
            camera=reduction.camera(message.camera, owner.array.shape),
            parts=tuple(
                part._replace(array=reduction.array(self._descriptors[part.channel], part.plain))
                for part in message.parts
            ),
        )

    def _placed(self, message: wire.FrameMessage) -> wire.FrameMessage:
        """The message with its pixels copied, so that the engine may reuse its arrays at once: to the next slot, where
        there is one and they fit.

        There are at least as many slots as frames that the daemon lets be under way, and it has read a frame's slot
        when the credit of that frame or of a later one comes back: the next slot in turn is always free.
        """
        if self.reduction is not None:
            return message
        segment = self._segment
        if segment is None:
            return self._pool.copy(message)
        offsets, needed = wire.slot_layout(part.array.nbytes for part in message.parts)
        if needed > segment.slot_bytes:
            return self._pool.copy(message)
        number = self._next_slot % len(segment.slots)
        parts = []
        for part, offset in zip(message.parts, offsets, strict=True):
            dtype = part.array.dtype.newbyteorder("<")
            place = np.ndarray(part.array.shape, dtype, segment.slots[number], offset)
            np.copyto(place, part.plain)
            parts.append(part._replace(array=place, offset=offset))
        return replace(message, parts=tuple(parts), slot=number)

    def _attach(self, offer: wire.Memory) -> None:
        """Use the memory that is offered, and tell the daemon whether we can."""
        segment, problem = None, None
        try:
            segment = Segment.attach(offer.name, offer.key, offer.slots, offer.slot_bytes)
        except (OSError, ValueError) as error:
            problem = f"The shared memory cannot be attached ({getattr(error, 'strerror', None) or error})."
            log.info("pixels travel over %s: %s", self.endpoint, problem)
        if self._deliver(wire.Attached(offer.key, problem)):
            self._segment, self._next_slot = segment, 0

    def _wait_for_credit(self) -> None:
        start = clock.monotonic()
        while not self._ready():
            if self._welcome is None:
                self._wait_for_daemon(self._connect_timeout)
                start = clock.monotonic()
            elif clock.monotonic() - start > STALL_SECONDS:
                raise SenderError(
                    f"The daemon at {self.endpoint} has taken no frame for {STALL_SECONDS:.0f} seconds: "
                    "see its log, then restart it."
                )
            else:
                self._pump(0.1)

    def _wait_for_daemon(self, timeout: float) -> None:
        deadline = clock.monotonic() + timeout
        while self._welcome is None:
            left = deadline - clock.monotonic()
            if left <= 0:
                if self._connected and self._trouble is not None:
                    raise self._trouble
                if not self._connected:
                    what = f"No daemon answers at {self.endpoint}"
                else:
                    what = f"What listens at {self.endpoint} does not answer as a realmaster daemon"
                raise SenderError(f"{what} (waited {timeout:g} s): start one with `realmaster daemon`.")
            self._pump(min(left, 0.1))

    def _open_socket(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.RCVHWM, 256)
        self._socket.setsockopt(zmq.MAXMSGSIZE, wire.Limits.header_bytes)
        # IMMEDIATE: what was meant for a daemon that is gone must not reach its successor ahead of our hello.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _PATIENCE_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TTL, _PATIENCE_MS)
        if (key := self._key or self._key_of_this_machine()) is not None:
            self._socket.setsockopt_string(zmq.CURVE_SERVERKEY, key.server_key)
            self._socket.setsockopt_string(zmq.CURVE_PUBLICKEY, key.public_key)
            self._socket.setsockopt_string(zmq.CURVE_SECRETKEY, key.secret_key)
        self._monitor = self._socket.get_monitor_socket(_MONITORED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._socket.connect(self.endpoint)

    def _key_of_this_machine(self) -> BridgeKey | None:
        """What the connection file says of keys, when there is one already."""
        try:
            key = read_connection(self.endpoint).key
            return BridgeKey(**key) if key else None
        except (UserError, TypeError):
            return None

    def _close_socket(self) -> None:
        self._closed = True
        self._segment = None
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        self._context.term()

    def _check_open(self) -> None:
        if self._closed:
            raise SenderError("The sender is closed: make a new FrameSender.")

    def _pump(self, wait: float = 0.0) -> None:
        """Reads everything that has arrived, waiting up to `wait` seconds for something; says hello when due."""
        ready = dict(self._poller.poll(round(wait * 1000)))
        # Messages before news of the connection: what the old daemon still said belongs to the old session.
        while self._socket in ready:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._receive(parts)
        while self._monitor in ready:
            try:
                news = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                break
            if (refusal := _refusal(news)) is not None:
                self._failure = SenderError(f"The daemon at {self.endpoint} {refusal}.")
            self._end_session()
            if self._connected:
                self._alone_since = clock.monotonic()
            self._connected = news["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._hello_due = clock.monotonic() if self._connected else math.inf
            self._token_deadline = clock.monotonic() + _TOKEN_SECONDS
        if not self._connected and clock.monotonic() - self._alone_since > self._give_up_after:
            self._failure = SenderError(f"The daemon at {self.endpoint} is gone: start it and the bridge again.")
        if self._connected and clock.monotonic() >= self._hello_due:
            self._say_hello()
        if self._failure is not None:
            raise self._failure

    def _say_hello(self) -> None:
        try:
            known = self._token if self._token is not None else "" if self._key is not None else None
            token = known if known is not None else read_connection(self.endpoint).token
        except SenderError as error:
            self._token_trouble(error)
            return
        self._hello = replace(self._hello, session=uuid.uuid4().hex, token=token)
        if self._deliver(self._hello):
            self._hello_due, self._undescribed = math.inf, False
            self._announced = {descriptor.name for descriptor in self._hello.channels}
        else:
            self._hello_due = clock.monotonic() + 0.1

    def _end_session(self) -> None:
        self.stats.lost += len(self._unanswered)
        self._missed += len(self._unanswered)
        self._unanswered.clear()
        self._recording = False
        self._credit = 0
        self._welcome = None
        self._segment = None

    def _deliver(self, message: wire.Message) -> bool:
        """Hands a message to ZeroMQ without waiting; False when there is no connection or its buffer is full."""
        return self._deliver_parts(wire.encode(message))

    def _deliver_parts(self, parts: list[bytes | memoryview]) -> bool:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def _receive(self, parts: list[bytes]) -> None:
        try:
            message = wire.decode(parts)
        except ProtocolError as error:
            self._failure = SenderError(f"What listens at {self.endpoint} is not a realmaster daemon: {error}")
            return
        if isinstance(message, wire.Memory):
            if message.session == self._hello.session and wire.SHARED_MEMORY in self._hello.capabilities:
                self._attach(message)
        elif isinstance(message, wire.Probe):
            if message.session == self._hello.session:
                # Both ready before the first goes: the time between them is the link's alone.
                answers = [wire.encode(wire.Probed(message.session, size)) for size in (0, message.bytes)]
                for answer in answers:
                    self._deliver_parts(answer)
        elif isinstance(message, wire.Welcome):
            if message.session == self._hello.session and self._hello_due == math.inf:
                self._welcome = message
                self._declined = self._announced - set(message.channels)
                if message.reduction is not None:
                    self._undescribed = message.reduction.shrink > 1
                    # A warning, so that it is seen where nobody has set up logging: what is recorded is less.
                    log.warning("the link to %s is slow, frames are sent so: %s", self.endpoint, message.reduction)
                self._trouble = None
                self._credit = message.credit
        elif isinstance(message, wire.Error):
            self._refused(message)
        elif self._welcome is None:
            pass  # left over from an earlier session
        elif isinstance(message, wire.Credit):
            self._credit += message.n
            if message.recorded is not None:
                self.stats.acknowledged = message.recorded
            self._note_answer(message)
        elif isinstance(message, wire.Control):
            if message.name in ("record_start", "record_stop"):
                self._recording = message.name == "record_start"
            self._controls.append(message)
        elif isinstance(message, wire.Goodbye):
            self.goodbye = message
            if self._said_bye:  # all is dealt with; else the daemon stops, and what it does not know of is lost
                self._unanswered.clear()
            self._end_session()

    def _note_answer(self, credit: wire.Credit) -> None:
        """While recording a credit says that the daemon has room, and only an acknowledgement that a frame is safe."""
        for _ in range(0 if self._recording else min(credit.n, len(self._unanswered))):
            self._unanswered.popleft()
        while credit.recorded is not None and self._unanswered and self._unanswered[0] <= credit.recorded:
            self._unanswered.popleft()

    def _refused(self, error: wire.Error) -> None:
        if error.code == "no_session":
            # The daemon forgot us although the connection lives on; not at once, lest two peers argue in a loop.
            self._end_session()
            self._hello_due = min(self._hello_due, clock.monotonic() + 0.2)
        elif error.code == "token":
            self._end_session()
            self._token_trouble(SenderError(f"The daemon at {self.endpoint} refuses: {error.sentence}"))
        elif error.fatal:
            self._end_session()
            # The first refusal is the reason; frames that were under way then may be refused for others.
            self._failure = self._failure or SenderError(f"The daemon at {self.endpoint} refuses: {error.sentence}")
        else:
            log.warning("the daemon at %s: %s", self.endpoint, error.sentence)

    def _token_trouble(self, error: SenderError) -> None:
        """A daemon that has just started may not have written its file yet; a token that was given is final."""
        if self._token is None and clock.monotonic() < self._token_deadline:
            self._trouble = error
            self._hello_due = clock.monotonic() + 0.2
        else:
            self._hello_due = math.inf
            self._failure = error


def _refusal(news: Mapping[str, Any]) -> str | None:
    """What a failed handshake says of the daemon; None where it may be a matter of time."""
    if news["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return _NOT_LET_IN
    if news["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return _NO_AGREEMENT
    return None


def _patience() -> float:
    """What REALMASTER_GIVE_UP_AFTER says, in seconds; inf without it."""
    text = os.environ.get("REALMASTER_GIVE_UP_AFTER") or "inf"
    try:
        return float(text)
    except ValueError:
        raise SenderError(f"REALMASTER_GIVE_UP_AFTER is {text!r}, but must be a number of seconds.") from None


def _own_check(hello: wire.Hello) -> None:
    """Finds at the sender what the daemon would refuse."""
    try:
        wire.decode(wire.encode(hello))
    except ProtocolError as error:
        raise SenderError(f"The session cannot be announced: {error}") from None
