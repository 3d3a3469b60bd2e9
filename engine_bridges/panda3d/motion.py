"""Where each pixel's surface was in the frame before, from depth, two cameras and the moves of rigid things.

Works on raw arrays as `geometry_pass` reads them (rows bottom first, cameras in OpenGL axes). Knows nothing of
Panda3D. Covers the camera's own motion over everything, sky included, and the rigid motion of tagged instances;
what moves otherwise without a tag is taken to stand still. Where motion is not known it is NaN: animated characters,
things that were not there before, points that were behind the previous camera.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera

Matrix = NDArray[np.float64]


def backward_motion(
    depth: NDArray[np.float32],
    camera: Camera,
    previous: Camera,
    instance: NDArray[np.uint16],
    moves: Mapping[int, Matrix],
    unknown: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(H, W, 2) pixels (dx right, dy up, as the rows go) from a pixel to its surface point in the previous picture.

    depth: (H, W) window-space, rows bottom first, 1 is sky.  moves: per instance id, the (4, 4) matrix that takes a
    world point of the thing as it is now to where it was; an instance without one was not there.
    unknown: (H, W) surfaces whose motion nobody can tell.
    """
    height, width = depth.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    motion = _motion(depth, columns, rows, camera, previous, np.eye(4))
    for number in np.flatnonzero(np.bincount(instance.ravel(), minlength=1)[1:]) + 1:
        move = moves.get(int(number))
        if move is not None and np.allclose(move, np.eye(4), rtol=0, atol=1e-9):
            continue
        where = np.nonzero((instance == number) & ~unknown)
        if move is None:
            motion[where] = np.nan
        else:
            motion[where] = _motion(depth[where], columns[where], rows[where], camera, previous, move)
    motion[unknown] = np.nan
    return motion


def _motion(
    depth: NDArray[np.float32],
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    camera: Camera,
    previous: Camera,
    move: Matrix,
) -> NDArray[np.float32]:
    # A point is its ray (x, y, -1) times its distance z; dividing by z makes sky (1 / z = 0) an ordinary case.
    near, far = camera.near, camera.far
    inverse_z = (far - depth * np.float32(far - near)) / np.float32(near * far)
    inverse_z[depth >= 1] = 0
    to_previous = (previous.world_to_camera @ move @ camera.pose).astype(np.float32)
    rotation, translation = to_previous[:3, :3], to_previous[:3, 3]
    x = (u - np.float32(camera.cx)) / np.float32(camera.fx)
    y = (v - np.float32(camera.cy)) / np.float32(camera.fy)
    px, py, pz = (
        rotation[i, 0] * x + rotation[i, 1] * y - rotation[i, 2] + translation[i] * inverse_z for i in range(3)
    )
    scale = np.where(pz < -1e-6, -1 / np.minimum(pz, -1e-6), np.float32(np.nan))
    du = np.float32(previous.fx) * px * scale + np.float32(previous.cx) - u
    dv = np.float32(previous.fy) * py * scale + np.float32(previous.cy) - v
    return np.stack([du, dv], axis=-1)
