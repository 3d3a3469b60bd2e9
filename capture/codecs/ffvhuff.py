"""Codec `ffvhuff`: FFmpeg's Huffman coder for pictures with texture, through PyAV.

Works on 1-byte numbers with 3 or 4 components. A payload is self-contained: u16 height, u16 width, u16 length of
FFmpeg's extradata, u32 length of the packet, the extradata (Huffman tables), and the packet; any program with FFmpeg
decodes it.
"""

from __future__ import annotations

import struct
import threading
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from numpy.typing import NDArray

from capture.codecs import Unsuitable
from capture.codecs.planes import zero_share

_HEAD = struct.Struct("<HHHI")
_FORMATS = {3: "rgb24", 4: "bgra"}
"""Pixel formats by components; only their places count, not which of them is red."""

_LEAST_SIDE = 16
_TEXTURED = (0.25, 0.8)
"""Shares of zero residuals between which the `image` codec loses itself in short repeats and this one is faster.
Below is noise, where both are equally fast and `image` is smaller; above are smooth pictures, where it is both."""

_threads = threading.local()


class Ffvhuff:
    """Textured colours and normals."""

    otherwise = "image"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return _takes(array.dtype, array.shape) and _TEXTURED[0] < zero_share(array) < _TEXTURED[1]

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if not _takes(array.dtype, array.shape):
            raise Unsuitable(f"codec 'ffvhuff' takes 1-byte numbers [H, W, 3 or 4], not {array.dtype} {array.shape}")
        height, width, components = array.shape
        key = (height, width, components)
        encoder = _cached("encoder", key) or _keep("encoder", key, _context("w", *key))
        encoder.time_base = Fraction(1, 30)
        frame = av.VideoFrame.from_numpy_buffer(array.view(np.uint8), format=_FORMATS[components])
        packets = encoder.encode(frame)
        if len(packets) != 1:
            raise ValueError(f"FFmpeg made {len(packets)} packets of one picture")
        tables = encoder.extradata or b""
        packet = memoryview(packets[0])
        return b"".join((_HEAD.pack(height, width, len(tables), len(packet)), tables, packet))

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if not _takes(number, shape):
            raise ValueError(f"codec 'ffvhuff' holds 1-byte numbers [H, W, 3 or 4], not {number} {list(shape)}")
        if len(data) < _HEAD.size:
            raise ValueError("the payload is cut")
        height, width, tables_length, length = _HEAD.unpack_from(data)
        start = _HEAD.size + tables_length
        # FFmpeg itself decodes a cut packet, or one of another size, without a word.
        if (height, width) != shape[:2] or len(data) != start + length:
            raise ValueError("the payload is cut or of another size")
        tables = bytes(data[_HEAD.size : start])
        key = (*shape, tables)
        decoder = _cached("decoder", key)
        if decoder is None:
            decoder = _context("r", *shape)
            decoder.extradata = tables
            _keep("decoder", key, decoder)
        try:
            frames = decoder.decode(av.Packet(bytes(data[start:])))
        except av.FFmpegError as error:
            _threads.decoder = None  # whatever state the error left
            raise ValueError(f"FFmpeg cannot decode it ({error.strerror})") from None
        if len(frames) != 1 or (frames[0].height, frames[0].width) != shape[:2]:
            raise ValueError("FFmpeg decodes it to something else")
        return frames[0].to_ndarray(format=_FORMATS[shape[2]]).view(number).reshape(shape)


def _takes(number: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return number.itemsize == 1 and len(shape) == 3 and shape[2] in _FORMATS and min(shape[:2]) >= _LEAST_SIDE


def _context(mode: str, height: int, width: int, components: int) -> Any:
    context = CodecContext.create("ffvhuff", mode)  # type: ignore[call-overload]
    context.width, context.height, context.pix_fmt = width, height, _FORMATS[components]
    context.thread_count = 1
    return context


def _cached(kind: str, key: tuple[Any, ...]) -> Any:
    """This thread's last coder, if it was made for the same pictures."""
    known, coder = getattr(_threads, kind, None) or (None, None)
    return coder if known == key else None


def _keep(kind: str, key: tuple[Any, ...], coder: Any) -> Any:
    setattr(_threads, kind, (key, coder))
    return coder
