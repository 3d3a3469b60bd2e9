"""Live lifting: the newest frames are lifted again and again, and shown at the engine's pace.

Works on the service's clips and its lift queue; knows nothing of sockets or pages. A model slower than the game shows
every n-th window and says how far it lags; it never builds up a backlog.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

import numpy as np

from capture.errors import UserError
from daemon.jpeg import jpeg
from daemon.preview import Picture

if TYPE_CHECKING:
    from daemon.service import Service

ANSWER_SECONDS = 10.0
LIFT_SECONDS = 300.0
"""A window that takes longer than this is given up."""


class LiveLift:
    """Lifts the newest frames again and again while it is on, and plays each result at the engine's pace."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._on = False
        self._options: dict[str, Any] = {}
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._player: threading.Thread | None = None
        self._what = "off"
        self._problem: str | None = None
        self._lag: float | None = None
        self._rate: float | None = None

    def set(self, on: bool, prompt: str = "", seed: int = 0, steps: int | None = None) -> None:
        """Switch it. While takes are queued for lifting they go first."""
        self._options = {"prompt": prompt, "seed": seed, "steps": steps}
        self._on = on
        if on and self._service.lifts.rules is None:
            self._service.lifts.load()  # again, if it failed before
        self._changed.set()
        if on and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="live lift", daemon=True)
            self._thread.start()

    def state(self) -> dict[str, Any]:
        """{on, what, problem, lag [s behind the engine], fps lifted}"""
        on = self._on
        return {
            "on": on,
            "what": self._what if on else "off",
            "problem": self._problem,
            "lag": self._lag if on else None,
            "fps": self._rate if on else None,
        }

    def _run(self) -> None:
        last: tuple[str, int] | None = None
        self._problem = self._lag = self._rate = None
        while self._on:
            self._changed.clear()
            try:
                last = self._lift_newest(last)
                self._problem = None
            except (UserError, FutureTimeout) as error:
                self._what, self._problem = "waiting", str(error) or "No answer in time."
                self._changed.wait(1.0)

    def _lift_newest(self, last: tuple[str, int] | None) -> tuple[str, int] | None:
        """Lift the newest window unless it is the one lifted `last`; returns which one it was."""
        lifts = self._service.lifts
        if lifts.rules is None:
            if lifts.problem is not None:
                raise UserError(lifts.problem)
            self._what = "loading the model"
            self._changed.wait(0.5)
            return last
        if not lifts.idle:
            self._what = "waiting for the queue"
            self._changed.wait(0.5)
            return last
        if self._service.newest_session() is None:
            self._what = "waiting for an engine"
            self._changed.wait(0.5)
            return last
        asked = time.monotonic()
        window = lifts.rules["window"]
        clip = self._service.clip(window, lifts.rules["max_side"]).result(ANSWER_SECONDS)
        if clip["color"] is None or len(clip["color"]) < window or (clip["session"], clip["serials"][-1]) == last:
            self._what = "waiting for frames"
            self._changed.wait(0.2)
            return last
        self._what = "lifting"
        lifted = lifts.lift_live(clip["color"], **self._options).result(LIFT_SECONDS)
        took = time.monotonic() - asked
        self._lag, self._rate = round(took, 2), round(len(lifted) / took, 2)
        self._play(clip, lifted, took)
        return clip["session"], clip["serials"][-1]

    def _play(self, clip: dict[str, Any], lifted: np.ndarray, seconds: float) -> None:
        """Deliver the pictures spread over the time that the next window will take, in a thread of its own."""
        session = clip["session"]
        steps = [
            (Picture(session, "source", serial, at, jpeg(render)), Picture(session, "lifted", serial, at, jpeg(image)))
            for serial, at, render, image in zip(clip["serials"], clip["times"], clip["color"], lifted, strict=True)
        ]

        def play() -> None:
            for source, picture in steps:
                self._service.deliver(source)
                self._service.deliver(picture)
                time.sleep(seconds / len(steps))

        if self._player is not None:
            self._player.join()
        self._player = threading.Thread(target=play, name="live player", daemon=True)
        self._player.start()
