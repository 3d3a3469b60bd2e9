"""The scores of a pair as a record, and what they must be: why a pair is turned down, in words.

Works on numbers and settings; knows no pictures, so that a dataset is read and looked through without a model's
libraries. `filters` measures the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

from realmaster.pairs.settings import FilterSettings, StructureSettings

HIGHER_IS_BETTER = ("depth_edges", "edges_shared", "frame_order", "novelty", "faces", "photographs")
"""Scores of which more is better; of the others less, or nearer to 0."""


@dataclass(frozen=True)
class PairScores:
    """How good a target is; see the settings of the same names for what is asked of each."""

    depth_edges: float | None = None
    """Depth-edge alignment over the render's. Higher is truer."""
    edges_shared: float | None = None
    """Correlation of the target's edges with the render's, in [-1, 1]. Higher is truer; another scene gives about 0."""
    offset: float | None = None
    """Displacement of the target's edges from the render's, as a share of the width. 0 is in place."""
    frame_order: float | None = None
    """Share of frames that show their own moment rather than a neighbour's."""
    lag: int | None = None
    """Frames by which the target comes too late (or, below 0, too early)."""
    flicker: float | None = None
    """How much light and colour of parts of the picture jump from frame to frame, less the render's, in [0, 1]."""
    warp_error: float | None = None
    """Mean difference from the frame before, moved by the engine's motion, less the render's, in [0, 1]."""
    anchor_drift: float | None = None
    """Difference of the middle from what both ends show of the same surfaces, less the render's own, in [0, 1]."""
    identity: float | None = None
    """How far the colours of things wander, less the render's, in [0, 1]."""
    novelty: float | None = None
    """What a colour grade of the render does not explain, in [0, 1]; 0 is a copy."""
    faces: float | None = None
    """Cosine of ArcFace embeddings of the target's faces and the render's, where weights are there."""
    photographs: float | None = None
    """Log odds of a photograph against a video game, less the render's, where weights are there."""

    def to_dict(self) -> dict[str, float | None]:
        return {name: None if value is None else round(float(value), 5) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> PairScores:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})  # type: ignore[arg-type]


def reasons(scores: PairScores, wanted: FilterSettings) -> list[str]:
    """Why a pair of these scores is turned down; empty when it is good."""
    found = structure_reasons(scores, wanted)
    s, w = scores, wanted

    def ask(value: float | None, bad: Callable[[float], bool], words: str) -> None:
        if value is not None and bad(value):
            found.append(words.format(value))

    ask(s.lag, lambda v: abs(v) > w.lag, "temporal: {:+.0f} frames late")
    ask(s.frame_order, lambda v: v < w.frame_order, "temporal: only {:.2f} of its frames show their own moment")
    ask(s.flicker, lambda v: v > w.flicker, "temporal: its light or colour jumps by {:.3f} a frame")
    ask(s.warp_error, lambda v: v > w.warp_error, "temporal: differs by {:.3f} from the frame before")
    ask(s.anchor_drift, lambda v: v > w.anchor_drift, "anchors: the middle differs from the ends by {:.3f}")
    ask(s.identity, lambda v: v > w.identity, "identity: the colours of things wander by {:.3f}")
    ask(s.novelty, lambda v: v < w.novelty, "realism: little more than a colour grade of the render ({:.3f})")
    ask(s.faces, lambda v: v < w.faces, "identity: faces are like the render's by {:.2f} only")
    ask(s.photographs, lambda v: v < w.photographs, "realism: looks less like a photograph than the render ({:+.2f})")
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
