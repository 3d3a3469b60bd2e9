"""The geometry buffers of one moment: what a shading may look at.

Works on: a street, a time and the time before it.
Knows nothing of: colours on the screen, light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine_bridges.city.primitives import Kind, Primitives, Shape
from engine_bridges.city.raster import View, rasterise
from engine_bridges.city.street import BLOCK, Mover, Street


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(K,) of planar vectors (3, K); either may be one vector (3,) or (3, 1)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Planar vectors (3, K) at length 1."""
    return vectors / np.sqrt(dot(vectors, vectors))


@dataclass
class GBuffer:
    """Visible surface per pixel. M is the number of pixels that see something; M-arrays list them kind by kind
    (`pixels`), so that all pixels of one kind are a slice (`of`). Vectors are planar, (3, M)."""

    time: float
    view: View
    previous_view: View
    prims: Primitives
    movers: list[Mover]
    moved: tuple[np.ndarray, np.ndarray]
    """rotation (n, 3, 3) and position (n, 3) of every primitive at the time before"""
    first_mover: int
    index: np.ndarray
    """(H, W) int32 primitive, -1 = sky"""
    inverse_depth: np.ndarray

    @cached_property
    def seen(self) -> np.ndarray:
        """(H, W) bool, false for sky."""
        return self.index >= 0

    @cached_property
    def pixels(self) -> np.ndarray:
        """(M,) flat pixel numbers, sorted by kind, then by row."""
        seen = np.flatnonzero(self.seen)
        return seen[np.argsort(self.prims.kind[self.index.ravel()[seen]], kind="stable")]

    @cached_property
    def prim(self) -> np.ndarray:
        """(M,) primitive of each seen pixel."""
        return self.index.ravel()[self.pixels]

    @cached_property
    def kind(self) -> np.ndarray:
        """(M,) Kind, ascending."""
        return self.prims.kind[self.prim]

    def of(self, kind: Kind) -> slice:
        """Where the pixels of one kind lie in M-arrays."""
        return slice(self._borders[kind], self._borders[kind + 1])

    @cached_property
    def _borders(self) -> list[int]:
        return np.searchsorted(self.kind, np.arange(len(Kind) + 1)).tolist()

    def of_prims(self, values: np.ndarray, where: slice = slice(None)) -> np.ndarray:
        """(..., K) float32: per-primitive `values` (n, ...), looked up at the pixels `where`, planar."""
        table = np.ascontiguousarray(np.moveaxis(values, 0, -1), dtype=np.float32)
        return table.take(self.prim[where], axis=-1)

    def picture(self, values: np.ndarray, sky: np.ndarray | float = 0.0) -> np.ndarray:
        """(C, H, W) float32 from seen values (C, M) and sky values (C, S) or a number."""
        height, width = self.index.shape
        out = np.empty((len(values), height * width), np.float32)
        out[:, ~self.seen.ravel()] = sky
        for plane, value in zip(out, values, strict=True):
            plane[self.pixels] = value
        return out.reshape(-1, height, width)

    @cached_property
    def depth(self) -> np.ndarray:
        """(H, W) float32 metres along the optical axis, +inf for sky."""
        return np.where(self.seen, 1.0 / self.inverse_depth, np.inf).astype(np.float32)

    @cached_property
    def z(self) -> np.ndarray:
        """(M,) float32 depth of the seen pixels."""
        return self.depth.ravel()[self.pixels]

    def directions(self, pixels: np.ndarray) -> np.ndarray:
        """(3, K) float32 world rays through flat `pixels`, one metre along the optical axis long."""
        u, v = self.view.rays()
        r = self.view.rotation
        rows = (u * r[:, :1]).astype(np.float32)
        columns = (v * r[:, 1:2] + r[:, 2:]).astype(np.float32)
        y, x = np.divmod(pixels, self.view.width)
        return rows.take(x, axis=1) + columns.take(y, axis=1)

    @cached_property
    def _direction(self) -> np.ndarray:
        return self.directions(self.pixels)

    @cached_property
    def sky_ray(self) -> np.ndarray:
        """(3, S) float32 unit world directions of the pixels that see the sky, by row."""
        return unit(self.directions(np.flatnonzero(~self.seen)))

    @cached_property
    def ray(self) -> np.ndarray:
        """(3, M) float32 unit world directions from the camera to the seen pixels."""
        return unit(self._direction)

    @cached_property
    def relative(self) -> np.ndarray:
        """(3, M) float32 world offset from the camera to the surface."""
        return self._direction * self.z

    @cached_property
    def world(self) -> np.ndarray:
        """(3, M) world points, float32 with z measured from `anchor_z` (keeps its precision along the street)."""
        base = self.view.position - np.array([0.0, 0.0, self.anchor_z])
        return self.relative + base.astype(np.float32)[:, None]

    @cached_property
    def anchor_z(self) -> float:
        """A block border near the camera, metres; world z is measured from it."""
        return float(np.floor(self.view.position[2] / BLOCK) * BLOCK)

    @cached_property
    def _turn(self) -> np.ndarray:
        """(3, 3, M) rotation of each seen pixel's primitive."""
        return self.of_prims(self.prims.rotation)

    @cached_property
    def local(self) -> np.ndarray:
        """(3, M) float32 points in their primitive's frame."""
        rotation, position = self.prims.rotation, self.prims.position
        origin = np.einsum("nji,nj->ni", rotation, self.view.position - position)
        local, turn = self.of_prims(origin), self._turn
        x, y, z = self.relative
        for axis in range(3):
            local[axis] += turn[0, axis] * x + turn[1, axis] * y + turn[2, axis] * z
        return local

    @cached_property
    def face(self) -> np.ndarray:
        """(M,) bounding plane of convex solids: +x, bottom, +z, -x, top, -z; 4 (top) for the ground."""
        face = np.full(len(self.prim), 4)
        solid = slice(self.of(Kind.ROAD).stop, None)  # the road is the ground
        prim = self.prim[solid]
        x, y, z = self.local[:, solid]
        normals, offsets = self.prims.plane_normal.astype(np.float32), self.prims.plane_offset.astype(np.float32)
        widest = np.full(len(prim), -np.inf, np.float32)
        for k in range(6):
            a, b, c, d = (np.ascontiguousarray(t).take(prim) for t in (*normals[:, k].T, offsets[:, k]))
            gap = a * x + b * y + c * z - d
            np.copyto(face[solid], k, where=gap > widest)
            np.maximum(widest, gap, out=widest)
        return face

    @cached_property
    def local_normal(self) -> np.ndarray:
        """(3, M) float32 unit normals in the primitive's frame."""
        table = np.ascontiguousarray(self.prims.plane_normal.reshape(-1, 3).T, dtype=np.float32)
        normal = table.take(self.prim * 6 + self.face, axis=1)
        round_ = np.flatnonzero(self.prims.shape[self.prim] == Shape.ELLIPSOID)
        half = self.prims.half.astype(np.float32)[self.prim[round_]].T
        normal[:, round_] = unit(self.local[:, round_] / half**2)
        return normal

    @cached_property
    def world_normal(self) -> np.ndarray:
        """(3, M) float32 unit normals in world axes."""
        x, y, z = self.local_normal
        turn = self._turn
        return np.stack([turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2] * z for axis in range(3)])

    @cached_property
    def normal(self) -> np.ndarray:
        """(H, W, 3) float32 camera-space unit normals, 0 for sky."""
        seen = self.view.rotation.T.astype(np.float32) @ self.world_normal
        return np.ascontiguousarray(np.moveaxis(self.picture(seen), 0, 2))

    @cached_property
    def facing(self) -> np.ndarray:
        """(M,) float32 cosine between the surface's normal and the way to the camera."""
        return -dot(self.world_normal, self.ray)

    @cached_property
    def fine(self) -> np.ndarray:
        """(M,) float32 metres of surface that a pixel covers across the direction in which it is stretched."""
        return self.z / np.float32(self.view.fx)

    @cached_property
    def footprint(self) -> np.ndarray:
        """(M,) float32 metres of surface that a pixel covers along the direction in which it is stretched most."""
        return self.fine / np.maximum(np.abs(self.facing), 0.05)

    def footprint_along(self, axis: int, where: slice) -> np.ndarray:
        """(K,) float32 metres of surface that a pixel covers along a world axis that lies in the surface."""
        fine, stretched = self.fine[where], self.footprint[where]
        way = self.ray[axis, where] + self.facing[where] * self.world_normal[axis, where]
        # the footprint is an ellipse, long where the ray grazes the surface
        share = np.minimum(way * way / np.maximum(1 - np.square(self.facing[where]), 1e-6), 1)
        return np.sqrt(fine * fine + (stretched * stretched - fine * fine) * share)

    @cached_property
    def motion(self) -> np.ndarray:
        """(H, W, 2) float32 pixels: previous position minus present position of the same surface point."""
        before, view = self.previous_view, self.view
        u, v = view.rays()
        out = np.empty((*self.index.shape, 2), np.float64)
        # static points and the sky: one plane-independent formula, p_prev ~ R (ray + w * shift)
        turn = before.rotation.T @ view.rotation
        shift = before.rotation.T @ (view.position - before.position)
        w = np.where(self.seen, self.inverse_depth, 0.0).astype(np.float64)
        p = [turn[k, 0] * u[None, :] + (turn[k, 1] * v + turn[k, 2])[:, None] + shift[k] * w for k in range(3)]
        moving = self.index >= self.first_mover
        if moving.any():
            rotation, position = self.moved
            mine = np.flatnonzero(self.prim >= self.first_mover)
            k, pixels = self.prim[mine], self.pixels[mine]
            world = np.einsum("nij,jn->ni", rotation[k], self.local[:, mine].astype(np.float64)) + position[k]
            point = (world - before.position) @ before.rotation
            for axis in range(3):
                p[axis].ravel()[pixels] = point[:, axis]
        behind = np.maximum(p[2], 1e-6)
        out[..., 0] = before.fx * p[0] / behind + before.cx - np.arange(view.width)
        out[..., 1] = before.fy * p[1] / behind + before.cy - np.arange(view.height)[:, None]
        return out.astype(np.float32)


def view_at(street: Street, time: float, size: tuple[int, int]) -> View:
    """The camera at `time` for a picture of `size` (width, height)."""
    width, height = size
    rotation, position = street.drive.pose(time)
    focal = height / 2 / np.tan(street.drive.vertical_fov / 2)
    return View(rotation, position, focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


def draw(street: Street, time: float, before: float, size: tuple[int, int]) -> GBuffer:
    """Geometry buffers at `time`, with motion since `before`."""
    view, previous = view_at(street, time, size), view_at(street, before, size)
    still = street.still(view.position[2])
    movers = street.movers(time)
    now = Primitives.concatenate([still, *(m.parts(time) for m in movers)])
    then = [m.parts(before) for m in movers]
    moved = (
        np.concatenate([still.rotation, *(p.rotation for p in then)]),
        np.concatenate([still.position, *(p.position for p in then)]),
    )
    visible = rasterise(now, view)
    return GBuffer(time, view, previous, now, movers, moved, len(still), visible.index, visible.inverse_depth)
