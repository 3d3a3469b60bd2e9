"""A file that only grows, by whole appends, past the system's memory where that is possible.

Works on buffers of bytes and one file; knows nothing of records or frames. What is recorded is not read again soon. On
its way through the system's memory it would push out what the game has there, and fresh pages cost several times what
the disk itself does: so it goes to the disk directly (O_DIRECT) where system and file system do that, from a buffer
that is used again and again. Everywhere else the same writes go through the system's memory.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from capture.records import PADDING

_BUFFER_BYTES = 2**20


def new_buffer() -> mmap.mmap:
    """Memory for an AppendFile; files that follow each other share it. Its pages are there, and begin where direct
    writes demand it."""
    if sys.platform == "linux":
        return mmap.mmap(-1, _BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    return mmap.mmap(-1, _BUFFER_BYTES)


class AppendFile:
    """A new file at `path`, not inherited by children. One thread at a time; `sync` may run beside.

    What `append` returned for is with the operating system: it survives the death of this process. Direct writes go in
    whole blocks, so until `close` the file may end in less than `PADDING` zeros; the next append begins in their place.

    Raises OSError, as all methods do.
    """

    def __init__(self, path: Path, buffer: mmap.mmap, direct: bool = True) -> None:
        self._buffer = buffer
        # (bytes of the file, those of its last block when it is not full) before and after the last append
        self._ends: tuple[tuple[int, bytes], tuple[int, bytes]] = ((0, b""), (0, b""))
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        self.direct = direct and _set_direct(self._fd, True)
        """Whether it is written past the system's memory."""

    @property
    def length(self) -> int:
        """Bytes appended."""
        return self._ends[1][0]

    def append(self, parts: Iterable[bytes | memoryview]) -> None:
        """All parts in order, as one whole. After an error, `cut`."""
        buffer, room = self._buffer, len(self._buffer)
        end, tail = self._ends[1]
        used, at = len(tail), end - len(tail)
        buffer[:used] = tail
        for part in parts:
            rest = memoryview(part).cast("B")
            while len(rest):
                count = min(len(rest), room - used)
                buffer[used : used + count] = rest[:count]
                used, rest = used + count, rest[count:]
                if used == room:
                    self._write(room, at)
                    used, at = 0, at + room
        begun = used % PADDING
        tail = buffer[used - begun : used]
        if begun and self.direct:
            buffer[used : used - begun + PADDING] = bytes(PADDING - begun)
        if used:
            self._write(used - begun + PADDING if begun and self.direct else used, at)
        self._ends = self._ends[1], (at + used, tail)

    def cut(self, length: int) -> None:
        """Take off what an append left that did not come to its end, or the last one that did: `length` is the file's
        length before it."""
        end = next(end for end in self._ends if end[0] == length)
        self._ends = end, end
        os.ftruncate(self._fd, length)

    def sync(self) -> None:
        """What is appended by now survives the loss of power."""
        length = self.length
        getattr(os, "fdatasync", os.fsync)(self._fd)
        if hasattr(os, "posix_fadvise"):
            # What went through the system's memory after all need not stay there: nobody reads it at once, and pages
            # that are free again are the cheapest to write to.
            os.posix_fadvise(self._fd, 0, length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """End the file behind its last byte and make it safe. A second call does nothing."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, self.length)
                self.sync()
            finally:
                self.release()

    def release(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with suppress(OSError):
                os.close(fd)

    def _write(self, count: int, at: int) -> None:
        """The buffer's first `count` bytes, to byte `at` of the file."""
        with memoryview(self._buffer) as view:
            done = 0
            while done < count:
                try:
                    done += _write_at(self._fd, view[done:count], at + done)
                except OSError as error:
                    # Larger blocks than we know, or what is left after a part was refused: not for direct writing.
                    if error.errno != errno.EINVAL or not self.direct:
                        raise
                    self.direct = False
                    _set_direct(self._fd, False)


def _set_direct(fd: int, on: bool) -> bool:
    """Whether writes to an open file now go past the system's memory."""
    if not hasattr(os, "O_DIRECT"):
        return False
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags)
    except OSError:  # the file system does not do that
        return False
    return on


def _write_at(fd: int, data: memoryview, at: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, at)
    os.lseek(fd, at, os.SEEK_SET)
    return os.write(fd, data)
