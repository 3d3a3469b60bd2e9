"""Do the edges of the colours lie where the depth has its steps, and in which frame do they fit best?

Works on canonical colour and depth. Colours have edges that depth has not (textures, shadows, a HUD); steps of depth
mostly have one in the colours. So it is asked how much steeper the colours are at the steps of depth than around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAGS = tuple(range(-4, 5))
"""Frames by which the colours may be later than the depth."""

FEWEST_STEPS = 60
"""Fewer pixels than this on steps of depth tell nothing."""

_STEP = 0.04
"""Smallest step of inverse depth, relative to the nearer side."""
_AROUND = 4
"""Pixels each way over which the steepness of colours is compared."""
_FLOOR = 1.5
"""Steepness, in steps of 8-bit colour, that counts as none."""


@dataclass(frozen=True)
class Edges:
    """Of one frame: where depth steps between two pixels, and how steep colours are there.

    Both as (across, down): between horizontal neighbours (H, W - 1), and between vertical ones (H - 1, W).
    """

    steps: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None
    colors: tuple[NDArray[np.float32], NDArray[np.float32]] | None

    @classmethod
    def of(cls, color: NDArray[np.uint8] | None, depth: NDArray[np.float32] | None) -> Edges:
        """Of canonical arrays; colours of another size are brought to that of the depth."""
        if depth is not None and color is not None and depth.shape != color.shape[:2]:
            color = _resampled(color, depth.shape)
        return cls(
            None if depth is None else (_steps(depth, 1), _steps(depth, 0)),
            None if color is None else (_steepness(color, 1), _steepness(color, 0)),
        )


def agreement(depth: Edges, color: Edges, *, flip: bool = False, mirror: bool = False) -> float:
    """How much steeper the colours are at the steps of depth than elsewhere, in [-1, 1]; 0 is chance, NaN where
    there are too few steps.

    flip, mirror: with the depth upside down, or left and right exchanged.
    """
    assert depth.steps is not None and color.colors is not None
    at, count = 0.0, 0
    everywhere = []
    for step, steep in zip(depth.steps, color.colors, strict=True):
        turned = step[:: -1 if flip else 1, :: -1 if mirror else 1]
        at += float(steep[turned].sum(dtype=np.float64))
        count += int(turned.sum())
        everywhere.append(float(steep.mean(dtype=np.float64)))
    if count < FEWEST_STEPS:
        return float("nan")
    share = count / sum(step.size for step in depth.steps)
    expected = float(np.mean(everywhere))
    return (at / count - expected) / max(1e-6, 1 - share)


@dataclass(frozen=True)
class LagCurve:
    """Agreement as a function of the lag, over all frames."""

    agreement: tuple[float, ...]
    """For each of LAGS; NaN where it could not be asked."""
    best: int | None
    """The lag that fits best; None when the lags cannot be told apart."""
    certainty: float
    """By how many standard errors the best lag beats lag 0 (or, when it is 0, the next best other lag)."""
    motion: float
    """How much the agreement falls within the curve: what there is to tell lags by."""


_SURE = 3.0
"""Standard errors between two lags from which one is the better."""


def best_lag(scores: NDArray[np.float64], *, least: float = 0.004) -> LagCurve:
    """The lag with the best score.

    scores: (frames, lags), higher is better, NaN where unknown. Lags are compared frame by frame, for the frames
    differ among themselves more than the lags do. least: smallest difference of means that counts.
    """
    zero = LAGS.index(0)
    with np.errstate(invalid="ignore"):
        difference = scores - scores[:, zero : zero + 1]
    known = np.isfinite(difference)
    many = known.sum(axis=0) >= 4
    mean = np.full(len(LAGS), np.nan)
    error = np.full(len(LAGS), np.nan)
    for j in np.flatnonzero(many):
        column = difference[known[:, j], j]
        mean[j] = column.mean()
        # Neighbouring frames say much the same: an error of the mean as from half as many.
        error[j] = column.std(ddof=1) / np.sqrt(column.size / 2)
    level = np.nanmean(scores[:, zero]) if np.isfinite(scores[:, zero]).any() else np.nan
    curve = tuple(float(level + m) for m in mean)
    if not np.isfinite(mean).any() or many.sum() < 3:
        return LagCurve(curve, None, 0.0, 0.0)
    top = int(np.nanargmax(mean))
    depth_of_curve = float(np.nanmax(mean) - np.nanmin(mean))
    if top != zero:
        certainty = float(mean[top] / max(error[top], 1e-9))
        best = LAGS[top] if certainty > _SURE and mean[top] > least else None
        return LagCurve(curve, best, certainty, depth_of_curve)
    # Only what falls on both sides is a peak: where frames next to these were dropped, the true lag may lie between.
    before, after = ([j for j in side if np.isfinite(mean[j])] for side in (range(zero), range(zero + 1, len(LAGS))))
    if not before or not after:
        return LagCurve(curve, None, 0.0, depth_of_curve)
    near = max((before[-1], after[0]), key=lambda j: mean[j])
    certainty = float(-mean[near] / max(error[near], 1e-9))
    told = certainty > _SURE and -mean[near] > least
    return LagCurve(curve, 0 if told else None, certainty, depth_of_curve)


def _steps(depth: NDArray[np.float32], axis: int) -> NDArray[np.bool_]:
    """Between which neighbours along an axis the surface breaks off: inverse depth, which is linear in pixels on a
    plane, changes by much and far more than beside it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.nan_to_num(1 / depth, nan=0.0, posinf=0.0, neginf=0.0)
    change = np.abs(np.diff(inverse, axis=axis))
    padded = np.pad(change, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    before, after = _cut(padded, axis, 0, -2), _cut(padded, axis, 2, None)
    nearer = np.maximum(_cut(inverse, axis, 0, -1), _cut(inverse, axis, 1, None))
    return np.asarray((change > _STEP * nearer) & (change > 3 * np.minimum(before, after)))


def _steepness(color: NDArray[np.uint8], axis: int) -> NDArray[np.float32]:
    """Difference of colours between neighbours against its surroundings, in [0, 1]."""
    change = np.abs(np.diff(color.astype(np.int16), axis=axis)).sum(axis=-1).astype(np.float32) / 3
    around = _box_mean(change, _AROUND) + _FLOOR
    return change / (change + around)


def _box_mean(image: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Mean over a square of 2 reach + 1 pixels, the border repeated."""
    size = 2 * reach + 1
    for axis in (0, 1):
        padded = np.pad(image, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        total = padded.cumsum(axis=axis, dtype=np.float64)
        image = ((_cut(total, axis, size, None) - _cut(total, axis, 0, -size)) / size).astype(np.float32)
    return image


def _cut(image: NDArray[Any], axis: int, start: int, stop: int | None) -> NDArray[Any]:
    return image[start:stop] if axis == 0 else image[:, start:stop]


def _resampled(color: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The nearest pixels, at the size of the depth."""
    rows = ((np.arange(shape[0]) + 0.5) * color.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * color.shape[1] / shape[1]).astype(np.intp)
    return color[rows[:, None], columns]
