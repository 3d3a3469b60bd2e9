"""Live lifting: the newest frames are lifted window after window, and shown at the pace at which they were rendered.

Works on the service's clips and its lift queue; knows nothing of sockets or pages. Windows are chained: each begins
with frames that the one before has lifted, so that colour and identity flow on. A model slower than the game lifts
every n-th window and says how far it lags; it never builds up a backlog.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from capture.errors import UserError
from daemon.jpeg import jpeg
from daemon.preview import Picture

if TYPE_CHECKING:
    from daemon.service import Service

ANSWER_SECONDS = 10.0
LIFT_SECONDS = 600.0
"""A window that takes longer than this is given up; a process that hangs is noticed long before."""

FAILURES = 3
"""So many failed windows on end switch it off."""

QUALITY = 92
"""Of its JPEGs, which are small and are shown large."""

LONGEST_WAIT = 5.0
"""Seconds; pictures that would be shown later than that belong to a clock that has jumped."""


class Choice(NamedTuple):
    """Which frames of those that are held come next."""

    first: int
    end: int
    """Places [first, end)."""
    skipped: int
    """Frames between the ones before and these that are not lifted."""


def next_frames(serials: Sequence[int], after: int | None, count: int) -> Choice | None:
    """The next `count` frames after the one with serial `after`; None while there are not so many yet.

    Those that follow at once, as long as the model keeps up; the newest ones when a whole window more is waiting, or
    when there was none before.
    """
    begin = 0 if after is None else next((i for i, serial in enumerate(serials) if serial > after), len(serials))
    waiting = len(serials) - begin
    if waiting < count:
        return None
    if after is None or waiting >= 2 * count:
        return Choice(len(serials) - count, len(serials), 0 if after is None else waiting - count)
    return Choice(begin, begin + count, 0)


@dataclass(frozen=True)
class _Chain:
    """What the next window begins with."""

    session: str
    serial: int
    """Of the last frame that was lifted."""
    renders: np.ndarray
    """uint8 PxHxWx3, and what they were lifted to:"""
    lifted: np.ndarray


class LiveLift:
    """Lifts the newest frames again and again while it is on, and plays the result."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._on = False
        self._options: dict[str, Any] = {}
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._player: Player | None = None
        self._what = "off"
        self._problem: str | None = None
        self._failures = 0
        self._done: deque[tuple[float, int, int]] = deque(maxlen=8)  # when, frames lifted, frames skipped before them

    def set(self, on: bool, prompt: str = "", seed: int = 0, steps: int | None = None) -> None:
        """Switch it. While takes are queued for lifting they go first. UserError where no frames are kept to lift."""
        if on and not self._service.config.replay_seconds:
            raise UserError("There are no frames to lift: start the daemon with --replay-seconds above 0.")
        with self._lock:
            self._options = {"prompt": prompt, "seed": seed, "steps": steps}
            if on and not self._on:
                self._what, self._problem, self._failures = "starting", None, 0
                self._done.clear()
            self._on = on
            if on:
                self._service.lifts.load()
            self._changed.set()
            if on and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="live lift", daemon=True)
                self._thread.start()

    def state(self) -> dict[str, Any]:
        """{on, what, problem, lag [s behind the engine], fps lifted, every [n: every n-th window is lifted]}"""
        on, player = self._on, self._player
        done = list(self._done)
        fps = every = None
        if on and len(done) > 1:
            frames = sum(count for _, count, _ in done[1:])
            fps = round(frames / max(1e-3, done[-1][0] - done[0][0]), 1)
            every = round(1 + sum(skipped for *_, skipped in done[1:]) / frames)
        return {
            "on": on,
            "what": self._what if on else "off",
            "problem": self._problem,
            "lag": player.lag if on and player is not None else None,
            "fps": fps,
            "every": every,
        }

    def _run(self) -> None:
        chain: _Chain | None = None
        self._player = Player(self._service.deliver)
        try:
            while self._on:
                self._changed.clear()
                try:
                    chain = self._step(chain)
                except (UserError, FutureTimeout) as error:
                    chain = None
                    if self._on:  # else it has just been switched off for this, and says so
                        self._what, self._problem = "waiting", str(error) or "No answer in time."
                        self._changed.wait(1.0)
        finally:
            self._player.close()
            self._player = None

    def _step(self, chain: _Chain | None) -> _Chain | None:
        """Lift the next window, if there is one; returns what the one after it begins with."""
        lifts = self._service.lifts
        if lifts.problem is not None:
            raise UserError(lifts.problem)
        if lifts.rules is None:
            return self._wait("loading the model", 0.5, None)  # another model's windows are not carried on
        if not lifts.idle:
            return self._wait("waiting for the queue", 0.5, chain)
        session = self._service.newest_session()
        if session is None:
            return self._wait("waiting for an engine", 0.5, None)
        if chain is not None and chain.session != session:
            chain = None
        rules = lifts.rules
        # The first picture comes of one frame, as early as can be; windows grow from it.
        count = 1 if chain is None else rules["window"] - len(chain.renders)
        after = None if chain is None else chain.serial
        asked = time.monotonic()
        clip = self._service.clip(count, rules["max_side"], session, after).result(ANSWER_SECONDS)
        if clip is None:
            return self._wait("lifting" if self._done else "waiting for frames", 0.01, chain)
        color, serials, times = clip["color"], clip["serials"], clip["times"]
        if chain is not None and (clip["cut"] or chain.renders.shape[1:] != color.shape[1:]):
            chain = _Chain(session, chain.serial, color[:0], color[:0])  # nothing of the shot before is carried on
        kept = 0 if chain is None else len(chain.renders)
        window = color if chain is None or not kept else np.concatenate([chain.renders, color])
        self._what = "lifting"
        try:
            future = lifts.lift_live(window, **self._options, prefix=chain.lifted if chain and kept else None)
            lifted = future.result(LIFT_SECONDS)
        except (UserError, FutureTimeout) as error:
            self._note_failure(str(error) or f"A window took more than {LIFT_SECONDS:.0f} s.")
            raise
        self._failures, self._problem = 0, None
        self._done.append((time.monotonic(), len(serials), clip["skipped"]))
        if self._player is not None:
            self._player.play(
                _Window(session, serials, times, color, lifted[kept:], asked + times[-1] - clip["newest"])
            )
        keep = _prefix_length(len(window), rules)
        return _Chain(session, serials[-1], window[len(window) - keep :], lifted[len(window) - keep :])

    def _wait(self, what: str, seconds: float, chain: _Chain | None) -> _Chain | None:
        self._what = what
        self._changed.wait(seconds)
        return chain

    def _note_failure(self, sentence: str) -> None:
        if not self._service.lifts.idle:
            return  # a take was queued this very moment: it goes first
        self._failures += 1
        if self._failures >= FAILURES:
            with self._lock:
                self._on = False
            self._problem = f"Live lifting was switched off after {FAILURES} failures. {sentence}"


def _prefix_length(frames: int, rules: dict[str, int]) -> int:
    """How many of the last `frames` frames the next window begins with."""
    longest = min(rules["overlap"], frames, rules["window"] - 1)
    return 0 if longest < 1 else longest - (longest - 1) % rules["frame_step"]


@dataclass(frozen=True)
class _Window:
    session: str
    serials: Sequence[int]
    times: Sequence[float]
    """Engine seconds."""
    renders: np.ndarray
    lifted: np.ndarray
    rendered: float
    """When its last frame was rendered, by the clock of `time.monotonic`."""


class Player:
    """Delivers lifted frames at the distances at which they were rendered, with as little delay as their coming allows.

    The delay grows at once when a window comes too late, and shrinks slowly when windows come early.
    """

    def __init__(self, deliver: Callable[[Picture], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.lag: float | None = None
        """Seconds between the moment at which the frame shown last was rendered and that at which it was shown."""
        self._deliver, self._clock = deliver, clock
        self._offset: float | None = None  # of this machine's clock from the engine's, at which frames are shown
        self._session, self._last = "", -np.inf
        self._closed = threading.Event()
        self._windows: queue.SimpleQueue[_Window | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="live player", daemon=True)
        self._thread.start()

    def play(self, window: _Window) -> None:
        """Queue a window; returns at once."""
        self._windows.put(window)

    def close(self) -> None:
        self._closed.set()
        self._windows.put(None)
        self._thread.join(5)

    def due(self, window: _Window, now: float) -> list[float]:
        """When each frame of a window that is ready now is shown."""
        earliest = now - window.times[0]
        offset = self._offset
        if offset is None or window.session != self._session or window.times[0] <= self._last:
            offset = earliest
        elif earliest > offset or offset - earliest > LONGEST_WAIT:
            offset = earliest
        else:
            offset -= 0.25 * (offset - earliest)
        self._offset, self._session, self._last = offset, window.session, window.times[-1]
        return [moment + offset for moment in window.times]

    def _run(self) -> None:
        while (window := self._windows.get()) is not None:
            due = self.due(window, self._clock())
            for place, moment in enumerate(due):
                serial, at = window.serials[place], window.times[place]
                source, lifted = (
                    Picture(window.session, view, serial, at, jpeg(frames[place], quality=QUALITY))
                    for view, frames in (("source", window.renders), ("lifted", window.lifted))
                )
                if self._closed.wait(max(0.0, min(LONGEST_WAIT, moment - self._clock()))):
                    return
                self._deliver(source)
                self._deliver(lifted)
                self.lag = round(max(0.0, self._clock() - (window.rendered - (window.times[-1] - at))), 1)
