"""What was where in the fake game, by its own account, and how far a recording is from it.

Works on the host's truth file and on canonical frames: metres, camera space in OpenCV's axes. Pixels are sampled; those
within a pixel of an edge, where rasterisers may differ, are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.frame import Frame

Array = NDArray[Any]

SKY = 7
STEP_SECONDS = 0.04
GTA_TO_CANONICAL = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""World axes x right, y forward, z up to OpenCV's."""
CAMERA_TO_CANONICAL = GTA_TO_CANONICAL
"""The same for the camera's own axes."""


def shown(frame: Frame) -> int:
    """Number of the step that the picture shows, from the blocks in its top-left corner (of 8 pixels, or one of n)."""
    block = max(1, 8 * frame.color.shape[1] // frame_width(frame))
    row = frame.color[block // 2, block // 2 : 16 * block : block].mean(axis=-1)
    return int(sum(int(value > 127) << bit for bit, value in enumerate(row)))


def frame_width(frame: Frame) -> int:
    """Width of the window; frames that were scaled down say so in a test's own words."""
    return int(getattr(frame, "window_width", frame.color.shape[1]))


@dataclass(frozen=True)
class Seen:
    """What a few pixels show, as (N,) arrays."""

    x: Array
    y: Array
    depth: Array
    """Metres along the optical axis, inf for sky."""
    normal: Array
    """(N, 3) unit, camera space."""
    stencil: Array
    inside: Array
    """Whether the pixel and all its neighbours show the same face of the same thing."""


class Truth:
    def __init__(self, path: Path) -> None:
        self.steps = {step["step"]: step for step in map(json.loads, path.read_text().splitlines())}

    def camera(self, step: int, width: int, height: int) -> Camera:
        """Canonical."""
        told = self.steps[step]
        right, forward, up, at = (np.array(axis) for axis in told["camera"])
        pose = np.eye(4)
        pose[:3, :3] = GTA_TO_CANONICAL @ np.stack([right, forward, up], axis=1) @ CAMERA_TO_CANONICAL.T
        pose[:3, 3] = GTA_TO_CANONICAL @ at
        focal = height / 2 / np.tan(np.radians(told["fov"]) / 2)
        return Camera(pose, focal, focal, (width - 1) / 2, (height - 1) / 2, told["near"], told["far"])

    def see(self, step: int, camera: Camera, x: Array, y: Array) -> Seen:
        """Cast rays through these pixels of the true camera."""
        around = [self._cast(step, camera, x + dx, y + dy) for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
        depth, normal, stencil, face = around[0]
        inside = np.all([other[3] == face for other in around[1:]], axis=0)
        return Seen(x, y, depth, normal, stencil, inside)

    def _cast(self, step: int, camera: Camera, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones(len(x))], axis=1)
        rays = rays @ camera.pose[:3, :3].T
        best = np.full(len(x), np.inf)
        normal, stencil = np.zeros((len(x), 3)), np.full(len(x), SKY)
        face = np.full(len(x), -1)
        for number, box in enumerate(self.steps[step]["boxes"]):
            right, forward, up, at = (GTA_TO_CANONICAL @ np.array(axis) for axis in box["pose"])
            turn = np.stack([right, forward, up])
            half = np.array(box["half"])
            start, ray = turn @ (camera.pose[:3, 3] - at), rays @ turn.T
            with np.errstate(divide="ignore", invalid="ignore"):
                one, other = (-half - start) / ray, (half - start) / ray
            near, far = np.minimum(one, other), np.maximum(one, other)
            entry = near.max(axis=1)
            hit = (entry < far.min(axis=1)) & (entry > camera.near) & (entry < best)
            axis = near.argmax(axis=1)
            best = np.where(hit, entry, best)
            stencil = np.where(hit, box["stencil"], stencil)
            face = np.where(hit, 6 * number + axis, face)
            normal[hit] = (-np.sign(np.take_along_axis(ray, axis[:, None], 1)) * turn[axis])[hit]
        return best, normal @ camera.pose[:3, :3], stencil, face


def samples(width: int, height: int, count: int = 3000, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    return random.integers(0, width, count).astype(float), random.integers(0, height, count).astype(float)


@dataclass(frozen=True)
class Errors:
    """Greatest errors of one frame."""

    depth: float
    """Share of the distance."""
    normal: float
    """Degrees; 0 where there are none."""
    stencil: int
    """Pixels of the wrong class."""
    camera: float
    """Pixels: where the recorded camera shows what the true camera shows elsewhere."""
    sky: int
    """Pixels that are sky in one and not in the other."""


def errors(frame: Frame, truth: Truth, step: int) -> Errors:
    """A frame against the truth of a step."""
    height, width = frame.depth.shape
    true = truth.camera(step, width, height)
    x, y = samples(width, height)
    seen = truth.see(step, true, x, y)
    at = (y.astype(int)[seen.inside], x.astype(int)[seen.inside])
    depth, stencil = seen.depth[seen.inside], seen.stencil[seen.inside]
    solid = np.isfinite(depth)
    recorded = frame.depth[at]
    both = solid & np.isfinite(recorded)
    angle = 0.0
    if "normal" in frame.channels:
        cosine = np.sum(frame.normal[at][solid] * seen.normal[seen.inside][solid], axis=1)
        angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())
    wrong = 0
    if "segmentation" in frame.channels:
        wrong = int(np.sum(frame.channels["segmentation"].data[at] != stencil))
    return Errors(
        float(np.max(np.abs(recorded[both] - depth[both]) / depth[both])),
        angle,
        wrong,
        _reprojection(frame.camera, true, seen),
        int(np.sum(solid != np.isfinite(recorded))),
    )


def _reprojection(recorded: Camera | None, true: Camera, seen: Seen) -> float:
    assert recorded is not None
    solid = np.isfinite(seen.depth)
    x, y, z = seen.x[solid], seen.y[solid], seen.depth[solid]
    points = np.stack([(x - true.cx) / true.fx * z, (y - true.cy) / true.fy * z, z], axis=1)
    world = points @ true.pose[:3, :3].T + true.pose[:3, 3]
    own = (world - recorded.pose[:3, 3]) @ recorded.pose[:3, :3]
    u = own[:, 0] / own[:, 2] * recorded.fx + recorded.cx
    v = own[:, 1] / own[:, 2] * recorded.fy + recorded.cy
    return float(np.max(np.hypot(u - x, v - y)))
