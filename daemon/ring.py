"""The last seconds of one session, compressed, in memory of a bounded size, so that what just happened can become a
take.

Works on frames that are being compressed (`daemon.encoding`) and knows nothing of sockets or disks.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

from daemon.encoding import Encoding


@dataclass(eq=False)
class _Entry:
    clock: float
    """When it came, on the ring's own clock."""
    encoding: Encoding
    bytes: int = 0
    """What it counts for; nothing before it is compressed."""
    kept: bool = True


class Ring:
    """Frames of the last `seconds` of engine time, never more than `max_bytes` of compressed channels.

    Whichever bound is met first drops the oldest frames; a single frame larger than `max_bytes` is not kept. Frames
    that are still being compressed are few and do not count. Engine time may stop or run backwards (a reloaded
    level): only forward steps age the ring, so that a jump backwards cannot make old frames immortal. Thread-safe.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self.seconds = seconds
        self.max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()  # oldest first
        self._clock = 0.0
        self._last_time: float | None = None
        self._bytes = 0
        self._cut = False
        self._lock = threading.RLock()

    def append(self, encoding: Encoding) -> None:
        with self._lock:
            if self._last_time is not None:
                self._clock += max(0.0, encoding.time - self._last_time)
            self._last_time = encoding.time
            entry = _Entry(self._clock, encoding)
            self._entries.append(entry)
            self._evict()
        encoding.when_done(lambda: self._count(entry))

    def resize(self, max_bytes: int) -> None:
        """Change the memory bound, at once."""
        with self._lock:
            self.max_bytes = max_bytes
            self._evict()

    def newest(self, count: int | None = None, seconds: float = math.inf) -> list[Encoding]:
        """The newest `count` frames (all when None) of the last `seconds`, oldest first; some may still be in the
        making."""
        with self._lock:
            since = self._clock - seconds
            encodings = [entry.encoding for entry in self._entries if entry.encoding.ok and entry.clock >= since]
        return encodings if count is None else encodings[max(0, len(encodings) - count) :]

    def clear(self) -> None:
        with self._lock:
            while self._entries:
                self._drop()

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def span(self) -> float:
        """Seconds of engine time between the oldest and the newest frame held."""
        with self._lock:
            return self._entries[-1].clock - self._entries[0].clock if self._entries else 0.0

    @property
    def cut(self) -> bool:
        """Whether it holds less than its seconds because its bytes were not enough."""
        with self._lock:
            return self._cut and self.span < 0.95 * self.seconds

    def __len__(self) -> int:
        return len(self._entries)

    def _count(self, entry: _Entry) -> None:
        with self._lock:
            if entry.kept:
                entry.bytes = entry.encoding.nbytes
                self._bytes += entry.bytes
                self._evict()

    def _evict(self) -> None:
        while self._entries and self._clock - self._entries[0].clock > self.seconds:
            self._drop()
        while self._entries and self._bytes > self.max_bytes:
            self._cut = True
            self._drop()

    def _drop(self) -> None:
        entry = self._entries.popleft()
        entry.kept = False
        self._bytes -= entry.bytes
