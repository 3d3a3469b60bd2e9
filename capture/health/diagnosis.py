"""Which mistake, if any, explains the data: every known one is undone in turn, and what then fits is the truth.

Works on runs of Shots. A hypothesis is a way to read the frames anew; the one under which edges, normals, poses and
planes come to agree by far the best is taken, the frames are read so from then on, and the search begins again, so
that two mistakes at once are found too. Knows nothing of verdicts and words for people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.conventions import canonical_depth
from capture.health import shots as read
from capture.health.edges import LAGS, LagCurve, agreement, best_lag
from capture.health.geometry_scores import (
    Planes,
    angles,
    flatness,
    motion_size,
    normal_angle,
    pose_error,
    relative_pose,
    rigid_fit,
)
from capture.health.shots import Shot

Runs = list[list[Shot]]

SIGNED_AXES = tuple(
    np.array([[sign * (column == axis) for column in range(3)] for axis, sign in zip(order, signs, strict=True)], float)
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
)
"""The 48 ways to name three axes: (3, 3) matrices with one entry of 1 or -1 in each row and column."""

ANGLE_FLOOR, POSE_FLOOR, RIGID_FLOOR, EDGE_FLOOR = 0.15, 3e-5, 2e-6, 0.02
"""Differences below these say nothing: degrees; logarithms of distances; shares of distance; agreement of edges."""

ENOUGH, ENOUGH_FITTED = 1.6, 2.0
"""Gain, in doublings, from which a hypothesis is believed; more is wanted where a number was fitted."""

_PAIRS = 4
_GAP = 10
_GAP_SECONDS = 0.42
"""In a longer time a car drives out of what it saw, and few of its surfaces are left to compare."""
_RIGID_GAP = 4
"""Frames between those whose motion is fitted: farther apart the fit goes astray."""
_NO_MOTION_PIXELS = 0.3


@dataclass(frozen=True)
class Scores:
    """How well everything agrees under one reading; NaN where it cannot be asked."""

    angle: float = math.nan
    """Degrees between normals sent and derived."""
    pose: float = math.nan
    """`pose_error` of the cameras."""
    rigid: float = math.nan
    """Error of the best rigid motion, where poses are not known."""
    edges: float = math.nan
    """Agreement of edges, higher is better."""
    upright: float = math.nan
    """From -1 (sky below, ground above) to 1."""
    squeezed: bool = False
    """Nearly all depth lies next to the near plane."""

    def gains_over(self, other: Scores) -> dict[str, float]:
        """By how many doublings each thing got better."""

        def doublings(name: str, floor: float, sign: int = -1) -> float:
            new, old = getattr(self, name), getattr(other, name)
            if name == "edges":
                new, old = max(0.0, new) if new == new else 0.0, max(0.0, old) if old == old else 0.0
            elif math.isnan(new) and not math.isnan(old):
                return -2.0
            elif math.isnan(old):
                return 0.0
            return sign * math.log2((new + floor) / (old + floor))

        gains = {
            "angle": doublings("angle", ANGLE_FLOOR),
            "pose": doublings("pose", POSE_FLOOR),
            "rigid": doublings("rigid", RIGID_FLOOR),
            "edges": doublings("edges", EDGE_FLOOR, 1),
            "squeezed": 5.0 * (other.squeezed - self.squeezed),
        }
        if not (math.isnan(self.upright) or math.isnan(other.upright)):
            gains["upright"] = 2.0 * (self.upright - other.upright)
        return {name: gain for name, gain in gains.items() if gain}


@dataclass(frozen=True)
class Found:
    """A mistake that explains the data."""

    mistake: str
    """A name of `capture.health.mistakes.MISTAKES`, or the beginning of some."""
    check: str
    """Which check it belongs to."""
    value: float | str | None = None
    """What was found to be right instead: ratio of focal lengths, frames late, ..."""
    gain: float = 0.0
    scores: Scores = field(default_factory=Scores)
    """Before it was undone."""


@dataclass(frozen=True)
class Hypothesis:
    """A mistake and how to read frames that were made with it."""

    mistake: str
    check: str
    reading: Callable[[Shot], Shot]
    value: float | str | None = None
    asked: tuple[str, ...] = ("angle", "pose", "rigid")
    """Scores that tell it."""
    fitted: bool = False
    extra: float = 0.0
    """Doublings gained by what is known otherwise (planes)."""


class Diagnosis:
    """The frames under the reading that explains them best, and what had to be changed for it."""

    def __init__(self, runs: Runs) -> None:
        self.runs = [run for run in runs if run]
        self.found: list[Found] = []
        self.lags: dict[str, LagCurve] = {}
        """Curves as declared: of colour and of normals against depth, of poses against depth."""
        self.edges_by_flip: dict[str, float] = {}
        self.focal_curve: tuple[tuple[float, float], ...] = ()
        """(ratio of focal lengths, error) as fitted last."""
        self.scores = Scores()
        self._look()

    # -- the search

    def search(self) -> None:
        """Find and undo what can be explained."""
        if not self.runs:
            return
        if any(shot.mirrors for run in self.runs for shot in run):
            self.found.append(Found("camera_handedness", "camera"))
        self._settle(self._rows_and_laws, 3)
        self._undo_lags()
        many = len(self.found)
        self._settle(self._everything_else, 4)
        if len(self.found) > many:  # what could not be compared before, now can
            self._undo_lags()

    def _settle(self, hypotheses: Callable[[], Iterator[Hypothesis]], most: int) -> None:
        for _ in range(most):
            before = self.scores = self._score(self._chosen, ("angle", "pose", "rigid", "edges", "upright"))
            best: tuple[float, Hypothesis] | None = None
            for hypothesis in hypotheses():
                pairs = self._chosen if "edges" in hypothesis.asked else self._light
                runs = [[hypothesis.reading(shot) for shot in pair] for pair in pairs]
                gains = self._score(runs, hypothesis.asked).gains_over(before)
                counted = {k: g for k, g in gains.items() if k in hypothesis.asked or k == "squeezed"}
                gain = sum(counted.values()) + hypothesis.extra
                needed = ENOUGH_FITTED if hypothesis.fitted else ENOUGH
                if gain < needed or min(counted.values(), default=0.0) < -0.8 or hypothesis.extra < -1:
                    continue
                if best is None or gain > best[0] + 0.25:
                    best = gain, hypothesis
            if best is None:
                return
            gain, hypothesis = best
            self.found.append(Found(hypothesis.mistake, hypothesis.check, hypothesis.value, gain, before))
            self.runs = [[hypothesis.reading(shot) for shot in run] for run in self.runs]
            self._look()

    # -- which frames are looked at

    def _look(self) -> None:
        """Choose few frames that say much: pairs with motion between them."""
        self._chosen: Runs = []
        per_run = max(1, _PAIRS // max(1, len(self.runs)))
        for run in self.runs:
            if len(run) == 1:
                self._chosen.append(run)
                continue
            gap = _gap(run)
            starts = np.unique(np.linspace(0, len(run) - 1 - gap, per_run).round().astype(int))
            for start in starts:
                self._chosen.append([run[start], run[start + gap]])
        self._chosen = self._chosen[:: max(1, len(self._chosen) // _PAIRS)][:_PAIRS]
        self._light = [[shot.light for shot in pair] for pair in self._chosen]

    # -- scores

    def _score(self, pairs: Runs, asked: tuple[str, ...]) -> Scores:
        shots = [shot for pair in pairs for shot in pair]
        views = [shot.view for shot in shots]
        values: dict[str, Any] = {}
        if all(view is not None for view in views) and views:
            values["squeezed"] = _squeezed(shots)
            if "angle" in asked and shots[0].vectors is not None and shots[0].normal_turn is not None:
                values["angle"] = _mean(
                    [normal_angle(s.view, s.normal) for s in shots if s.view is not None and s.normal is not None]
                )
            known = all(shot.pose_known for shot in shots)
            if "pose" in asked and known:
                values["pose"] = _mean([_pose_error(*pair) for pair in pairs if len(pair) == 2])
            if "rigid" in asked and not known:
                values["rigid"] = _mean_of_ratios([_rigid_error(*pair) for pair in pairs if len(pair) == 2])
        if "edges" in asked:
            values["edges"] = _mean([_agreement(shot) for shot in shots])
        if "upright" in asked:
            values["upright"] = _mean([_upright(shot) for shot in shots])
        return Scores(**values)

    # -- hypotheses

    def _rows_and_laws(self) -> Iterator[Hypothesis]:
        shot = self.runs[0][0]
        everything = ("angle", "pose", "edges", "upright")
        if shot.depth is not None and shot.color is not None:
            yield Hypothesis("depth_rows", "rows", partial(_turn, names=("depth",)), asked=everything)
            yield Hypothesis("color_rows", "rows", partial(_turn, names=("color",)), asked=("edges",))
        if shot.depth is not None:
            names = tuple(n for n in ("color", "depth", "normal") if n in shot.frame.channels)
            yield Hypothesis("picture_rows", "rows", partial(_turn, names=names), asked=everything)
        if shot.vectors is not None:
            yield Hypothesis("normal_rows", "rows", partial(_turn, names=("normal",)), asked=("angle",))
        yield from self._laws()

    def _laws(self) -> Iterator[Hypothesis]:
        shot = self.runs[0][0]
        if shot.depth is None or shot.camera is None:
            return
        asked = ("angle", "pose", "edges")
        kind = shot.frame.channels["depth"].descriptor.kind
        law, name = (read.planar_as_ray, "depth_planar") if kind == "ray" else (read.ray_as_planar, "depth_ray")
        yield Hypothesis(name, "depth", law, asked=("angle", "pose"), extra=self._planes(law))
        if kind in ("ndc", "ndc_reversed"):
            name = "depth_reversed" if kind == "ndc" else "depth_forward"
            yield Hypothesis(name, "depth", read.other_end_first, asked=asked)
        elif kind == "linear" and _within_one(self.runs):
            for other in ("ndc", "ndc_reversed"):
                if _finite_far(shot):
                    law = partial(_of_kind, kind=other)
                    yield Hypothesis(f"depth_{other}", "depth", law, other, asked, extra=self._planes(law))

    def _everything_else(self) -> Iterator[Hypothesis]:
        yield from self._laws()
        shot = self.runs[0][0]
        if shot.view is None:
            return
        if shot.vectors is not None:
            yield from self._normals()
        if shot.pose_known and self.moves:
            yield from self._poses()
        yield from self._focal_lengths()
        if shot.pose_known and self.moves or shot.vectors is not None:
            yield from self._planes_of_clipping()
        if shot.pose_known and self.moves:
            yield from self._scales()

    @property
    def planes(self) -> float:
        """Doublings by which surfaces are flatter as read than with ray and planar distance exchanged."""
        if not self.runs or self.runs[0][0].view is None:
            return 0.0
        kind = self.runs[0][0].frame.channels["depth"].descriptor.kind
        return -self._planes(read.planar_as_ray if kind == "ray" else read.ray_as_planar)

    @property
    def moves(self) -> bool:
        """Whether the camera moves, by its poses."""
        return self.pixels_moved > _NO_MOTION_PIXELS

    @property
    def pixels_moved(self) -> float:
        """Median pixels (of the small picture) by which things move between the frames of a pair, by the poses."""
        moved = [0.0]
        for pair in self._light:
            if len(pair) == 2 and pair[0].view is not None and pair[1].view is not None and pair[0].pose_known:
                a, b = pair[0].view, pair[1].view
                assert a.camera is not None and b.camera is not None
                relative = relative_pose(a.camera, b.camera)
                if a.sample.size:
                    moved.append(motion_size(a, b, relative))
                if not np.allclose(relative, np.eye(4), atol=1e-6):
                    moved.append(_NO_MOTION_PIXELS * 1.01)  # it moves, but by another unit perhaps
        return max(moved)

    def _planes(self, law: Callable[[Shot], Shot]) -> float:
        """Doublings by which surfaces are flatter under another law of depth, from -4 to 4; 0 where few tell."""
        for_new = total = 0
        for pair in self._light:
            shot = pair[0]
            before, after = shot.view, law(shot).view
            assert before is not None and after is not None
            for window in (9, 15):
                old, new = flatness(before.depth, window), flatness(after.depth, window)
                with np.errstate(invalid="ignore", divide="ignore"):
                    told = (np.maximum(old, new) > 1e-5 * window) & (np.minimum(old, new) < 0.5 * np.maximum(old, new))
                    flat = told & (np.minimum(old, new) < 0.01)
                for_new += int((new < old)[flat].sum())
                total += int(flat.sum())
        return 0.0 if total < 30 else 8.0 * (for_new / total - 0.5)

    def _normals(self) -> Iterator[Hypothesis]:
        """Other axes, another space, another packing of the normals: the best of each kind."""
        shot = self.runs[0][0]
        descriptor = shot.frame.channels["normal"].descriptor
        packings: list[tuple[str, Callable[[Shot], Shot]]] = [("", _same), ("normal_packed", _unpacked)]
        other_sign = {"int8": "uint8", "int16": "uint16", "uint8": "int8", "uint16": "int16"}.get(descriptor.dtype)
        if other_sign and descriptor.components in (3, 4):
            packings.append(("normal_packed", partial(_reinterpreted, dtype=other_sign)))
        declared = "world" if descriptor.space == "world" else "camera"
        spaces = ("camera", "world") if shot.pose_known else ("camera",)
        best: dict[tuple[str, str], tuple[float, Hypothesis]] = {}
        for packed, unpack in packings:
            pairs = [[unpack(shot) for shot in pair] for pair in self._light]
            for space in spaces:
                base = _basis(shot, space)
                changed = [np.eye(3)] if packed else SIGNED_AXES
                table = _angles_of_turns(pairs, space, [base @ change for change in changed])
                # Of axes that fit as well the nearest to the declared ones: a floor alone does not tell x from z.
                lowest = table.min()
                fitting = [i for i in range(len(changed)) if table[i] <= lowest + max(1.0, 0.25 * lowest)]
                i = min(fitting, key=lambda i: (np.abs(changed[i] - np.eye(3)).sum(), table[i]))
                name = packed or ("normal_axes" if not np.array_equal(changed[i], np.eye(3)) else f"normal_{space}")
                if not packed and space == declared and name != "normal_axes":
                    continue
                # Two mistakes at once need more proof than one.
                extra = -1.0 * ((packed != "") + (space != declared) + (name == "normal_axes") - 1)
                reading = partial(_with_turn, unpack=unpack, space=space, change=changed[i])
                hypothesis = Hypothesis(name, "normals", reading, _axes_words(changed[i]), ("angle",), extra=extra)
                key = (packed, space)
                if key not in best or table[i] < best[key][0]:
                    best[key] = (float(table[i]), hypothesis)
        yield from (hypothesis for _, hypothesis in best.values())

    def _poses(self) -> Iterator[Hypothesis]:
        """Inverse and transposed poses, and other axes of the camera."""
        for how, change in (("inverse", None), ("transposed", None), ("axes", SIGNED_AXES)):
            if change is None:
                yield Hypothesis(f"pose_{how}", "camera", partial(_pose_sent, how=how), asked=("pose",))
                continue
            errors = [self._error_of_axes(axes) for axes in change]
            lowest = min(errors)
            fitting = [i for i, e in enumerate(errors) if e <= 1.5 * lowest + POSE_FLOOR]
            i = min(fitting, key=lambda i: (np.abs(change[i] - np.eye(3)).sum(), errors[i]))
            if np.array_equal(change[i], np.eye(3)):
                continue
            name = "camera_mirrored" if np.linalg.det(change[i]) < 0 else "camera_axes"
            reading = partial(_camera_axes, change=change[i])
            yield Hypothesis(name, "camera", reading, _axes_words(change[i]), ("pose", "angle"))

    def _error_of_axes(self, change: NDArray[np.float64]) -> float:
        errors = []
        for pair in self._light:
            if len(pair) == 2:
                a, b = pair[0].view, pair[1].view
                assert a is not None and b is not None and a.camera is not None and b.camera is not None
                relative = relative_pose(a.camera, b.camera)
                turned = np.eye(4)
                turned[:3, :3] = change @ relative[:3, :3] @ change.T
                turned[:3, 3] = change @ relative[:3, 3]
                errors.append(pose_error(a, b, turned))
        return _mean(errors)

    def _focal_lengths(self) -> Iterator[Hypothesis]:
        asked = ("angle", "pose", "rigid")
        shot_knows_pose = self.runs[0][0].pose_known and self.moves
        if math.isnan(self.scores.angle) and not shot_knows_pose and math.isnan(self.scores.rigid):
            return
        ratio, curve = self._fit(
            lambda r: partial(read.focal, ratio=r), lambda r: {"ratio": r}, np.geomspace(0.45, 2.2, 15), asked
        )
        self.focal_curve = curve
        if math.isnan(self.scores.angle) and not shot_knows_pose and not _is_sharp(curve, ratio):
            self.focal_curve = ()
            return
        if abs(math.log(ratio)) > (0.03 if shot_knows_pose or not math.isnan(self.scores.angle) else 0.08):
            height, width = self.runs[0][0].frame.shape
            horizontal = width != height and abs(math.log(ratio / (width / height))) < 0.04
            name = "fov_horizontal" if horizontal else "fov"
            yield Hypothesis(name, "field of view", partial(read.focal, ratio=ratio), ratio, asked, fitted=True)

    def _planes_of_clipping(self) -> Iterator[Hypothesis]:
        shot = self.runs[0][0]
        kind = shot.frame.channels["depth"].descriptor.kind
        if kind not in ("ndc", "ndc_reversed") or shot.camera is None:
            return
        for name in ("near", "far"):
            if name == "far" and math.isinf(shot.camera.far):
                continue
            change = partial(_other_clipping, which=name)
            factor, _ = self._fit(
                lambda k, change=change: partial(change, factor=k),  # type: ignore[misc]
                lambda k, name=name: _affine_of(shot, name, k),  # type: ignore[misc]
                np.geomspace(0.01, 100, 21),
                ("angle", "pose"),
            )
            if abs(math.log(factor)) > 0.1:
                yield Hypothesis(
                    f"depth_{name}", "depth", partial(change, factor=factor), factor, ("angle", "pose"), fitted=True
                )

    def _scales(self) -> Iterator[Hypothesis]:
        """Depth in another unit than the camera's positions."""

        def change(k: float) -> Callable[[Shot], Shot]:
            return partial(read.affine_inverse, factor=1 / k, offset=0.0)

        factor, _ = self._fit(change, lambda k: {}, np.geomspace(1e-3, 1e3, 37), ("pose",))
        if abs(math.log(factor)) > 0.1:
            yield Hypothesis("depth_scale", "units", change(factor), factor, ("pose",), fitted=True)

    def _fit(
        self,
        change: Callable[[float], Callable[[Shot], Shot]],
        change_of_planes: Callable[[float], dict[str, float]],
        grid: NDArray[np.float64],
        asked: tuple[str, ...],
    ) -> tuple[float, tuple[tuple[float, float], ...]]:
        """The number under which the frames agree best, and the curve (number, doublings worse than now).

        change_of_planes: the same change as arguments of `Planes.angle`.
        """
        others = tuple(name for name in asked if name != "angle")
        planes = self._planes_sent() if "angle" in asked else []

        def score(number: float) -> Scores:
            reading = change(number)
            runs = [[reading(shot) for shot in pair] for pair in self._light]
            angle = _mean([each.angle(**change_of_planes(number)) for each in planes])
            return replace(self._score(runs, others), angle=angle)

        now = score(1.0)
        costs: dict[float, float] = {}

        def cost(number: float) -> float:
            if number not in costs:
                gains = score(number).gains_over(now)
                costs[number] = -sum(g for k, g in gains.items() if k in asked)
            return costs[number]

        for number in (*grid.tolist(), 1.0):
            cost(number)
        for _ in range(4):
            order = sorted(costs)
            best = order.index(min(order, key=lambda n: costs[n]))
            for other in (best - 1, best + 1):
                if 0 <= other < len(order):
                    cost(math.sqrt(order[best] * order[other]))
        return min(costs, key=lambda n: costs[n]), tuple(sorted(costs.items()))

    def _planes_sent(self) -> list[Planes]:
        shots = [shot for pair in self._light for shot in pair]
        return [Planes.of(s.view, s.normal) for s in shots if s.view is not None and s.normal is not None]

    # -- lags

    def _undo_lags(self) -> None:
        found = self.find_lags()
        self.lags = {**found, **self.lags} if any(f.check == "in step" for f in self.found) else found
        best = {name: curve.best for name, curve in found.items() if curve.best is not None}
        if not any(best.values()):
            return
        against = [lag for lag in best.values() if lag]
        # If all that can be told disagrees with the depth by the same, it is the depth that is late.
        depth_late = -against[0] if len(against) == len(best) and len(set(against)) == 1 and against[0] < 0 else 0
        if depth_late:
            late = {"depth": depth_late}
        else:
            late = {name: lag for name, lag in best.items() if lag}
        for name, lag in late.items():
            mistake = f"{name}_late" if lag > 0 else f"{name}_early"
            self.found.append(Found(mistake, "in step", float(lag), self.lags_certainty(name)))
            self.runs = [moved for run in self.runs if (moved := read.shifted(run, name, lag))]
        self._look()

    def lags_certainty(self, name: str) -> float:
        curves = [self.lags[name]] if name in self.lags else list(self.lags.values())
        return max(curve.certainty for curve in curves)

    def find_lags(self) -> dict[str, LagCurve]:
        """Lags against depth of everything that can be compared with it."""
        curves: dict[str, LagCurve] = {}
        shot = self.runs[0][0]
        if shot.depth is None:
            return curves
        if shot.color is not None:
            curves["color"] = color_lags(self.runs)
        if self.scores.angle < 20:
            curves["normal"] = _normal_lags(self.runs)
        if shot.view is not None and shot.pose_known and self.moves:
            curves["pose"] = _pose_lags(self.runs)
        return curves


def _gap(run: list[Shot]) -> int:
    """How many frames lie between the two of a pair: enough for things to have moved, and few enough for most of them
    to be seen in both."""
    if not run[0].pose_known:
        return min(len(run) - 1, _RIGID_GAP)
    seconds = (run[-1].frame.time - run[0].frame.time) / (len(run) - 1)
    gap = min(len(run) - 1, _GAP)
    return gap if seconds <= 0 else max(1, min(gap, round(_GAP_SECONDS / seconds)))


def _is_sharp(curve: tuple[tuple[float, float], ...], best: float) -> bool:
    """Whether the curve (number, doublings) rises by a doubling within an eighth either way of its best number."""
    costs = dict(curve)
    lowest = costs[best]
    sides = [[c for n, c in curve if 1.02 < (n / best) ** side < 1.17] for side in (1, -1)]
    return all(side and max(side) > lowest + 0.8 for side in sides)


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else math.nan


def _mean_of_ratios(values: list[float]) -> float:
    """Geometric mean of the known ones: one fit gone astray shall not hide the others."""
    known = [value for value in values if value == value]
    return float(np.exp(np.mean(np.log(np.array(known) + 1e-9)))) if known else math.nan


def _agreement(shot: Shot) -> float:
    if shot.color is None or shot.depth is None:
        return math.nan
    return agreement(shot.edges, shot.edges)


def _pose_error(a: Shot, b: Shot) -> float:
    assert a.view is not None and b.view is not None and a.view.camera is not None and b.view.camera is not None
    return pose_error(a.view, b.view, relative_pose(a.view.camera, b.view.camera))


def _rigid_error(a: Shot, b: Shot) -> float:
    assert a.view is not None and b.view is not None
    fit = rigid_fit(a.view, b.view)
    return math.nan if fit is None else fit.error


def _squeezed(shots: list[Shot]) -> bool:
    """Whether nearly all of the depth lies next to the near plane, where hardly anything ever is."""
    ratios = []
    for shot in shots:
        view = shot.view
        if view is not None and view.camera is not None and view.surface.any():
            ratios.append(float(np.median(view.depth[view.surface])) / view.camera.near)
    return bool(ratios) and float(np.median(ratios)) < 1.3


def _upright(shot: Shot) -> float:
    """From -1 to 1: sky above and the ground nearer below is 1, the reverse -1."""
    view = shot.view
    depth = shot.depth if view is None else view.depth
    if depth is None:
        return math.nan
    surface = np.isfinite(depth) & (depth > 0)
    third = max(1, depth.shape[0] // 3)
    sky = 1 - surface.mean(axis=1)
    above, below = float(sky[:third].mean()), float(sky[-third:].mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(surface, 1 / depth, 0.0)
    top, bottom = float(np.median(inverse[:third])), float(np.median(inverse[-third:]))
    slope = (bottom - top) / (bottom + top) if bottom + top > 0 else 0.0
    if above + below > 0.05:
        return float(np.clip(0.5 * slope + 0.5 * (above - below) / (above + below), -1, 1))
    return 0.5 * slope


def _turn(shot: Shot, names: tuple[str, ...]) -> Shot:
    return read.turned_over(shot, *names)


def _same(shot: Shot) -> Shot:
    return shot


def _within_one(runs: Runs) -> bool:
    """Whether all depth lies in [0, 1], as a buffer's numbers do and distances seldom."""
    raw = runs[0][0].frame.channels["depth"]
    values = raw.data[np.isfinite(raw.data)] * raw.descriptor.factor
    return bool(values.size) and 0 <= float(values.min()) and float(values.max()) <= 1.0


def _finite_far(shot: Shot) -> bool:
    return shot.camera is not None and math.isfinite(shot.camera.far)


def _of_kind(shot: Shot, kind: str) -> Shot:
    """The depth as sent, read by another law."""
    channel = shot.frame.channels["depth"]
    descriptor = replace(channel.descriptor, kind=kind)
    metres = canonical_depth(
        channel.data, descriptor, shot.frame.camera_of("depth"), shot.frame.conventions.metres_per_unit
    )
    if shot.depth is not None and metres.shape != shot.depth.shape:
        step, y0, x0 = read.stride(metres.shape, read.GEOMETRY_SIDE)
        metres = np.ascontiguousarray(metres[y0::step, x0::step])
    return replace(shot, depth=metres)


def _other_clipping(shot: Shot, which: str, factor: float) -> Shot:
    """Depth of a buffer whose near or far plane is `factor` times the declared one.

    v = (1/n - 1/z) / (1/n - 1/f) is what was stored; 1/z = 1/n - v (1/n - 1/f) with the other planes.
    """
    camera = shot.camera
    assert camera is not None
    changed = read.affine_inverse(shot, **_affine_of(shot, which, factor))
    near, far = camera.near * (factor if which == "near" else 1), camera.far * (factor if which == "far" else 1)
    return replace(changed, camera=replace(camera, near=near, far=far)) if near < far else shot


def _affine_of(shot: Shot, which: str, factor: float) -> dict[str, float]:
    """What another near or far plane does to 1/z, as arguments of `Planes.angle`; nothing where they would cross."""
    camera = shot.camera
    assert camera is not None
    a, b = 1 / camera.near, 0.0 if math.isinf(camera.far) else 1 / camera.far
    a2, b2 = (a / factor, b) if which == "near" else (a, b / factor)
    if a2 <= b2:
        return {"factor": 1.0, "offset": 0.0}
    k = (a2 - b2) / (a - b)
    return {"factor": k, "offset": a2 - a * k}


def _basis(shot: Shot, space: str) -> NDArray[np.float64]:
    conventions = shot.frame.conventions
    return (conventions.camera_axes if space == "camera" else conventions.world_axes).basis


def _with_turn(shot: Shot, unpack: Callable[[Shot], Shot], space: str, change: NDArray[np.float64]) -> Shot:
    shot = unpack(shot)
    turn = _basis(shot, space) @ change
    if space == "world":
        assert shot.camera is not None
        turn = shot.camera.pose[:3, :3].T @ turn
    return replace(shot, normal_turn=turn)


def _unpacked(shot: Shot) -> Shot:
    assert shot.vectors is not None
    return replace(shot, vectors=2 * shot.vectors - 1)


def _reinterpreted(shot: Shot, dtype: str) -> Shot:
    """The same bytes as numbers with, or without, a sign."""
    channel = shot.frame.channels["normal"]
    assert shot.depth is not None
    encoding = "unorm" if dtype[0] == "u" else "snorm"
    other = replace(channel.descriptor, dtype=dtype, encoding=encoding)
    data = np.ascontiguousarray(channel.data).view(dtype)
    return replace(shot, vectors=read.sent_vectors(type(channel)(other, data, channel.serial), shot.depth.shape))


def _angles_of_turns(pairs: Runs, space: str, turns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(turns,) mean over frames of the median angle between normals sent, turned so, and derived."""
    table = []
    for shot in (shot for pair in pairs for shot in pair):
        view = shot.view
        assert view is not None and shot.vectors is not None and shot.camera is not None
        sent = read.unit(shot.vectors)
        mask = view.smooth & sent.any(axis=-1)
        if mask.sum() < 200:
            continue
        chosen = np.flatnonzero(mask)
        chosen = chosen[:: max(1, chosen.size // 1500)]
        v, d = sent.reshape(-1, 3)[chosen], view.normal.reshape(-1, 3)[chosen]
        back = shot.camera.pose[:3, :3].T if space == "world" else np.eye(3)
        table.append([float(np.median(angles(v @ (back @ turn).T, d))) for turn in turns])
    return np.mean(table, axis=0) if table else np.full(len(turns), 180.0)


def _pose_sent(shot: Shot, how: str) -> Shot:
    return read.posed(shot, read.pose_as_sent(shot, how)) if shot.camera is not None else shot


def _camera_axes(shot: Shot, change: NDArray[np.float64]) -> Shot:
    """Pose and normals with the camera's axes renamed.

    Where that mirrors, the world is mirrored with it, for a pose must not mirror.
    """
    assert shot.camera is not None
    turned, world = np.eye(4), np.eye(4)
    turned[:3, :3] = change
    if np.linalg.det(change) < 0:
        world[:3, :3] = change
    normal_turn = None if shot.normal_turn is None else change @ shot.normal_turn
    return replace(read.posed(shot, world @ shot.camera.pose @ turned.T), normal_turn=normal_turn)


def _axes_words(change: NDArray[np.float64]) -> str:
    """What became of x, y, z, e.g. "x, -z, y"."""
    names = []
    for row in change:
        axis = int(np.argmax(np.abs(row)))
        names.append(("-" if row[axis] < 0 else "") + "xyz"[axis])
    return ", ".join(names)


def color_lags(runs: Runs) -> LagCurve:
    """Colours of later frames against the depth of this one."""
    return best_lag(_by_lag(runs, lambda here, other: agreement(here.edges, other.edges)))


def _normal_lags(runs: Runs) -> LagCurve:
    """Normals of later frames against the depth of this one: silhouettes lie elsewhere in other frames."""

    def likeness(here: Shot, other: Shot) -> float:
        view, sent = here.view, other.normal
        if view is None or sent is None:
            return math.nan
        known = view.surface & view.normal.any(axis=-1) & sent.any(axis=-1)
        if known.sum() <= 200:
            return math.nan
        return float(-np.minimum(angles(sent[known], view.normal[known]), 40).mean() / 40)

    return best_lag(_by_lag(runs, likeness), least=0.002)


def _by_lag(runs: Runs, score: Callable[[Shot, Shot], float]) -> NDArray[np.float64]:
    """(frames, lags): score of each frame with the one that many frames later, NaN where there is none."""
    columns = []
    for lag in LAGS:
        pairs = [pair for run in runs for pair in zip(run, read.later(run, lag), strict=True)]
        columns.append([math.nan if other is None else score(here, other) for here, other in pairs])
    return np.array(columns).T


def _pose_lags(runs: Runs) -> LagCurve:
    """Poses of later frames against the depth of this one and a near one."""
    rows = []
    for run in runs:
        later = [read.later(run, lag) for lag in LAGS]
        # Two distances: where every so manieth frame was dropped, no pair of one distance may have its later ones.
        for i, gap in product(range(0, len(run), 2), (3, 4)):
            if i + gap >= len(run):
                continue
            a, b = run[i].view, run[i + gap].view
            row = np.full(len(LAGS), np.nan)
            for j, others in enumerate(later):
                first, second = others[i], others[i + gap]
                if a is None or b is None or first is None or second is None:
                    continue
                if first.camera is not None and second.camera is not None:
                    row[j] = -math.log2(pose_error(a, b, relative_pose(first.camera, second.camera)) + POSE_FLOOR)
            rows.append(row)
    return best_lag(np.array(rows) if rows else np.empty((0, len(LAGS))), least=0.7)
