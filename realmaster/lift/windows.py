"""Clips of any length by windows of the length that a model takes, in constant memory. Knows no model.

Each window begins with frames that the window before has lifted (the prefix), which carries colour and identity on;
the engine's render bounds the drift. After a cut nothing is carried on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np

from realmaster.lift.lifter import Cue, Lifter, LiftRules, Progress


@dataclass(frozen=True)
class Shown:
    """What a lifter is shown of one frame."""

    picture: np.ndarray
    """Its cue, uint8 `[H, W, 3]`."""
    references: Mapping[Cue, np.ndarray] = field(default_factory=dict)
    """Further cues of it, each of the same shape; the same ones for every frame of a clip."""
    anchor: np.ndarray | None = None
    """What it shall come close to, of the same shape."""


@dataclass(frozen=True)
class Window:
    """One piece of a clip, lifted at once."""

    index: int
    """0 for the first of the clip."""
    start: int
    """Place in the clip of its first fresh frame: the one after the prefix."""
    frames: np.ndarray
    """uint8 `[T, H, W, 3]`, those of the prefix first."""
    prefix: np.ndarray | None
    """uint8 `[P, H, W, 3]`, P < T: what the first P frames were lifted to before."""
    references: Mapping[Cue, np.ndarray] = field(default_factory=dict)
    """Further cues of the frames, each uint8 `[T, H, W, 3]`."""
    anchors: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Place in `frames` -> uint8 `[H, W, 3]`."""

    @property
    def kept(self) -> int:
        """Frames that were lifted before."""
        return 0 if self.prefix is None else len(self.prefix)

    @property
    def fresh(self) -> int:
        return len(self.frames) - self.kept


KEPT = "windows"
"""In the folder of an unfinished lift: the windows that it has lifted, a file each."""


def kept_windows(folder: Path) -> int:
    """How many windows of an unfinished lift are kept in its folder: it goes on after them."""
    try:
        return sum(not file.name.startswith(".") for file in (folder / KEPT).iterdir())  # others are being written
    except OSError:
        return 0


LiftWindow = Callable[[Window, Progress], np.ndarray]
"""Lifts a window to uint8 of the shape of its frames, telling (step, steps)."""


def lift_long(
    lifter: Lifter,
    frames: Iterable[np.ndarray],
    prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    total: int | None = None,
    progress: Progress | None = None,
    cuts: Collection[int] = (),
) -> Iterator[np.ndarray]:
    """Lift any number of uint8 `[H, W, 3]` frames of one size; yields as many, of the same size, as they are ready.

    `progress(done, total)` counts frames; sampling steps within a window count as fractions of its new frames,
    rounded down. `total` is wanted only for progress. `cuts`: places of the frames with which something new begins.
    """

    def lift(lane: Lifter, window: Window, step: Progress) -> np.ndarray:
        return lane.lift(window.frames, prompt, seed, window.prefix, steps, step)

    lanes = [partial(lift, lane) for lane in lifter.lanes()]
    return lift_windows(lifter.rules, map(Shown, frames), lanes, total=total, progress=progress, cuts=cuts)


def lift_windows(
    rules: LiftRules,
    frames: Iterable[Shown],
    lanes: Sequence[LiftWindow],
    *,
    total: int | None = None,
    progress: Progress | None = None,
    cuts: Collection[int] = (),
) -> Iterator[np.ndarray]:
    """As `lift_long`, for all that can be shown of a frame, with `lanes` for what is done with a window: one, or, where
    windows stand alone, several that work at once.
    """
    prefix: np.ndarray | None = None
    waiting: list[Shown] = []
    under_way: deque[tuple[Window, Callable[[], np.ndarray]]] = deque()
    index = begun = done = 0
    assert len(lanes) == 1 or not rules.overlap

    def begin() -> None:
        """Begin to lift what waits."""
        nonlocal index, begun
        window = Window(
            index,
            begun,
            np.stack([shown.picture for shown in waiting]),
            prefix,
            {cue: np.stack([shown.references[cue] for shown in waiting]) for cue in waiting[0].references},
            {place: shown.anchor for place, shown in enumerate(waiting) if shown.anchor is not None},
        )

        def window_progress(step: int, of: int) -> None:
            if progress is not None:
                progress(done + window.fresh * step // max(1, of), total if total is not None else done + window.fresh)

        under_way.append((window, start(window, window_progress)))
        index, begun = index + 1, begun + window.fresh

    def finish(most: int) -> Iterator[np.ndarray]:
        """The pictures of the oldest windows, until no more than `most` are under way."""
        nonlocal prefix, done
        while len(under_way) > most:
            window, pictures = under_way.popleft()
            lifted = pictures()
            yield from lifted[window.kept :]
            done += window.fresh
            if progress is not None:
                progress(done, total if total is not None else done)
            kept = min(rules.overlap, len(lifted))
            prefix = lifted[len(lifted) - kept :] if kept else None

    def flush() -> Iterator[np.ndarray]:
        nonlocal waiting
        begin()
        yield from finish(0 if len(lanes) == 1 else AHEAD * len(lanes))
        waiting = waiting[len(waiting) - min(rules.overlap, len(waiting)) :]

    def unlifted() -> bool:
        return len(waiting) > (0 if prefix is None else len(prefix))

    with _starting(lanes) as start:
        for place, frame in enumerate(frames):
            if place in cuts:
                if unlifted():
                    yield from flush()
                prefix, waiting = None, []
            waiting.append(frame)
            if len(waiting) == rules.window:
                yield from flush()
        if unlifted():
            yield from flush()
        yield from finish(0)


AHEAD = 2
"""Windows that are begun before the first is given out, for each of several lanes: one at work, one that waits, so that
no lane waits for whoever takes the pictures."""


@contextmanager
def _starting(lanes: Sequence[LiftWindow]) -> Iterator[Callable[[Window, Progress], Callable[[], np.ndarray]]]:
    """What begins to lift a window and returns what gives its pictures, or waits for them.

    Several lanes have a thread each, in which torch does not share its work out any more: the pictures are the same
    for any number of lanes.
    """
    if len(lanes) == 1:
        yield lambda window, progress: partial(lanes[0], window, progress)
        return
    import torch  # here: whoever only asks what is kept has no use for it

    free: SimpleQueue[LiftWindow] = SimpleQueue()
    for lane in lanes:
        free.put(lane)
    over = Event()

    def heed(_step: int, _steps: int) -> None:
        if over.is_set():
            raise CancelledError

    def lift(window: Window) -> np.ndarray:
        lane = free.get()
        try:
            return lane(window, heed)
        finally:
            free.put(lane)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for threads that begin from now on; and here, where others would spin beside the lanes
    pool = ThreadPoolExecutor(len(lanes), "lift")
    try:
        yield lambda window, _progress: pool.submit(lift, window).result
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def count_windows(frames: int, rules: LiftRules, cuts: Collection[int] = ()) -> int:
    """How many windows are made of so many frames."""
    ends = sorted({0, *(cut for cut in cuts if 0 < cut < frames), frames})
    step = rules.window - rules.overlap
    windows = 0
    for start, end in zip(ends, ends[1:], strict=False):
        windows += 1 + max(0, -(-(end - start - rules.window) // step))
    return windows
