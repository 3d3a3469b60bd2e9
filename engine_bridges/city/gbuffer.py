"""The geometry buffers of one moment: what a shading may look at.

Works on: a street, a time and the time before it.
Knows nothing of: colours on the screen, light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine_bridges.city.primitives import Primitives, Shape
from engine_bridges.city.raster import View, rasterise
from engine_bridges.city.street import BLOCK, Mover, Street


@dataclass
class GBuffer:
    """Visible surface per pixel. `seen` (H, W) bool is false for sky; M-rows hold the seen pixels in row order."""

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
        return self.index >= 0

    @cached_property
    def prim(self) -> np.ndarray:
        """(M,) primitive of each seen pixel."""
        return self.index[self.seen]

    @cached_property
    def depth(self) -> np.ndarray:
        """(H, W) float32 metres along the optical axis, +inf for sky."""
        return np.where(self.seen, 1.0 / self.inverse_depth, np.inf).astype(np.float32)

    @cached_property
    def z(self) -> np.ndarray:
        """(M,) float32 depth of the seen pixels."""
        return self.depth[self.seen]

    @cached_property
    def directions(self) -> np.ndarray:
        """(H, W, 3) float32 world rays, one metre along the optical axis long."""
        u, v = self.view.rays()
        r = self.view.rotation
        rows = (u[:, None] * r[:, 0]).astype(np.float32)
        columns = (v[:, None] * r[:, 1] + r[:, 2]).astype(np.float32)
        return rows[None, :, :] + columns[:, None, :]

    @cached_property
    def ray(self) -> np.ndarray:
        """(M, 3) float32 unit world directions from the camera to the seen pixels."""
        d = self.directions[self.seen]
        return d / np.sqrt((d * d).sum(axis=1, keepdims=True))

    @cached_property
    def relative(self) -> np.ndarray:
        """(M, 3) float32 world offset from the camera to the surface."""
        return self.directions[self.seen] * self.z[:, None]

    @cached_property
    def world(self) -> np.ndarray:
        """(M, 3) world points, float32 with z measured from `anchor_z` (keeps its precision along the street)."""
        base = self.view.position - np.array([0.0, 0.0, self.anchor_z])
        return self.relative + base.astype(np.float32)

    @cached_property
    def anchor_z(self) -> float:
        """A block border near the camera, metres; world z is measured from it."""
        return float(np.floor(self.view.position[2] / BLOCK) * BLOCK)

    @cached_property
    def local(self) -> np.ndarray:
        """(M, 3) float32 points in their primitive's frame."""
        rotation, position = self.prims.rotation, self.prims.position
        origin = np.einsum("nji,nj->ni", rotation, self.view.position - position).astype(np.float32)
        return np.einsum("nji,nj->ni", rotation.astype(np.float32)[self.prim], self.relative) + origin[self.prim]

    @cached_property
    def face(self) -> np.ndarray:
        """(M,) bounding plane of convex solids: +x, bottom, +z, -x, top, -z; 4 (top) for the ground."""
        gap = np.einsum("nkj,nj->nk", self.prims.plane_normal.astype(np.float32)[self.prim], self.local)
        gap -= self.prims.plane_offset.astype(np.float32)[self.prim]
        return np.where(self.prims.shape[self.prim] == Shape.GROUND, 4, gap.argmax(axis=1))

    @cached_property
    def local_normal(self) -> np.ndarray:
        """(M, 3) float32 unit normals in the primitive's frame."""
        normal = self.prims.plane_normal.astype(np.float32)[self.prim, self.face]
        round_ = self.prims.shape[self.prim] == Shape.ELLIPSOID
        n = self.local[round_] / (self.prims.half.astype(np.float32)[self.prim[round_]] ** 2)
        normal[round_] = n / np.sqrt((n * n).sum(axis=1, keepdims=True))
        return normal

    @cached_property
    def world_normal(self) -> np.ndarray:
        """(M, 3) float32 unit normals in world axes."""
        return np.einsum("nij,nj->ni", self.prims.rotation.astype(np.float32)[self.prim], self.local_normal)

    @cached_property
    def normal(self) -> np.ndarray:
        """(H, W, 3) float32 camera-space unit normals, 0 for sky."""
        out = np.zeros((*self.index.shape, 3), np.float32)
        out[self.seen] = self.world_normal @ self.view.rotation.astype(np.float32)
        return out

    @cached_property
    def footprint(self) -> np.ndarray:
        """(M,) float32 metres of surface that a pixel covers, along the direction it is stretched most."""
        facing = np.abs((self.world_normal * self.ray).sum(axis=1))
        return self.z / np.float32(self.view.fx) / np.maximum(facing, 0.12)

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
            k = self.index[moving]
            local = self.local[moving[self.seen]].astype(np.float64)
            world = np.einsum("nij,nj->ni", rotation[k], local) + position[k]
            point = (world - before.position) @ before.rotation
            for axis in range(3):
                p[axis][moving] = point[:, axis]
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
