"""Clips of any length by windows of the length that a model takes, in constant memory. Knows no model.

Each window begins with frames that the window before has lifted (the prefix), which carries colour and identity on;
the engine's render bounds the drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from realmaster.lift.lifter import Lifter, LiftRules, Progress


def lift_long(
    lifter: Lifter,
    frames: Iterable[np.ndarray],
    prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    total: int | None = None,
    progress: Progress | None = None,
) -> Iterator[np.ndarray]:
    """Lift any number of uint8 `[H, W, 3]` frames of one size; yields as many, of the same size, as they are ready.

    `progress(done, total)` counts frames; sampling steps within a window count as fractions of its new frames,
    rounded down. `total` is wanted only for progress.
    """
    rules = lifter.rules
    prefix: np.ndarray | None = None
    waiting: list[np.ndarray] = []
    done = 0

    def flush() -> Iterator[np.ndarray]:
        nonlocal prefix, waiting, done
        kept = 0 if prefix is None else len(prefix)
        fresh = len(waiting) - kept

        def window_progress(step: int, of: int) -> None:
            if progress is not None:
                progress(done + fresh * step // max(1, of), total if total is not None else done + fresh)

        lifted = lifter.lift(np.stack(waiting), prompt, seed, prefix, steps, window_progress)
        yield from lifted[kept:]
        done += fresh
        if progress is not None:
            progress(done, total if total is not None else done)
        kept = min(rules.overlap, len(lifted))
        prefix = lifted[len(lifted) - kept :] if kept else None
        waiting = waiting[len(waiting) - kept :]

    for frame in frames:
        waiting.append(frame)
        if len(waiting) == rules.window:
            yield from flush()
    if len(waiting) > (0 if prefix is None else len(prefix)):
        yield from flush()


def count_windows(frames: int, rules: LiftRules) -> int:
    """How many windows `lift_long` makes of so many frames."""
    if frames <= rules.window:
        return 1 if frames else 0
    step = rules.window - rules.overlap
    return 1 + -(-(frames - rules.window) // step)
