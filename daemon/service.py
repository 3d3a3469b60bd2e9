"""The daemon: starts ingest, the lift queue and the web side, carries messages between them, and stops them.

    engine ==ZeroMQ==> [ingest process: ingest -> recorder, ring] --pipe--> [this process: service, web] ==> browser
                                                                    <--pipe--> [lifting process: worker]

Each process ends when this one does, by whatever death. Losing the lifting process costs the lift in progress;
losing the ingest process costs the frames that were not yet acknowledged; both are started again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.codecs import EXACT, Precision
from capture.connection import DEFAULT_ENDPOINT, new_token
from capture.errors import UserError
from capture.health.keeping import keep_health, read_health
from capture.keys import KeyRing
from capture.take import repair
from capture.take_folder import PREVIEW
from capture.take_writer import make_preview
from daemon import logs
from daemon.access import check_listen
from daemon.child import Child
from daemon.exporter import Exporter
from daemon.health import HealthWatch
from daemon.ingest_process import ingest_main
from daemon.jpeg import VIEWS
from daemon.library import Library
from daemon.lifts import LiftJob, LiftQueue
from daemon.live import LiveLift
from daemon.models import ModelList
from daemon.preview import Picture
from daemon.session import Settings
from realmaster.lift.profiles import known_profiles
from realmaster.pairs.review import Shelf

if TYPE_CHECKING:
    from daemon.web.server import WebServer

log = logging.getLogger("realmaster.daemon")

ANSWER_SECONDS = 10.0
"""How long a command to the ingest process may take."""

CAUGHT_UP = 8
"""Of so many takes, the newest, what the daemon left undone when it ended is done when it is started."""

RESTARTS_PER_MINUTE = 5
"""More crashes than this and the ingest process is left down, with a sentence in the state."""


@dataclass(frozen=True)
class DaemonConfig:
    """What a daemon is started with."""

    takes: Path
    """Folder of takes; made when it does not exist."""
    listen: str = DEFAULT_ENDPOINT
    """ZeroMQ endpoint for bridges; port * takes a free one."""
    http: str = "127.0.0.1:8765"
    """HOST:PORT of the page and the API; port 0 takes a free one."""
    http_token: str | None = None
    """What HTTP requests must show; needed when `http` is not on this machine only."""
    model: str = "embedded"
    """Model profile or folder that lifts."""
    lora: str | None = None
    replay_seconds: float = 20.0
    """How much of what just happened can still be saved; with 0 nothing is kept."""
    replay_bytes: int | None = None
    """Memory of the ring, over all sessions; None: `default_replay_bytes`."""
    precision: Precision = EXACT
    """What takes and replays keep of the numbers."""
    datasets: Path | None = None
    """Folder of datasets of pairs that the page shows; None: `datasets` beside the takes folder."""
    remote_mbit: float | None = None
    """What the link of each bridge on another machine carries, Mbit/s; None: it is measured; inf: nothing is made
    smaller."""
    auto_record: bool = False
    """Record every session from its first frame to its end."""


def default_replay_bytes() -> int:
    """2 GiB, which 20 s of 1280x720 at 30 frames a second fit into; a quarter of the machine's memory where that is
    less."""
    import psutil

    return min(2**31, psutil.virtual_memory().total // 4)


class Service:
    """One daemon. `start` returns when everything answers; as a context manager it starts and stops.

    Raises UserError when an address is taken or not allowed, or the folder cannot be written.
    """

    def __init__(self, config: DaemonConfig) -> None:
        self.config = config
        self.library = Library(config.takes)
        self.lifts = LiftQueue(
            config.takes,
            model=config.model,
            lora=config.lora,
            on_change=self.library.refresh,
            on_trouble=lambda sentence: self._notice("error", sentence),
        )
        self.live = LiveLift(self)
        self.exports = Exporter(config.takes, on_change=self.library.refresh)
        self.models = ModelList()
        self.datasets = Shelf(config.datasets or config.takes.parent / "datasets")
        self.endpoint = ""
        """The ZeroMQ endpoint in use, once started."""
        self._token = new_token()
        self.health = HealthWatch(lambda: self._ingest_state["sessions"], self._sample)
        self._web: WebServer | None = None
        self._ingest: Child | None = None
        self._ingest_state: dict[str, Any] = {"sessions": [], "refused": 0}
        self._problem: str | None = None
        self._recording: set[str] = set()  # takes being written by the ingest process
        self._crashes: deque[float] = deque(maxlen=RESTARTS_PER_MINUTE)
        self.restarts = 0
        """How often the ingest process was started again."""
        self._notices: deque[dict[str, Any]] = deque(maxlen=20)
        self._notice_numbers = itertools.count(1)
        self._numbers = itertools.count(1)
        self._replies: dict[int, Future[Any]] = {}
        self._watchers: dict[object, tuple[Callable[[Picture], None], tuple[str, ...]]] = {}
        self._previews = ThreadPoolExecutor(1, "preview video")
        self._lock = threading.RLock()
        self._bound = threading.Event()
        self._stop_asked = threading.Event()
        self._stopping = False

    # -- life

    def start(self) -> Service:
        """Start everything; returns when bridges and browsers are answered."""
        # Here, for the web libraries take a moment to import and children do not need them.
        from daemon.web.server import WebServer

        check_listen(self.config.listen, KeyRing().exists)
        self._web = WebServer(self, self.config.http, self.config.http_token)
        try:
            self._start_ingest(self.config.listen)
            if not self._bound.wait(30):
                raise UserError("The ingest process did not start within 30 s; the daemon's log has the details.")
            if self._problem:
                raise UserError(self._problem)
            self._web.start()
            self.health.start()
            self._catch_up()
        except BaseException:
            self.stop()
            raise
        log.info("page: %s", self.http_url)
        return self

    def stop(self) -> None:
        """Close takes, stop processes, release the addresses. Safe to call twice and from any thread."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            ingest = self._ingest
        self._stop_asked.set()
        self.live.set(False)
        if ingest is not None:
            ingest.send(None)  # it begins to close its takes while the others stop
        ends = [self.exports.close, self.lifts.close, self.models.close, self.health.close]
        if self._web is not None:
            ends.append(self._web.stop)
        if ingest is not None:
            ends.append(functools.partial(ingest.stop, 10))
        with ThreadPoolExecutor(len(ends), "end") as pool:  # all at once: each may take its time
            for end in [pool.submit(end) for end in ends]:
                end.result()
        self._previews.shutdown(cancel_futures=True)
        self._fail_replies("The daemon is stopping.")

    def ask_stop(self) -> None:
        """Let `run_forever` return; safe in a signal handler."""
        self._stop_asked.set()

    def run_forever(self) -> None:
        """Start if that was not done, work until SIGINT, SIGTERM or `ask_stop`, then stop."""
        for name in ("SIGINT", "SIGTERM"):
            with contextlib.suppress(ValueError, AttributeError):  # not the main thread
                signal.signal(getattr(signal, name), lambda *_: self.ask_stop())
        if self._ingest is None:
            self.start()
        try:
            while not self._stop_asked.wait(0.5):  # Windows delivers Ctrl-C only between waits
                pass
        finally:
            log.info("stopping")
            self.stop()

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        """Address of the page, e.g. http://127.0.0.1:8765"""
        return self._web.url if self._web is not None else ""

    @property
    def token(self) -> str:
        """What bridges show in hello; also in the connection file."""
        return self._token

    # -- what the API asks

    def state(self) -> dict[str, Any]:
        """What is going on, as plain JSON values; the page shows nothing else."""
        sessions = self._ingest_state["sessions"]
        return {
            "endpoint": self.endpoint,
            "model": {"name": self.lifts.model, "lora": self.lifts.lora, "rules": self.lifts.rules},
            "replay_seconds": self.config.replay_seconds,
            "problem": self._problem,
            "sessions": [session | {"health": self.health.report(session["id"])} for session in sessions],
            "refused": self._ingest_state["refused"],
            "recording": [session["recording"] for session in sessions if session["recording"]],
            "lifts": [asdict(job) for job in reversed(self.lifts.jobs())],
            "exports": [asdict(job) for job in reversed(self.exports.jobs())],
            "live": self.live.state(),
            "takes": self.library.summaries(),
            "notices": list(self._notices),
        }

    def record_start(self, session: str | None = None) -> list[str]:
        """Begin a take of the session, or of each; returns their names."""
        return self._ask("record_start", session=session).result(ANSWER_SECONDS)

    def record_stop(self, session: str | None = None) -> list[str]:
        """End the takes; returns their names. They are whole when the state lists them as closed."""
        return self._ask("record_stop", session=session).result(ANSWER_SECONDS)

    def replay_save(self, session: str | None = None, seconds: float | None = None) -> list[str]:
        """Keep the last seconds (all that the ring has when None) as a take, of the session or of each; returns their
        names."""
        return self._ask("replay_save", session=session, seconds=seconds).result(ANSWER_SECONDS)

    def control(self, name: str, args: dict[str, Any] | None = None, session: str | None = None) -> None:
        """Pass a control (step, pause, hide_hud, dump) on to the bridge."""
        self._ask("control", session=session, name=name, args=args or {}).result(ANSWER_SECONDS)

    def lift(
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
        """Queue a lift of frames [a, b) of a take; see `LiftQueue.submit`. `model` must be a known profile."""
        self.library.path(take)
        if model is not None:
            self._check_model(model)
        return self.lifts.submit(take, frames, prompt, seed, steps, model=model, lora=lora)

    def use_model(self, model: str, lora: str | None = None) -> None:
        """Make a known profile the daemon's own model; see `LiftQueue.use`. `lora` None: the profile's own adapter."""
        self._check_model(model)
        self.lifts.use(model, lora)
        if self.live.state()["on"]:
            self.lifts.load()

    def _check_model(self, model: str) -> None:
        """Whoever may ask over HTTP chooses among profiles, not among the folders of this machine."""
        if model not in (self.config.model, self.lifts.model) and model not in known_profiles():
            known = ", ".join(known_profiles())
            raise UserError(f"There is no model profile {model[:60]!r}; there are: {known}.")

    def check_unused(self, take: str, seconds: float = ANSWER_SECONDS) -> None:
        """Raises UserError while a lift or an export of the take waits or runs: its folder must stay. Waits until takes
        that have just been closed have their preview and are examined, `seconds` at most."""
        lifting = self.lifts.is_using(take)
        if lifting or self.exports.is_using(take):
            what = "lifted" if lifting else "exported"
            raise UserError(f"Take {take} is being {what}: wait for that, or cancel it first.")
        try:
            self._previews.submit(lambda: None).result(seconds)
        except FutureTimeout:
            raise UserError(f"The preview of take {take} is still being made: try again in a moment.") from None

    def clip(self, count: int, width: int, session: str | None = None, after: int | None = None) -> Future[Any]:
        """The `count` frames of a session's ring that come next after the one with serial `after`, no wider than
        `width` pixels: a future of what `daemon.ingest_process` makes of them, or of None while there are not enough.
        """
        return self._send({"do": "clip", "session": session, "after": after, "count": count, "width": width})

    def _sample(self, session: str) -> Future[Any]:
        """A few of the newest frames of a session, small: a future of a list of frames."""
        return self._send({"do": "sample", "session": session})

    @property
    def viewers(self) -> int:
        """How many watch live pictures."""
        return len(self._watchers)

    def pids(self) -> dict[str, int]:
        """Process ids of the daemon's processes by name."""
        ingest = self._ingest
        pids = {
            "main": os.getpid(),
            "ingest": ingest.pid if ingest is not None and ingest.alive else None,
            "lift": self.lifts.pid,
            "health": self.health.pid,
        }
        return {name: pid for name, pid in pids.items() if pid is not None}

    def newest_session(self) -> str | None:
        sessions = self._ingest_state["sessions"]
        return sessions[-1]["id"] if sessions else None

    def watch(self, who: object, on_picture: Callable[[Picture], None], views: tuple[str, ...]) -> None:
        """Have live pictures of these views delivered to `on_picture`, from any thread; with no views, no more.

        Views are the VIEWS of what the engine renders, "lifted" and its "source" while live lifting is on.
        """
        with self._lock:
            if views:
                self._watchers[who] = (on_picture, views)
            else:
                self._watchers.pop(who, None)
        self._tell_watched()

    def deliver(self, picture: Picture) -> None:
        """Hand a live picture to everybody who watches that view."""
        with self._lock:
            watchers = list(self._watchers.values())
        for on_picture, views in watchers:
            if picture.view in views:
                on_picture(picture)

    # -- the ingest process

    def _start_ingest(self, listen: str) -> None:
        options = {
            "listen": listen,
            "takes": self.config.takes,
            "auto_record": self.config.auto_record,
            "replay_seconds": self.config.replay_seconds,
            "replay_bytes": self.config.replay_bytes or default_replay_bytes(),
            "precision": self.config.precision,
            "token": self._token,
            "settings": Settings(remote_mbit=self.config.remote_mbit),
            "http": self.http_url,
            "previews": False,  # the ingest process must end at once when this one is gone
            "log_settings": logs.settings(),
        }
        with self._lock:
            self._ingest = Child("ingest", ingest_main, (options,), self._on_ingest, self._on_ingest_exit)

    def _on_ingest(self, child: Child, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "picture":
            self.deliver(message["picture"])
        elif event == "state":
            self._ingest_state = message["state"]
        elif event == "reply":
            with self._lock:
                future = self._replies.pop(message["id"], None)
            if future is not None and not future.done():
                if message["error"] is None:
                    future.set_result(message["result"])
                else:
                    future.set_exception(UserError(message["error"]))
        elif event == "bound":
            self.endpoint = message["endpoint"]
            self._problem = None
            self._bound.set()
            self._tell_watched()
        elif event == "failed":
            self._problem = message["sentence"]
            self._bound.set()
        elif event == "take_started":
            self._recording.add(message["take"])
            self.library.refresh()
        elif event == "take_closed":
            self._recording.discard(message["take"])
            self.library.refresh()
            if message["problem"]:
                self._notice("error", f"Take {message['take']} ended early: {message['problem']}")
            else:
                self._notice("take", f"Take {message['take']}: {message['frames']} frames kept.")
            if message["frames"]:
                self._see_to(message["take"])
        elif event in ("session_opened", "session_closed"):
            self._notice("session", "An engine connected." if event == "session_opened" else "An engine left.")

    def _on_ingest_exit(self, child: Child, code: int | None) -> None:
        self._fail_replies("The ingest process ended before it answered; try again.")
        with self._lock:
            if self._stopping or not self.endpoint:  # asked for, or it never got as far as its address
                self._bound.set()
                if not self.endpoint and not self._problem:
                    self._problem = f"The ingest process could not start (exit code {code})."
                return
            self._ingest_state = {"sessions": [], "refused": 0}
            now = time.monotonic()
            if len(self._crashes) == RESTARTS_PER_MINUTE and now - self._crashes[0] < 60:
                self._problem = "The ingest process ended again and again; see the daemon's log, then restart it."
                log.error(self._problem)
                return
            self._crashes.append(now)
            self.restarts += 1
            broken, self._recording = self._recording, set()
        log.error("the ingest process ended unexpectedly (exit code %s) and is started again", code)
        lost = f" Recording ended with it: {', '.join(sorted(broken))}; begin another take." if broken else ""
        self._notice("error", f"The receiving process ended unexpectedly and was started again.{lost}")
        self._start_ingest(self.endpoint)
        for name in broken:
            self._repair(name)

    def _repair(self, name: str) -> None:
        """Close a take that its recorder could not close."""
        try:
            repair(self.config.takes / name)
            log.info("take repaired: %s", name)
        except (UserError, OSError) as error:
            log.error("take %s could not be repaired: %s", name, error)
        self.library.refresh()

    def _see_to(self, take: str) -> None:
        """Make, at leisure, what belongs to a closed take: its preview video and the proof of sync. What is not done
        when the daemon ends is done when it is started again."""
        path, stop = self.config.takes / take, self._stop_asked.is_set

        def work() -> None:
            if not stop() and not (path / PREVIEW).exists():
                make_preview(path, stop)
            if not stop():
                keep_health(path)

        with contextlib.suppress(RuntimeError):  # it is ending
            self._previews.submit(work)

    def _catch_up(self) -> None:
        for take in self.library.summaries()[:CAUGHT_UP]:
            if take["state"] == "closed" and take["frames"] and read_health(self.config.takes / take["name"]) is None:
                self._see_to(take["name"])

    def _ask(self, command: str, **args: Any) -> Future[Any]:
        return self._send({"do": command, "args": args})

    def _send(self, message: dict[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            ingest = self._ingest
            if ingest is None or self._stopping or not ingest.alive:
                future.set_exception(UserError("The daemon is not receiving just now; try again in a moment."))
                return future
            number = next(self._numbers)
            self._replies[number] = future
        ingest.send(message | {"id": number})
        return future

    def _fail_replies(self, sentence: str) -> None:
        with self._lock:
            replies, self._replies = self._replies, {}
        for future in replies.values():
            if not future.done():
                future.set_exception(UserError(sentence))

    def _tell_watched(self) -> None:
        with self._lock:
            wanted = {view for _, views in self._watchers.values() for view in views}
            if self._ingest is not None:
                self._ingest.send({"do": "watch", "views": tuple(view for view in VIEWS if view in wanted)})

    def _notice(self, kind: str, text: str) -> None:
        self._notices.append({"id": next(self._notice_numbers), "kind": kind, "text": text, "at": time.time()})
