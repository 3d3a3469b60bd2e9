"""Clips of any length by windows of the length that a model takes, in constant memory. Knows no model.

Each window begins with frames that the window before has lifted (the prefix), which carries colour and identity on;
the engine's render bounds the drift. After a cut nothing is carried on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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

    def lift(window: Window, step: Progress) -> np.ndarray:
        return lifter.lift(window.frames, prompt, seed, window.prefix, steps, step)

    return lift_windows(lifter.rules, map(Shown, frames), lift, total=total, progress=progress, cuts=cuts)


def lift_windows(
    rules: LiftRules,
    frames: Iterable[Shown],
    lift: LiftWindow,
    *,
    total: int | None = None,
    progress: Progress | None = None,
    cuts: Collection[int] = (),
) -> Iterator[np.ndarray]:
    """As `lift_long`, for all that can be shown of a frame, with `lift` for what is done with a window."""
    prefix: np.ndarray | None = None
    waiting: list[Shown] = []
    index = done = 0

    def flush() -> Iterator[np.ndarray]:
        nonlocal prefix, waiting, index, done
        window = Window(
            index,
            done,
            np.stack([shown.picture for shown in waiting]),
            prefix,
            {cue: np.stack([shown.references[cue] for shown in waiting]) for cue in waiting[0].references},
            {place: shown.anchor for place, shown in enumerate(waiting) if shown.anchor is not None},
        )

        def window_progress(step: int, of: int) -> None:
            if progress is not None:
                progress(done + window.fresh * step // max(1, of), total if total is not None else done + window.fresh)

        lifted = lift(window, window_progress)
        yield from lifted[window.kept :]
        index, done = index + 1, done + window.fresh
        if progress is not None:
            progress(done, total if total is not None else done)
        kept = min(rules.overlap, len(lifted))
        prefix = lifted[len(lifted) - kept :] if kept else None
        waiting = waiting[len(waiting) - kept :]

    def unlifted() -> bool:
        return len(waiting) > (0 if prefix is None else len(prefix))

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


def count_windows(frames: int, rules: LiftRules, cuts: Collection[int] = ()) -> int:
    """How many windows are made of so many frames."""
    ends = sorted({0, *(cut for cut in cuts if 0 < cut < frames), frames})
    step = rules.window - rules.overlap
    windows = 0
    for start, end in zip(ends, ends[1:], strict=False):
        windows += 1 + max(0, -(-(end - start - rules.window) // step))
    return windows
