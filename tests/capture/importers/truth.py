"""The analytic scene in the words of a program, and the check that an import says the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image

from capture.camera import Axes, Camera, Conventions
from capture.frame import Frame
from capture.geometry import world_points
from capture.take import Take
from tests.capture.analytic import Scene, engine_camera, look, see, to_engine

SHAPE = (27, 40)
VIEWS = ({"yaw": 0.2, "pitch": 0.15, "roll": 0.1, "at": (0.3, -0.2, 0.5)}, {"yaw": -0.3, "pitch": 0.2, "roll": -0.2})
"""Two views in which floor, sphere and sky are seen; no angle is 0, so that no mixed-up axis goes unnoticed."""


def scenes(count: int = 2) -> list[Scene]:
    return [see(shape=SHAPE, **VIEWS[index % len(VIEWS)]) for index in range(count)]


def square_pixels(scene: Scene) -> Scene:
    """The scene again, through a lens with square pixels and the middle as principal point."""
    camera = scene.camera
    lens = Camera.from_vertical_fov(camera.pose, 1.1, SHAPE[1], SHAPE[0], camera.near, camera.far)
    return look(lens, SHAPE)


def color_of(scene: Scene) -> NDArray[np.uint8]:
    """Some picture of the scene: every pixel has its own colour."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([x * 6, y * 9, np.where(np.isfinite(scene.depth), 40, 200)], axis=-1).astype(np.uint8)


def engine_normals(scene: Scene, world_axes: Axes) -> NDArray[np.float32]:
    """The scene's normals along the axes of an engine's world; 0 for sky."""
    return to_engine(scene.normal_world, world_axes).astype(np.float32)


def in_engine(scene: Scene, conventions: Conventions) -> Camera:
    """The scene's camera as the engine has it."""
    return engine_camera(scene, conventions, "top")


def assert_truth(frame: Frame, scene: Scene, *, depth: float = 1e-5, normal: float = 1e-5) -> None:
    """Depth in metres, normals in camera space, and the points that depth and camera give together.

    Tolerances: relative for depth, absolute for the components of normals.
    """
    np.testing.assert_allclose(frame.depth, scene.depth, rtol=depth)
    surface = np.isfinite(scene.depth)
    np.testing.assert_allclose(frame.normal[surface], scene.normal[surface], atol=normal)
    assert not frame.normal[~surface].any()
    assert frame.camera is not None
    points = world_points(frame.depth, frame.camera)[surface]
    # An engine's origin is the scene's, so the canonical worlds are the same one.
    np.testing.assert_allclose(points, scene.points[surface], rtol=0, atol=20 * depth + 1e-6)


def write_exr(path: Path, channels: dict[str, NDArray[Any]], header: dict[str, Any] | None = None) -> None:
    with OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, **(header or {})}, channels) as file:
        file.write(str(path))


def write_png(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def read_back(path: Path) -> list[Frame]:
    with Take(path) as take:
        frames = list(take)
        for frame in frames:
            _ = {name: channel.data for name, channel in frame.channels.items()}
        return frames
