"""The pinhole camera of a Panda3D lens.

Works on a camera node and the size of its picture. Knows nothing of scenes, channels or sockets.

Poses are camera-to-world on column vectors, in engine units; the camera's own axes are those of OpenGL (x right,
y up, z backward), which is the space that Panda's shaders call view space whatever `coordinate-system` says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from panda3d import core as p3d

from capture.camera import OPENGL, Axes, Camera, Conventions
from capture.errors import UserError


def conventions(metres_per_unit: float = 1.0) -> Conventions:
    """The session's axes: Panda's world as configured (by default x right, y forward, z up), cameras as OpenGL."""
    letters = [_letter(direction()) for direction in (p3d.LVector3.right, p3d.LVector3.up, p3d.LVector3.forward)]
    return Conventions(world_axes=Axes(*letters), camera_axes=OPENGL, metres_per_unit=metres_per_unit)


def _letter(vector: p3d.LVector3) -> str:
    index = max(range(3), key=lambda i: abs(vector[i]))
    return ("-" if vector[index] < 0 else "+") + "xyz"[index]


def matrix(mat: p3d.LMatrix4) -> NDArray[np.float64]:
    """(4, 4) for column vectors; Panda's own matrices act on row vectors."""
    return np.array([[mat.getCell(row, col) for row in range(4)] for col in range(4)], dtype=np.float64)


def view_to_camera() -> NDArray[np.float64]:
    """(4, 4) from OpenGL view axes to the axes that Panda camera nodes have."""
    return matrix(p3d.LMatrix4.convertMat(p3d.CSYupRight, p3d.getDefaultCoordinateSystem()))


def read_camera(camera: p3d.NodePath, size: tuple[int, int]) -> Camera:
    """What `camera` shows on a picture of `size` (width, height), rows bottom first.

    Focal lengths and principal point come from the projection matrix, so that aspect ratio and film offset
    (off-axis lenses) are in them. A pixel x of ndc is (x + 1) * W / 2 - 0.5. Raises UserError for a lens that is
    not a perspective lens looking forward, and for a scaled or sheared camera.
    """
    lens = camera.node().getLens()
    if not lens.isPerspective():
        raise UserError("the program's camera is orthographic: only perspective cameras can be captured.")
    projection = matrix(lens.getProjectionMat()) @ view_to_camera()
    expected_zero = [projection[0, 1], projection[0, 3], projection[1, 0], projection[1, 3], *projection[3, [0, 1, 3]]]
    if np.abs(expected_zero).max() > 1e-5 or projection[3, 2] >= 0:
        raise UserError("the program's lens is rotated, sheared or shifted against its camera node; turn the node.")
    projection = projection / -projection[3, 2]
    width, height = size
    pose = matrix(camera.getNetTransform().getMat()) @ view_to_camera()
    scales = np.linalg.norm(pose[:3, :3], axis=0)
    if np.abs(scales - scales[0]).max() > 1e-3 * scales[0]:
        raise UserError("the program's camera hangs below a node that is scaled unevenly: scale the models instead.")
    pose[:3, :3] /= scales
    return Camera(
        pose,
        fx=projection[0, 0] * width / 2,
        fy=projection[1, 1] * height / 2,
        cx=(1 - projection[0, 2]) * width / 2 - 0.5,
        cy=(1 - projection[1, 2]) * height / 2 - 0.5,
        near=lens.getNear() * scales[0],
        far=lens.getFar() * scales[0],
    )
