"""A scene whose truth is known in closed form, and the same scene in the words of any engine.

A ground plane and a sphere, seen by a pinhole camera. `Scene` holds the canonical truth; `EngineView` says it again in
engine axes, units and row order, by components rather than by the matrices that the code under test uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from capture.camera import Axes, Camera, Conventions

GROUND = 1.6  # metres below the world origin: world y, which points down
CENTRE, RADIUS = np.array([0.4, 0.1, 5.0]), 1.3
ALL_AXES = [Axes(sx + x, sy + y, sz + z) for x, y, z in permutations("xyz") for sx, sy, sz in product("+-", repeat=3)]


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    return (
        np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    )


@dataclass
class Scene:
    camera: Camera
    depth: np.ndarray
    """(H, W) metres along the optical axis, inf for sky."""
    distance: np.ndarray
    """(H, W) metres along the viewing ray."""
    normal_world: np.ndarray
    normal: np.ndarray
    points: np.ndarray
    """(H, W, 3) canonical world points."""


def see(yaw=0.0, pitch=0.1, roll=0.0, at=(0.0, 0.0, 0.0), shape=(27, 40), near=0.1, far=80.0) -> Scene:
    """Ray-casts the scene; beyond `far` along the optical axis there is sky."""
    height, width = shape
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation(yaw, pitch, roll), at
    return look(Camera(pose, 0.775 * width, 0.825 * width, width / 2 - 2.25, height / 2 + 1.5, near, far), shape)


def look(camera: Camera, shape=(27, 40)) -> Scene:
    """Ray-casts the scene as a canonical camera sees it; beyond its far plane there is sky."""
    (height, width), pose, at, far = shape, camera.pose, camera.pose[:3, 3], camera.far
    depth, distance = np.full(shape, np.inf), np.full(shape, np.inf)
    normal = np.zeros((*shape, 3))
    for row in range(height):
        for column in range(width):
            ray = np.array([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, 1.0])
            direction = pose[:3, :3] @ ray
            best, facing = math.inf, None
            if abs(direction[1]) > 1e-9:
                t = (GROUND - at[1]) / direction[1]
                if 0 < t < best:
                    best, facing = t, np.array([0.0, -math.copysign(1, direction[1]), 0.0])
            offset = np.asarray(at) - CENTRE
            a, b, c = direction @ direction, 2 * offset @ direction, offset @ offset - RADIUS**2
            root = b * b - 4 * a * c
            if root > 0:
                t = (-b - math.sqrt(root)) / (2 * a)
                if 0 < t < best:
                    best, facing = t, (np.asarray(at) + t * direction - CENTRE) / RADIUS
            if best < far:
                depth[row, column] = best  # the ray's component along the optical axis is 1
                distance[row, column] = best * np.linalg.norm(ray)
                normal[row, column] = facing
    points = np.asarray(at) + np.where(np.isfinite(depth), depth, 0)[..., None] * (
        np.stack(
            [
                (np.arange(width)[None, :] - camera.cx) / camera.fx * np.ones(shape),
                (np.arange(height)[:, None] - camera.cy) / camera.fy * np.ones(shape),
                np.ones(shape),
            ],
            axis=-1,
        )
        @ pose[:3, :3].T
    )
    return Scene(camera, depth, distance, normal, normal @ pose[:3, :3], points)


def to_engine(vectors: np.ndarray, axes: Axes) -> np.ndarray:
    """Canonical vectors (..., 3) in engine axes: so much right, so much up, so much forward."""
    out = np.zeros_like(vectors)
    for letter, amount in (
        (axes.right, vectors[..., 0]),
        (axes.up, -vectors[..., 1]),
        (axes.forward, vectors[..., 2]),
    ):
        out[..., "xyz".index(letter[1])] = amount if letter[0] == "+" else -amount
    return out


def from_engine(vectors: np.ndarray, axes: Axes) -> np.ndarray:
    def along(letter: str) -> np.ndarray:
        value = vectors[..., "xyz".index(letter[1])]
        return value if letter[0] == "+" else -value

    return np.stack([along(axes.right), -along(axes.up), along(axes.forward)], axis=-1)


def engine_camera(scene: Scene, conventions: Conventions, rows: str) -> Camera:
    """The camera as the engine has it: its own axes' images in its own world, lengths in its own units."""
    pose, camera = np.eye(4), scene.camera
    for i in range(3):
        axis = from_engine(np.eye(3)[i], conventions.camera_axes)
        pose[:3, i] = to_engine(camera.pose[:3, :3] @ axis, conventions.world_axes)
    unit = conventions.metres_per_unit
    pose[:3, 3] = to_engine(camera.pose[:3, 3], conventions.world_axes) / unit
    cy = camera.cy if rows == "top" else scene.depth.shape[0] - 1 - camera.cy
    return Camera(pose, camera.fx, camera.fy, camera.cx, cy, camera.near / unit, camera.far / unit)
