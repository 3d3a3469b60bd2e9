"""Does a picture keep the edges that the engine's geometry lays down."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realmaster.measure.moment import Moment

EDGE_DENSITY = 0.1
"""Share of a picture's pixels that count as its edges: the steepest tenth, whatever its contrast, so that a crisp
picture and a soft one are asked for the same number of edges."""

FEWEST_LATE = 20
"""Pixels of depth edges on things that appeared later, below which a frame says nothing of them."""


class Structure:
    """Edges of the pictures against the engine's, frame by frame. Wants depth."""

    gives = (
        "depth_edge_alignment", "depth_edges_to_render", "depth_edges_to_reference", "edge_f1", "depth_edges_late",
    )  # fmt: skip

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """Values `[P]` of this frame: depth_edge_alignment, edge_f1, and depth_edges_late of what appeared later."""
        depth_edges, geometry = moment.depth_edges, moment.geometry_edges
        if depth_edges is None or geometry is None or not geometry.any():
            return {}
        edges = picture_edges(moment.steepness)
        near = dilate(edges)
        values = {"edge_f1": edge_f1(edges, near, geometry)}
        if depth_edges.any():
            values["depth_edge_alignment"] = alignment(near, depth_edges)
            if moment.late is not None and int((late := depth_edges & moment.late).sum()) >= FEWEST_LATE:
                values["depth_edges_late"] = alignment(near, late)
        return values


def picture_edges(steepness: Tensor) -> Tensor:
    """bool `[P, H, W]`: the steepest `EDGE_DENSITY` of each picture."""
    values = steepness.flatten(1)
    rank = max(1, int(values.shape[1] * (1 - EDGE_DENSITY)))
    # NumPy's selection: torch's takes seven times as long.
    threshold = torch.from_numpy(np.partition(values.numpy(), rank - 1, axis=1)[:, rank - 1]).clamp_min(1e-6)
    return steepness > threshold[:, None, None]


def dilate(mask: Tensor) -> Tensor:
    """bool `[P, H, W]`: true where a true pixel lies within one row and one column."""
    p = F.pad(mask, (1, 1, 1, 1))
    rows = p[:, :-2] | p[:, 1:-1] | p[:, 2:]
    return rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]


def alignment(near_edges: Tensor, depth_edges: Tensor) -> Tensor:
    """[P]: share of depth-edge pixels with a picture edge within one pixel: 1 is perfect.

    near_edges: bool `[P, H, W]`, the pictures' edges dilated by one; depth_edges: bool `[H, W]`, not empty.
    """
    return near_edges[:, depth_edges].float().mean(1)


def edge_f1(edges: Tensor, near_edges: Tensor, geometry: Tensor) -> Tensor:
    """[P]: harmonic mean of precision and recall of picture edges against the engine's, within one pixel; nan for a
    picture without edges."""
    precision = (edges & dilate(geometry[None])).sum((1, 2)) / edges.sum((1, 2))
    recall = near_edges[:, geometry].float().mean(1)
    return 2 * precision * recall / (precision + recall).clamp_min(1e-9)


def misses(moment: Moment) -> Tensor | None:
    """[P, H, W] in [0, 1]: the engine's edges that a picture lacks, for a heat map; None without depth."""
    if moment.geometry_edges is None:
        return None
    near = dilate(picture_edges(moment.steepness))
    return (moment.geometry_edges[None] & ~near).float()


def anchors(moment: Moment) -> Tensor:
    """float `[H, W]`: where edges are expected: the engine's depth edges, or, where those say little, the render's."""
    edges = moment.depth_edges
    if edges is not None and int(edges.sum()) >= 60:
        return edges.float()
    return picture_edges(moment.steepness[1:2])[0].float()
