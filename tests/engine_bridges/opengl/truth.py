"""What the zoo's pictures must show: its scene by ray casting, from the cameras that it writes down.

Knows the scene's geometry and nothing of OpenGL: an oracle of another kind than the program that it judges.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.frame import Frame


@dataclass(frozen=True)
class Truth:
    """The scene, and the camera of every frame, of one run."""

    scene: dict[str, Any]
    frames: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Truth:
        first, *rest = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return cls(first, rest)

    def depth(self, number: int) -> NDArray[np.float32]:
        """(H, W) float32 distance along the optical axis of the scene in frame `number`, +inf for sky."""
        camera = self.frames[number]
        width, height = camera["size"]
        focal = height / 2 / np.tan(camera["vfov"] / 2)
        across = (np.arange(width) - (width - 1) / 2) / focal
        up = ((height - 1) / 2 - np.arange(height)) / focal
        rays = np.stack([*np.meshgrid(across, up), np.full((height, width), -1.0)], axis=-1)
        rays = rays @ _rotation(camera["yaw"], camera["pitch"]).T  # still one unit of depth long
        eye = np.array(camera["eye"])
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = self._floor(eye, rays)
            for low, high in self.scene["boxes"]:
                depth = np.minimum(depth, _box(eye, rays, np.array(low), np.array(high)))
        depth[(depth < camera["near"]) | (depth >= camera["far"])] = np.inf
        return depth.astype(np.float32)

    def _floor(self, eye: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = -eye[1] / rays[..., 1]
        at = eye + distance[..., None] * rays
        inside = (distance > 0) & (np.abs(at[..., (0, 2)]) <= self.scene["floor"]).all(axis=-1)
        return np.where(inside, distance, np.inf)


def _rotation(yaw: float, pitch: float) -> NDArray[np.float64]:
    """Camera to world: first the pitch about x, then the yaw about y."""
    c, s = np.cos(yaw), np.sin(yaw)
    around_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    return around_y @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _box(
    eye: NDArray[np.float64], rays: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance to an axis-aligned box from outside, by the slab method."""
    first, second = (low - eye) / rays, (high - eye) / rays
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def shown(frame: Frame) -> int:
    """Number of the zoo's frame that the colour shows: it is in the sky, top row, left."""
    red, green, blue = (int(value) for value in frame.color[0, 0])
    assert blue == 255, f"the top left pixel is {red, green, blue}, not the sky's"
    return red + 256 * green


def wrong(depth: NDArray[np.float32], truth: NDArray[np.float32], tolerance: float = 0.01) -> float:
    """Share of the pixels whose depth is farther from the truth than `tolerance`, relatively; sky against sky is right.

    Along silhouettes a pixel may fall to either side: one or two in a hundred are wrong in a perfect capture.
    """
    sky, sky_truth = np.isinf(depth), np.isinf(truth)
    with np.errstate(invalid="ignore"):
        off = np.abs(depth - truth) > tolerance * truth
    return float(np.mean((sky != sky_truth) | (off & ~sky & ~sky_truth)))
