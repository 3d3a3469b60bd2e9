"""Exports of takes and lifts, and trims, one after the other in a process of their own, so that recording and lifting
go first.

Works on takes by path and on `capture.export`; knows nothing of sockets or pages. `Exporter` is the side that lives in
the daemon, `exporter_main` the other. A file or folder gets its name in the exports folder when it is whole.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from capture.errors import UserError
from capture.files import numbered
from capture.take import is_take_name, take_path
from daemon import logs
from daemon.child import Child, Outbox, begin, listen
from daemon.jobs import JobQueue
from daemon.pace import Pace

log = logging.getLogger("realmaster.daemon")

FOLDER = "exports"
"""In the takes folder."""
SUFFIX = {"mp4": ".mp4", "rerun": ".rrd", "lift": ".mp4", "compare": ".mp4"}
"""Kinds that are one file; the others are folders."""
LIFT_KINDS = ("lift", "compare")
"""Kinds that are made of a lift: the lifted video, and render and lift beside each other."""
TRIM = "take"
"""The kind that makes a new take of a part of one, in the takes folder."""
KINDS = ("mp4", "exr", "frames", "comfyui", "webdataset", "rerun", *LIFT_KINDS, TRIM)



@dataclass(frozen=True)
class ExportJob:
    """One export: what was asked for, and how far it is."""

    id: str
    take: str
    to: str
    """One of KINDS."""
    name: str
    """Of the file or folder in the exports folder; of a trim, of the new take."""
    path: str
    """Where that is, or will be."""
    frames: tuple[int | None, int | None] = (None, None)
    lift: str | None = None
    channel: str | None = None
    """What an mp4 shows: a channel, several with commas, "edges" or "side_by_side"."""
    up: str | None = None
    """The axis of an exr's world that points up."""
    state: str = "queued"
    """queued, running, done, failed or cancelled."""
    done: int = 0
    total: int = 0
    left: float | None = None
    """Estimated seconds until it is done."""
    sentence: str = ""
    """Why it failed, else empty."""
    notes: tuple[str, ...] = ()
    """What whoever uses the files should know."""
    bytes: int = 0

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Exporter(JobQueue[ExportJob]):
    """The queue of exports of one takes folder. The process starts with the first.

    `on_change()` is called, from any thread, whenever an export has ended.
    """

    NOUN, KEPT = "export", 30

    def __init__(self, takes: Path, on_change: Callable[[], None] = lambda: None) -> None:
        super().__init__(takes)
        self.folder = takes / FOLDER
        self._on_change = on_change
        self._pace = Pace()

    def submit(
        self,
        take: str,
        to: str,
        frames: tuple[int | None, int | None] = (None, None),
        *,
        lift: str | None = None,
        channel: str | None = None,
        up: str | None = None,
        name: str | None = None,
    ) -> ExportJob:
        """Queue an export of frames [a, b) of a take, or of a lift of it; `name` is that of a trim's new take.

        Raises UserError when there is no such take or lift, or what was asked for does not go together.
        """
        path = take_path(self.takes, take)
        if to not in KINDS:
            raise UserError(f"There is no export to {to!r}: choose one of {', '.join(KINDS)}.")
        if (lift is not None) != (to in LIFT_KINDS):
            raise UserError(
                f"An export to {to!r} is of {'a lift: name one' if to in LIFT_KINDS else 'the take itself'}."
            )
        if lift is not None and not (is_take_name(lift) and (path / "lifts" / lift / "lifted.mp4").is_file()):
            raise UserError(f"Take {take} has no lift {lift[:80]!r}.")
        if channel is not None and to != "mp4":
            raise UserError("A channel is chosen for mp4 only.")
        if up is not None and to != "exr":
            raise UserError("An axis that points up is chosen for exr only.")
        with self._lock:
            self._check_open()
            folder = self.takes if to == TRIM else self.folder
            if to == TRIM:
                wanted = name or _ranged(take, frames)
                if not is_take_name(wanted):
                    raise UserError(f"{wanted[:80]!r} cannot be the name of a take: use letters, digits, and . _ -")
                if name is not None and self._is_used(folder / name):
                    raise UserError(f"There is already something named {name}: choose another name.")
            else:
                wanted = _ranged(take if lift is None else f"{take}-{lift}", frames) + _ending(to, channel)
            free = self._free(folder, wanted)
            number = str(next(self._numbers))
            return self._add(ExportJob(number, take, to, free.name, str(free), frames, lift, channel, up))

    def close(self, timeout: float = 2.0) -> None:
        """End the process; the running export is cancelled, queued ones too."""
        with self._lock:
            self._shut()
            child, running = self._child, self._running
            if child is not None and running is not None:
                self._cancelling = running
                child.send({"do": "cancel", "id": running})
        if child is not None:
            child.stop(timeout)

    # -- the process

    def _begin(self, job: ExportJob) -> None:
        self._pace = Pace()
        if self._child is None:
            self._child = Child("exporter", exporter_main, (logs.settings(),), self._on_message, self._on_exit)
        self._child.send({"do": "export", "takes": str(self.takes), "out": str(self._part(job)), **asdict(job)})

    def _on_message(self, child: Child, message: dict[str, Any]) -> None:
        with self._lock:
            if child is not self._child or message["id"] != self._running:
                return
            if message["event"] == "progress":
                done, total = message["done"], message["total"]
                self._set(message["id"], done=done, total=total, left=self._pace.left(done, total))
                return
            self._finish(message["id"], message["event"], message["sentence"], tuple(message["notes"]))
            self._start_next()
        self._on_change()

    def _finish(self, job_id: str, state: str, sentence: str = "", notes: tuple[str, ...] = ()) -> None:
        job = self._jobs[job_id]
        self._no_longer_running(job_id)
        part, size = self._part(job), 0
        if state == "done" and job.to != TRIM:
            try:
                size = _size(part)
                os.rename(part, job.path)
            except OSError as error:
                state, sentence = "failed", f"The export could not be put in its place: {error.strerror}."
        shutil.rmtree(part.parent, ignore_errors=True)
        self._set(job_id, state=state, sentence=sentence, notes=notes, bytes=size, left=None)
        if state == "done":
            log.info("export done: %s", job.path)
        elif state == "failed":
            log.error("export of take %s failed: %s", job.take, sentence)

    def _on_exit(self, child: Child, code: int | None) -> None:
        with self._lock:
            if child is not self._child:
                return
            self._child = None
            if self._running is not None:
                asked = self._cancelling == self._running
                self._finish(
                    self._running,
                    "cancelled" if asked else "failed",
                    "" if asked else f"The exporting process ended unexpectedly (exit code {code}); try again.",
                )
            self._start_next()
        self._on_change()

    # -- files

    def _part(self, job: ExportJob) -> Path:
        """Where an export grows until it is whole, in a folder of its own."""
        return self.folder / f".part-{os.getpid()}-{job.id}" / job.name

    def _is_used(self, path: Path) -> bool:
        return path.exists() or any(job.path == str(path) and not job.finished for job in self._jobs.values())

    def _free(self, folder: Path, name: str) -> Path:
        """A path that neither a file nor a waiting export has: with -2, -3 ... before its suffix."""
        wanted = folder / name
        suffix = wanted.suffix if wanted.suffix in SUFFIX.values() else ""
        names = numbered(name.removesuffix(suffix), suffix)
        return next(path for free in names if not self._is_used(path := folder / free))


def _ranged(name: str, frames: tuple[int | None, int | None]) -> str:
    """The name, and of a part of a take which one."""
    first, end = frames
    return name if first is None and end is None else f"{name}-{first or 0}-{'end' if end is None else end}"


def _ending(to: str, channel: str | None) -> str:
    if to == "mp4":
        return f"{'' if channel in (None, 'color') else '-' + str(channel).replace(',', '-')}.mp4"
    if to == "compare":
        return "-compared.mp4"
    return SUFFIX.get(to) or f"-{to}"


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


# -- the other side: everything below runs in the exporting process


class _Cancelled(Exception):
    pass


def exporter_main(conn: Connection, log_settings: logs.LogSettings) -> None:
    """Export what the parent sends, one after the other, until it says so or is gone."""
    begin(log_settings, behind=True)
    outbox = Outbox(conn)
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    cancelled: set[str] = set()
    over = threading.Event()

    def on_message(message: dict[str, Any]) -> None:
        if message["do"] == "cancel":
            cancelled.add(message["id"])
        else:
            orders.put(message)

    def on_end() -> None:
        over.set()
        orders.put(None)

    listen(conn, on_message, on_end)
    while (order := orders.get()) is not None:
        job = order["id"]

        def progress(done: int, total: int, job: str = job) -> None:
            if job in cancelled or over.is_set():
                raise _Cancelled
            outbox.post_latest("progress", {"event": "progress", "id": job, "done": done, "total": total})

        event, sentence, notes = "done", "", []
        try:
            progress(0, 0)
            notes = _export(order, progress)
        except _Cancelled:
            event = "cancelled"
        except UserError as error:
            event, sentence = "failed", str(error)
        except MemoryError:
            event, sentence = "failed", "The export ran out of memory: export fewer frames at a time."
        except Exception as error:
            log.exception("the export failed")
            event = "failed"
            sentence = f"The export failed ({type(error).__name__}: {error}); the daemon's log has the details."
        outbox.post({"event": event, "id": job, "sentence": sentence, "notes": notes})
    outbox.close()


def _export(order: dict[str, Any], progress: Callable[[int, int], None]) -> list[str]:
    """Make one export; returns what its user should know."""
    from capture.export import FORMATS
    from capture.take import Take
    from capture.take_edit import trim

    out, to, (first, end) = Path(order["out"]), order["to"], order["frames"]
    with Take(take_path(order["takes"], order["take"])) as take:
        if to == TRIM:
            done = trim(take, first, end, order["path"], progress=progress)
            return [f"{len(done.skipped)} damaged frames were left out."] if done.skipped else []
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The exports folder {out.parent.parent} cannot be written ({error.strerror}).") from None
        if to in LIFT_KINDS:
            lift = take.path / "lifts" / order["lift"]
            if to == "compare":
                from realmaster.lift.compare import compare

                compare(take, lift, out, progress)
            else:
                shutil.copyfile(lift / "lifted.mp4", out)
            return []
        options: dict[str, Any] = {"up": order["up"]} if order["up"] else {}
        if to == "mp4":
            options |= {"channel": order["channel"] or "color", "fit": True}
        report = FORMATS[to](take, out, frames=(first, end), progress=progress, **options)
        lost = [f"{report.missing} frames are damaged or lack the channel and were left out."] if report.missing else []
        return [*lost, *report.notes]
