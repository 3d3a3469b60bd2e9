"""Does a picture keep the edges that the engine's geometry lays down. numpy only."""

from __future__ import annotations

import numpy as np

EDGE_DENSITY = 0.1
"""Share of a picture's pixels that count as its edges: the steepest tenth, whatever its contrast, so that a crisp
picture and a soft one are asked for the same number of edges."""


def luminance(color: np.ndarray) -> np.ndarray:
    """Rec. 709 luma of sRGB values; uint8 `[..., 3]` -> float32 `[...]` in [0, 1]."""
    return color.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32) / 255


def gradient(picture: np.ndarray) -> np.ndarray:
    """Sobel gradient magnitude of float32 `[H, W]`, borders repeated."""
    p = np.pad(picture, 1, mode="edge")
    dx = (p[:-2, 2:] + 2 * p[1:-1, 2:] + p[2:, 2:]) - (p[:-2, :-2] + 2 * p[1:-1, :-2] + p[2:, :-2])
    dy = (p[2:, :-2] + 2 * p[2:, 1:-1] + p[2:, 2:]) - (p[:-2, :-2] + 2 * p[:-2, 1:-1] + p[:-2, 2:])
    return np.hypot(dx, dy)


def picture_edges(color: np.ndarray) -> np.ndarray:
    """The steepest `EDGE_DENSITY` of uint8 `[H, W, 3]`, as bool `[H, W]`."""
    steepness = gradient(luminance(color))
    return steepness > max(float(np.quantile(steepness, 1 - EDGE_DENSITY)), 1e-6)


def dilate(mask: np.ndarray, radius: int = 1) -> np.ndarray:
    """bool `[H, W]`: true where a true pixel lies within `radius` rows and columns."""
    out = mask.copy()
    for _ in range(radius):
        p = np.pad(out, 1)
        rows = p[:-2] | p[1:-1] | p[2:]
        out = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return out


def depth_edge_alignment(color: np.ndarray, depth_edges: np.ndarray) -> float:
    """Share of depth-edge pixels with a picture edge within one pixel: 1 is perfect, nan without depth edges."""
    if not depth_edges.any():
        return float("nan")
    return float(dilate(picture_edges(color))[depth_edges].mean())


def edge_f1(color: np.ndarray, geometry_edges: np.ndarray) -> float:
    """Harmonic mean of precision and recall of the picture's edges against depth and normal edges, within one pixel."""
    edges = picture_edges(color)
    if not geometry_edges.any() or not edges.any():
        return float("nan")
    precision = float(dilate(geometry_edges)[edges].mean())
    recall = float(dilate(edges)[geometry_edges].mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)
