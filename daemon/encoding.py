"""Compressing each frame once, on worker threads, for everybody who keeps it: the recorder and the ring.

Works on frames and an executor; knows nothing of sockets or disks. The frame as received is let go as soon as it is
compressed. How many wait is bounded by the session's credits (`daemon.session`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from os import cpu_count

from capture.codecs import Precision
from capture.frame import Frame
from capture.take import EncodedFrame
from capture.take_frames import encode_frame


class Encoding:
    """One frame that is being compressed, or is."""

    def __init__(self, frame: Frame, encoders: Executor, precision: Precision) -> None:
        self.serial = frame.serial
        self.time = frame.time
        self.frame_bytes = frame.nbytes
        """Bytes of all channels as received."""
        self._future: Future[EncodedFrame] = encoders.submit(encode_frame, frame, None, precision)

    def result(self, timeout: float | None = None) -> EncodedFrame:
        """The compressed frame, waited for; raises what went wrong."""
        return self._future.result(timeout)

    @property
    def nbytes(self) -> int:
        """Bytes of the compressed frame; 0 before it is there, and when it could not be made."""
        return self._future.result().nbytes if self._future.done() and self.ok else 0

    @property
    def memory(self) -> int:
        """Bytes that it takes now: those of the frame as received until it is compressed."""
        return self.nbytes if self._future.done() else self.frame_bytes

    @property
    def ok(self) -> bool:
        """Whether it is compressed, or may still be."""
        return not self._future.done() or (not self._future.cancelled() and self._future.exception() is None)

    def when_done(self, call: Callable[[], None]) -> None:
        """Have `call` called, from some thread, when the received frame is no longer needed."""
        self._future.add_done_callback(lambda _: call())


def new_encoders() -> ThreadPoolExecutor:
    """Threads that compress: codecs work outside the GIL, and there is nothing to gain beyond a few."""
    return ThreadPoolExecutor(min(4, max(2, cpu_count() or 2)), "encoder")
