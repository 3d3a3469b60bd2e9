"""The lift queue: takes are lifted one after the other in a process of their own, which is watched and started again.

Works on takes by name and on live clips as arrays; knows nothing of sockets, sessions or pages. What runs in the
other process is `daemon.worker`.
"""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from capture.errors import TakeNotFoundError, UserError
from capture.files import numbered
from capture.take import take_path
from daemon import logs
from daemon.child import Child
from daemon.jobs import JobQueue
from daemon.pace import Pace
from daemon.vitals import STILL_SECONDS, STUCK_SECONDS, Vitals, killed_for_memory
from daemon.worker import OUT_OF_MEMORY, Tools, load, worker_main
from realmaster.lift.windows import kept_windows

log = logging.getLogger("realmaster.daemon")

TRIES = 2
"""A lift that takes the process down so often at the same window is set aside: the others go on."""

PATIENCE = 20
"""So often when it was ended by force: that is somebody's doing, not the lift's; or the system's, for a lack of memory
that it does not tell of, and then it must end."""

PACE_SECONDS = 30.0
"""The time left is told by the pace of the last so many seconds."""

ABANDONED_SECONDS = 3600.0
"""An unfinished lift that nobody has touched for so long was left by a daemon that was ended by force."""

_FORCE = tuple(-getattr(signal, name) for name in ("SIGKILL", "SIGTERM") if hasattr(signal, name))
"""Exit codes of a process that was ended by force."""

JobState = Literal["queued", "running", "done", "failed", "cancelled", "set aside"]
End = Literal["crash", "memory", "hang", "cancel"]
"""How a process ended that was not asked to."""


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
    model: str = "embedded"
    lora: str | None = None
    state: JobState = "queued"
    done: int = 0
    """Frames."""
    total: int = 0
    left: int | None = None
    """Seconds until it is done, by its pace; None while that is not known."""
    previews: int = 0
    """Previews that came of it so far while it runs; 0 where there is none, see `LiftQueue.preview`."""
    tries: int = 0
    """How often it took the process down without having got on."""
    sentence: str = ""
    """Why it failed, or is tried again; else empty."""

    @property
    def finished(self) -> bool:
        return self.state not in ("queued", "running")


class LiftQueue(JobQueue[LiftJob]):
    """Lifts takes one after the other in a process of their own, and live clips while no take waits.

    The process starts with the first job. When it crashes, hangs or runs out of memory it is started again, after a
    lack of memory with the model held as small as it can be, and its job goes on at the window where it was; a job
    that brings it down TRIES times at the same window is set aside, or PATIENCE times when somebody ended it by force.
    `on_change()` is called, from any thread, whenever a lift has ended, `on_trouble(sentence)` when the process ended
    by itself. still, stuck: see `Vitals`. load: what makes a lifter there.
    """

    NOUN = "lift"

    def __init__(
        self,
        takes: Path,
        *,
        model: str = "embedded",
        lora: str | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_trouble: Callable[[str], None] = lambda sentence: None,
        still: float = STILL_SECONDS,
        stuck: float = STUCK_SECONDS,
        load: Callable[..., Tools] = load,
    ) -> None:
        super().__init__(takes)
        self.model, self.lora = model, lora
        self.rules: dict[str, int] | None = None
        """The rules of the daemon's own model (window, overlap, max_side ...) once it has been loaded."""
        self.cue = "color"
        """What that model is shown of a frame."""
        self.problem: str | None = None
        """Why the model could not be loaded, in one sentence."""
        self.ends: Counter[End] = Counter()
        """How often the process ended by itself, by kind."""
        self.frames_lifted = 0
        self._on_change, self._on_trouble = on_change, on_trouble
        self._still, self._stuck = still, stuck
        self._load = load
        self._window: tuple[int, int] = (1, 0)  # frames, overlap, of the model that is loaded
        self._kept: dict[str, int] = {}  # job -> windows that were kept when it last took the process down
        self._preview: tuple[str, bytes] | None = None
        self._pace = Pace(recent=PACE_SECONDS)
        self._live: Future[np.ndarray] | None = None
        self._loading = False
        self._vitals = Vitals(None)
        self._hung: str | None = None
        self._memory: Literal["auto", "low"] = "auto"
        self._ooms = killed_for_memory()
        self._watch: threading.Thread | None = None
        self._sweep()

    def submit(
        self,
        take: str,
        frames: tuple[int, int | None] = (0, None),
        prompt: str = "",
        seed: int = 0,
        steps: int | None = None,
        *,
        model: str | None = None,
        lora: str | None = None,
    ) -> LiftJob:
        """Queue a lift of frames [a, b) of the take of that name (b None: to its end).

        `model`, `lora`: in place of the daemon's own. Raises UserError when there is no such take or the daemon is
        stopping.
        """
        path = take_path(self.takes, take)
        if model is None:
            model, lora = self.model, self.lora if lora is None else lora
        with self._lock:
            self._check_open()
            name = self._free_name(path, model)
            return self._add(LiftJob(str(next(self._numbers)), take, name, frames, prompt, seed, steps, model, lora))

    def retry(self, job_id: str) -> LiftJob:
        """Queue a job again that failed, was cancelled or set aside; what it had lifted when it failed is kept.
        Raises UserError for any other."""
        with self._lock:
            self._check_open()
            job = self.job(job_id)
            if not job.finished or job.state == "done":
                raise UserError(f"Lift {job_id} is {job.state}: only one that failed or was cancelled is tried again.")
            self._kept.pop(job_id, None)
            self._set(job_id, state="queued", tries=0, sentence="", done=0, left=None)
            return self._queue(job_id)

    def preview(self, job_id: str) -> bytes:
        """A JPEG of what the model expects of the window that it is sampling. Raises TakeNotFoundError when there is
        none: the lift does not run, or its model makes none or needs a single step."""
        preview = self._preview
        if preview is None or preview[0] != self.job(job_id).id:
            raise TakeNotFoundError(f"There is no preview of lift {job_id} now.")
        return preview[1]

    @property
    def idle(self) -> bool:
        with self._lock:
            return self._running is None and not self._waiting and self._live is None

    @property
    def pid(self) -> int | None:
        """Process id of the lifting process, None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    def load(self) -> None:
        """Start the process and load the model ahead of the first job; `rules` is set when it is there."""
        with self._lock:
            if not self._closed.is_set() and not self._loading and (self.rules is None or self.problem is not None):
                self.problem = None
                self._loading = True
                self._order({"do": "load", "model": self.model, "lora": self.lora})

    def use(self, model: str, lora: str | None) -> None:
        """Make this the daemon's own model, for live lifting and the lifts that are queued from now on; `load` loads
        it. A window that is being lifted is still lifted with the one before."""
        with self._lock:
            if (model, lora) != (self.model, self.lora):
                self.model, self.lora = model, lora
                self.rules, self.cue, self.problem, self._loading = None, "color", None, False

    def lift_live(
        self,
        clip: np.ndarray,
        prompt: str = "",
        seed: int = 0,
        steps: int | None = None,
        prefix: np.ndarray | None = None,
    ) -> Future[np.ndarray]:
        """Lift one clip uint8 TxHxWx3 from memory; the future holds the lifted clip, or UserError with the reason.

        prefix: what its first frames were lifted to before. Jobs go first: it is refused while one is queued or
        running.
        """
        future: Future[np.ndarray] = Future()
        with self._lock:
            if self._closed.is_set() or not self.idle:
                future.set_exception(UserError("The lifting process is busy with a take."))
                return future
            self._live = future
            order = {"do": "live", "model": self.model, "lora": self.lora, "clip": clip, "prefix": prefix}
            self._order(order | {"prompt": prompt, "seed": seed, "steps": steps})
        return future

    def close(self, timeout: float = 2.0) -> None:
        """End the process; the running job is cancelled, queued ones too."""
        with self._lock:
            self._shut()
            if self._running is not None:
                self._set(self._running, state="cancelled", sentence="")
            child = self._child
        if child is not None:
            child.stop(timeout)
        with self._lock:
            for job in self._jobs.values():
                if job.state != "done":
                    shutil.rmtree(self._part_folder(job), ignore_errors=True)

    # -- the process

    def _order(self, order: dict[str, Any]) -> None:
        if self._child is None:
            self._hung, self._ooms = None, killed_for_memory()
            self._child = Child(
                "lift worker", worker_main, (self._memory, logs.settings(), self._load), self._on_message, self._on_exit
            )
            self._vitals = Vitals(self._child.pid, self._still, self._stuck)
        if self._watch is None:
            self._watch = threading.Thread(target=self._watch_process, name="lift watch", daemon=True)
            self._watch.start()
        self._vitals.heard()
        self._child.send(order)

    def _start_next(self) -> None:
        if self._live is None:
            super()._start_next()

    def _begin(self, job: LiftJob) -> None:
        self._pace = Pace(recent=PACE_SECONDS)
        self._order(
            {
                "do": "lift",
                "id": job.id,
                "take": str(self.takes / job.take),
                "out": str(self._part_folder(job)),
                "frames": job.frames,
                "prompt": job.prompt,
                "seed": job.seed,
                "steps": job.steps,
                "model": job.model,
                "lora": job.lora,
            }
        )

    def _on_message(self, child: Child, message: dict[str, Any]) -> None:
        with self._lock:
            if child is not self._child:  # the last words of a process already given up
                return
            self._vitals.heard()
            event = message["event"]
            if event == "model":
                self._on_model(message)
            elif event == "live":
                live, self._live = self._live, None
                if live is not None:
                    if message["sentence"]:
                        live.set_exception(UserError(message["sentence"]))
                    else:
                        self.frames_lifted += len(message["clip"])
                        live.set_result(message["clip"])
                self._start_next()
            elif message["id"] == self._running:
                if event == "progress":
                    self._on_progress(message["id"], message["done"], message["total"])
                elif event == "preview":
                    self._preview = message["id"], message["jpeg"]
                    self._set(message["id"], previews=self._jobs[message["id"]].previews + 1)
                else:
                    self._finish(message["id"], event, message.get("sentence", ""))
                    self._start_next()
                    self._on_change()

    def _on_model(self, message: dict[str, Any]) -> None:
        rules, own = message["rules"], (message["model"], message["lora"]) == (self.model, self.lora)
        if rules is not None:
            self._window = rules["window"], rules["overlap"]
        if own:
            self.rules, self.cue, self.problem = rules, message["cue"], message["sentence"]
            self._loading = False

    def _on_progress(self, job_id: str, done: int, total: int) -> None:
        left = self._pace.left(done, total)
        self._set(job_id, done=done, total=total, left=None if left is None else round(left))

    def _no_longer_running(self, job_id: str) -> None:
        super()._no_longer_running(job_id)
        if self._preview is not None and self._preview[0] == job_id:
            self._preview = None
            self._set(job_id, previews=0)

    def _finish(self, job_id: str, state: str, sentence: str = "") -> None:
        job = self._jobs[job_id]
        self._no_longer_running(job_id)
        if job.finished:  # cancelled by close()
            state, sentence = job.state, job.sentence
        if state == "done":
            try:
                self._part_folder(job).rename(self.takes / job.take / "lifts" / job.lift)
                self.frames_lifted += job.total
            except OSError as error:
                state, sentence = "failed", f"The lift could not be put in its place: {error.strerror}."
        if state == "cancelled":  # of a failed one the lifted windows stay, for another try
            shutil.rmtree(self._part_folder(job), ignore_errors=True)
        self._set(job_id, state=state, sentence=sentence, left=None)
        fields = {"take": job.take, "lift": job.lift, "job": job_id, "state": state}
        if state == "done":
            log.info("lift done: %s of take %s", job.lift, job.take, extra={"fields": fields})
        elif state in ("failed", "set aside"):
            log.error("lift of take %s %s: %s", job.take, state, sentence, extra={"fields": fields})

    def _on_exit(self, child: Child, code: int | None) -> None:
        with self._lock:
            if child is not self._child:
                return
            self._child = None
            self._loading = False
            if self._closed.is_set():
                if self._running is not None:
                    self._finish(self._running, "cancelled")
                trouble = None
            elif self._running is not None and self._cancelling == self._running:
                self.ends["cancel"] += 1
                self._finish(self._running, "cancelled")
                trouble = None
            else:
                end, trouble = self._why(code)
                self.ends[end] += 1
                log.error("%s", trouble, extra={"fields": {"end": end, "job": self._running}})
                if end == "memory":
                    self._memory = "low"
                if self._running is not None:
                    by_force = end == "crash" and code in _FORCE
                    self._try_again(self._jobs[self._running], trouble, PATIENCE if by_force else TRIES)
            live, self._live = self._live, None
            if live is not None:
                live.set_exception(UserError(trouble or "The daemon is stopping."))
            self._start_next()
        if trouble is not None:
            self._on_trouble(trouble)
        self._on_change()

    def _why(self, code: int | None) -> tuple[End, str]:
        """How the process ended, and a sentence about it."""
        if self._hung is not None:
            return "hang", f"The lifting process {self._hung}, was ended and is started again."
        if code == OUT_OF_MEMORY:
            return "memory", "The lifting process ran out of memory; it goes on with the model held smaller."
        if code == -9 and killed_for_memory() > self._ooms:
            return "memory", "The system ended the lifting process for lack of memory; it goes on smaller."
        if code is not None and code < 0:
            return "crash", f"The lifting process was ended by signal {-code}; it is started again."
        return "crash", f"The lifting process ended unexpectedly (exit code {code}); it is started again."

    def _try_again(self, job: LiftJob, why: str, most: int) -> None:
        """Put a job that was under way when the process ended back to the head of the queue, or aside when that was the
        `most`th time at the same place."""
        self._no_longer_running(job.id)
        kept = kept_windows(self._part_folder(job))  # what it told last may have died with it
        tries = 1 if kept > self._kept.get(job.id, 0) else job.tries + 1
        self._kept[job.id] = kept
        window, overlap = self._window
        done = min(window + (kept - 1) * (window - overlap), job.total) if kept else 0
        if tries < most:
            sentence = f"{why} This lift goes on where it was."
            self._set(job.id, state="queued", done=done, tries=tries, sentence=sentence, left=None)
            self._waiting.appendleft(job.id)
        else:
            self._set(job.id, done=done, tries=tries)
            sentence = f"{why} That was the {_ordinal(tries)} time at the same place: this lift is set aside."
            self._finish(job.id, "set aside", sentence)

    def _watch_process(self) -> None:
        """Ends the process when it hangs."""
        while not self._closed.wait(min(2.0, self._still / 4)):
            with self._lock:
                child = self._child
                busy = self._running is not None or self._live is not None or self._loading
                if child is None or self._hung is not None:
                    continue
                if not busy:
                    self._vitals.heard()
                    continue
                self._hung = self._vitals.look()
                if self._hung is not None:
                    child.kill()

    # -- folders

    def _free_name(self, take: Path, model: str) -> str:
        """A lift name that neither the take's folder nor a waiting job has."""
        base = Path(model).name.replace(" ", "-")[:40] or "lift"
        taken = {job.lift for job in self._jobs.values() if job.take == take.name and job.state != "done"}
        names = numbered(base, bare=False)
        return next(name for name in names if name not in taken and not (take / "lifts" / name).exists())

    def _part_folder(self, job: LiftJob) -> Path:
        """Where a lift grows until it is whole; a lift that is listed is always complete."""
        return self.takes / job.take / "lifts" / f".{job.lift}.lifting"

    def _forget(self, job: LiftJob) -> None:
        if job.state != "done":
            shutil.rmtree(self._part_folder(job), ignore_errors=True)
        self._kept.pop(job.id, None)

    def _sweep(self) -> None:
        """Remove what a daemon left that was ended by force."""
        for part in self.takes.glob("*/lifts/.*.lifting"):
            try:
                newest = max((file.stat().st_mtime for file in part.rglob("*")), default=part.stat().st_mtime)
                if time.time() - newest > ABANDONED_SECONDS:
                    shutil.rmtree(part, ignore_errors=True)
            except OSError:
                continue


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
