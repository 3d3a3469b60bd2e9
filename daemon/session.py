"""One bridge, from hello to goodbye: its counts, and how many frames it may have under way.

Works on numbers; knows nothing of sockets or threads. `daemon.ingest` does what is decided here.

Flow control: a bridge holds a few credits, so that it never waits for our answer. While nothing is recorded so many
frames may be under way in all, until the memory of the received frame is free. While recording, memory is the bound:
credits are granted as long as the frames that are not committed yet, those that the bridge may still send included,
take no more than `record_bytes`. So a disk that stalls for a second costs nothing, and one that stays too slow stops
the bridge. What the ring keeps is bounded by the ring itself and does not count.

A bridge never holds more credits than its welcome gave it, also when a recording begins: to a bridge that keeps account
of its shared memory each later credit says that a frame has been read, and that its slot may be written to again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from capture import wire
from capture.frame import Descriptor, Frame
from capture.frame_pool import FramePool
from capture.reduction import Reduction
from capture.shared_memory import Segment
from daemon.links import LinkProbe
from daemon.recorder import Recorder
from daemon.ring import Ring

RATE_SECONDS = 2.0
"""Frames per second are counted over this long."""

CONTROLS = ("pause", "step", "hide_hud", "dump")
"""What a user may ask of an engine whose bridge can do it."""

MOST_NOTICES = 8
"""Sentences of a bridge that are shown at the same time."""


@dataclass(frozen=True)
class Settings:
    """Bounds of one Ingest."""

    live_window: int = 3
    """Frames in flight while nothing is recorded: one on the wire, one being checked, one to spare."""
    record_credits: int = 6
    """Credits that a bridge may hold while recording."""
    record_bytes: int = 512 * 2**20
    """What frames may take that are recorded and not yet committed; there may always be one."""
    sessions: int = 16
    """Sessions at the same time."""
    vanish_seconds: float = 6.0
    """A peer whose process or network is silent for so long is gone."""
    errors_allowed: int = 20
    """Errors that a peer may cause within `error_seconds` before it is ignored for as long."""
    error_seconds: float = 5.0
    shared_memory: bool = True
    """Offer shared memory to bridges that can use it."""
    remote_mbit: float | None = None
    """What the link of each bridge carries that shares no memory with us, Mbit/s; None: it is measured where the bridge
    lives on another machine and can be asked; inf: as much as comes."""
    close_seconds: float = 8.0
    """How long `stop` waits for takes to be closed."""
    limits: wire.Limits = field(default_factory=wire.Limits)


@dataclass(eq=False)
class Session:
    """One bridge, from hello to goodbye."""

    peer: bytes
    hello: wire.Hello
    settings: Settings
    ring: Ring
    wanted: bool
    """A take begins with the next frame."""
    frame_bytes: int = field(init=False)
    """Bytes of the largest frame since the channels were announced; at first those of the announced channels."""
    credits: int = field(init=False)
    """Credits that the welcome gives, and the most that the bridge ever holds."""
    held: int = field(init=False)
    """Credits that the bridge holds."""
    busy: int = 0
    """Frames whose memory, as received, is in use: being checked or compressed."""
    received: int = 0
    dropped: int = 0
    """Frames that the bridge dropped or lost, by its own count or by gaps in the serials."""
    desync: int = 0
    recorded: int = 0
    """Frames committed, over all takes of this session."""
    acknowledged: int | None = None
    """Serial of the last frame committed to the present take."""
    told: int | None = None
    """The acknowledgement that the bridge has been told."""
    last_serial: int | None = None
    last_time: float = 0.0
    """Of the latest frame, engine seconds."""
    recorder: Recorder | None = None
    take: str | None = None
    """Name of the present or last take."""
    problem: str | None = None
    """Why recording ended early."""
    notices: dict[str, str] = field(default_factory=dict)
    """What the bridge says is amiss: reason to sentence."""
    leaving: bool = False
    """The bridge said bye; the goodbye waits for the commits."""
    memory: Segment | None = None
    """Shared memory that the bridge has attached."""
    offered: Segment | None = None
    """Shared memory that the bridge has been offered and not answered for yet."""
    pool: FramePool = field(init=False)
    """What frames are copied to out of shared memory."""
    shares: bool = field(init=False)
    """Whether the bridge may be offered shared memory."""
    welcomed: bool = True
    """False while the welcome waits for the bridge's answer about shared memory, or for what its link carries."""
    here: bool = True
    """Whether the bridge's connection comes from this machine."""
    probe: LinkProbe | None = None
    """While its link is measured."""
    mbit: float | None = None
    """What its link carries, Mbit/s: measured, or as we were told."""
    reduction: Reduction | None = None
    """What the bridge does with its frames before it sends them, for a slow link."""
    engine_size: tuple[int, int] = field(init=False)
    """(width, height) of the engine's picture, as announced first."""
    transport: str = "tcp"
    """How the pixels of the latest frame came, or those of the first will: "shared memory" or "tcp"."""
    opened: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    """When the bridge last spoke or was last asked whether it is there."""
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=512))

    def __post_init__(self) -> None:
        self.announce(self.hello.channels)
        self.shares = self.settings.shared_memory and wire.SHARED_MEMORY in self.hello.capabilities
        height, width = self.hello.channels[0].shape[:2]
        self.engine_size = width, height
        self.credits = self.held = max(0 if self.wanted else self.settings.live_window, self._fitting(0))

    def announce(self, channels: Sequence[Descriptor]) -> None:
        """From the next frame on these are the session's channels."""
        self.hello = replace(self.hello, channels=tuple(channels))
        self.frame_bytes = sum(descriptor.nbytes for descriptor in channels)
        self.pool = FramePool(self.slots)

    @property
    def id(self) -> str:
        return self.hello.session

    @property
    def title(self) -> str:
        return f"{self.hello.engine} {self.hello.game}".strip()

    def rate(self, now: float) -> float:
        """Frames per second lately."""
        while self.arrivals and now - self.arrivals[0] > RATE_SECONDS:
            self.arrivals.popleft()
        return len(self.arrivals) / max(0.5, min(RATE_SECONDS, now - self.opened))

    @property
    def slots(self) -> int:
        """Slots that shared memory needs: a bridge never holds more credits than these."""
        return max(self.settings.live_window, self.settings.record_credits)

    @property
    def free_credits(self) -> int:
        """Credits that may be granted now."""
        if self.leaving or not self.welcomed:
            return 0
        if self.recorder is None and not self.wanted:
            window = self.settings.live_window - self.busy
        else:
            waiting = 0 if self.recorder is None else self.recorder.bytes
            # A frame that was just received waits for nobody yet.
            window = self._fitting(max(waiting, self.busy * self.frame_bytes))
        return max(0, min(window, self.credits) - self.held)

    def _fitting(self, taken: int) -> int:
        """Frames that may be sent while recording when others take so many bytes."""
        fitting = (self.settings.record_bytes - taken) // max(1, self.frame_bytes)
        return min(self.settings.record_credits, max(not taken, fitting))

    @property
    def reduced(self) -> dict[str, Any] | None:
        """What is not as the engine made it, as plain values; None where all is."""
        if self.reduction is None:
            return None
        return {
            "how": str(self.reduction),
            "size": list(self.engine_size),
            "shrink": self.reduction.shrink,
            "codecs": dict(self.reduction.codecs),
            "lossy": self.reduction.lossy,
        }

    def receive(self, frame: Frame) -> None:
        """Count a good frame."""
        missing = 0 if self.last_serial is None else frame.serial - self.last_serial - 1
        if missing or frame.dropped_before:
            self.dropped += max(missing, frame.dropped_before)
        self.received += 1
        self.desync += not frame.in_sync
        self.frame_bytes = max(self.frame_bytes, frame.nbytes)
        self.arrivals.append(self.heard)
        self.last_serial, self.last_time = frame.serial, frame.time

    def notice(self, data: Mapping[str, Any]) -> None:
        """An event `notice` of the bridge: {reason, sentence}; without a sentence it is over."""
        reason, sentence = data.get("reason"), data.get("sentence")
        if isinstance(reason, str):
            self.notices.pop(reason, None)
            if isinstance(sentence, str) and len(self.notices) < MOST_NOTICES:
                self.notices[reason] = sentence

    def describe(self, now: float) -> dict[str, Any]:
        """How the session goes, as plain values."""
        return {
            "id": self.id,
            "engine": self.hello.engine,
            "game": self.hello.game,
            "mode": self.hello.mode,
            "transport": self.transport,
            "reduced": self.reduced,
            "mbit": None if self.mbit is None else round(self.mbit, 1),
            "controls": [name for name in CONTROLS if name in self.hello.capabilities],
            "channels": [descriptor.name for descriptor in self.hello.channels],
            "size": list(self.hello.channels[0].shape[1::-1]),
            "fps": round(self.rate(now), 1),
            "frames": self.received,
            "dropped": self.dropped,
            "desync": self.desync,
            "recorded": self.recorded,
            "recording": self.recorder.name if self.recorder is not None else None,
            "problem": self.problem,
            "notices": list(self.notices.values()),
            "ring": {
                "seconds": round(self.ring.span, 1),
                "wanted": self.ring.seconds,
                "frames": len(self.ring),
                "bytes": self.ring.bytes,
                "cut": self.ring.cut,
            },
        }
