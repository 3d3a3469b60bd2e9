"""Whether a lifted window kept the engine's geometry, and another try when it did not.

Works on lifted windows, the engine's frames and `realmaster.measure`; knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from capture.frame import Frame
from realmaster.lift.lifter import Guard
from realmaster.measure import Scorer, Scores

SEED_STRIDE = 1_000_003
"""Seeds of further tries lie so far apart that nobody asks for them by hand."""


@dataclass(frozen=True)
class Attempt:
    """One try at a window."""

    seed: int
    depth_edges: float | None
    """The lift's depth-edge alignment over the render's; None without depth."""
    flicker: float | None
    """The lift's flicker ratio; None without motion or in a window of one frame."""
    passed: bool
    strengthened: float = 0.0
    """What was to be added to the adapter's weight."""

    def to_dict(self) -> dict[str, Any]:
        rounded = {name: None if value is None else round(value, 4) for name, value in vars(self).items()}
        return rounded | {"seed": self.seed, "passed": self.passed}


def guarded(
    guard: Guard, frames: Sequence[Frame], seed: int, lift: Callable[[int, float], np.ndarray]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """`lift(seed, strengthen)`, tried with other seeds, and a stronger adapter where the guard wants it, until it is
    content, `guard.attempts` times at most; then the best.

    `frames` are the engine's, for the last `len(frames)` pictures that `lift` returns. Also returns every try, as plain
    values.
    """
    best: tuple[np.ndarray, Attempt] | None = None
    attempts: list[Attempt] = []
    for number in range(guard.attempts):
        other, strengthen = seed + number * SEED_STRIDE, number * guard.strengthen
        lifted = lift(other, strengthen)
        attempt = judge(guard, frames, lifted[len(lifted) - len(frames) :], other, strengthen)
        attempts.append(attempt)
        if best is None or attempt.passed or (attempt.depth_edges or 0.0) > (best[1].depth_edges or 0.0):
            best = lifted, attempt
        if attempt.passed:
            break
    assert best is not None
    return best[0], [attempt.to_dict() for attempt in attempts]


def judge(
    guard: Guard,
    frames: Sequence[Frame],
    pictures: Sequence[np.ndarray] | np.ndarray,
    seed: int,
    strengthened: float = 0.0,
) -> Attempt:
    """Score pictures, uint8 `[T, H, W, 3]`, against their frames. What cannot be measured counts as passed."""
    scorer = Scorer()
    for frame, picture in zip(frames, pictures, strict=True):
        scorer.add(frame, picture)
    scores = scorer.result()
    lifted, render = scores["lifted"], scores["render"]
    edges = _share(lifted, render)
    passed = edges is None or edges >= guard.depth_edges
    if guard.flicker is not None and lifted.flicker_ratio is not None:
        passed = passed and lifted.flicker_ratio <= guard.flicker
    return Attempt(seed, edges, lifted.flicker_ratio, passed, strengthened)


def _share(lifted: Scores, render: Scores) -> float | None:
    if lifted.depth_edge_alignment is None or not render.depth_edge_alignment:
        return None
    return lifted.depth_edge_alignment / render.depth_edge_alignment
