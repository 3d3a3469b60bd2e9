"""Pictures carried from one frame to another along the engine's geometry: by depth and cameras, no model.

Works on frames with depth and poses. What stands still in the world is carried exactly; what moves or comes into sight
is not, and is known to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from capture.frame import Frame
from capture.geometry import project, world_points
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
    uv, z = project(world_points(to.depth, to.camera), source.camera)
    height, width = source.depth.shape
    with np.errstate(invalid="ignore"):
        x, y = (np.rint(np.nan_to_num(uv[..., axis], nan=-1)).clip(-1, 1e6).astype(np.intp) for axis in (0, 1))
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & np.isfinite(z)
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        seen = inside & (np.abs(source.depth[y, x] - z) <= _SEEN_TOLERANCE * z)
    return ((y, x), seen) if seen.mean() > 0.01 else None


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
        total = np.zeros((*frame.shape, 3), np.float32)
        weight = np.zeros((*frame.shape, 1), np.float32)
        before, after = (max(p for p in places if p <= index), min(p for p in places if p >= index))
        for place in {before, after}:
            if place == index:
                total, weight = anchors[place].astype(np.float32), np.ones_like(weight)
                break
            share = 1 - abs(place - index) / (after - before)
            sky = np.isinf(frame.depth) & np.isinf(frames[place].depth)
            total[sky] += share * anchors[place][sky]
            weight[sky] += share
            if (carried := carry(frames[place], frame)) is not None:
                (y, x), seen = carried
                total[seen] += share * anchors[place][y, x][seen]
                weight[seen] += share
        graded = _affine(frame.color) @ grade
        mixed = np.where(weight > 0, total / np.maximum(weight, 1e-6), graded)
        video[index], known[index] = np.clip(np.rint(mixed), 0, 255), weight[..., 0] > 0
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
