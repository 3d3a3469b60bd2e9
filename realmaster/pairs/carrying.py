"""Pictures carried from one frame to another along the engine's geometry: by depth and cameras, no model.

Works on frames with depth and poses. What stands still in the world is carried exactly; what moves or comes into sight
is not, and is known to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from capture.camera import Camera
from capture.frame import Frame
from realmaster.pairs.propagators import colour_correction

_SEEN_TOLERANCE = 0.03
"""Relative difference of depths within which two views see one surface."""


def can_carry(frames: Sequence[Frame]) -> bool:
    """Whether they have what it takes."""
    return all("depth" in f.channels and f.has_pose and f.depth.shape == f.shape for f in frames)


def carry(source: Frame, to: Frame) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray] | None:
    """Where `source` shows what each pixel of `to` shows: rows and columns, and bool `[H, W]` where it does. None when
    that is less than a hundredth of the picture."""
    assert source.camera is not None and to.camera is not None
    u, v, z = _projected(to.depth, to.camera, source.camera)
    height, width = source.depth.shape
    with np.errstate(invalid="ignore"):  # sky is not finite, which no comparison holds for
        x, y = np.rint(u), np.rint(v)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 0)
        x, y = (np.where(inside, at, 0).astype(np.intp) for at in (x, y))
        seen = inside & (np.abs(source.depth[y, x] - z) <= _SEEN_TOLERANCE * z)
    return ((y, x), seen) if seen.mean() > 0.01 else None


def _shown(source: Frame, anchor: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """What an anchor of the frame `source` shows of `frame`: bool `[H, W]`, and its colours there, uint8
    `[H, W, 3]`."""
    shown, picture = np.isinf(frame.depth) & np.isinf(source.depth), anchor
    if (carried := carry(source, frame)) is not None:
        (y, x), seen = carried
        picture = np.where(seen[..., None], anchor[y, x], anchor)
        shown = shown | seen
    return shown, picture


def _projected(depth: np.ndarray, camera: Camera, other: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows and distance, float32 `[H, W]` each, at which `other` sees what `camera` sees at each pixel, whose
    depth, metres, is `[H, W]`.

    In one step, where `capture.geometry` goes by world points: what is seen at distance d along the ray of pixel
    (x, y, 1) lies at d K' R K^-1 (x, y, 1) + K' t for the other, K its cameras' matrices, R and t the motion from one
    to the other (Hartley and Zisserman, "Multiple View Geometry", section 9.6.1).
    """
    motion = other.world_to_camera @ camera.pose
    turned = _matrix(other) @ motion[:3, :3] @ np.linalg.inv(_matrix(camera))
    moved = (_matrix(other) @ motion[:3, 3]).astype(np.float32)
    height, width = depth.shape
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v, z = (
            depth * (a * x + b * y + c).astype(np.float32) + t for (a, b, c), t in zip(turned, moved, strict=True)
        )
        return u / z, v / z, z


def _matrix(camera: Camera) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def carry_anchors(frames: Sequence[Frame], anchors: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A video, uint8 `[T, H, W, 3]`, of the anchors (place -> uint8 `[H, W, 3]`, first and last frame among them)
    carried to every frame: those before and after it mixed by nearness; sky is taken from the same place. And bool
    `[T, H, W]`: what an anchor shows. Elsewhere stands the render in the anchors' colours, by the affine map that fits
    best."""
    places = sorted(anchors)
    grade = _grade([frames[place].color for place in places], [anchors[place] for place in places])
    video = np.empty((len(frames), *frames[0].color.shape), np.uint8)
    known = np.empty(video.shape[:3], bool)
    for index, frame in enumerate(frames):
        if index in anchors:
            video[index], known[index] = anchors[index], True
            continue
        before, after = (max(p for p in places if p < index), min(p for p in places if p > index))
        total = np.zeros((*frame.shape, 3), np.float32)
        weight = np.zeros((*frame.shape, 1), np.float32)
        for place in (before, after):
            shown, picture = _shown(frames[place], anchors[place], frame)
            share = (1 - abs(place - index) / (after - before)) * shown[..., None].astype(np.float32)
            total += share * picture
            weight += share
        graded = _affine(frame.color) @ grade
        np.divide(total, weight, out=graded, where=weight > 0)
        video[index], known[index] = np.clip(np.rint(graded), 0, 255), weight[..., 0] > 0
    return video, known


def complete(video: np.ndarray, carried: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What was carried where it is known, and elsewhere a model's `video`, brought frame by frame to its colours. All
    uint8 `[T, H, W, 3]`; known is bool `[T, H, W]`."""
    completed = carried.copy()
    for made, result, is_known in zip(video, completed, known, strict=True):
        if is_known.any() and not is_known.all():
            gain, offset = colour_correction(made[is_known], result[is_known])
            result[~is_known] = np.clip(np.rint(made[~is_known] * gain + offset), 0, 255)
    return completed


def _grade(renders: Sequence[np.ndarray], anchors: Sequence[np.ndarray]) -> np.ndarray:
    """float32 `[4, 3]`: the affine map of colours that brings renders nearest to anchors."""
    a = np.concatenate([_affine(render[::4, ::4]).reshape(-1, 4) for render in renders])
    b = np.concatenate([anchor[::4, ::4].reshape(-1, 3) for anchor in anchors]).astype(np.float32)
    return np.linalg.lstsq(a, b, rcond=None)[0].astype(np.float32)


def _affine(color: np.ndarray) -> np.ndarray:
    """`[..., 4]`: red, green, blue, 1."""
    return np.concatenate([color.astype(np.float32), np.ones((*color.shape[:-1], 1), np.float32)], axis=-1)
