"""Is a pair fit to train on? Scores of a target against its render and the engine's geometry.

Works on frames and pictures; knows no model and no folder, nor what scores are asked for (`verdicts`). The scores are
those of `realmaster.measure`, and a few that only pairs need. Each is relative to the render's own or to the
engine's geometry, so that one set of thresholds does for games of every look. What cannot be measured (no depth, no
camera, no instances) is None and turns nothing down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from capture.frame import Frame
from realmaster.measure import Scorer
from realmaster.measure.learned import FaceIdentity, PhotoOdds, arcface
from realmaster.measure.moment import Moment
from realmaster.measure.placement import peak, shifts
from realmaster.pairs.carrying import can_carry, carry
from realmaster.pairs.settings import ScorerSettings
from realmaster.pairs.verdicts import PairScores

LAGS = range(-3, 4)
"""Frames by which a target may be too late."""

_WANTED = ("depth_edges_to_render", "frame_order", "warp_error", "identity_color", "novelty")
"""Of the scores of `realmaster.measure`, those that are asked for."""

_BLOCK = 20
"""Side in pixels of the parts of a picture whose colour is compared: texture averages out over them."""


@torch.inference_mode()
def score_pair(frames: Sequence[Frame], target: np.ndarray, learned: Sequence[Any] = ()) -> PairScores:
    """Score `target`, uint8 `[T, H, W, 3]`, against the engine's frames of the same moments. learned: from
    `learned_scorers`."""
    scorer = Scorer(wanted=_WANTED, learned=learned)
    edges: list[Tensor] = []
    beside = Beside()
    jumps: list[Tensor] = []
    for frame, picture in zip(frames, target, strict=True):
        scorer.add(frame, picture)
        assert scorer.last is not None
        edges.append(_edges(scorer.last))
        beside.add(scorer.last)
        if (jump := colour_jumps(scorer.last)) is not None:
            jumps.append(jump)
    found = scorer.result()
    lifted, render = found["lifted"], found["render"]
    return PairScores(
        depth_edges=lifted.depth_edges_to_render,
        edges_shared=float(np.mean([_correlation(*both) for both in edges])),
        offset=beside.share,
        frame_order=lifted.frame_order,
        lag=best_lag(edges) if len(edges) > 2 else None,
        flicker=max(0.0, float((mean := torch.stack(jumps).mean(0))[0] - mean[1])) if jumps else None,
        warp_error=_beyond(lifted.warp_error, render.warp_error),
        anchor_drift=anchor_drift(frames, target),
        identity=_beyond(lifted.identity_color, render.identity_color),
        novelty=lifted.novelty,
        faces=lifted.faces,
        photographs=None if lifted.photo_odds is None else lifted.photo_odds - (render.photo_odds or 0.0),
    )


def learned_scorers(settings: ScorerSettings) -> list[Any]:
    """The measures with weights that the settings name, loaded; safe for threads. Raises `NotHere` of
    `realmaster.measure.learned`."""
    scorers: list[Any] = []
    if settings.faces:
        scorers.append(FaceIdentity(arcface(Path(settings.faces).expanduser())))
    if settings.photographs:
        scorers.append(PhotoOdds(settings.photographs))
    return scorers


@torch.inference_mode()
def score_anchor(frame: Frame, picture: np.ndarray) -> PairScores:
    """The structure of one still, uint8 `[H, W, 3]`."""
    scorer, beside = Scorer(wanted=("depth_edges_to_render",)), Beside()
    scorer.add(frame, picture)
    assert scorer.last is not None
    beside.add(scorer.last)
    lifted = scorer.result()["lifted"]
    return PairScores(
        depth_edges=lifted.depth_edges_to_render,
        edges_shared=_correlation(*_edges(scorer.last)),
        offset=beside.share,
    )


class Beside:
    """How far a target lies beside its render: the shift at which its edges fit the render's best, summed over frames.

    The engine's own edges would be a worse measure: what light and shadow do beside them moves the best shift by more
    than a pixel, of the truth itself.
    """

    def __init__(self) -> None:
        self._table: Tensor | float = 0.0
        self._step = 0.0

    def add(self, moment: Moment) -> None:
        target, render = moment.steepness[:2]
        table, pixels = shifts(render, target[None])
        self._table, self._step = self._table + table[0], pixels / moment.shape[1]

    @property
    def share(self) -> float | None:
        """Of the width; None where no shift stands out."""
        place = peak(self._table) if isinstance(self._table, Tensor) else None
        return None if place is None else math.hypot(*place) * self._step


def best_lag(edges: Sequence[Tensor]) -> int:
    """Frames by which the target comes too late: the lag at which its edges agree best with the render's; 0 where
    nothing tells them apart. Each of `edges` is `[2, H, W]`: target, render."""
    count = len(edges)
    lags = [lag for lag in LAGS if abs(lag) <= count // 2]
    # Lags are compared on the same frames of the target: these differ more among themselves than the lags do.
    reach = max(abs(lag) for lag in lags)
    places = range(reach, count - reach) or range(count)
    agreement = {
        lag: float(np.mean([_correlation(edges[i][0], edges[i - lag][1]) for i in places if 0 <= i - lag < count]))
        for lag in lags
    }
    best = max(agreement, key=lambda lag: agreement[lag])
    return best if agreement[best] > 1.02 * agreement[0] + 1e-3 else 0


def colour_jumps(moment: Moment) -> Tensor | None:
    """`[2]`, of target and render: by how much the mean colour of the parts of the picture differs from the frame
    before, moved by the engine's motion, where the render itself holds still. None without motion."""
    if moment.residual is None or moment.held is None:
        return None
    block = min(_BLOCK, *moment.shape)
    share = functional.avg_pool2d(moment.held[None].float(), block)[0]
    enough = share > 0.3
    if not bool(enough.any()):
        return None
    change = functional.avg_pool2d(moment.residual[:2] * moment.held, block)
    return (change[..., enough] / share[enough]).abs().mean((1, 2))


def anchor_drift(frames: Sequence[Frame], target: np.ndarray) -> float | None:
    """Does the middle agree with both ends? Each end is carried to the middle by the engine's depth and cameras, and
    compared where both see the same surface; the render's own difference, from moving things and changing light, is
    taken off pixel by pixel. The worse of both ends. None without depth and poses, or when the views share nothing."""
    if len(frames) < 3 or not can_carry(frames):
        return None
    middle = len(frames) // 2
    found = []
    for end in (0, len(frames) - 1):
        carried = carry(frames[end], frames[middle])
        if carried is None:
            continue
        (y, x), seen = carried
        renders = frames[end].color[y, x], frames[middle].color
        excess = _difference(target[end][y, x], target[middle]) - _difference(*renders)
        # The median: the same light on the same matter keeps its colour, and texture that slid a pixel is no drift.
        found.append(max(0.0, float(np.median(excess[seen]))))
    return max(found) if found else None


def _edges(moment: Moment) -> Tensor:
    """float `[2, H, W]`, target and render: how steep they are, its root, which keeps a few strong edges from deciding
    alone, less its mean."""
    rooted = moment.steepness[:2].sqrt()
    return rooted - rooted.mean((1, 2), keepdim=True)


def _correlation(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))


def _beyond(lifted: float | None, render: float | None) -> float | None:
    return None if lifted is None else max(0.0, lifted - (render or 0.0))


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference over colours of uint8 `[..., 3]`, in [0, 1]."""
    return np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(-1) / 255
