"""How well depth, cameras and normals explain each other: numbers that are small where the declarations are right.

Works on canonical arrays. Each score is asked of the same frames under several declarations; the declaration whose
score is far smaller than all others' is the true one. Knows nothing of declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.conventions import canonical_camera
from capture.frame import Frame
from capture.geometry import normals_from_depth, pixel_grid, unproject

Floats = NDArray[np.floating[Any]]

POINTS = 2500
"""Points by which a pair of frames is judged."""
_SMOOTH = np.cos(np.deg2rad(12))
_LOST = 0.7
"""Error of a point that the other frame does not show at all, as a logarithm of distances."""


@dataclass
class View:
    """The geometry of one frame."""

    depth: NDArray[np.float32]
    camera: Camera | None

    @classmethod
    def of(cls, frame: Frame) -> View:
        camera = frame.camera_of("depth")
        descriptor = frame.channels["depth"].descriptor
        if camera is not None:
            camera = canonical_camera(camera, frame.conventions, descriptor.shape, descriptor.rows)
        return cls(frame.depth, camera)

    @cached_property
    def surface(self) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.depth) & (self.depth > 0))

    @cached_property
    def normal(self) -> NDArray[np.float32]:
        """(H, W, 3) from depth."""
        assert self.camera is not None
        return normals_from_depth(np.where(self.surface, self.depth, np.inf), self.camera)

    @cached_property
    def smooth(self) -> NDArray[np.bool_]:
        """(H, W): surfaces that are resolved: the normals of a pixel's neighbours agree."""
        normal = self.normal
        mask = self.surface & normal.any(axis=-1)
        for axis in (0, 1):
            alike = (normal * np.roll(normal, 1, axis)).sum(axis=-1) > _SMOOTH
            mask = mask & alike & np.roll(alike, -1, axis)
        mask[[0, -1]] = False
        mask[:, [0, -1]] = False
        return np.asarray(mask)

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Flat positions of at most POINTS pixels with a surface, evenly spread; the same for every camera."""
        known = np.flatnonzero(self.surface)
        return known[:: max(1, known.size // POINTS)]

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(N, 3) of `sample`, camera space."""
        assert self.camera is not None
        return unproject(self.depth, self.camera).reshape(-1, 3)[self.sample]


def angles(sent: Floats, derived: Floats) -> NDArray[np.float32]:
    """Degrees between unit vectors (..., 3)."""
    return np.degrees(np.arccos(np.clip((sent * derived).sum(axis=-1), -1, 1))).astype(np.float32)


def normal_angle(view: View, sent: NDArray[np.float32]) -> float:
    """Median angle in degrees between normals sent and derived where the surface is smooth; NaN for too few."""
    mask = view.smooth & sent.any(axis=-1)
    if mask.sum() < 200:
        return float("nan")
    return float(np.median(angles(sent[mask], view.normal[mask])))


@dataclass(frozen=True)
class Planes:
    """Tangent planes of some smooth pixels, and the normals sent for them.

    On a plane 1/z = a (x - cx) / fx + b (y - cy) / fy + c, and (a, b, c) is along its normal. A focal length, or a law
    of depth that is linear in 1/z, changes only the three numbers, so no picture needs to be gone through again.
    """

    abc: NDArray[np.float64]
    """(N, 3)."""
    sent: NDArray[np.float32]
    """(N, 3) in canonical camera space."""

    @classmethod
    def of(cls, view: View, sent: NDArray[np.float32], most: int = 1500) -> Planes:
        """At pixels that are smooth and have a normal."""
        assert view.camera is not None
        chosen = np.flatnonzero(view.smooth & sent.any(axis=-1))
        chosen = chosen[:: max(1, chosen.size // most)]
        y, x = np.unravel_index(chosen, view.depth.shape)
        inverse = 1 / np.where(view.surface, view.depth, 1).astype(np.float64)
        camera = view.camera
        along, down = 0.5 * (inverse[y, x + 1] - inverse[y, x - 1]), 0.5 * (inverse[y + 1, x] - inverse[y - 1, x])
        c = inverse[y, x] - along * (x - camera.cx) - down * (y - camera.cy)
        return cls(np.stack([along * camera.fx, down * camera.fy, c], axis=-1), sent[y, x])

    def angle(self, ratio: float = 1.0, factor: float = 1.0, offset: float = 0.0) -> float:
        """Median degrees between normals sent and those of the planes, with the focal length `ratio` times as long
        and 1/z `factor` times as large plus `offset`; NaN for too few."""
        if len(self.abc) < 100:
            return float("nan")
        normal = self.abc * (ratio * factor, ratio * factor, factor)
        normal[:, 2] += offset
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        # The plane's normal towards the camera: 1/z grows against it.
        return float(np.median(angles(self.sent, -normal / np.maximum(length, 1e-30))))


def relative_pose(a: Camera, b: Camera) -> NDArray[np.float64]:
    """(4, 4) from the camera space of a into that of b."""
    return b.world_to_camera @ a.pose


def pose_error(a: View, b: View, pose: NDArray[np.float64]) -> float:
    """How badly the surface of `a`, brought into `b` by a relative pose, fits the surface that `b` shows.

    The median over the points of |ln(distance expected / distance there)|; points that should be in view and are
    not, count as lost. 0 for a scene that stands still and a pose that is right.
    """
    assert b.camera is not None
    moved = a.points @ pose[:3, :3].T + pose[:3, 3]
    there, inside = _distance_at(b, moved)
    if inside.sum() < 0.3 * len(moved) or len(moved) < 100:
        return _LOST
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(np.log(there[inside] / moved[inside, 2]))
    error = np.where(np.isfinite(error), np.minimum(error, _LOST), _LOST)
    return float(np.median(error))


def motion_size(a: View, b: View, pose: NDArray[np.float64]) -> float:
    """Median pixels by which points of `a` move in the picture to get to `b`."""
    assert b.camera is not None
    moved = a.points @ pose[:3, :3].T + pose[:3, 3]
    front = moved[:, 2] > 1e-6
    if not front.any():
        return 0.0
    uv = moved[front, :2] / moved[front, 2:] * (b.camera.fx, b.camera.fy) + (b.camera.cx, b.camera.cy)
    start = pixel_grid(a.depth.shape).reshape(-1, 2)[a.sample][front]
    return float(np.median(np.linalg.norm(uv - start, axis=-1)))


@dataclass(frozen=True)
class RigidFit:
    """The rigid motion that brings the surface of one frame onto that of another best."""

    error: float
    """Median distance of the surfaces, relative to the distance from the camera."""
    pose: NDArray[np.float64]
    """(4, 4) camera space of the first to that of the second."""
    degrees: float
    """How far the camera turned."""


def rigid_fit(a: View, b: View, steps: int = 10) -> RigidFit | None:
    """Point-to-plane registration of `a` onto `b` with projective association (Blais and Levine, Registering
    Multiview Range Data to Create 3D Computer Objects, PAMI 17(8), 1995; Chen and Medioni 1992), from standing still.
    None where there is too little to hold on to."""
    assert b.camera is not None
    pose = np.eye(4)
    error = np.nan
    for _ in range(steps):
        moved = a.points @ pose[:3, :3].T + pose[:3, 3]
        rows, columns, inside = _pixels(b, moved)
        normal = b.normal[rows, columns].astype(np.float64)
        known = inside & b.smooth[rows, columns]
        if known.sum() < 150:
            return None
        there = b.depth[rows, columns].astype(np.float64)[known]
        camera = b.camera
        # The surface's plane through the pixel's centre: no rounding error on planes.
        foot = np.stack(
            [(columns[known] - camera.cx) / camera.fx * there, (rows[known] - camera.cy) / camera.fy * there, there],
            axis=-1,
        )
        p, n = moved[known], normal[known]
        residual = ((p - foot) * n).sum(axis=-1) / there
        spread = 1.5 * np.median(np.abs(residual)) + 1e-6
        error = float(np.median(np.abs(residual)))
        weight = 1 / (1 + (residual / spread) ** 2) ** 2
        jacobian = np.concatenate([np.cross(p, n), n], axis=-1) / there[:, None]
        # Lengths of turn and shift differ; scaled, the damping treats them alike.
        scale = np.array([1, 1, 1] + [1 / np.median(there)] * 3)
        j = jacobian / scale
        weighted = (j * weight[:, None]).T
        matrix = weighted @ j
        step = -np.linalg.solve(matrix + 1e-9 * np.trace(matrix) * np.eye(6), weighted @ residual)
        pose = _small_motion(step / scale) @ pose
    turn = float(np.degrees(np.arccos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1))))
    return RigidFit(error, pose, turn)


def flatness(depth: NDArray[np.float32], window: int) -> NDArray[np.float64]:
    """(N,) of square windows without sky: how far inverse depth, which is linear in pixels on a plane, is from a
    plane's, relative to it; NaN where the window is not all surface."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / depth.astype(np.float64)
    inverse[~np.isfinite(inverse)] = np.nan
    half = max(1, window // 2)
    patches = np.lib.stride_tricks.sliding_window_view(inverse, (window, window))[::half, ::half]
    patches = patches.reshape(-1, window * window)
    y, x = np.mgrid[:window, :window].reshape(2, -1) - (window - 1) / 2
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y], axis=-1))
    rest = patches - patches @ basis @ basis.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt((rest**2).mean(axis=-1)) / patches.mean(axis=-1))


def _small_motion(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a turn by the vector step[:3] (Rodrigues) and a shift by step[3:]."""
    angle = float(np.linalg.norm(step[:3]))
    motion = np.eye(4)
    if angle > 1e-12:
        x, y, z = step[:3] / angle
        k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        motion[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    motion[:3, 3] = step[3:]
    return motion


def _pixels(view: View, points: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Nearest rows and columns of points (N, 3), and which of them are in view."""
    camera = view.camera
    assert camera is not None
    height, width = view.depth.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = points[:, 0] / points[:, 2] * camera.fx + camera.cx
        y = points[:, 1] / points[:, 2] * camera.fy + camera.cy
        inside = (points[:, 2] > 0) & (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    column = np.rint(np.where(inside, x, 0)).astype(np.intp)
    row = np.rint(np.where(inside, y, 0)).astype(np.intp)
    return row, column, inside


def _distance_at(view: View, points: Floats) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance along the axis that the view shows where points (N, 3) appear, and which of them are in view.

    Between pixels inverse depth is interpolated, which is exact on planes.
    """
    camera = view.camera
    assert camera is not None
    height, width = view.depth.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = points[:, 0] / points[:, 2] * camera.fx + camera.cx
        y = points[:, 1] / points[:, 2] * camera.fy + camera.cy
        inside = (points[:, 2] > 0) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        inverse = np.where(view.surface, 1 / view.depth.astype(np.float64), 0.0)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    x0, y0 = np.minimum(x.astype(np.intp), width - 2), np.minimum(y.astype(np.intp), height - 2)
    wx, wy = x - x0, y - y0
    upper = inverse[y0, x0] * (1 - wx) + inverse[y0, x0 + 1] * wx
    lower = inverse[y0 + 1, x0] * (1 - wx) + inverse[y0 + 1, x0 + 1] * wx
    with np.errstate(divide="ignore"):
        return 1 / (upper * (1 - wy) + lower * wy), inside
