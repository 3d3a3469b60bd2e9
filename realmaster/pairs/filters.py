"""Is a pair fit to train on? Scores of a target against its render and the engine's geometry, and what they must be.

Works on frames, pictures and settings; knows no model and no folder. The scores are those of `realmaster.measure`, and
a few that only pairs need. Each is relative to the render's own or to the engine's geometry, so that one set of
thresholds does for games of every look. What cannot be measured (no depth, no camera, no instances) is None and turns
nothing down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from capture.frame import Frame
from realmaster.measure import Scorer
from realmaster.measure.moment import Moment
from realmaster.pairs.carrying import can_carry, carry
from realmaster.pairs.settings import FilterSettings, StructureSettings

LAGS = range(-3, 4)
"""Frames by which a target may be too late."""

_BLOCK = 20
"""Side in pixels of the parts of a picture whose light is compared: texture averages out over them."""


@dataclass(frozen=True)
class PairScores:
    """How good a target is; see the settings of the same names for what is asked of each."""

    depth_edges: float | None = None
    """Depth-edge alignment over the render's. Higher is truer."""
    edges_shared: float | None = None
    """Correlation of the target's edges with the render's, in [-1, 1]. Higher is truer; another scene gives about 0."""
    offset: float | None = None
    """Displacement of the target's edges from the engine's, as a share of the width. 0 is in place."""
    frame_order: float | None = None
    """Share of frames that show their own moment rather than a neighbour's."""
    lag: int | None = None
    """Frames by which the target comes too late (or, below 0, too early)."""
    flicker: float | None = None
    """How much the light of parts of the picture jumps from frame to frame, less the render's, in [0, 1]."""
    warp_error: float | None = None
    """Mean difference from the frame before, moved by the engine's motion, less the render's, in [0, 1]."""
    anchor_drift: float | None = None
    """Difference of the middle from what both ends show of the same surfaces, less the render's own, in [0, 1]."""
    identity: float | None = None
    """How far the colours of things wander, less the render's, in [0, 1]."""
    novelty: float | None = None
    """What a colour grade of the render does not explain, in [0, 1]; 0 is a copy."""

    def to_dict(self) -> dict[str, float | None]:
        return {name: None if value is None else round(float(value), 5) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> PairScores:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})  # type: ignore[arg-type]


@torch.inference_mode()
def score_pair(frames: Sequence[Frame], target: np.ndarray) -> PairScores:
    """Score `target`, uint8 `[T, H, W, 3]`, against the engine's frames of the same moments."""
    scorer = Scorer()
    edges: list[Tensor] = []
    jumps: list[Tensor] = []
    for frame, picture in zip(frames, target, strict=True):
        scorer.add(frame, picture)
        assert scorer.last is not None
        edges.append(_edges(scorer.last))
        if (jump := light_jumps(scorer.last)) is not None:
            jumps.append(jump)
    lifted, render = (scorer.result()[name] for name in ("lifted", "render"))
    return PairScores(
        depth_edges=lifted.depth_edges_to_render,
        edges_shared=float(np.mean([_correlation(*both) for both in edges])),
        offset=_share(lifted.displacement, target.shape[2]),
        frame_order=lifted.frame_order,
        lag=best_lag(edges) if len(edges) > 2 else None,
        flicker=max(0.0, float((mean := torch.stack(jumps).mean(0))[0] - mean[1])) if jumps else None,
        warp_error=_beyond(lifted.warp_error, render.warp_error),
        anchor_drift=anchor_drift(frames, target),
        identity=_beyond(lifted.identity_color, render.identity_color),
        novelty=lifted.novelty,
    )


@torch.inference_mode()
def score_anchor(frame: Frame, picture: np.ndarray) -> PairScores:
    """The structure of one still, uint8 `[H, W, 3]`."""
    scorer = Scorer()
    scorer.add(frame, picture)
    assert scorer.last is not None
    lifted = scorer.result()["lifted"]
    return PairScores(
        depth_edges=lifted.depth_edges_to_render,
        edges_shared=_correlation(*_edges(scorer.last)),
        offset=_share(lifted.displacement, picture.shape[1]),
    )


def reasons(scores: PairScores, wanted: FilterSettings) -> list[str]:
    """Why a pair of these scores is turned down; empty when it is good."""
    found = structure_reasons(scores, wanted)
    s, w = scores, wanted

    def ask(value: float | None, bad: Callable[[float], bool], words: str) -> None:
        if value is not None and bad(value):
            found.append(words.format(value))

    ask(s.lag, lambda v: abs(v) > w.lag, "temporal: {:+.0f} frames late")
    ask(s.frame_order, lambda v: v < w.frame_order, "temporal: only {:.2f} of its frames show their own moment")
    ask(s.flicker, lambda v: v > w.flicker, "temporal: its light jumps by {:.3f} a frame")
    ask(s.warp_error, lambda v: v > w.warp_error, "temporal: differs by {:.3f} from the frame before")
    ask(s.anchor_drift, lambda v: v > w.anchor_drift, "anchors: the middle differs from the ends by {:.3f}")
    ask(s.identity, lambda v: v > w.identity, "identity: the colours of things wander by {:.3f}")
    ask(s.novelty, lambda v: v < w.novelty, "realism: little more than a colour grade of the render ({:.3f})")
    return found


def structure_reasons(scores: PairScores, wanted: StructureSettings) -> list[str]:
    """Why pictures of these scores do not show what the engine rendered; empty when they do."""
    s, w = scores, wanted
    found = []
    if s.depth_edges is not None and s.depth_edges < w.depth_edges:
        found.append(f"structure: keeps {s.depth_edges:.2f} of the render's depth edges")
    if s.edges_shared is not None and s.edges_shared < w.edges_shared:
        found.append(f"structure: its edges agree with the render's by {s.edges_shared:.2f} only")
    if s.offset is not None and s.offset > w.offset:
        found.append(f"structure: lies {100 * s.offset:.1f} % of the width beside the render")
    return found


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


def light_jumps(moment: Moment) -> Tensor | None:
    """`[2]`, of target and render: by how much the mean light of the parts of the picture differs from the frame
    before, moved by the engine's motion, where the render itself holds still. None without motion."""
    if moment.residual is None or moment.held is None:
        return None
    block = min(_BLOCK, *moment.shape)
    share = functional.avg_pool2d(moment.held[None].float(), block)[0]
    enough = share > 0.3
    if not bool(enough.any()):
        return None
    change = functional.avg_pool2d((moment.residual[:2].mean(1) * moment.held), block)
    return (change[:, enough] / share[enough]).abs().mean(1)


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


def _share(pixels: float | None, width: int) -> float | None:
    return None if pixels is None else pixels / width


def _beyond(lifted: float | None, render: float | None) -> float | None:
    return None if lifted is None else max(0.0, lifted - (render or 0.0))


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference over colours of uint8 `[..., 3]`, in [0, 1]."""
    return np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(-1) / 255
