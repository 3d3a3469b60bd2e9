"""Geometry of canonical frames: points, normals, motion and edges from depth and cameras.

Works on canonical arrays (see `capture.frame`): depth (H, W) metres along the optical axis with +inf for sky, cameras
with OpenCV axes, pixel (0, 0) the centre of the top-left pixel. Knows nothing of engines, files or descriptors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera

Floats = NDArray[np.floating[Any]]


def pixel_grid(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W, 2) pixel coordinates (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return np.stack([x, y], axis=-1)


def unproject(depth: Floats, camera: Camera) -> NDArray[np.float64]:
    """(H, W, 3) points in camera space, metres; not finite at sky."""
    grid = pixel_grid(depth.shape)
    with np.errstate(invalid="ignore"):
        x = (grid[..., 0] - camera.cx) / camera.fx * depth
        y = (grid[..., 1] - camera.cy) / camera.fy * depth
    return np.stack([x, y, depth.astype(np.float64)], axis=-1)


def world_points(depth: Floats, camera: Camera) -> NDArray[np.float64]:
    """(H, W, 3) points in world space, metres; not finite at sky."""
    with np.errstate(invalid="ignore"):
        return unproject(depth, camera) @ camera.pose[:3, :3].T + camera.pose[:3, 3]


def project(points_world: Floats, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World points (..., 3) to pixels uv (..., 2) and distance z (...) along the optical axis, metres.

    uv is NaN where the point is not in front of the camera or not finite.
    """
    view = camera.world_to_camera
    with np.errstate(invalid="ignore", divide="ignore"):
        points = points_world @ view[:3, :3].T + view[:3, 3]
        z = points[..., 2]
        uv = points[..., :2] / z[..., None] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
        uv[~(z > 0)] = np.nan
    return uv, z


def normals_from_depth(depth: Floats, camera: Camera) -> NDArray[np.float32]:
    """(H, W, 3) float32 unit normals in camera space, towards the camera; (0, 0, 0) at sky and between
    two pixels of sky.

    Cross product of the two tangents of the surface. Along each axis the tangent goes to the neighbour whose inverse
    depth differs less, or through both where inverse depth, which is linear in pixels on a plane, hardly bends; so it
    does not cross silhouettes. On planes the result is exact up to rounding.
    """
    points = unproject(depth, camera)
    with np.errstate(divide="ignore"):
        inverse = 1 / depth.astype(np.float64)  # 0 at sky
    across = _tangent(points, inverse, axis=1)
    down = _tangent(points, inverse, axis=0)
    # x right, y down, z forward: down x across points back towards the camera.
    with np.errstate(invalid="ignore"):
        normal = np.cross(down, across)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, normal / np.where(good, length, 1), 0).astype(np.float32)


def motion_from_depth(depth: Floats, camera: Camera, previous_camera: Camera) -> NDArray[np.float32]:
    """(H, W, 2) float32 backward flow in pixels of a scene that stands still: where each pixel's point was in the
    previous frame minus where it is now (p_prev = p_now + motion).

    Sky moves as points at infinity do, with the rotation only. NaN where the point was behind the previous camera.
    """
    grid = pixel_grid(depth.shape)
    ones = np.ones(depth.shape)
    rays = unproject(ones, camera) @ camera.pose[:3, :3].T
    sky = ~np.isfinite(depth)
    # A direction is the point at infinity: it ignores both translations.
    distance = np.where(sky, 1.0, depth)[..., None]
    origin = np.where(sky[..., None], previous_camera.pose[:3, 3], camera.pose[:3, 3])
    uv, _ = project(origin + rays * distance, previous_camera)
    return (uv - grid).astype(np.float32)


def warp(image: NDArray[Any], motion: Floats) -> NDArray[Any]:
    """The previous image brought onto the present frame: out[p] = image[p + motion[p]], bilinear.

    image: (H, W) or (H, W, C); the result has its dtype (integers rounded). Beyond the border the border's value is
    repeated; see `inside` for which pixels those are. Where motion is not finite the image is left in place.
    """
    height, width = image.shape[:2]
    at = pixel_grid(motion.shape) + np.where(np.isfinite(motion), motion, 0)
    sampled = _bilinear(image, np.clip(at[..., 0], 0, width - 1), np.clip(at[..., 1], 0, height - 1))
    if np.issubdtype(image.dtype, np.integer):
        sampled = np.rint(sampled)
    return sampled.astype(image.dtype)


def inside(motion: Floats) -> NDArray[np.bool_]:
    """(H, W): whether p + motion[p] lies within the image."""
    at = pixel_grid(motion.shape) + motion
    height, width = motion.shape[:2]
    return (at[..., 0] >= 0) & (at[..., 0] <= width - 1) & (at[..., 1] >= 0) & (at[..., 1] <= height - 1)


def geometric_edges(
    depth: Floats,
    normal: Floats | None = None,
    instance: NDArray[Any] | None = None,
    *,
    relative_step: float = 0.02,
    angle_radians: float = 0.5,
) -> NDArray[np.bool_]:
    """(H, W): silhouettes and, with normals, creases, and, with instance ids, borders between things.

    A silhouette pixel is the nearer one where depth leaves the plane through its neighbours: the second difference of
    inverse depth, which vanishes on planes at any slant, exceeds `relative_step` of the inverse depth. A crease is
    where the normals of neighbours differ by more than `angle_radians`; its first pixel is marked. So is the first
    pixel of a border between two ids.
    """
    with np.errstate(divide="ignore"):
        inverse = 1 / depth.astype(np.float64)
    inverse[~np.isfinite(inverse)] = 0
    edges = np.zeros(depth.shape, dtype=bool)
    for axis in (0, 1):
        before, here, after = (_part(inverse, axis, *part) for part in ((0, -2), (1, -1), (2, None)))
        # The nearer side of a step bends downwards: its farther neighbour lies below the line.
        bend = 2 * here - before - after
        _part(edges, axis, 1, -1)[...] |= bend > relative_step * np.maximum(here, 1e-12)
    if normal is not None:
        x, y, z = np.moveaxis(normal, -1, 0)
        has_normal = (x != 0) | (y != 0) | (z != 0)
        for axis in (0, 1):
            cosine = sum(_part(n, axis, 0, -1) * _part(n, axis, 1, None) for n in (x, y, z))
            both = _part(has_normal, axis, 0, -1) & _part(has_normal, axis, 1, None)
            _part(edges, axis, 0, -1)[...] |= both & (cosine < np.cos(angle_radians))
    if instance is not None:
        for axis in (0, 1):
            _part(edges, axis, 0, -1)[...] |= _part(instance, axis, 0, -1) != _part(instance, axis, 1, None)
    return edges


def shaded_normals(depth: Floats, normal: Floats) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: unit normals in camera space as colours, (n + 1) / 2, darker with distance, black at sky:
    geometry without any appearance. Brightness falls from 1 to 1/4 with exp(-depth / 60 m)."""
    nearness = np.exp(-depth / 60.0)[..., None]  # exp(-inf) = 0 for the sky
    return np.round((normal * 0.5 + 0.5) * (0.25 + 0.75 * nearness) * (nearness > 0) * 255).astype(np.uint8)


def reprojection_error(
    depth: Floats, camera: Camera, other_depth: Floats, other_camera: Camera, *, relative_tolerance: float = 0.05
) -> NDArray[np.float32]:
    """(H, W) float32 pixels: how far each pixel comes back from itself when it travels to another view and back.

    The point of a pixel is projected into the other view, the other view's depth is read there, and that point is
    projected back. NaN where this cannot be asked: sky, out of the other view, or hidden there (the depths differ by
    more than `relative_tolerance`). This is the forward-backward error of multi-view stereo (Schönberger et al.,
    Pixelwise View Selection for Unstructured Multi-View Stereo, ECCV 2016, section 4.2).
    """
    uv, z = project(world_points(depth, camera), other_camera)
    height, width = other_depth.shape
    with np.errstate(invalid="ignore"):
        seen = (uv[..., 0] >= 0) & (uv[..., 0] <= width - 1) & (uv[..., 1] >= 0) & (uv[..., 1] <= height - 1)
    x, y = np.where(seen, uv[..., 0], 0), np.where(seen, uv[..., 1], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Inverse depth is linear in pixels on planes, so interpolating it adds no error there.
        there = 1 / _bilinear(1 / other_depth.astype(np.float64), x, y)
        seen &= np.isfinite(depth) & np.isfinite(there) & (np.abs(there - z) <= relative_tolerance * z)
        points = np.stack(
            [
                (x - other_camera.cx) / other_camera.fx * there,
                (y - other_camera.cy) / other_camera.fy * there,
                there,
            ],
            axis=-1,
        )
        back, _ = project(points @ other_camera.pose[:3, :3].T + other_camera.pose[:3, 3], camera)
        error = np.linalg.norm(back - pixel_grid(depth.shape), axis=-1)
    return np.where(seen, error, np.nan).astype(np.float32)


def _tangent(points: Floats, inverse: Floats, axis: int) -> Floats:
    """Surface tangent along an image axis; NaN where neither neighbour is a surface."""
    with np.errstate(invalid="ignore"):
        ahead, behind = _shifted(points, -1, axis) - points, points - _shifted(points, 1, axis)
    rise, fall = np.abs(_shifted(inverse, -1, axis) - inverse), np.abs(inverse - _shifted(inverse, 1, axis))
    # Replicated borders and sky give no tangent.
    last = np.arange(inverse.shape[axis]) == inverse.shape[axis] - 1
    first = np.arange(inverse.shape[axis]) == 0
    shape = (-1, 1) if axis == 0 else (1, -1)
    rise = np.where(last.reshape(shape) | (_shifted(inverse, -1, axis) == 0), np.inf, rise)
    fall = np.where(first.reshape(shape) | (_shifted(inverse, 1, axis) == 0), np.inf, fall)
    with np.errstate(invalid="ignore"):
        # Curved or flat, but unbroken: both sides count. Never so where one is infinite.
        bend = np.abs(_shifted(inverse, -1, axis) - 2 * inverse + _shifted(inverse, 1, axis))
        smooth = np.isfinite(rise + fall) & (bend < 0.25 * np.maximum(rise, fall) + 0.002 * inverse)
        one_sided = np.where((rise <= fall)[..., None], ahead, behind)
        tangent = np.where(smooth[..., None], ahead + behind, one_sided)
    tangent[np.isinf(rise) & np.isinf(fall)] = np.nan
    return tangent


def _shifted(image: NDArray[Any], step: int, axis: int) -> NDArray[Any]:
    """out[i] = image[i - step] along `axis` for a step of 1 or -1; the border is repeated."""
    index = np.clip(np.arange(image.shape[axis]) - step, 0, image.shape[axis] - 1)
    return np.take(image, index, axis=axis)


def _part(image: NDArray[Any], axis: int, first: int, last: int | None) -> NDArray[Any]:
    """The view [first, last) of `image` along `axis`."""
    return image[first:last] if axis == 0 else image[:, first:last]


def _bilinear(image: NDArray[Any], x: Floats, y: Floats) -> NDArray[np.float64]:
    """Values of `image` (H, W) or (H, W, C) at pixel positions within it."""
    height, width = image.shape[:2]
    x0 = np.minimum(x.astype(np.intp), max(width - 2, 0))
    y0 = np.minimum(y.astype(np.intp), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    wx, wy = x - x0, y - y0
    if image.ndim == 3:
        wx, wy = wx[..., None], wy[..., None]
    values = image.astype(np.float64)
    upper = values[y0, x0] * (1 - wx) + values[y0, x1] * wx
    lower = values[y1, x0] * (1 - wx) + values[y1, x1] * wx
    return upper * (1 - wy) + lower * wy
