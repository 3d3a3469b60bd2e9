"""What wet ground mirrors, for both pictures: reflected rays, followed through the depth buffer.

Works on: a G-buffer and how much its surfaces mirror. Knows nothing of what is seen in a mirror.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.primitives import Kind


@dataclass(frozen=True)
class Mirrored:
    """What each wet pixel mirrors, `K` of them."""

    wet: np.ndarray
    """(K,) numbers of the wet pixels among those seen"""
    ray: np.ndarray
    """(3, K) world directions of the reflected rays"""
    x: np.ndarray
    y: np.ndarray
    """(K,) where on the screen that is, in pixels; may lie outside"""
    sky: np.ndarray
    """(K,) bool: sky above the picture"""

    def pixels(self, g: GBuffer, right: np.float32 | float = 0.0, down: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) flat numbers of the mirrored pixels, or of those so far beside and below them."""
        return _pixel(g, self.x + right, self.y + down)


def _pixel(g: GBuffer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = g.index.shape
    column, row = np.clip(x + 0.5, 0, width - 1).astype(np.int32), np.clip(y + 0.5, 0, height - 1).astype(np.int32)
    return row * width + column


def mirrored_by_ground(g: GBuffer, mirror: np.ndarray) -> Mirrored:
    """`mirror`: (M,) share of light that each seen pixel mirrors."""
    view, ground = g.view, slice(0, g.of(Kind.PAVEMENT).stop)
    wet = np.flatnonzero((mirror[ground] > 0.004) & (g.world_normal[1, ground] < -0.9))
    rotation = view.rotation.T.astype(np.float32)
    bounced = g.ray[:, wet] * np.array([[1], [-1], [1]], np.float32)
    start, way = rotation @ g.relative[:, wet], rotation @ bounced
    inverse = np.where(g.seen, g.inverse_depth, 0).ravel().astype(np.float32)

    def on_screen(t: np.ndarray | np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y, z = start + way * t
        w = 1 / np.maximum(z, np.float32(0.1))
        return (x * w * np.float32(view.fx) + np.float32(view.cx),
                y * w * np.float32(view.fy) + np.float32(view.cy), w)  # fmt: skip

    hit = np.full(len(wet), 60.0, np.float32)
    open_ = np.ones(len(wet), bool)
    last, gap_before = np.float32(0.0), np.zeros(len(wet), np.float32)
    for t in np.float32(1.32) ** np.arange(-3, 15, dtype=np.float32):
        x, y, w = on_screen(t)
        # positive: something stands nearer than the ray's point
        gap = inverse.take(_pixel(g, x, y)) - w * np.float32(1.01)
        met = open_ & (gap > 0)
        share = np.clip(-gap_before / np.maximum(gap - gap_before, 1e-6), 0, 1)
        hit[met] = (last + (t - last) * share)[met]
        open_ &= ~met
        last, gap_before = t, np.minimum(gap, 0)
    x, y, _ = on_screen(hit)
    return Mirrored(wet, bounced, x, y, open_ & (y < 0))
