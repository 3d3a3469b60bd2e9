"""Channels as pictures for people: depth, normals, motion and ids as RGB, labels, and sheets of several pictures.

Works on canonical arrays and uint8 images. Knows nothing of takes. Nothing here is meant to be measured from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.frame import Frame
from capture.geometry import geometric_edges

SKY = (24, 26, 32)
"""Colour of pixels without a surface in depth and normal pictures."""

# Turbo, by the polynomials that Ruofei Du fitted to Anton Mikhailov's colour map ("Turbo, An Improved Rainbow
# Colormap for Visualization", Google AI blog, 2019); rows are red, green, blue, columns the powers 0 to 5.
_TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


def turbo(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Colour map turbo: values (...) in [0, 1] -> (..., 3) uint8, from blue (0) to red (1)."""
    steps = np.clip(np.nan_to_num(np.asarray(values, np.float32)) * 255 + 0.5, 0, 255).astype(np.uint8)
    return _turbo_table()[steps]


@functools.lru_cache(maxsize=1)
def _turbo_table() -> NDArray[np.uint8]:
    powers = np.linspace(0, 1, 256)[:, None] ** np.arange(6)
    return np.clip(powers @ _TURBO.T * 255 + 0.5, 0, 255).astype(np.uint8)


def depth_range(depths: Iterable[NDArray[np.float32]]) -> tuple[float, float]:
    """(near, far) in metres that shows most of some depth images: percentiles 1 and 99 of their finite pixels.

    Use one range for a whole video, or it flickers.
    """
    finite = [depth[::4, ::4][np.isfinite(depth[::4, ::4]) & (depth[::4, ::4] > 0)] for depth in depths]
    values = np.concatenate(finite) if finite else np.empty(0, np.float32)
    if not values.size:
        return 0.1, 100.0
    near, far = (float(v) for v in np.percentile(values, (1, 99)))
    return near, max(far, near * 1.01)


def depth_to_picture(
    depth: NDArray[np.float32], near: float | None = None, far: float | None = None
) -> NDArray[np.uint8]:
    """Depth (H, W) metres -> (H, W, 3): near red, far blue, equal steps for equal ratios of distance; sky dark."""
    if near is None or far is None:
        low, high = depth_range([depth])
        near, far = near or low, far or high
    surface = np.isfinite(depth) & (depth > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        position = np.log(np.where(surface, depth, near) / near) / math.log(max(far / near, 1.0001))
    picture = turbo(1 - 0.92 * np.clip(position, 0, 1))  # turbo ends in near-black, which is the sky's
    picture[~surface] = SKY
    return picture


def normal_to_picture(normal: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Normals (H, W, 3) in OpenCV camera space -> (H, W, 3), as is customary: right is red, up is green, towards
    the camera is blue, (n * 0.5 + 0.5) * 255; sky dark."""
    customary = normal * np.array([1, -1, -1], np.float32)
    picture = np.clip((customary * 0.5 + 0.5) * 255 + 0.5, 0, 255).astype(np.uint8)
    picture[~normal.any(axis=-1)] = SKY
    return picture


def motion_to_picture(motion: NDArray[np.float32], largest: float | None = None) -> NDArray[np.uint8]:
    """Motion (H, W, 2) pixels -> (H, W, 3): direction is hue, length is brightness up to `largest` pixels."""
    length = np.hypot(motion[..., 0], motion[..., 1])
    length = np.nan_to_num(length, posinf=0.0)
    largest = largest or max(1.0, float(np.percentile(length, 99)))
    hue = np.nan_to_num(np.arctan2(motion[..., 1], motion[..., 0])) / (2 * math.pi) % 1
    # HSV with full saturation: each component is a trapezoid of the hue.
    offsets = np.array([0, 2 / 3, 1 / 3], np.float32)
    trapezoid = np.clip(np.abs((hue[..., None] + offsets) % 1 * 6 - 3) - 1, 0, 1)
    return (trapezoid * np.clip(length / largest, 0, 1)[..., None] * 255 + 0.5).astype(np.uint8)


def ids_to_picture(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Ids (H, W) -> (H, W, 3): a lasting colour per id, 0 is black."""
    # Fibonacci hashing (Knuth, TAOCP 3, 6.4) spreads neighbouring ids over the colours.
    mixed = ids.astype(np.uint32) * np.uint32(2654435769)
    picture = np.stack([mixed >> 24, mixed >> 16, mixed >> 8], axis=-1).astype(np.uint8) // 4 * 3 + 64
    picture[ids == 0] = 0
    return picture


def values_to_picture(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Any numbers (H, W) or (H, W, C) -> (H, W, 3): grey, or the first three components as colours, from the smallest
    finite value of the image to the largest."""
    planes = values.astype(np.float32).reshape(*values.shape[:2], -1)[..., :3]
    finite = planes[np.isfinite(planes)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num((planes - low) / max(high - low, 1e-12), nan=0.0)
    picture = np.zeros((*values.shape[:2], 3), np.uint8)
    picture[..., : planes.shape[2]] = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
    return picture if planes.shape[2] > 1 else np.repeat(picture[..., :1], 3, axis=-1)


def channel_picture(
    frame: Frame, channel: str, near: float | None = None, far: float | None = None
) -> NDArray[np.uint8]:
    """Any channel of a frame, sent or derived, as (H, W, 3) uint8; near and far are for depth. FrameError when it has
    no such one."""
    array = frame.canonical(channel)
    family = frame.channels[channel].descriptor.family if channel in frame.channels else channel
    if family == "color":
        return array
    if family == "depth":
        return depth_to_picture(array, near, far)
    if family == "normal":
        return normal_to_picture(array)
    if family == "motion":
        return motion_to_picture(array)
    return ids_to_picture(array) if family in ("segmentation", "instance") else values_to_picture(array)


def edges_picture(frame: Frame) -> NDArray[np.uint8]:
    """Silhouettes and creases of a frame's geometry, white on black, (H, W, 3); needs depth."""
    normal = frame.normal if "normal" in frame.available else None
    if normal is not None and normal.shape[:2] != frame.depth.shape:
        normal = None
    lines = geometric_edges(frame.depth, normal).astype(np.uint8) * np.uint8(255)
    return np.repeat(lines[..., None], 3, axis=-1)


def label(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of an image with a small caption in its top left corner."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(9, round(image.shape[0] / 28))
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox((size // 2, size // 3), text, font=font)
    draw.rectangle((0, 0, right + size // 2, bottom + size // 3), fill=(0, 0, 0, 150))
    draw.text((size // 2, size // 3), text, font=font, fill=(255, 255, 255, 255))
    return np.asarray(picture)


def overview(images: NDArray[np.uint8], most: int = 4) -> NDArray[np.uint8]:
    """At most so many of the images, `(n, h, w, 3)`, evenly spread, side by side."""
    return tile(list(images[:: -(-len(images) // most)]))


def tile(
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[str] = (),
    columns: int | None = None,
    gap: int = 0,
) -> NDArray[np.uint8]:
    """Images side by side in rows of `columns` (by default all in one row), scaled to the size of the first.

    labels: captions, one for each image; gap: dark pixels between them.
    """
    from PIL import Image

    height, width = images[0].shape[:2]
    columns = columns or len(images)
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), SKY, np.uint8)
    for i, image in enumerate(images):
        if image.shape[:2] != (height, width):
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        if i < len(labels) and labels[i]:
            image = label(image, labels[i])
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def shrink(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """An image at most `width` pixels wide, its proportions kept."""
    from PIL import Image

    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def letterbox(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture scaled into (H, W), its proportions kept, black bars around it."""
    from PIL import Image

    height, width = size
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    y, x = (height - inner[1]) // 2, (width - inner[0]) // 2
    resized: Any = Image.fromarray(picture).resize(inner, Image.Resampling.BICUBIC)
    canvas[y : y + inner[1], x : x + inner[0]] = np.asarray(resized)
    return canvas
