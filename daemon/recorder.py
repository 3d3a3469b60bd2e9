"""The thread that writes one take. A frame it reports as committed survives kill -9: that is the acknowledgement.

Works on frames that are being compressed and on `capture.TakeWriter`; knows nothing of sockets or credits.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture.errors import UserError
from capture.frame import Descriptor
from capture.take import TakeWriter
from daemon.encoding import Encoding

log = logging.getLogger("realmaster.daemon")


@dataclass(frozen=True)
class TakeReport:
    """What became of a take once it is closed."""

    path: Path
    frames: int
    """Frames committed."""
    problem: str | None = None
    """One sentence when the take ended early (a full disk), else None."""


@dataclass(frozen=True, eq=False)
class _Channels:
    descriptors: tuple[Descriptor, ...]


@dataclass(frozen=True, eq=False)
class _Event:
    name: str
    time: float
    data: dict[str, Any]


class Recorder:
    """Writes frames to one take in a thread. How many may wait for it is for others to decide, by `bytes`.

    Frames are compressed elsewhere, side by side, and committed here in order. `on_frame(serial, committed)` is
    called once for every frame that `put` accepted, in order; `on_close(report)` once at the end. Both come from the
    writing thread and must return at once.
    """

    def __init__(
        self,
        writer: TakeWriter,
        *,
        on_frame: Callable[[int, bool], None],
        on_close: Callable[[TakeReport], None],
    ) -> None:
        self.path = writer.path
        self.accepted = 0
        """Frames that `put` took."""
        self._writer = writer
        self._on_frame, self._on_close = on_frame, on_close
        self._waiting: deque[Encoding | _Channels | _Event] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"recorder {self.path.name}")
        self._thread.start()

    @property
    def name(self) -> str:
        """Name of the take."""
        return self.path.name

    @property
    def bytes(self) -> int:
        """What the frames take that are not committed yet: those that are compressed less than they came with."""
        with self._changed:
            return sum(item.memory for item in self._waiting if isinstance(item, Encoding))

    def put(self, encoding: Encoding) -> bool:
        """Hand over a frame; never waits. False when the take has ended."""
        with self._changed:
            if self._closing:
                return False
            self.accepted += 1
            self._waiting.append(encoding)
            self._changed.notify()
        return True

    def event(self, name: str, time: float, data: dict[str, Any]) -> None:
        """Note something that happened at engine time `time` [s], in its place between the frames."""
        self._add(_Event(name, time, data))

    def describe(self, descriptors: Sequence[Descriptor]) -> None:
        """The channels from the next frame on."""
        self._add(_Channels(tuple(descriptors)))

    def close(self) -> None:
        """Write what waits, then close the take; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end after `close`; whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _add(self, item: _Channels | _Event) -> None:
        with self._changed:
            if not self._closing:
                self._waiting.append(item)
                self._changed.notify()

    def _run(self) -> None:
        problem = None
        try:
            while (item := self._next()) is not None:
                if isinstance(item, _Event):
                    # The writer takes details as keywords, of which only `time` has another meaning there.
                    data = {"data": item.data} if "time" in item.data else item.data
                    self._writer.event(item.name, item.time, **data)
                elif isinstance(item, _Channels):
                    self._writer.describe(item.descriptors)
                else:
                    self._writer.append(item.result())
                with self._changed:
                    self._waiting.popleft()
                if isinstance(item, Encoding):
                    self._on_frame(item.serial, True)
                item = None  # or the frame's memory would be kept until the next one comes
        except (UserError, OSError) as error:
            problem = str(error)
        except Exception as error:  # a bug must not cost the frames that are already there
            log.exception("recording failed")
            problem = f"Recording failed ({type(error).__name__}: {error}); the daemon's log has the details."
        try:
            self._writer.close()
        except (UserError, OSError) as error:
            problem = problem or str(error)
        self._refuse_rest()
        self._on_close(TakeReport(self.path, self._writer.frames, problem))

    def _next(self) -> Encoding | _Channels | _Event | None:
        """What is to be written next, left among what waits; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            return self._waiting[0]

    def _refuse_rest(self) -> None:
        with self._changed:
            self._closing = True
            rest = list(self._waiting)
            self._waiting.clear()
        for item in rest:
            if isinstance(item, Encoding):
                self._on_frame(item.serial, False)
