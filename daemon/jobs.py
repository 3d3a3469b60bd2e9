"""Jobs done one after the other in a process of their own: the side that lives in the daemon.

Works on jobs by number; knows nothing of what they do. `daemon.lifts` and `daemon.exporter` are such queues.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from capture.errors import UserError
from daemon.child import Child

CANCEL_SECONDS = 5.0
"""A cancelled job that has not stopped after this long is ended with its process."""


class Job(Protocol):
    """What every job tells, a frozen dataclass; `state` is at least one of queued, running, done, failed, cancelled."""

    @property
    def id(self) -> str: ...
    @property
    def take(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def finished(self) -> bool: ...


J = TypeVar("J", bound=Job)


class JobQueue(ABC, Generic[J]):
    """The jobs of one takes folder. Thread-safe. A subclass says how one is begun (`_begin`) and ended (`_finish`),
    and starts the process."""

    NOUN = "job"
    """What a job is called in sentences."""
    KEPT = 50
    """Finished jobs that stay listed."""

    def __init__(self, takes: Path) -> None:
        self.takes = takes
        self._jobs: dict[str, J] = {}
        self._waiting: deque[str] = deque()
        self._running: str | None = None
        self._cancelling: str | None = None
        self._child: Child | None = None
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._lock = threading.RLock()

    def jobs(self) -> list[J]:
        """All known jobs, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def job(self, job_id: str) -> J:
        """Raises UserError for an unknown one."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise UserError(f"There is no {self.NOUN} with the number {job_id[:40]!r} in the queue.")
        return job

    def is_using(self, take: str) -> bool:
        """Whether a job of the take waits or runs."""
        return any(job.take == take and not job.finished for job in self.jobs())

    def cancel(self, job_id: str) -> J:
        """Take a job out of the queue, or stop it; a finished one stays. Raises UserError for an unknown one."""
        with self._lock:
            job = self.job(job_id)
            if job.state == "queued":
                self._waiting.remove(job_id)
                self._finish(job_id, "cancelled")
            elif job.state == "running" and self._child is not None:
                self._cancelling = job_id
                self._child.send({"do": "cancel", "id": job_id})
                timer = threading.Timer(CANCEL_SECONDS, self._kill_if_running, (self._child, job_id))
                timer.daemon = True
                timer.start()
                self._set(job_id, sentence="being cancelled")
            return self._jobs[job_id]

    # -- for subclasses, under the lock

    @abstractmethod
    def _begin(self, job: J) -> None:
        """Have the process begin with a job."""

    @abstractmethod
    def _finish(self, job_id: str, state: str, sentence: str = "") -> None:
        """Note how a job ended that waited or ran; calls `_no_longer_running`."""

    def _forget(self, job: J) -> None:
        """A finished job is listed no longer."""

    def _add(self, job: J) -> J:
        """Queue a new job; returns it as it is now."""
        self._jobs[job.id] = job
        return self._queue(job.id)

    def _queue(self, job_id: str) -> J:
        self._waiting.append(job_id)
        finished = [job for job in self._jobs.values() if job.finished]
        for old in finished[: max(0, len(finished) - self.KEPT)]:
            self._forget(old)
            del self._jobs[old.id]
        self._start_next()
        return self._jobs[job_id]

    def _start_next(self) -> None:
        if self._running is None and self._waiting and not self._closed.is_set():
            job = self._set(self._waiting.popleft(), state="running")
            self._running = job.id
            self._begin(job)

    def _no_longer_running(self, job_id: str) -> None:
        if self._running == job_id:
            self._running = None
        if self._cancelling == job_id:
            self._cancelling = None

    def _set(self, job_id: str, **changes: Any) -> J:
        self._jobs[job_id] = replace(self._jobs[job_id], **changes)  # type: ignore[type-var]
        return self._jobs[job_id]

    def _shut(self) -> None:
        """Take no more jobs; those that wait are cancelled."""
        self._closed.set()
        for job_id in self._waiting:
            self._set(job_id, state="cancelled")
        self._waiting.clear()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise UserError(f"The daemon is stopping and takes no more {self.NOUN}s.")

    def _kill_if_running(self, child: Child, job_id: str) -> None:
        with self._lock:
            if self._running == job_id and self._child is child:
                child.kill()
