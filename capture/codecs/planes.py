"""Codecs that predict each number from its neighbours and compress what is left, plane by plane: depth and image.

Works on arrays (H, W) or (H, W, C). The plane predictor (left + up - upper left) is predictor 4 of lossless JPEG
(ITU-T T.81, table H.1): exact where values lie on a plane.

Encoders work in buffers that each thread keeps, for fresh memory costs more than the arithmetic; `depth`, which takes
most steps, goes in strips that stay in the processor's cache.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.codecs import Unsuitable
from capture.codecs.plain import compress, decompress

UP, LEFT, GREEN = 1, 2, 4
"""Bits of the first byte of an `image` payload: which steps the encoder made."""

_FLAT = 0.9
"""Share of zero residuals from which pictures are flat: whole runs and rows repeat."""

_STRIP_BYTES = 2**18

_UNZIGZAGGED = bytes((code >> 1) ^ (255 if code & 1 else 0) for code in range(256))
"""Of each byte what `_zigzag` made it from."""

_threads = threading.local()


class Depth:
    """Numbers read as integers: exact for floats, too, whatever their bits mean. Also pictures without much texture, or
    with so much that it is noise; flat ones are the business of `zstd`, which takes a third of the time for them."""

    otherwise = "zstd"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return array.dtype.itemsize > 1 or array.ndim not in (2, 3) or zero_share(array) < _FLAT

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        size = array.dtype.itemsize
        if size not in (1, 2, 4) or array.ndim not in (2, 3):
            raise Unsuitable(f"codec 'depth' takes numbers of 1, 2 or 4 bytes in 2 or 3 dimensions, not {array.dtype}")
        numbers = _components(array.view(f"<u{size}"))
        count, height, width = numbers.shape
        planes = _buffer("out", size * array.size).reshape(size, count, height, width)
        for rows in strips(height, width * size):
            length = rows.stop - rows.start
            up = _buffer("strip", (length + 1) * width * size).view(numbers.dtype).reshape(length + 1, width)
            both = _buffer("strip 2", length * width * size).view(numbers.dtype).reshape(length, width)
            for c in range(count):
                if rows.start:
                    np.copyto(up[0], numbers[c, rows.start - 1])
                else:
                    up[0] = 0
                np.copyto(up[1:], numbers[c, rows])
                np.subtract(up[1:], up[:-1], out=both)
                np.copyto(up[1:, 0], both[:, 0])
                np.subtract(both[:, 1:], both[:, :-1], out=up[1:, 1:])
                _zigzag(up[1:], both)
                for byte in range(size):
                    if byte:
                        np.right_shift(both, 8, out=both)
                    np.copyto(planes[byte, c, rows], both, casting="unsafe")
        return compress(planes, dense)

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        size = number.itemsize
        if size not in (1, 2, 4) or len(shape) not in (2, 3):
            raise ValueError(f"codec 'depth' holds numbers of 1, 2 or 4 bytes in 2 or 3 dimensions, not {number}")
        height, width, components = (*shape, 1)[:3]
        count = math.prod(shape)
        planes = decompress(data, count * size)
        if size == 1:
            residual = np.frombuffer(planes.translate(_UNZIGZAGGED), np.uint8).copy()
        else:
            residual = np.empty(count, f"<u{size}")
            for byte, plane in enumerate(np.frombuffer(planes, np.uint8).reshape(size, count)):
                residual.view(np.uint8)[byte::size] = plane
            sign = np.negative(residual & 1)
            np.right_shift(residual, 1, out=residual)
            np.bitwise_xor(residual, sign, out=residual)
        numbers = residual.reshape(components, height, width)
        np.cumsum(numbers, axis=2, dtype=numbers.dtype, out=numbers)
        return _interleaved(_sum_rows(numbers).view(number), shape)


class Image:
    """1-byte numbers, with more effort than `Depth`."""

    otherwise = "zstd"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return array.ndim not in (2, 3) or zero_share(array) < _FLAT

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if array.dtype.itemsize != 1 or array.ndim not in (2, 3):
            raise Unsuitable(f"codec 'image' takes 1-byte numbers in 2 or 3 dimensions, not {array.dtype}")
        pixels = np.moveaxis(np.atleast_3d(array.view(np.uint8)), 2, 0)
        steps, _ = best_steps(pixels)
        residual = _buffer("out", array.size).reshape(pixels.shape)
        other = _buffer("out 2", array.size).reshape(pixels.shape)
        _subtract_green(pixels, residual, steps)
        if steps & UP:
            np.copyto(other[:, :1], residual[:, :1])
            np.subtract(residual[:, 1:], residual[:, :-1], out=other[:, 1:])
            residual, other = other, residual
        if steps & LEFT:
            np.copyto(other[:, :, :1], residual[:, :, :1])
            np.subtract(residual[:, :, 1:], residual[:, :, :-1], out=other[:, :, 1:])
            residual, other = other, residual
        return bytes([steps]) + compress(residual, dense)

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if number.itemsize != 1 or len(shape) not in (2, 3):
            raise ValueError(f"codec 'image' holds 1-byte numbers in 2 or 3 dimensions, not {number} {list(shape)}")
        height, width, components = (*shape, 1)[:3]
        if not len(data) or data[0] > (UP | LEFT | GREEN) or (data[0] & GREEN and components < 3):
            raise ValueError("the first byte of an image payload is wrong")
        steps = data[0]
        planes = np.frombuffer(decompress(data[1:], math.prod(shape)), np.uint8).reshape(components, height, width)
        if steps & LEFT:
            planes = np.cumsum(planes, axis=2, dtype=np.uint8)
        if steps & UP:
            planes = _sum_rows(planes if planes.flags.writeable else planes.copy())
        if not steps & GREEN:
            return _interleaved(planes, shape).view(number)
        image = np.empty(shape, np.uint8)
        for component in range(components):
            if component in (0, 2):
                np.add(planes[component], planes[1], out=image[..., component])
            else:
                image[..., component] = planes[component]
        return image.view(number)


def best_steps(pixels: NDArray[np.uint8]) -> tuple[int, float]:
    """Which steps leave the smallest residuals of (C, H, W) planes, and the share of residuals that are then 0;
    judged on sixteen pairs of rows."""
    count, height, width = pixels.shape
    green = GREEN if count >= 3 else 0
    if height < 2 or width < 2:
        return green | (LEFT if height < 2 else UP), 1.0
    apart = max(1, height // 16)
    below, above = pixels[:, 1::apart], pixels[:, : height - 1 : apart]
    lower, upper = (np.empty(rows.shape, np.uint8) for rows in (below, above))
    _subtract_green(below, lower, green)
    _subtract_green(above, upper, green)
    up, left = lower - upper, lower[:, :, 1:] - lower[:, :, :-1]
    residuals = {UP: up[:, :, 1:], LEFT: left, UP | LEFT: up[:, :, 1:] - up[:, :, :-1]}
    costs = {steps: int(np.abs(r.view(np.int8).astype(np.int16)).sum()) for steps, r in residuals.items()}
    best = min(costs, key=costs.__getitem__)
    return green | best, float(np.mean(residuals[best] == 0))


def zero_share(array: NDArray[Any]) -> float:
    """Share of the residuals of 1-byte numbers (H, W) or (H, W, C) that are 0, in a sample; noise has few."""
    return best_steps(np.moveaxis(np.atleast_3d(array.view(np.uint8)), 2, 0))[1]


def _zigzag(residual: NDArray[Any], out: NDArray[Any]) -> None:
    """Small residuals of either sign become small unsigned numbers, so that the high planes are all zero; `residual` is
    spent. Of single bytes the sign is found by comparing: processors do not shift those many at a time."""
    size = residual.itemsize
    if size == 1:
        np.greater(residual, 127, out=out.view(np.bool_))
        np.negative(out, out=out)
        np.add(residual, residual, out=residual)
    else:
        signed = np.dtype(f"<i{size}")
        np.right_shift(residual.view(signed), size * 8 - 1, out=out.view(signed))
        np.left_shift(residual, 1, out=residual)
    np.bitwise_xor(residual, out, out=out)


def _subtract_green(pixels: NDArray[np.uint8], out: NDArray[np.uint8], steps: int) -> None:
    for component in (1, 0, *range(2, len(pixels))) if len(pixels) > 1 else (0,):
        if steps & GREEN and component in (0, 2):
            np.subtract(pixels[component], out[1], out=out[component])
        else:
            np.copyto(out[component], pixels[component])


def strips(height: int, row_bytes: int) -> Iterator[slice]:
    """Rows of a picture, so many at a time as fit into the processor's cache with some more arrays like them."""
    rows = max(1, _STRIP_BYTES // row_bytes)
    return (slice(start, min(height, start + rows)) for start in range(0, height, rows))


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    """`size` bytes of this thread's buffer of that name, with whatever is in them."""
    buffers = _threads.__dict__.setdefault("buffers", {})
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size, np.uint8)
    return buffers[name][:size]


def _components(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W) or (H, W, C) as (C, H, W); a view."""
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def _interleaved(planes: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """(C, H, W) as an array of `shape`, (H, W) or (H, W, C)."""
    if len(shape) == 2:
        return planes.reshape(shape)
    image = np.empty(shape, planes.dtype)
    for component in range(shape[2]):
        image[..., component] = planes[component]
    return image


def _sum_rows(planes: NDArray[Any]) -> NDArray[Any]:
    """Running sum down the rows, in place; a loop over rows is four times as fast as cumsum(axis=1)."""
    for row in range(1, planes.shape[1]):
        np.add(planes[:, row], planes[:, row - 1], out=planes[:, row])
    return planes
