"""Visibility: which primitive each pixel sees, and how far away.

Works on: primitives and a pinhole camera. Inverse depth of a plane is an affine function of pixel coordinates, so a
convex solid costs a handful of additions per pixel of its screen rectangle: it enters at the smallest inverse depth of
its front planes and leaves at the largest of its back planes.
Knows nothing of: materials, light, the street.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_bridges.city.primitives import Primitives, Shape

NEAR = 0.1
"""metres; nothing nearer is drawn"""
FAR = 600.0
"""metres; nothing farther is drawn, the sky begins there"""

LIMIT = np.float32(1.0 / NEAR)
SMALL = 200
"""pixels; solids whose rectangle on the screen is smaller are drawn all at once"""

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1])


@dataclass(frozen=True)
class View:
    """A pinhole camera: pose as rotation (3, 3) and position (3,), camera to world, OpenCV axes; pixels."""

    rotation: np.ndarray
    position: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """(W,) x and (H,) y of the ray (x, y, 1) through each pixel column and row, float64."""
        return (np.arange(self.width) - self.cx) / self.fx, (np.arange(self.height) - self.cy) / self.fy


@dataclass(frozen=True)
class Visible:
    """What each pixel sees: primitive index (H, W) int32, -1 = sky, and inverse planar depth (H, W) float32."""

    index: np.ndarray
    inverse_depth: np.ndarray


def _screen_rectangles(prims: Primitives, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixel rectangles (n, 4) int x0 x1 y0 y1, clipped (empty = not visible), and nearest depths (n,)."""
    to_camera = view.rotation.T
    centres = (prims.position - view.position) @ to_camera.T
    axes = (to_camera @ prims.rotation) * prims.half[:, None, :]
    corners = centres[:, None, :] + np.einsum("nij,cj->nci", axes, _CORNERS)
    z = corners[..., 2]
    nearest = z.min(axis=1)
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    za, zb = a[..., 2], b[..., 2]
    crosses = (za < NEAR) != (zb < NEAR)
    share = np.where(crosses, (NEAR - za) / np.where(crosses, zb - za, 1.0), 0.0)
    cut = a + (b - a) * share[..., None]
    points = np.concatenate([corners, cut], axis=1)
    usable = np.concatenate([z >= NEAR, crosses], axis=1)
    depth = np.where(usable, np.maximum(points[..., 2], NEAR), 1.0)
    px = view.fx * points[..., 0] / depth + view.cx
    py = view.fy * points[..., 1] / depth + view.cy
    rect = np.stack(
        [
            np.ceil(np.where(usable, px, np.inf).min(axis=1)),
            np.floor(np.where(usable, px, -np.inf).max(axis=1)) + 1,
            np.ceil(np.where(usable, py, np.inf).min(axis=1)),
            np.floor(np.where(usable, py, -np.inf).max(axis=1)) + 1,
        ],
        axis=1,
    )
    limits = np.array([view.width, view.width, view.height, view.height], float)
    rect = np.clip(rect, 0, limits).astype(np.int64)
    rect[nearest > FAR] = 0
    return rect, nearest


def rasterise(prims: Primitives, view: View) -> Visible:
    """Nearest primitive per pixel. Solids that contain the camera are not drawn."""
    inverse = np.full((view.height, view.width), 1.0 / FAR, np.float32)
    index = np.full((view.height, view.width), -1, np.int32)
    rects, nearest = _screen_rectangles(prims, view)
    area = (rects[:, 1] - rects[:, 0]).clip(0) * (rects[:, 3] - rects[:, 2]).clip(0)
    ground = prims.shape == Shape.GROUND
    drawn = np.flatnonzero((area > 0) | ground)
    drawn = drawn[np.argsort(nearest[drawn], kind="stable")]  # from near to far
    rects[ground] = (0, view.width, 0, view.height)
    solids, rects, nearest, area = _Solids(prims, drawn, view, rects), rects[drawn], nearest[drawn], area[drawn]

    large = np.flatnonzero((area >= SMALL) | ground[drawn])
    for n in large.tolist():
        x0, x1, y0, y1 = rects[n].tolist()
        window = inverse[y0:y1, x0:x1]
        if nearest[n] > NEAR and window.min() * nearest[n] >= 1.0:
            continue  # everything here is nearer than the nearest corner
        w, hit = solids.hit(n, solids.u[x0:x1], solids.v[y0:y1, None])
        hit &= w > window
        np.copyto(window, w, where=hit)
        np.copyto(index[y0:y1, x0:x1], drawn[n], where=hit)

    # the many small ones at once: one row of pairs (solid, pixel), of which the nearest is written last
    small = np.flatnonzero((area < SMALL) & ~ground[drawn])
    solid = np.repeat(small, area[small])
    place = np.arange(len(solid)) - np.repeat(np.cumsum(area[small]) - area[small], area[small])
    width = (rects[:, 1] - rects[:, 0])[solid]
    x, y = rects[solid, 0] + place % width, rects[solid, 2] + place // width
    pixel = y * view.width + x
    w, hit = solids.hits(solid, solids.u[x], solids.v[y])
    hit &= w > inverse.ravel()[pixel]
    solid, pixel, w = solid[hit], pixel[hit], w[hit]
    order = np.lexsort((-solid, w))
    inverse.ravel()[pixel[order]] = w[order]
    index.ravel()[pixel[order]] = drawn[solid[order]]
    return Visible(index, inverse)


class _Solids:
    """The primitives `drawn` (m,) as functions of pixel rays (u, v, 1), to be asked for their inverse depth.

    Convex solids: inverse depth of plane k is planes[k] @ (u, v, 1). Ellipsoids: unit spheres seen from q along
    e @ (u, v, 1); inverse depths 1 / t are the roots of |q + t ray|^2 = 1.
    """

    def __init__(self, prims: Primitives, drawn: np.ndarray, view: View, rects: np.ndarray) -> None:
        self.u, self.v = view.rays()
        rotation, normals = prims.rotation[drawn], prims.plane_normal[drawn]
        origin = np.einsum("nji,nj->ni", rotation, view.position - prims.position[drawn])
        ray = np.einsum("nji,jk->nik", rotation, view.rotation)  # local ray = ray @ (u, v, 1)
        distance = np.einsum("nkj,nj->nk", normals, origin) - prims.plane_offset[drawn]
        distance = np.where(np.abs(distance) < 1e-9, 1e-9, distance)
        self._planes = np.moveaxis(-(normals @ ray) / distance[..., None], 0, 2)  # (6, 3, m)
        self._front = (distance > 0).T  # (6, m): planes that the camera is in front of
        self._round = prims.shape[drawn] == Shape.ELLIPSOID
        self._ground = prims.shape[drawn] == Shape.GROUND

        half = np.where(self._round[:, None], prims.half[drawn], 1.0)
        q, e = origin / half, ray / half[..., None]
        # quadratic forms about the middle of the rectangle, for precision in float32
        x0, x1, y0, y1 = rects[drawn].T
        self._u0, self._v0 = (self.u[x0] + self.u[x1 - 1]) / 2, (self.v[y0] + self.v[y1 - 1]) / 2
        e[:, :, 2] += e[:, :, 0] * self._u0[:, None] + e[:, :, 1] * self._v0[:, None]
        self._c = (q * q).sum(axis=1) - 1.0
        b = np.einsum("ni,nij->nj", q, e)
        form = b[:, :, None] * b[:, None, :] - self._c[:, None, None] * np.einsum("nki,nkj->nij", e, e)
        self._b, self._form = b.T, np.moveaxis(form, 0, 2)

    def hit(self, n: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inverse depths and hits (h, w) of one solid, for u (w,) and v (h, 1)."""
        if self._ground[n]:
            w = _affine(self._planes[4, :, n], u, v)
            return w, w > 0
        if self._round[n]:
            return self._ellipsoid(n, u, v)
        planes, front = self._planes[:, :, n], self._front[:, n].tolist()
        enter: np.ndarray | None = None
        leave: np.ndarray | None = None
        for plane, before in zip(planes, front, strict=True):
            w = _affine(plane, u, v)
            if before:
                enter = w if enter is None else np.minimum(enter, w, out=enter)
            else:
                leave = w if leave is None else np.maximum(leave, w, out=leave)
        if enter is None:  # the camera is inside
            return np.zeros((len(v), len(u)), np.float32), np.zeros((len(v), len(u)), bool)
        return enter, (enter < LIMIT) & (True if leave is None else enter > leave)

    def hits(self, n: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inverse depths and hits (p,) of pairs of a solid and a ray: n, u, v (p,)."""
        w, hit = np.empty(len(n), np.float32), np.empty(len(n), bool)
        round_ = self._round[n]
        w[round_], hit[round_] = self._ellipsoid(n[round_], u[round_], v[round_])
        n, u, v = n[~round_], u[~round_], v[~round_]
        enter, leave = np.full(len(n), np.inf, np.float32), np.full(len(n), -np.inf, np.float32)
        for plane, before in zip(self._planes, self._front, strict=True):
            depth, front = _affine(plane.take(n, axis=1), u, v), before.take(n)
            np.minimum(enter, depth, out=enter, where=front)
            np.maximum(leave, depth, out=leave, where=~front)
        w[~round_], hit[~round_] = enter, (enter > leave) & (enter < LIMIT)
        return w, hit

    def _ellipsoid(self, n: int | np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, b, form = self._c[n], self._b[:, n], self._form[:, :, n]
        du, dv = u - self._u0[n], v - self._v0[n]
        discriminant = (2 * form[0, 1] * dv).astype(np.float32) * du.astype(np.float32)
        discriminant += (du * (form[0, 0] * du + 2 * form[0, 2])).astype(np.float32)
        discriminant += (dv * (form[1, 1] * dv + 2 * form[1, 2]) + form[2, 2]).astype(np.float32)
        hit = (discriminant > 0) & (c > 0)  # c <= 0: the camera is inside
        w = np.sqrt(np.maximum(discriminant, 0))
        w -= (b[0] * du).astype(np.float32)
        w -= (b[1] * dv + b[2]).astype(np.float32)
        w *= np.asarray(1 / np.where(c > 0, c, 1.0), np.float32)
        hit &= (w > 0) & (w < LIMIT)
        return w, hit


def _affine(plane: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """plane @ (u, v, 1), float32; plane (3,) or (3, p)."""
    return (plane[0] * u).astype(np.float32) + (plane[1] * v + plane[2]).astype(np.float32)
