"""Compressing each frame once, on worker threads, for everybody who keeps it: the recorder and the ring.

Works on frames and threads; knows nothing of sockets or disks. The frame as received is let go as soon as it is
compressed. How many wait is bounded by the session's credits (`daemon.session`).
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from os import cpu_count

from capture.codecs import EXACT, Precision, hasty_codec, live_codec, rehearse
from capture.errors import UserError
from capture.frame import Descriptor, Frame
from capture.frame_pool import FramePool
from capture.take import EncodedFrame
from capture.take_frames import encode_frame

log = logging.getLogger("realmaster.daemon")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt, as glibc's malloc.h numbers them."""

_BLOCK_BYTES = 2**30
_KEPT_BYTES = 2**28


_USUAL = (Descriptor("color", "uint8", (32, 32, 3)), Descriptor("depth", "float32", (32, 32)))


class Encoders(ThreadPoolExecutor):
    """Threads that compress: codecs work outside the GIL, and there is nothing to gain beyond a few.

    haste_bytes: when frames of so many bytes wait for a thread, the processors cannot keep up: channels that cost
        much time for what they save (`capture.codecs.hasty_codec`) are then kept as they are, and the disk has more
        to do. A disk that cannot keep up never brings this about: what waits for it is compressed already.
    """

    def __init__(self, haste_bytes: int = 2**27, threads: int | None = None) -> None:
        keep_freed_memory()
        self._threads_wanted = threads or min(4, max(2, cpu_count() or 2))
        super().__init__(self._threads_wanted, "encoder")
        self._haste_bytes = haste_bytes
        self._waiting = 0
        self._counting, self._preparing = threading.Lock(), threading.Lock()
        for channel in _USUAL:  # libraries take a while to load: not when the first frame is there
            self.submit(rehearse, channel)

    def encode(self, frame: Frame, precision: Precision) -> Future[EncodedFrame]:
        """The frame, compressed by the next thread that is free."""
        with self._counting:
            self._waiting += frame.nbytes
        return self.submit(self._encode, frame, precision)

    def prepare(self, channels: Sequence[Descriptor], pool: FramePool, precision: Precision) -> None:
        """Make ready for frames of these channels, so that the first ones are as quick as any: every thread's coders
        and buffers, and memory for frames on their way. Returns when the memory is there; the threads go on."""
        together = threading.Barrier(self._threads_wanted)
        with self._preparing:  # threads that wait for each other must be next to each other in the queue
            for _ in range(self._threads_wanted):
                self.submit(self._prepare, tuple(channels), precision, together)
        pool.reserve(descriptor.nbytes for descriptor in channels)

    def _encode(self, frame: Frame, precision: Precision) -> EncodedFrame:
        with self._counting:
            self._waiting -= frame.nbytes
            hasty = self._waiting >= self._haste_bytes
        chosen = hasty_codec if hasty else live_codec
        codecs = {name: chosen(channel.descriptor, precision) for name, channel in frame.channels.items()}
        return encode_frame(frame, codecs, precision)

    def _prepare(self, channels: Sequence[Descriptor], precision: Precision, together: threading.Barrier) -> None:
        with suppress(threading.BrokenBarrierError):
            together.wait(5)  # so that each thread takes one of these
        try:
            for descriptor in channels:
                rehearse(descriptor, precision)
        except (UserError, ValueError, MemoryError):  # the frames themselves will tell
            log.debug("the codecs could not be tried out", exc_info=True)


class Encoding:
    """One frame that is being compressed, or is."""

    def __init__(self, frame: Frame, encoders: Encoders, precision: Precision = EXACT) -> None:
        self.serial = frame.serial
        self.time = frame.time
        self.frame_bytes = frame.nbytes
        """Bytes of all channels as received."""
        self._future = encoders.encode(frame, precision)

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


def keep_freed_memory() -> None:
    """Have this process keep some of the memory that it frees, for the next frame.

    The C library gives blocks of the size of a channel back to the system at once, and asks for them anew with the
    next frame, when the system clears each page and maps it at the first touch: that costs more than what is then done
    with it. Where there is no such setting, nothing happens.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # a C library that knows no mallopt
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_ARENA_MAX, 1)  # others are too small for such blocks
