"""Lossless channel codecs: array -> bytes -> the same array, bit for bit.

Works on one numpy array at a time. Knows nothing of frames, files or what the numbers mean; every codec keeps every
bit, so NaN payloads, -0.0 and infinities survive. All of it releases the GIL: encode channels on several threads.

    raw     the array's bytes, C order, little-endian
    zstd    the same bytes as one zstd frame
    depth   any 2- or 4-byte number type: plane predictor on the integers behind the numbers, zigzag, byte planes, zstd
    image   1-byte numbers: green subtracted, delta against the pixel above and/or left, one plane a component, zstd

Arrays are (H, W) or (H, W, C). The byte layouts are written down in docs/take-format.md. The plane predictor
(left + up - upper left) is predictor 4 of lossless JPEG (ITU-T T.81, table H.1): exact where values lie on a plane.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from capture.frame import Descriptor

CODECS = ("raw", "zstd", "depth", "image")
"""Names of all codecs."""

_UP, _LEFT, _GREEN = 1, 2, 4
"""Bits of the first byte of an `image` payload: which steps the encoder made."""

# Level 1 with a longer shortest match: residuals hold few repeats, so shorter ones cost time and code space
# (720p colour: 6.5 ms and ratio 3.2, against 8.4 ms and 3.1 of plain level 1).
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(1, min_match=7, hash_log=12)
_threads = threading.local()


def default_codec(descriptor: Descriptor) -> str:
    """Name of the codec that live recording uses for a channel."""
    one_byte = np.dtype(descriptor.dtype).itemsize == 1
    if one_byte and descriptor.family in ("color", "normal"):
        return "image"
    return "zstd" if one_byte or descriptor.family in ("segmentation", "instance") else "depth"


def encode(name: str, array: NDArray[Any]) -> bytes:
    """Bytes of `array` in codec `name`; ValueError when the codec does not exist or does not take this array."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if name == "raw":
        return array.tobytes()
    if name == "zstd":
        return _compress(array)
    if name == "depth":
        return _encode_depth(array)
    if name == "image":
        return _encode_image(array)
    raise ValueError(f"codec {name!r} is unknown, known are {', '.join(CODECS)}")


def decode(name: str, data: bytes | memoryview, dtype: str | np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Inverse of `encode`: an array of `dtype` and `shape`; ValueError when the bytes cannot be that array.

    Never allocates more than the array needs, whatever the bytes claim. The result may be read-only.
    """
    number = np.dtype(dtype).newbyteorder("<")
    size = number.itemsize * int(np.prod(shape, dtype=np.int64))
    if name == "raw":
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes where {size} are needed")
        return np.frombuffer(data, number).reshape(shape)
    if name == "zstd":
        return np.frombuffer(_decompress(data, size), number).reshape(shape)
    if name == "depth":
        return _decode_depth(data, number, shape)
    if name == "image":
        return _decode_image(data, number, shape)
    raise ValueError(f"codec {name!r} is unknown, known are {', '.join(CODECS)}")


def _encode_depth(array: NDArray[Any]) -> bytes:
    bits, planes = array.dtype.itemsize * 8, _planar(array)
    if bits not in (16, 32):
        raise ValueError(f"codec 'depth' takes 2- and 4-byte numbers in 2 or 3 dimensions, not {array.dtype}")
    numbers = planes.view(f"<u{bits // 8}")
    rows = numbers.copy()
    np.subtract(numbers[:, 1:], numbers[:, :-1], out=rows[:, 1:])
    residual = rows.copy()
    np.subtract(rows[:, :, 1:], rows[:, :, :-1], out=residual[:, :, 1:])
    # Zigzag: small residuals of either sign become small unsigned numbers, so the high byte planes are all zero.
    sign = np.right_shift(residual.view(f"<i{bits // 8}"), bits - 1, out=rows.view(f"<i{bits // 8}"))
    np.left_shift(residual, 1, out=residual)
    np.bitwise_xor(residual, sign.view(residual.dtype), out=residual)
    return _compress(np.ascontiguousarray(residual.view(np.uint8).reshape(-1, bits // 8).T))


def _decode_depth(data: bytes | memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    itemsize = number.itemsize
    if itemsize not in (2, 4) or len(shape) not in (2, 3):
        raise ValueError(f"codec 'depth' holds 2- and 4-byte numbers in 2 or 3 dimensions, not {number} {list(shape)}")
    height, width, components = (*shape, 1)[:3]
    count = height * width * components
    planes = np.frombuffer(_decompress(data, count * itemsize), np.uint8).reshape(itemsize, count)
    interleaved = np.empty((count, itemsize), np.uint8)
    for byte in range(itemsize):
        interleaved[:, byte] = planes[byte]
    zigzag = interleaved.view(f"<u{itemsize}").reshape(components, height, width)
    sign = np.negative(zigzag & 1)
    np.right_shift(zigzag, 1, out=zigzag)
    np.bitwise_xor(zigzag, sign, out=zigzag)
    np.cumsum(zigzag, axis=2, dtype=zigzag.dtype, out=zigzag)
    return _interleaved(_sum_rows(zigzag).view(number), shape)


def _encode_image(array: NDArray[Any]) -> bytes:
    if array.dtype.itemsize != 1:
        raise ValueError(f"codec 'image' takes 1-byte numbers, not {array.dtype}")
    planes, steps = _planar(array.view(np.uint8)), 0
    if planes.shape[0] >= 3:
        steps |= _GREEN
        planes = planes.copy() if planes.base is not None else planes
        np.subtract(planes[0], planes[1], out=planes[0])
        np.subtract(planes[2], planes[1], out=planes[2])
    steps |= _best_delta(planes)
    if steps & _UP:
        delta = planes.copy()
        np.subtract(planes[:, 1:], planes[:, :-1], out=delta[:, 1:])
        planes = delta
    if steps & _LEFT:
        delta = planes.copy()
        np.subtract(planes[:, :, 1:], planes[:, :, :-1], out=delta[:, :, 1:])
        planes = delta
    return bytes([steps]) + _compress(planes)


def _decode_image(data: bytes | memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if number.itemsize != 1 or len(shape) not in (2, 3):
        raise ValueError(f"codec 'image' holds 1-byte numbers in 2 or 3 dimensions, not {number} {list(shape)}")
    if not len(data) or data[0] > (_UP | _LEFT | _GREEN):
        raise ValueError("the first byte of an image payload is wrong")
    steps = data[0]
    height, width, components = (*shape, 1)[:3]
    if steps & _GREEN and components < 3:
        raise ValueError("the first byte of an image payload is wrong")
    decoded = _decompress(memoryview(data)[1:], height * width * components)
    planes = np.frombuffer(decoded, np.uint8).reshape(components, height, width)
    if steps & _LEFT:
        planes = np.cumsum(planes, axis=2, dtype=np.uint8)
    if steps & _UP:
        planes = _sum_rows(planes if planes.flags.writeable else planes.copy())
    if not steps & _GREEN:
        return _interleaved(planes, shape).view(number)
    image = np.empty(shape, np.uint8)
    for component in range(components):
        if component in (0, 2):
            np.add(planes[component], planes[1], out=image[..., component])
        else:
            image[..., component] = planes[component]
    return image.view(number)


def _best_delta(planes: NDArray[np.uint8]) -> int:
    """Which of up, left and both leaves the smallest residuals, judged on every sixteenth pair of rows."""
    if planes.shape[1] < 2 or planes.shape[2] < 2:
        return _LEFT if planes.shape[1] < 2 else _UP
    lower, upper = planes[:, 1::16], planes[:, :-1:16]
    up, left = lower - upper, lower[:, :, 1:] - lower[:, :, :-1]
    both = up[:, :, 1:] - up[:, :, :-1]
    costs = {
        steps: int(np.abs(residual.view(np.int8).astype(np.int16)).sum())
        for steps, residual in ((_UP, up[:, :, 1:]), (_LEFT, left), (_UP | _LEFT, both))
    }
    return min(costs, key=costs.__getitem__)


def _planar(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W) or (H, W, C) as contiguous (C, H, W)."""
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise ValueError(f"an image has 2 or 3 dimensions, not {array.ndim}")
    planes = np.empty((array.shape[2], *array.shape[:2]), array.dtype)
    for component in range(array.shape[2]):
        planes[component] = array[..., component]
    return planes


def _interleaved(planes: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Inverse of `_planar`."""
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


def _compress(array: NDArray[Any]) -> bytes:
    compressor = getattr(_threads, "compressor", None)
    if compressor is None:
        # A context is not thread-safe and costs more to make than a small image to compress.
        compressor = _threads.compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS)
    return compressor.compress(array.reshape(-1).view(np.uint8).data)


def _decompress(data: bytes | memoryview, size: int) -> bytes:
    decompressor = getattr(_threads, "decompressor", None)
    if decompressor is None:
        decompressor = _threads.decompressor = zstandard.ZstdDecompressor()
    try:
        claimed = zstandard.frame_content_size(data)
        if claimed != size:
            raise ValueError(f"the compressed data holds {claimed} bytes where {size} are needed")
        decoded = decompressor.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"the compressed data is broken ({error})") from None
    if len(decoded) != size:
        raise ValueError(f"the compressed data holds {len(decoded)} bytes where {size} are needed")
    return decoded
