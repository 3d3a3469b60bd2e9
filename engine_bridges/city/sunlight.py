"""Sun shadows: a height map seen along the sun's rays.

Works on: primitives, the sun's direction, and the points of a G-buffer. Every sun ray meets the road plane (y = 0) at
one point; the map holds, per such point, the height at which the ray first meets a solid. A surface point is in shadow
where the map of its ray is higher than the point. The map lies still in the world, so shadows do not crawl; blocks of
the street are drawn once and kept, movers are drawn over a copy.
Knows nothing of: materials, light.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from engine_bridges.city.gbuffer import GBuffer, dot
from engine_bridges.city.primitives import Kind, Primitives, Shape
from engine_bridges.city.street import BLOCK, Street

TEXEL = 0.1
"""metres"""
ROWS = int(round(BLOCK / TEXEL))
WIDEST = 13
"""texels, the largest radius of a penumbra"""
TAPS = 18
MOVERS_REACH = 50.0
"""metres; movers farther from the camera cast no shadow"""
TALLEST = 18.0
"""metres; receivers above this height are lit"""
ACNE = 0.5
"""metres; of a hard shadow, how much higher than the point its caster stands at least, or texels would darken walls"""
Texels = np.ndarray | np.float32
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


class Sunlight:
    """Shadows of one street."""

    def __init__(self, street: Street) -> None:
        self.street = street
        sun = street.sun
        self.toward = sun.astype(np.float32)
        """(3,) unit direction of the sun"""
        self.rise = sun / -sun[1]
        """(3,) way along the ray per metre of height"""
        lean = self.rise[0] * TALLEST
        self.left = -11.0 + min(0.0, -lean)
        self.columns = int(round((22.0 + abs(lean)) / TEXEL))
        self._tile = lru_cache(maxsize=16)(self._draw_tile)
        self._block = lru_cache(maxsize=12)(self._draw_block)
        self._still = lru_cache(maxsize=2)(self._join_tiles)  # frame after frame drives over the same ones
        self._latest: tuple[GBuffer, np.ndarray, float] | None = None

    def _draw_block(self, number: int) -> np.ndarray:
        """What the still things of one block shade: height map (5 ROWS, columns) from two blocks before it on."""
        heights = np.zeros((5 * ROWS, self.columns), np.float32)
        cast(self.street.block(number).still, self.rise, heights, self.left, (number - 2) * BLOCK)
        return heights

    def _draw_tile(self, number: int) -> np.ndarray:
        blocks = [self._block(number + k)[(2 - k) * ROWS : (3 - k) * ROWS] for k in range(-2, 3)]
        return np.maximum.reduce(blocks)

    def _join_tiles(self, first: int) -> np.ndarray:
        tiles = np.concatenate([self._tile(number) for number in range(first, first + 7)])
        tiles.flags.writeable = False
        return tiles

    def heights(self, g: GBuffer) -> tuple[np.ndarray, float]:
        """Height map (rows, columns) around the camera, to be read only, and the z of its first row."""
        if self._latest is None or self._latest[0] is not g:  # both pictures of a frame read the same one
            camera_z = g.view.position[2]
            first = int(np.floor(camera_z / BLOCK)) - 1
            tiles, z0 = self._still(first).copy(), first * BLOCK
            movers = g.prims.take(np.arange(g.first_mover, len(g.prims)))
            near = np.abs(movers.position[:, 2] - camera_z) < MOVERS_REACH
            cast(movers.take(near), self.rise, tiles, self.left, z0)
            self._latest = g, tiles, z0
        return self._latest[1:]

    def facing(self, g: GBuffer) -> np.ndarray:
        """(M,) cosine between surface and sun, negative where it is turned away."""
        facing = dot(g.world_normal, self.toward)
        leafy = g.of(Kind.LEAF)
        facing[leafy] = facing[leafy] * 0.75 + 0.25  # light seeps through leaves
        return facing

    def _casters(self, g: GBuffer, points: np.ndarray) -> tuple[Callable[[Texels, Texels], np.ndarray], np.ndarray]:
        """How much higher than `points` (K,) of the M what the sun's rays meet is, so many texels beside each: a
        function of columns and rows; and (K,) bool, whether the points' rays lie on the map. The points are lifted off
        their surface."""
        heights, z0 = self.heights(g)
        rows, columns = heights.shape
        offset = g.world_normal[:, points]
        leafy = g.of(Kind.LEAF)
        offset[:, (points >= leafy.start) & (points < leafy.stop)] += 6 * self.toward[:, None]
        x, y, z = g.world[:, points] + offset * np.float32(0.06)
        gx = (x + np.float32(self.rise[0]) * y - np.float32(self.left)) * np.float32(1 / TEXEL)
        gz = (z + np.float32(self.rise[2]) * y - np.float32(z0 - g.anchor_z)) * np.float32(1 / TEXEL)
        inside = (gx > 1) & (gx < columns - 2) & (gz > 1) & (gz < rows - 2)
        np.clip(gx, WIDEST + 1, columns - WIDEST - 2, out=gx)
        np.clip(gz, WIDEST + 1, rows - WIDEST - 2, out=gz)
        y += np.float32(0.10)  # from here on: minus the receiver's height, plus a bias
        flat = heights.ravel()

        def above(dx: Texels, dz: Texels) -> np.ndarray:
            at = (gz + dz).astype(np.int32)
            at *= columns
            at += (gx + dx).astype(np.int32)
            return flat.take(at) + y

        return above, inside

    def hard(self, g: GBuffer, points: np.ndarray) -> np.ndarray:
        """(K,) bool: whether the sun reaches `points` (K,) of the M; without a penumbra."""
        above, inside = self._casters(g, points)
        return ~inside | (above(np.float32(0), np.float32(0)) < ACNE)

    def soft(self, g: GBuffer, points: np.ndarray) -> np.ndarray:
        """(K,) 0..1 share of the sun that reaches `points` (K,) of the M. Shadows are softer far from their caster."""
        above, inside = self._casters(g, points)
        higher = np.zeros(len(points), np.float32)
        found = np.full(len(points), 1e-3, np.float32)
        for dx, dz in ((0, 0), (6, 0), (-6, 0), (0, 6), (0, -6)):
            blocker = above(np.float32(dx), np.float32(dz))
            higher += np.maximum(blocker, 0)
            found += blocker > 0
        # the penumbra grows with the caster's height above the receiver, as under a thinly veiled sun
        radius = np.clip(1.4 + (higher / found) * np.float32(0.8), 0, WIDEST).astype(np.float32)
        shade = np.zeros(len(points), np.float32)
        for k in range(TAPS):
            r, angle = np.sqrt((k + 0.5) / TAPS), k * 2.399963
            blocker = above(radius * np.float32(r * np.cos(angle)), radius * np.float32(r * np.sin(angle)))
            shade += np.clip(blocker * 8, 0, 1)
        return np.where(inside, 1 - shade * np.float32(1 / TAPS), np.float32(1))


def cast(prims: Primitives, rise: np.ndarray, heights: np.ndarray, left: float, z0: float) -> None:
    """Raises `heights` (rows, columns), in place, to where the sun's rays first meet the primitives.

    rise: (3,) way along a ray per metre of height. left, z0: x and z of the map's first texel's border, metres.
    """
    rows, columns = heights.shape
    solid = np.flatnonzero(prims.shape != Shape.GROUND)
    prims = prims.take(solid)
    corners = prims.position[:, None] + np.einsum("nij,cj->nci", prims.rotation * prims.half[:, None, :], _CORNERS)
    up = -corners[..., 1]
    gx, gz = corners[..., 0] - rise[0] * up, corners[..., 2] - rise[2] * up
    rect = np.stack(
        [np.floor((gx.min(1) - left) / TEXEL), np.ceil((gx.max(1) - left) / TEXEL) + 1,
         np.floor((gz.min(1) - z0) / TEXEL), np.ceil((gz.max(1) - z0) / TEXEL) + 1], axis=1)
    rect = np.clip(rect, 0, [columns, columns, rows, rows]).astype(np.int64)
    x = left + (np.arange(columns) + 0.5) * TEXEL
    z = z0 + (np.arange(rows) + 0.5) * TEXEL
    way = np.einsum("nji,j->ni", prims.rotation, rise)
    round_ = (prims.shape == Shape.ELLIPSOID).tolist()
    for n in range(len(prims)):
        x0, x1, y0, y1 = rect[n].tolist()
        if x1 <= x0 or y1 <= y0:
            continue
        r, t = prims.rotation[n], prims.position[n]
        # ray start in local axes: r.T @ ((x, 0, z) - t), affine in x and z
        base = -(r.T @ t)
        du, dv = r[0], r[2]
        if round_[n]:
            half = prims.half[n]
            e, cu, cv, q = way[n] / half, du / half, dv / half, base / half
            a = float(e @ e)
            o = [
                (cu[k] * x[x0:x1]).astype(np.float32) + (cv[k] * z[y0:y1] + q[k]).astype(np.float32)[:, None]
                for k in range(3)
            ]
            b = np.float32(e[0]) * o[0] + np.float32(e[1]) * o[1] + np.float32(e[2]) * o[2]
            c = o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - 1
            discriminant = b * b - np.float32(a) * c
            hit = discriminant > 0
            top = (-b + np.sqrt(np.maximum(discriminant, 0))) / np.float32(a)
        else:
            normals, offsets = prims.plane_normal[n], prims.plane_offset[n]
            leave = np.full((y1 - y0, x1 - x0), np.inf, np.float32)
            enter = -leave
            for k in range(6):
                speed = float(normals[k] @ way[n])
                speed = speed if abs(speed) > 1e-6 else 1e-6
                bound = (-(normals[k] @ du) / speed * x[x0:x1]).astype(np.float32) + (
                    (offsets[k] - normals[k] @ base - (normals[k] @ dv) * z[y0:y1]) / speed
                ).astype(np.float32)[:, None]
                if speed > 0:
                    np.minimum(leave, bound, out=leave)
                else:
                    np.maximum(enter, bound, out=enter)
            hit, top = enter < leave, leave
        window = heights[y0:y1, x0:x1]
        np.copyto(window, top, where=hit & (top > window))
