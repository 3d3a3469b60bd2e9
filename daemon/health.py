"""The health of each session while it runs: samples of its frames are examined now and then, in a process of its own.

Works on small frames that the ingest process hands out and on `capture.health`; knows nothing of sockets or pages.
Nobody waits for an examination: while one is under way, no other sample is taken.
"""

from __future__ import annotations

import io
import itertools
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from capture.errors import UserError
from daemon import logs
from daemon.child import Child, Outbox, begin, listen

log = logging.getLogger("realmaster.daemon")

FIRST_SECONDS, EVERY_SECONDS = 2.0, 10.0
"""A session is looked at so long after it began, and then so often."""
SAMPLE_FRAMES = 14
LONGEST_SIDE = 400
"""Of the frames examined, pixels."""
ANSWER_SECONDS = 90.0

_SAMPLES = 3
"""Samples of a session that are examined together: what one does not show, another may."""
_SESSIONS = 8


class HealthWatch:
    """Keeps the last examination of every session.

    sessions: the state of the sessions, as in `Service.state`.
    sample: asks the ingest process for the newest small frames of a session: a future of a list of frames.

    The examining process is started with the first session, and again should it die.
    """

    def __init__(
        self, sessions: Callable[[], list[dict[str, Any]]], sample: Callable[[str], Future[list[Any]]]
    ) -> None:
        self._sessions, self._sample = sessions, sample
        self._child: Child | None = None
        self._reports: dict[str, dict[str, Any]] = {}
        self._due: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[str, Future[Any]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()  # there is nothing to put in order
            child.stop(5)
        self._fail("The daemon is stopping.")

    @property
    def pid(self) -> int | None:
        """Process id of the examining process, None while there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def report(self, session: str) -> dict[str, Any] | None:
        """The last examination of a session, short: {verdict, line, checks}; None before the first."""
        return self._reports.get(session)

    def examine(self, session: str) -> Future[Any]:
        """Examine the newest frames of a session now: a future of `capture.health.Health.to_dict()`."""
        return self._ask(session, "examine", self._sample(session).result(ANSWER_SECONDS))

    def picture(self, session: str) -> Future[Any]:
        """The picture of the last examination as PNG bytes; UserError when there was none."""
        return self._ask(session, "picture", [])

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            now = time.monotonic()
            present = [session["id"] for session in self._sessions()]
            for gone in self._due.keys() - set(present):
                self._due.pop(gone)
                self._reports.pop(gone, None)
            for session in present:
                if now < self._due.setdefault(session, now + FIRST_SECONDS) or self._waiting:
                    continue
                try:
                    frames = self._sample(session).result(ANSWER_SECONDS)
                    if frames:
                        self._ask(session, "examine", frames)
                except (UserError, TimeoutError) as error:  # it has just left
                    log.debug("no sample of session %s: %s", session, error)
                self._due[session] = time.monotonic() + EVERY_SECONDS

    def _ask(self, session: str, what: str, frames: list[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._stop.is_set():
                future.set_exception(UserError("The daemon is stopping."))
                return future
            if self._child is None or not self._child.alive:
                self._child = Child("health", health_main, (logs.settings(),), self._on_message, self._on_exit)
            number = next(self._numbers)
            self._waiting[number] = session, future
            self._child.send({"do": what, "id": number, "session": session, "frames": frames})
        return future

    def _on_message(self, child: Child, message: dict[str, Any]) -> None:
        with self._lock:
            session, future = self._waiting.pop(message["id"], ("", Future()))
        if message["error"]:
            future.set_exception(UserError(message["error"]))
            return
        if isinstance(message["result"], dict):
            report = message["result"]
            self._reports[session] = {key: report[key] for key in ("verdict", "line", "frames", "checks")}
        future.set_result(message["result"])

    def _on_exit(self, child: Child, code: int | None) -> None:
        self._fail("The examination ended unexpectedly; try again.")
        if not self._stop.is_set():
            log.error("the examining process ended (exit code %s); it is started again when needed", code)

    def _fail(self, sentence: str) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(UserError(sentence))


def health_main(conn: Connection, log_settings: logs.LogSettings) -> None:
    """Examine what the parent sends until it says so or is gone."""
    begin(log_settings, behind=True)
    outbox = Outbox(conn)
    over = threading.Event()
    samples: OrderedDict[str, deque[list[Any]]] = OrderedDict()
    last: OrderedDict[str, Any] = OrderedDict()

    def on_message(message: dict[str, Any]) -> None:
        result: Any = None
        error = ""
        try:
            if message["do"] == "examine":
                result = _examine(message["session"], message["frames"], samples, last)
            else:
                result = _draw(message["session"], last)
        except UserError as problem:
            error = str(problem)
        except Exception:
            log.exception("an examination failed")
            error = "The examination failed; the daemon's log has the details."
        outbox.post({"id": message["id"], "result": result, "error": error})

    listen(conn, on_message, on_end=over.set)
    over.wait()
    outbox.close()


def _examine(
    session: str, frames: list[Any], samples: OrderedDict[str, deque[list[Any]]], last: OrderedDict[str, Any]
) -> dict[str, Any]:
    from capture.health import examine_runs
    from capture.health.runs import runs_of
    from capture.take_folder import plain

    if not frames and session not in samples:
        raise UserError("There is nothing to examine yet: no frame has arrived, or the daemon keeps no replay.")
    kept = samples.setdefault(session, deque(maxlen=_SAMPLES))
    kept.append(frames)
    last[session] = examine_runs([run for sample in kept for run in runs_of(sample)])
    for store in (samples, last):
        store.move_to_end(session)
        while len(store) > _SESSIONS:
            store.popitem(last=False)
    report: dict[str, Any] = plain(last[session].health.to_dict())
    return report


def _draw(session: str, last: OrderedDict[str, Any]) -> bytes:
    from capture.health.picture import draw

    if session not in last:
        raise UserError("This session has not been examined yet; ask for its health first.")
    out = io.BytesIO()
    draw(last[session], "live").save(out, "PNG")
    return out.getvalue()
