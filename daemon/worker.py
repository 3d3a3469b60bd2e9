"""The lifting process and the queue before it. It owns the GPU, may crash or run out of memory, and is restarted.

Works on takes by path and on live clips as arrays; knows nothing of sockets, sessions or pages, and of models
only what `realmaster.lift` offers. `LiftQueue` is the side that lives in the daemon, `worker_main` the other.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from capture.errors import UserError
from capture.take import take_path
from daemon.child import Child, Outbox, leave_signals_to_parent, listen

log = logging.getLogger("realmaster.daemon")

KEPT_JOBS = 50
"""Finished jobs that stay listed."""

CANCEL_SECONDS = 5.0
"""A cancelled lift that has not stopped after this long is ended with its process."""


@dataclass(frozen=True)
class LiftJob:
    """One lift of one take: what was asked for, and how far it is."""

    id: str
    take: str
    lift: str
    """Name of the folder under the take's `lifts/`."""
    frames: tuple[int, int | None]
    prompt: str = ""
    seed: int = 0
    steps: int | None = None
    state: str = "queued"
    """queued, running, done, failed or cancelled."""
    done: int = 0
    total: int = 0
    sentence: str = ""
    """Why it failed, else empty."""

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class LiftQueue:
    """Lifts takes one after the other in a process of their own, and live clips while no take waits.

    The process starts with the first job. `on_change()` is called, from any thread, whenever a job or the model's
    state changed.
    """

    def __init__(
        self,
        takes: Path,
        *,
        model: str = "embedded",
        lora: str | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.takes = takes
        self.model, self.lora = model, lora
        self.rules: dict[str, int] | None = None
        """The lifter's rules (frames_step, frames_offset, size_multiple, window ...) once it has been loaded."""
        self.problem: str | None = None
        """Why the model could not be loaded, in one sentence."""
        self._on_change = on_change
        self._jobs: dict[str, LiftJob] = {}
        self._waiting: deque[str] = deque()
        self._running: str | None = None
        self._live: Future[np.ndarray] | None = None
        self._child: Child | None = None
        self._numbers = itertools.count(1)
        self._closed = False
        self._lock = threading.RLock()

    def submit(
        self,
        take: str,
        frames: tuple[int, int | None] = (0, None),
        prompt: str = "",
        seed: int = 0,
        steps: int | None = None,
    ) -> LiftJob:
        """Queue a lift of frames [a, b) of the take of that name (b None: to its end).

        Raises UserError when there is no such take or the daemon is stopping.
        """
        path = take_path(self.takes, take)
        with self._lock:
            if self._closed:
                raise UserError("The daemon is stopping and takes no more lifts.")
            number = next(self._numbers)
            job = LiftJob(str(number), take, self._free_name(path), frames, prompt, seed, steps)
            self._jobs[job.id] = job
            self._waiting.append(job.id)
            self._forget_old()
            self._start_next()
            job = self._jobs[job.id]
        self._on_change()
        return job

    def cancel(self, job_id: str) -> LiftJob:
        """Take a job out of the queue, or stop it; a finished one stays. Raises UserError for an unknown one."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                raise UserError(f"There is no lift with the number {job_id!r} in the queue.")
            if job.state == "queued":
                self._waiting.remove(job_id)
                self._set(job_id, state="cancelled")
            elif job.state == "running" and self._child is not None:
                child = self._child
                child.send({"do": "cancel", "id": job_id})
                timer = threading.Timer(CANCEL_SECONDS, self._kill_if_running, (child, job_id))
                timer.daemon = True
                timer.start()
                self._set(job_id, sentence="being cancelled")
            job = self._jobs[job_id]
        self._on_change()
        return job

    def jobs(self) -> list[LiftJob]:
        """All known jobs, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    @property
    def idle(self) -> bool:
        with self._lock:
            return self._running is None and not self._waiting and self._live is None

    @property
    def pid(self) -> int | None:
        """Process id of the lifting process, None while there is none."""
        return self._child.pid if self._child is not None else None

    def load(self) -> None:
        """Start the process and load the model ahead of the first job; `rules` is set when it is there."""
        with self._lock:
            if not self._closed and (self._child is None or self.problem is not None):
                self.problem = None
                self._ensure_child().send({"do": "load"})

    def lift_live(
        self, clip: np.ndarray, prompt: str = "", seed: int = 0, steps: int | None = None
    ) -> Future[np.ndarray]:
        """Lift one clip uint8 TxHxWx3 from memory; the future holds the lifted clip, or UserError with the reason.

        Jobs go first: it is refused while one is queued or running.
        """
        future: Future[np.ndarray] = Future()
        with self._lock:
            if self._closed or not self.idle:
                future.set_exception(UserError("The lifting process is busy with a take."))
                return future
            self._live = future
            self._ensure_child().send({"do": "live", "clip": clip, "prompt": prompt, "seed": seed, "steps": steps})
        return future

    def close(self, timeout: float = 3.0) -> None:
        """End the process; the running job is cancelled, queued ones too."""
        with self._lock:
            self._closed = True
            for job_id in self._waiting:
                self._set(job_id, state="cancelled")
            self._waiting.clear()
            if self._running is not None:
                self._set(self._running, state="cancelled", sentence="")
            child = self._child
        if child is not None:
            child.stop(timeout)
        self._on_change()

    # -- the process

    def _ensure_child(self) -> Child:
        if self._child is None:
            self._child = Child("lift worker", worker_main, (self.model, self.lora), self._on_message, self._on_exit)
        return self._child

    def _start_next(self) -> None:
        if self._running is not None or self._live is not None or not self._waiting or self._closed:
            return
        job = self._set(self._waiting.popleft(), state="running")
        self._running = job.id
        self._ensure_child().send(
            {
                "do": "lift",
                "id": job.id,
                "take": str(self.takes / job.take),
                "out": str(self._part_folder(job)),
                "frames": job.frames,
                "prompt": job.prompt,
                "seed": job.seed,
                "steps": job.steps,
            }
        )

    def _on_message(self, child: Child, message: dict[str, Any]) -> None:
        with self._lock:
            if child is not self._child:  # the last words of a process already given up
                return
            event = message["event"]
            if event == "model":
                self.rules, self.problem = message["rules"], message["sentence"]
            elif event == "live":
                live, self._live = self._live, None
                if live is not None:
                    if message["sentence"]:
                        live.set_exception(UserError(message["sentence"]))
                    else:
                        live.set_result(message["clip"])
                self._start_next()
            elif message["id"] == self._running:
                if event == "progress":
                    self._set(message["id"], done=message["done"], total=message["total"])
                else:
                    self._finish(message["id"], event, message.get("sentence", ""))
                    self._start_next()
        self._on_change()

    def _finish(self, job_id: str, state: str, sentence: str = "") -> None:
        job = self._jobs[job_id]
        self._running = None
        if job.finished:  # cancelled by close()
            state, sentence = job.state, job.sentence
        if state == "done":
            try:
                self._part_folder(job).rename(self.takes / job.take / "lifts" / job.lift)
            except OSError as error:
                state, sentence = "failed", f"The lift could not be put in its place: {error.strerror}."
        if state != "done":
            shutil.rmtree(self._part_folder(job), ignore_errors=True)
        self._set(job_id, state=state, sentence=sentence)
        if state == "done":
            log.info("lift done: %s of take %s", job.lift, job.take)
        elif state == "failed":
            log.error("lift of take %s failed: %s", job.take, sentence)

    def _on_exit(self, child: Child, code: int | None) -> None:
        with self._lock:
            if child is not self._child:
                return
            self._child = None
            sentence = _why(code)
            if self._running is not None:
                asked = self._jobs[self._running].sentence == "being cancelled"
                self._finish(self._running, "cancelled" if asked else "failed", "" if asked else sentence)
            live, self._live = self._live, None
            if live is not None:
                live.set_exception(UserError(sentence))
            self._start_next()
        self._on_change()

    def _kill_if_running(self, child: Child, job_id: str) -> None:
        with self._lock:
            if self._running == job_id and self._child is child:
                child.kill()

    # -- jobs

    def _set(self, job_id: str, **changes: Any) -> LiftJob:
        self._jobs[job_id] = replace(self._jobs[job_id], **changes)
        return self._jobs[job_id]

    def _free_name(self, take: Path) -> str:
        """A lift name that neither the take's folder nor a waiting job has."""
        base = Path(self.model).name.replace(" ", "-")[:40] or "lift"
        taken = {job.lift for job in self._jobs.values() if job.take == take.name and not job.finished}
        for number in itertools.count(1):
            name = f"{base}-{number}"
            if name not in taken and not (take / "lifts" / name).exists():
                return name
        raise AssertionError("unreachable")

    def _part_folder(self, job: LiftJob) -> Path:
        """Where a lift grows until it is whole; a lift that is listed is always complete."""
        return self.takes / job.take / "lifts" / f".{job.lift}.part"

    def _forget_old(self) -> None:
        finished = [job.id for job in self._jobs.values() if job.finished]
        for job_id in finished[: max(0, len(finished) - KEPT_JOBS)]:
            del self._jobs[job_id]


def _why(code: int | None) -> str:
    """One sentence for the end of a process that was not asked to end."""
    if code == OUT_OF_MEMORY:
        return "The lift ran out of memory: lift fewer or smaller frames, or choose a smaller model."
    if code is not None and code < 0:
        return f"The lifting process was ended by signal {-code} (often a lack of memory); it is started again."
    return f"The lifting process ended unexpectedly (exit code {code}); it is started again."


# -- the other side: everything below runs in the lifting process

OUT_OF_MEMORY = 77
"""Exit code by which the process gives all its memory back and says why."""

EXIT_SECONDS = 0.5
"""How long an idle process may take to exit by itself."""


class _Cancelled(Exception):
    pass


def worker_main(conn: Connection, model: str, lora: str | None) -> None:
    """The lifting process: load the model when it is first needed, lift what the parent sends, end with the parent."""
    leave_signals_to_parent()
    outbox = Outbox(conn)
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    cancelled: set[str] = set()

    def on_message(message: dict[str, Any]) -> None:
        if message["do"] == "cancel":
            cancelled.add(message["id"])
        else:
            orders.put(message)

    def on_end() -> None:
        orders.put(None)  # when idle, a proper exit, so that libraries can tidy up
        time.sleep(EXIT_SECONDS)
        os._exit(0)  # a lift in progress is abandoned: its folder is not listed before it is whole

    listen(conn, on_message, on_end)

    lifter: Any = None
    while (order := orders.get()) is not None:
        try:
            if lifter is None:
                from realmaster import load_lifter

                lifter = load_lifter(model, lora=lora)
                outbox.post({"event": "model", "rules": _plain_rules(lifter.rules), "sentence": None})
            if order["do"] == "lift":
                _lift(order, lifter, outbox, cancelled)
            elif order["do"] == "live":
                if lifter.cue != "color":
                    raise UserError(
                        f"The model {lifter.name} lifts from {lifter.cue}, which live lifting has not: choose one that "
                        "takes the render."
                    )
                clip = lifter.lift(order["clip"], prompt=order["prompt"], seed=order["seed"], steps=order["steps"])
                outbox.post({"event": "live", "clip": clip, "sentence": ""})
        except _Cancelled:
            outbox.post({"event": "cancelled", "id": order["id"]})
        except Exception as error:
            if _is_out_of_memory(error):
                os._exit(OUT_OF_MEMORY)
            if isinstance(error, UserError):
                sentence = str(error)
            else:
                logging.getLogger("realmaster.daemon").exception("the lift failed")
                sentence = f"The lift failed ({type(error).__name__}: {error}); the daemon's log has the details."
            if lifter is None:
                outbox.post({"event": "model", "rules": None, "sentence": sentence})
            if order["do"] == "live":
                outbox.post({"event": "live", "clip": None, "sentence": sentence})
            elif order["do"] == "lift":
                outbox.post({"event": "failed", "id": order["id"], "sentence": sentence})


def _lift(order: dict[str, Any], lifter: Any, outbox: Outbox, cancelled: set[str]) -> None:
    from capture.take import Take
    from realmaster.lift import lift_take

    def progress(done: int, total: int) -> None:
        if order["id"] in cancelled:
            raise _Cancelled
        outbox.post_latest("progress", {"event": "progress", "id": order["id"], "done": done, "total": total})

    progress(0, 0)
    take = Take(order["take"])
    first, end = order["frames"]
    out = Path(order["out"])
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out)
    out.mkdir(parents=True)
    lift_take(
        take,
        out,
        lifter,
        frames=(first, len(take) if end is None else min(end, len(take))),
        prompt=order["prompt"],
        seed=order["seed"],
        steps=order["steps"],
        progress=progress,
    )
    outbox.post({"event": "done", "id": order["id"]})


def _plain_rules(rules: Any) -> dict[str, int]:
    return {name: value for name, value in asdict(rules).items() if isinstance(value, int)}


def _is_out_of_memory(error: Exception) -> bool:
    """Python's MemoryError, and torch's and CUDA's, which need torch to be named."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "not enough memory" in str(error)
