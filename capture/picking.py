"""Smaller pictures by every n-th pixel, and the camera that belongs to them.

Works on arrays and cameras. Numbers that are measured (depth, normals, ids) are picked, never mixed; colours are
averaged about the same pixels, so that all channels of a frame still lie on each other exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera


def first_pick(side: int, step: int) -> int:
    """Place of the first pixel picked along a side: symmetric about the middle, whichever row or column comes first."""
    return (side - 1) % step // 2


def picked(data: NDArray[Any], step: int) -> NDArray[Any]:
    """Every `step`-th pixel of an array (H, W) or (H, W, C): a view."""
    y0, x0 = (first_pick(side, step) for side in data.shape[:2])
    return data[y0::step, x0::step]


def picked_color(color: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The same pixels of a colour uint8 (H, W, C), each the mean of the box of odd size about it, so that it stands for
    its surroundings."""
    reach = step // 2
    if not reach:
        return color
    total = _box_sums(_box_sums(color, 0, step), 1, step)
    return (total // (2 * reach + 1) ** 2).astype(np.uint8)


def picked_camera(camera: Camera, step: int, shape: tuple[int, ...]) -> Camera:
    """The camera of every `step`-th pixel of its picture of `shape` (H, W, ...)."""
    y0, x0 = (first_pick(side, step) for side in shape[:2])
    return replace(
        camera, fx=camera.fx / step, fy=camera.fy / step, cx=(camera.cx - x0) / step, cy=(camera.cy - y0) / step
    )


def _box_sums(data: NDArray[Any], axis: int, step: int) -> NDArray[np.uint32]:
    """Along one axis, for every picked place the sum of those around it; beyond the border lies the border."""
    side, begin = data.shape[axis], first_pick(data.shape[axis], step)
    places = np.arange(begin, side, step)
    total = np.zeros(1, np.uint32)
    for shift in range(-(step // 2), step // 2 + 1):
        total = total + data.take(np.clip(places + shift, 0, side - 1), axis).astype(np.uint32)
    return total
