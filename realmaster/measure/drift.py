"""Does a long take end as it began: its last third against its first third."""

from __future__ import annotations

import numpy as np

from realmaster.measure.realism import Grade

FEWEST = 18
"""Frames below which thirds say nothing."""


def thirds(values: np.ndarray) -> float:
    """Mean of the last third minus that of the first, nan left out; nan for short or unknown series."""
    count = len(values) // 3
    if len(values) < FEWEST:
        return float("nan")
    first, last = (part[np.isfinite(part)] for part in (values[:count], values[-count:]))
    return float(last.mean() - first.mean()) if len(first) and len(last) else float("nan")


def thirds_error(values: np.ndarray) -> float:
    """Standard error of `thirds`: how far the two are apart by chance, as values wander with what the scene shows. nan
    for short or unknown series.

    What a straight line leaves of the series, averaged to at most 30 values, is taken for a first-order autoregressive
    one; its autocorrelation is freed of the bias that short series have (Kendall 1954, "Note on bias in the estimation
    of autocorrelation", with a trend).
    """
    if len(values) < FEWEST or not np.isfinite(values).all():
        return float("nan")
    values = np.array([part.mean() for part in np.array_split(values, min(len(values), 30))])
    count = len(values)
    places = np.arange(count)
    rest = values - np.polynomial.Polynomial.fit(places, values, 1)(places)
    if not (square := rest @ rest):
        return 0.0
    correlation = rest[1:] @ rest[:-1] / square
    correlation = np.clip(correlation + (2 + 4 * correlation) / count, 0, 0.97)
    covariance = square / (count - 2) * correlation ** np.abs(places - places[:, None])
    weights = np.zeros(count)
    third = count // 3
    weights[:third], weights[-third:] = -1 / third, 1 / third
    return float(np.sqrt(weights @ covariance @ weights))


def color_drift(grade: Grade, picture: int, against: int | None) -> float:
    """How far the colour grade that turns the render into a picture moves from the first third to the last: root mean
    square difference of colours, in [0, 1], over the colours of the clip.

    The scene may change as it likes: equal colours of the render are compared. against: a picture whose own change (of
    light, say) is taken off: the reference. nan for short clips.
    """
    count = len(grade) // 3
    if len(grade) < FEWEST:
        return float("nan")
    xx, xy, _ = grade.moments
    whole = xx.mean(0)

    def fits(part: slice) -> np.ndarray:
        # A little of the whole clip's grade keeps colours that a third does not show from running away.
        steady = 0.05 * whole
        overall = np.linalg.lstsq(whole, xy.mean(0).transpose(1, 0, 2).reshape(4, -1), rcond=1e-9)[0]
        cross = xy[part].mean(0).transpose(1, 0, 2).reshape(4, -1)
        fit = np.linalg.lstsq(xx[part].mean(0) + steady, cross + steady @ overall, rcond=1e-9)[0]
        return fit.reshape(4, -1, 3)

    change = fits(slice(-count, None)) - fits(slice(0, count))  # [4, P, 3]
    moved = change[:, picture] - (0 if against is None else change[:, against])
    return float(np.sqrt(max(0.0, np.einsum("ac,ab,bc->", moved, whole, moved) / 3)))
