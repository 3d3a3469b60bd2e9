"""The last seconds of one session, in memory of a fixed size, so that what just happened can become a take.

Works on `capture.Frame` as received and knows nothing of sockets or disks.
"""

from __future__ import annotations

import threading
from collections import deque

from capture.frame import Frame


class Ring:
    """Frames of the last `seconds` of engine time, never more than `max_bytes` of channels.

    Whichever bound is met first drops the oldest frames; a single frame larger than `max_bytes` is not kept.
    Engine time may stop or run backwards (a reloaded level): only forward steps age the ring, so that a jump
    backwards cannot make old frames immortal. Thread-safe.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self.seconds = seconds
        self._max_bytes = max_bytes
        self._frames: deque[tuple[float, int, Frame]] = deque()  # (age clock, bytes, frame), oldest first
        self._clock = 0.0
        self._last_time: float | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def append(self, frame: Frame) -> None:
        size = frame.nbytes
        with self._lock:
            if self._last_time is not None:
                self._clock += max(0.0, frame.time - self._last_time)
            self._last_time = frame.time
            self._frames.append((self._clock, size, frame))
            self._bytes += size
            self._evict()

    def resize(self, max_bytes: int) -> None:
        """Change the memory bound, at once."""
        with self._lock:
            self._max_bytes = max_bytes
            self._evict()

    def newest(self, count: int | None = None) -> list[Frame]:
        """The newest `count` frames (all when None), oldest first. They share memory with the ring."""
        with self._lock:
            frames = [frame for _, _, frame in self._frames]
        return frames if count is None else frames[max(0, len(frames) - count) :]

    def clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def span(self) -> float:
        """Seconds of engine time between the oldest and the newest frame held."""
        with self._lock:
            return self._frames[-1][0] - self._frames[0][0] if self._frames else 0.0

    def __len__(self) -> int:
        return len(self._frames)

    def _evict(self) -> None:
        while self._frames and (self._bytes > self._max_bytes or self._clock - self._frames[0][0] > self.seconds):
            _, size, _ = self._frames.popleft()
            self._bytes -= size
