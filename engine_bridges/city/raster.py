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
    u, v = view.rays()
    inverse = np.full((view.height, view.width), 1.0 / FAR, np.float32)
    index = np.full((view.height, view.width), -1, np.int32)
    rects, nearest = _screen_rectangles(prims, view)

    area = (rects[:, 1] - rects[:, 0]).clip(0) * (rects[:, 3] - rects[:, 2]).clip(0)
    ground = prims.shape == Shape.GROUND
    drawn = np.flatnonzero((area > 0) & ~ground)
    order = np.concatenate([np.flatnonzero(ground), drawn[np.argsort(nearest[drawn])]])

    # from here on only what is drawn: the ground, then from near to far
    rotation, half, normals = prims.rotation[order], prims.half[order], prims.plane_normal[order]
    origin = np.einsum("nji,nj->ni", rotation, view.position - prims.position[order])
    ray = np.einsum("nji,jk->nik", rotation, view.rotation)  # local ray = ray @ (u, v, 1)
    distance = np.einsum("nkj,nj->nk", normals, origin) - prims.plane_offset[order]
    distance = np.where(np.abs(distance) < 1e-9, 1e-9, distance)
    planes = -(normals @ ray) / distance[..., None]
    front = (distance > 0).tolist()
    shapes, nearest, rects = prims.shape[order], nearest[order], rects[order]
    quadrics = _Quadrics(half, origin, ray, rects, u, v, shapes == Shape.ELLIPSOID)
    limit = np.float32(1.0 / NEAR)
    for k, (n, shape, near, (x0, x1, y0, y1)) in enumerate(
        zip(order.tolist(), shapes.tolist(), nearest.tolist(), rects.tolist(), strict=True)
    ):
        if shape == Shape.GROUND:
            w = (planes[k, 4, 0] * u + (planes[k, 4, 1] * v + planes[k, 4, 2])[:, None]).astype(np.float32)
            hit = w > inverse
            np.copyto(inverse, w, where=hit)
            index[hit] = n
            continue
        window = inverse[y0:y1, x0:x1]
        if near > NEAR and window.min() * near >= 1.0:
            continue  # everything here is nearer than the nearest corner
        if shape == Shape.ELLIPSOID:
            found = quadrics.hit(k, u[x0:x1], v[y0:y1])
        else:
            found = _convex(planes[k], front[k], u[x0:x1], v[y0:y1])
        if found is None:
            continue
        w, hit = found
        hit &= w > window
        hit &= w < limit
        np.copyto(window, w, where=hit)
        np.copyto(index[y0:y1, x0:x1], n, where=hit)
    return Visible(index, inverse)


def _convex(
    planes: np.ndarray, front: list[bool], u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Inverse depth (h, w) and hits (h, w) of a convex solid; None when the camera is inside.

    planes: (6, 3), inverse depth of each plane = planes @ (u, v, 1). front: (6,) planes that the camera is in front of.
    """
    rows = (planes[:, :1] * u).astype(np.float32)
    columns = (planes[:, 1:2] * v + planes[:, 2:3]).astype(np.float32)
    enter = leave = None
    for k in range(6):
        w = rows[k] + columns[k][:, None]
        if front[k]:
            enter = w if enter is None else np.minimum(enter, w, out=enter)
        else:
            leave = w if leave is None else np.maximum(leave, w, out=leave)
    return None if enter is None else (enter, enter > leave)


class _Quadrics:
    """Ellipsoids as unit spheres seen from q along e @ (u, v, 1): roots of |q + t ray|^2 = 1, inverse depth 1 / t."""

    def __init__(self, half: np.ndarray, origin: np.ndarray, ray: np.ndarray, rects: np.ndarray,
                 u: np.ndarray, v: np.ndarray, wanted: np.ndarray) -> None:
        half = np.where(wanted[:, None], half, 1.0)
        q, e = origin / half, ray / half[..., None]
        # quadratic forms about the middle of the rectangle, for precision in float32
        x0, x1, y0, y1 = (np.clip(rects[:, k] - k % 2, 0, len(axis) - 1) for k, axis in enumerate((u, u, v, v)))
        self._u0, self._v0 = (u[x0] + u[x1]) / 2, (v[y0] + v[y1]) / 2
        e[:, :, 2] += e[:, :, 0] * self._u0[:, None] + e[:, :, 1] * self._v0[:, None]
        c = (q * q).sum(axis=1) - 1.0
        b = np.einsum("ni,nij->nj", q, e)
        form = b[:, :, None] * b[:, None, :] - c[:, None, None] * np.einsum("nki,nkj->nij", e, e)
        self._c, self._b, self._form = c.tolist(), b.tolist(), form.tolist()

    def hit(self, n: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """As _convex."""
        c, b, form = self._c[n], self._b[n], self._form[n]
        if c <= 0:
            return None
        du, dv = u - self._u0[n], v - self._v0[n]
        du32 = du.astype(np.float32)
        discriminant = ((2 * form[0][1]) * dv).astype(np.float32)[:, None] * du32
        discriminant += (du * (form[0][0] * du + 2 * form[0][2])).astype(np.float32)
        discriminant += (dv * (form[1][1] * dv + 2 * form[1][2]) + form[2][2]).astype(np.float32)[:, None]
        hit = discriminant > 0
        w = np.sqrt(np.maximum(discriminant, 0, out=discriminant), out=discriminant)
        w -= (b[0] * du).astype(np.float32)
        w -= (b[1] * dv + b[2]).astype(np.float32)[:, None]
        w *= np.float32(1 / c)
        hit &= w > 0
        return w, hit
