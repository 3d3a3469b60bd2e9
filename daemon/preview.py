"""The live picture: the newest frame of each watched session as JPEG, at a rate for eyes, in a thread of its own.

Works on frames that `ingest` offers and hands out bytes; knows nothing of sockets or pages. When anything is slow
here, pictures are left out and nobody waits.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from capture.errors import FrameError
from capture.frame import Frame
from daemon.jpeg import frame_jpeg, has_view

FRAMES_PER_SECOND = 40.0
"""Above what games are mostly held to, so that no frame waits for its turn; each costs some 5 ms of a core."""


@dataclass(frozen=True)
class Picture:
    """One view of one frame, as JPEG."""

    session: str
    view: str
    serial: int
    time: float
    """Engine seconds."""
    jpeg: bytes
    arrived: float | None = None
    """When the frame came to the daemon, by `time.monotonic`; None where that says nothing of the picture's age."""


class Preview:
    """Calls `on_picture` for each watched view of the newest frames, at most FRAMES_PER_SECOND times a second each.

    `ready(session, view)` says whether the picture before was taken; while it was not, none is made.
    """

    def __init__(self, on_picture: Callable[[Picture], None], ready: Callable[[str, str], bool]) -> None:
        self._on_picture, self._ready = on_picture, ready
        self._views: tuple[str, ...] = ()
        self._newest: dict[str, tuple[Frame, float]] = {}
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="preview", daemon=True).start()

    def watch(self, views: tuple[str, ...]) -> None:
        """Which views somebody looks at; with none, nothing is computed and no frame is held."""
        with self._changed:
            self._views = views
            if not views:
                self._newest.clear()

    def offer(self, session: str, frame: Frame) -> None:
        """The newest frame of a session; replaces one that was not drawn. Returns at once."""
        if self._views:
            with self._changed:
                self._newest[session] = frame, time.monotonic()
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._newest and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                frames, self._newest = self._newest, {}
                views = self._views
            began = time.monotonic()
            for session, (frame, arrived) in frames.items():
                own = copy.copy(frame)  # its canonical arrays are cached in it; the ring's frame must stay small
                for view in views:
                    if has_view(own, view) and self._ready(session, view):
                        self._draw(session, own, view, arrived)
            frames = {}
            time.sleep(max(0.0, 1 / FRAMES_PER_SECOND - (time.monotonic() - began)))

    def _draw(self, session: str, frame: Frame, view: str, arrived: float) -> None:
        try:
            data = frame_jpeg(frame, view)
        except FrameError:  # an engine's depth without a camera, say: the page shows no such view
            return
        self._on_picture(Picture(session, view, frame.serial, frame.time, data, arrived))
