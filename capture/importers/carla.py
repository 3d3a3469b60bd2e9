"""CARLA's images: depth packed into three bytes, classes and ids in colour components.

Works on folders that `carla.Image.save_to_disk` wrote without a colour converter, one folder per sensor, and a camera
file (docs/import.md has the lines that write it). Knows CARLA's packing and its axes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import UNITY, UNREAL
from capture.importers.cameras import SeenBy
from capture.importers.folder import ImageFolder
from capture.importers.images import read_image
from capture.importers.source import Declared, ImportSourceError

MOST = 2**24 - 1
"""The packed number of the far distance, 1000 m."""


class CarlaFolder(ImageFolder):
    """Frames from a folder of CARLA images by sensor: rgb, depth, normals, semantic_segmentation,
    instance_segmentation; a `Source`.

    Normals are the world's, as CARLA 0.10 has them. In CARLA 0.9 they are those of Unreal's view space (x right, y up,
    z forward), which `normal_space` "camera" says; the cameras' axes are then that space's.
    """

    def __init__(self, path: Path, declared: Declared) -> None:
        self._view_space = declared.normal_space == "camera"
        if self._view_space:
            declared = replace(declared, camera_axes=UNITY)
        if declared.depth_scale is None:
            declared = replace(declared, depth_scale=1000 / MOST / (declared.metres_per_unit or 1.0))
        super().__init__(path, declared)
        self._path_checked = False

    def load(self, name: str, path: Path) -> NDArray[Any]:
        image = read_image(path)
        if name == "depth":
            red, green, blue = self._bytes(image, path)
            if not self._path_checked and (red == green).all() and (green == blue).all() and red.min() < 255:
                raise ImportSourceError(
                    f"{path} was saved with a colour converter, which keeps 8 bits of 24: save depth as it comes, "
                    "`image.save_to_disk(path)`."
                )
            self._path_checked = True
            return red + (green << 8) + (blue << 16)
        if name == "segmentation":
            return self._bytes(image, path)[0].astype(np.uint8)
        if name == "instance":
            _, green, blue = self._bytes(image, path)
            return (green + (blue << 8)).astype(np.uint16)
        if name == "normal":
            return np.ascontiguousarray(image[..., :3])
        return image

    def camera(self, number: int, shape: tuple[int, ...]) -> SeenBy:
        camera, flags = super().camera(number, shape)
        if camera is None or flags or not self._view_space:
            return camera, flags
        # The transform is of the sensor's own axes (x forward, y right, z up); the same camera, said in view space:
        pose = np.eye(4)
        pose[:3, :3] = camera.pose[:3, :3] @ UNREAL.basis.T @ UNITY.basis
        pose[:3, 3] = camera.pose[:3, 3]
        return replace(camera, pose=pose), flags

    def _bytes(self, image: NDArray[Any], path: Path) -> NDArray[np.uint32]:
        """(3, H, W) red, green and blue."""
        if image.ndim != 3 or image.dtype != np.uint8:
            raise ImportSourceError(f"{path} has no three bytes per pixel, as CARLA writes them.")
        return np.moveaxis(image[..., :3], -1, 0).astype(np.uint32)
