"""Codecs that look at bytes only: raw and zstd; and zstd for the other codecs.

Works on buffers; knows nothing of pictures.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

# Level 1 with a longer shortest match: residuals hold few repeats, so shorter ones cost time and code space.
_FAST = zstandard.ZstdCompressionParameters.from_level(1, min_match=7, hash_log=12)
_DENSE = zstandard.ZstdCompressionParameters.from_level(12)
_threads = threading.local()


class Raw:
    """The array's bytes."""

    otherwise = "raw"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return True

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        return array.tobytes()

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if len(data) != (size := number.itemsize * math.prod(shape)):
            raise ValueError(f"{len(data)} bytes where {size} are needed")
        return np.frombuffer(data, number).reshape(shape)


class Zstd:
    """The array's bytes, compressed: for ids, which are flat."""

    otherwise = "zstd"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return True

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        return compress(array, dense)

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return np.frombuffer(decompress(data, number.itemsize * math.prod(shape)), number).reshape(shape)


def compress(array: NDArray[Any], dense: bool = False) -> bytes:
    """One zstd frame of a contiguous array's bytes; it states its size."""
    name = "dense" if dense else "fast"
    compressor = getattr(_threads, name, None)
    if compressor is None:
        # A context is not thread-safe and costs more to make than a small image to compress.
        compressor = zstandard.ZstdCompressor(compression_params=_DENSE if dense else _FAST)
        setattr(_threads, name, compressor)
    return compressor.compress(array.reshape(-1).view(np.uint8).data)


def decompress(data: memoryview, size: int) -> bytes:
    """The `size` bytes of a zstd frame; ValueError when it is broken or holds another number of them."""
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
