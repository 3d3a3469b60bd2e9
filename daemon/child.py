"""A child process at the other end of a pipe: it ends with its parent, and neither can block the other.

Knows nothing of frames, sessions or lifts; `ingest` and `worker` run inside such children under the service.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from daemon import logs

log = logging.getLogger("realmaster.daemon")

_spawn = multiprocessing.get_context("spawn")  # never fork: this process has threads, sockets and maybe a GPU


class Outbox:
    """Messages to the other end, sent by a thread so that the caller never waits.

    `post(message)` keeps order. `post_latest(key, message)` replaces an unsent message of the same key: a slow
    reader sees the newest state or picture, not a growing backlog.
    """

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._queue: queue.SimpleQueue[tuple[str | None, Any] | None] = queue.SimpleQueue()
        self._latest: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def post(self, message: Any) -> None:
        self._queue.put((None, message))

    def post_latest(self, key: str, message: Any) -> None:
        with self._lock:
            waiting = key in self._latest
            self._latest[key] = message
        if not waiting:
            self._queue.put((key, None))

    def waiting(self, key: str) -> bool:
        """Whether a message of this key has not been taken yet (its maker may save the work of a newer one)."""
        with self._lock:
            return key in self._latest

    def close(self, timeout: float = 1.0) -> None:
        """Send what is queued, for at most `timeout` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            key, message = item
            if key is not None:
                with self._lock:
                    message = self._latest.pop(key)
            try:
                self._conn.send(message)
            except (OSError, ValueError):  # the other end is gone; whoever reads the pipe notices
                return


class Child:
    """The parent's side: run `target(conn, *args)` in a spawned process, hear its messages and its end.

    `on_message(child, message)` and `on_exit(child, exitcode)` are called from a reader thread of this object;
    `on_exit` exactly once, also after `stop`. They get the child because they may be called before the
    constructor has returned it.
    """

    def __init__(
        self,
        name: str,
        target: Callable[..., None],
        args: tuple[Any, ...],
        on_message: Callable[[Child, Any], None],
        on_exit: Callable[[Child, int | None], None],
    ) -> None:
        self._conn, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=target, args=(theirs, *args), name=name, daemon=True)
        self._on_message, self._on_exit = on_message, on_exit
        self._reaping = threading.Lock()  # of two threads that reap a process at once, one believes it still alive
        self._process.start()
        theirs.close()  # else our own copy would keep the pipe open and hide the child's end from us
        self._outbox = Outbox(self._conn)
        self._reader = threading.Thread(target=self._read, name=f"{name}-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        with self._reaping:
            return self._process.is_alive()

    def send(self, message: Any) -> None:
        """Queue one picklable message for the child; never waits, and is lost when the child is gone."""
        self._outbox.post(message)

    def stop(self, timeout: float) -> None:
        """Send None (the child's sign to finish), wait, and end it by force when `timeout` seconds were not enough."""
        self._outbox.post(None)
        if not self._ended(timeout):
            log.warning("%s did not finish within %.0f s and is ended by force", self._process.name, timeout)
            self._process.kill()
            self._ended(5)
        if threading.current_thread() is not self._reader:
            self._reader.join(5)

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()

    def _ended(self, timeout: float) -> bool:
        """Whether the process ends within `timeout` seconds; any threads may wait at once."""
        if not wait([self._process.sentinel], timeout):
            return False
        with self._reaping:
            self._process.join(5)
        return True

    def _read(self) -> None:
        while True:
            try:
                message = self._conn.recv()
            except (EOFError, OSError):
                break
            self._on_message(self, message)
        self._ended(5)
        self._outbox.close(0.1)
        self._on_exit(self, self._process.exitcode)


def listen(conn: Connection, on_message: Callable[[Any], None], on_end: Callable[[], None]) -> None:
    """The child's side: hear the parent in a thread; `on_end` when it says None or is gone, even by kill -9."""

    def read() -> None:
        while True:
            try:
                message = conn.recv()
            except (EOFError, OSError):
                break
            if message is None:
                break
            try:
                on_message(message)
            except Exception:  # one order that goes wrong must not make us deaf to the others
                log.exception("a message of the parent could not be dealt with")
        on_end()

    threading.Thread(target=read, name="parent-reader", daemon=True).start()


def begin(log_settings: logs.LogSettings, *, behind: bool = False) -> None:
    """What a child begins with: it logs as the daemon does, and leaves Ctrl-C, which reaches the whole process group,
    to the parent. `behind`: recording and lifting go first."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.set_up(log_settings)
    if behind:
        with contextlib.suppress(AttributeError, OSError):
            os.nice(10)
