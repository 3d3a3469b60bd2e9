"""Memory that a bridge and the daemon share for pixels: a page with a key, then slots of equal size.

Works on one segment, made by the daemon and attached by a bridge of the same machine and user. Knows nothing of
frames, credits or sockets: who may write to which slot, and when, is the protocol's matter.

A segment has no name that could be left behind. On Linux it is an anonymous file (memfd_create), found through
/proc/PID/fd/N while its maker holds it open; its size is sealed, so that nobody can cut it under a reader, and it is
not bounded by the size of /dev/shm (64 MB in many containers). On Windows it is a section of the paging file under a
random name. Both are gone with the last process that uses them, however it ends. Elsewhere there is none.
"""

from __future__ import annotations

import mmap
import os
import re
import secrets
import stat
import sys
from contextlib import suppress

KEY_BYTES = 32
"""The key at the beginning, in ASCII: proof that what was attached is what was offered."""

_PAGE = 4096
_NOEXEC_SEAL = 8
"""MFD_NOEXEC_SEAL of Linux 6.3, which Python does not name; hardened systems demand it."""


class Segment:
    """Shared memory, mapped here. `create` makes one, `attach` opens one that another process made.

    It is unmapped when neither the segment nor anything that looks into its slots is left.
    """

    def __init__(self, memory: mmap.mmap, name: str, key: str, slots: int, slot_bytes: int, fd: int | None) -> None:
        self.name = name
        """Where others find it: a path on Linux, the name of a section on Windows."""
        self.key = key
        self.slot_bytes = slot_bytes
        view = memoryview(memory)
        starts = range(_PAGE, _PAGE + slots * slot_bytes, slot_bytes)
        self.slots = tuple(view[start : start + slot_bytes] for start in starts)
        """The slots. A bridge writes to them, the daemon reads."""
        self._fd = fd

    @classmethod
    def create(cls, slots: int, slot_bytes: int) -> Segment:
        """A new segment of at least `slot_bytes` bytes a slot.

        Raises OSError where the system has no such memory or not enough of it.
        """
        slot_bytes = -(-slot_bytes // _PAGE) * _PAGE
        size, key = _PAGE + slots * slot_bytes, secrets.token_hex(KEY_BYTES // 2)
        if sys.platform == "win32":
            name = f"Local\\realmaster-{key}"
            memory = mmap.mmap(-1, size, tagname=name)
            memory[:KEY_BYTES] = key.encode()
            return cls(memory, name, key, slots, slot_bytes, None)
        if sys.platform != "linux":
            raise OSError("this system has no anonymous shared files")
        fd = _anonymous_file()
        try:
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, size)
            _seal(fd)
            os.pwrite(fd, key.encode(), 0)
            # Its pages are made now, not by the first frames, while the game waits.
            memory = mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
        except BaseException:
            os.close(fd)
            raise
        return cls(memory, f"/proc/{os.getpid()}/fd/{fd}", key, slots, slot_bytes, fd)

    @classmethod
    def attach(cls, name: str, key: str, slots: int, slot_bytes: int) -> Segment:
        """The segment of that name, to write to; OSError when it is not there, not ours, or another than was meant."""
        size = _PAGE + slots * slot_bytes
        if slots < 1 or slot_bytes < 1 or size > sys.maxsize:
            raise OSError(f"{slots} slots of {slot_bytes} bytes cannot be")
        if sys.platform == "win32":
            if not name.startswith("Local\\"):
                raise OSError(f"{name[:80]!r} is not the name of shared memory on this system")
            memory = mmap.mmap(-1, size, tagname=name)  # makes one, empty, where there is none: the key tells
        else:
            memory = _map_file(name, size)
        if memory[:KEY_BYTES] != key.encode():
            raise OSError("what lies there is other memory than was offered")
        return cls(memory, name, key, slots, slot_bytes, None)

    def hide(self) -> None:
        """Nobody finds it under its name any more, where the system has a way to say so."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.hide()


def _anonymous_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("realmaster", flags | _NOEXEC_SEAL)
    except OSError:  # a kernel that does not know the flag
        return os.memfd_create("realmaster", flags)


def _seal(fd: int) -> None:
    """Its size is final: reading beyond the end of a file that was cut would kill the reader (SIGBUS)."""
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _map_file(name: str, size: int) -> mmap.mmap:
    if not re.fullmatch(r"/proc/\d+/fd/\d+", name):  # whoever offers must not make us open just anything
        raise OSError(f"{name[:80]!r} is not the place of shared memory on this system")
    fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size != size:
            raise OSError("what lies there is no memory of the size that was offered")
        return mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(fd)
