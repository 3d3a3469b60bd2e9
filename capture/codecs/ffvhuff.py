"""Codecs `avi` and `ffvhuff`: FFmpeg's Huffman coder for pictures with texture, through PyAV.

Works on 1-byte numbers with 3 or 4 components. A payload is self-contained: FFmpeg's extradata (Huffman tables) and one
packet. `avi` has them in an AVI file of one picture, which any program with FFmpeg opens; `ffvhuff`, of older takes,
behind a short header.
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
_CHUNK = struct.Struct("<4sI")
_FORMATS = {3: "rgb24", 4: "bgra"}
"""Pixel formats by components; only their places count, not which of them is red."""

_LEAST_SIDE = 16
_TEXTURED = (0.25, 0.8)
"""Shares of zero residuals between which `depth` loses itself in short repeats and this one is faster. Below is noise,
where both are equally fast and `depth` is smaller; above are smooth pictures, where it is both."""

_threads = threading.local()


class Ffvhuff:
    """Textured colours and normals."""

    name = "ffvhuff"
    otherwise = "depth"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return _takes(array.dtype, array.shape) and _TEXTURED[0] < zero_share(array) < _TEXTURED[1]

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if not _takes(array.dtype, array.shape):
            raise Unsuitable(f"codec '{self.name}' takes bytes [H, W, 3 or 4], not {array.dtype} {list(array.shape)}")
        height, width, components = array.shape
        key = (height, width, components)
        encoder = _cached("encoder", key) or _keep("encoder", key, _context("w", *key))
        encoder.time_base = Fraction(1, 30)
        frame = av.VideoFrame.from_numpy_buffer(array.view(np.uint8), format=_FORMATS[components])
        packets = encoder.encode(frame)
        if len(packets) != 1:
            raise ValueError(f"FFmpeg made {len(packets)} packets of one picture")
        packet = memoryview(packets[0])
        return b"".join((*self._before(array.shape, encoder.extradata or b"", len(packet)), packet))

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if not _takes(number, shape):
            raise ValueError(f"codec '{self.name}' holds bytes [H, W, 3 or 4], not {number} {list(shape)}")
        # FFmpeg itself decodes a cut packet, or one of another size, without a word.
        tables, packet = self._split(data, shape)
        key = (*shape, tables)
        decoder = _cached("decoder", key)
        if decoder is None:
            decoder = _context("r", *shape)
            decoder.extradata = tables
            _keep("decoder", key, decoder)
        try:
            frames = decoder.decode(av.Packet(packet))
        except av.FFmpegError as error:
            _threads.decoder = None  # whatever state the error left
            raise ValueError(f"FFmpeg cannot decode it ({error.strerror})") from None
        if len(frames) != 1 or (frames[0].height, frames[0].width) != shape[:2]:
            raise ValueError("FFmpeg decodes it to something else")
        return frames[0].to_ndarray(format=_FORMATS[shape[2]]).view(number).reshape(shape)

    def _before(self, shape: tuple[int, ...], tables: bytes, length: int) -> tuple[bytes, ...]:
        """What stands before a packet of so many bytes."""
        height, width, _ = shape
        return _HEAD.pack(height, width, len(tables), length), tables

    def _split(self, data: memoryview, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Tables and packet of a payload; ValueError when it is not whole or of another size."""
        if len(data) < _HEAD.size:
            raise ValueError("the payload is cut")
        height, width, tables_length, length = _HEAD.unpack_from(data)
        start = _HEAD.size + tables_length
        if (height, width) != shape[:2] or len(data) != start + length:
            raise ValueError("the payload is cut or of another size")
        return bytes(data[_HEAD.size : start]), bytes(data[start:])


class Avi(Ffvhuff):
    """The same as a file that others open."""

    name = "avi"

    def _before(self, shape: tuple[int, ...], tables: bytes, length: int) -> tuple[bytes, ...]:
        """RIFF "AVI " of one video stream, as far as the bytes of its only picture, which are a multiple of four."""
        height, width, components = shape
        main = struct.pack("<14I", 33333, 0, 0, 0, 1, 0, 1, 0, width, height, 0, 0, 0, 0)
        stream = struct.pack("<4s4s10I4h", b"vids", b"FFVH", 0, 0, 0, 1, 30, 0, 1, 0, 2**32 - 1, 0, 0, 0, width, height)
        bits, size = 8 * components, width * height * components
        picture = struct.pack("<IiiHH4s5I", 40 + len(tables), width, height, 1, bits, b"FFVH", size, 0, 0, 0, 0)
        streams = _chunk(b"LIST", b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", picture + tables))
        headers = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", main) + streams)
        movie = _CHUNK.size + length
        whole = 4 + len(headers) + _CHUNK.size + 4 + movie
        return (
            _CHUNK.pack(b"RIFF", whole), b"AVI ", headers,
            _CHUNK.pack(b"LIST", 4 + movie), b"movi", _CHUNK.pack(b"00dc", length),
        )  # fmt: skip

    def _split(self, data: memoryview, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Of a file as `_before` makes it, and of no other."""
        tables_at = len(b"".join(self._before(shape, b"", 0))) - 2 * _CHUNK.size - 4
        (tables_length,) = struct.unpack_from("<I", data, tables_at - 40) if len(data) > tables_at else (0,)
        tables = bytes(data[tables_at : tables_at + max(0, tables_length - 40)])
        start = tables_at + len(tables) + len(tables) % 2 + 2 * _CHUNK.size + 4
        if len(data) < start or data[:start] != b"".join(self._before(shape, tables, len(data) - start)):
            raise ValueError("the payload is cut or of another size")
        return tables, bytes(data[start:])


def _chunk(name: bytes, data: bytes) -> bytes:
    """A RIFF chunk, of an even number of bytes."""
    return _CHUNK.pack(name, len(data)) + data + b"\0" * (len(data) % 2)


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
