"""Whether a process still gets on: by what it says, and by whether it computes or reads.

Works on process ids and clocks; knows nothing of what the process does.
"""

from __future__ import annotations

import time

import psutil

STILL_SECONDS = 120.0
STUCK_SECONDS = 3600.0

_LEAST_SHARE = 0.005
"""Of a core: a process that uses less is waiting. What waits for a card or a disk uses more."""
_LEAST_READ = 65536
"""Bytes: weights that are being read or fetched are a sign of life."""


class Vitals:
    """Watches one process. Call `heard` for every message from it and every order to it, and `look` now and then.

    still: seconds without a word, without work and without reading, after which it is taken for hung.
    stuck: seconds without a word, however much it works.
    """

    def __init__(self, pid: int | None, still: float = STILL_SECONDS, stuck: float = STUCK_SECONDS) -> None:
        self._pid, self._still, self._stuck = pid, still, stuck
        self._spoke = self._moved = self._looked = time.monotonic()
        self._work = self._read = 0.0

    def heard(self) -> None:
        self._spoke = self._moved = time.monotonic()

    def look(self) -> str | None:
        """Why it is taken for hung, as the end of a sentence; None while it gets on."""
        now = time.monotonic()
        work, read = self._used()
        if work - self._work > _LEAST_SHARE * (now - self._looked) or read - self._read > _LEAST_READ:
            self._moved = now
        self._work, self._read, self._looked = work, read, now
        if now - self._moved > self._still:
            return f"did nothing for {now - self._moved:.0f} s"
        if now - self._spoke > self._stuck:
            return f"worked for {now - self._spoke:.0f} s without getting on"
        return None

    def _used(self) -> tuple[float, float]:
        """Seconds of processor time, and bytes read, since it began."""
        try:
            process = psutil.Process(self._pid)
            with process.oneshot():
                times = process.cpu_times()
                counters = process.io_counters() if hasattr(process, "io_counters") else None
                read = getattr(counters, "read_chars", getattr(counters, "read_bytes", 0)) if counters else 0
            return times.user + times.system, read
        except (psutil.Error, OSError):
            return self._work, self._read


def killed_for_memory() -> int:
    """How often this machine has ended a process for lack of memory, where the system counts it (Linux); else 0."""
    try:
        with open("/proc/vmstat", encoding="ascii") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
    except (OSError, ValueError):
        return 0
