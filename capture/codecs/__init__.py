"""Channel codecs: array -> bytes -> the same array, bit for bit, or within a bound that the codec names.

Works on one numpy array at a time, (H, W) or (H, W, C). Knows nothing of frames and files. The work is done outside
the GIL: encode on several threads.

    raw      the array's bytes, C order, little-endian
    zstd     the same bytes as one zstd frame
    depth    any number type: plane predictor on the integers behind the numbers, byte planes, zstd
    avi      1-byte numbers, 3 or 4 components: FFmpeg's Huffman coder, twice as fast where there is texture
    webp     the same, smaller and twenty times slower: for archives
    image    1-byte numbers: green subtracted, delta against the pixel above and/or left, planes, zstd; a little
             smaller than depth where there is noise: for slow links, and takes of versions 1 and 2
    ffvhuff  as avi, in an envelope of our own: takes of version 2
    log16    positive float32 on a logarithmic scale of 16 bits
    oct16    float32 unit vectors as octahedral pairs of 16 bits

All but the last two keep every bit, so NaN payloads, -0.0 and infinities survive. The byte layouts are written down in
docs/take-format.md; benchmarks/codecs.py measures what made us choose.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from capture.frame import Descriptor


class Unsuitable(ValueError):
    """The codec does not take this array."""


class Codec(Protocol):
    """One way to keep an array."""

    otherwise: str
    """Name of the codec that takes what this one does not take."""
    bound: Bound | None
    """How far numbers may be from what was encoded; None where every bit is kept."""

    def suits(self, array: NDArray[Any]) -> bool:
        """Whether this codec, rather than `otherwise`, is the better one for this array. Costs next to nothing."""

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        """Bytes of a C-ordered little-endian array; Unsuitable when the codec does not take it.

        dense: take ten times as long for what is smaller by some percent.
        """

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The array; ValueError when the bytes cannot be one of this number type and shape. Never allocates more
        than such an array needs, whatever the bytes claim."""


class QuantisingCodec(Codec, Protocol):
    """A codec with a bound."""

    def measured(self, data: memoryview) -> float:
        """The largest error in this payload, as measured when it was encoded, in the bound's unit."""


@dataclass(frozen=True)
class Bound:
    """How far decoded numbers may be from the encoded ones."""

    most: float
    unit: Literal["relative", "degrees"]
    """relative: |decoded / encoded - 1|; degrees: angle between the vectors."""

    def __str__(self) -> str:
        return f"at most {self.most:g} of the value" if self.unit == "relative" else f"at most {self.most:g} degrees"


@dataclass(frozen=True)
class Precision:
    """What a recording keeps of the numbers."""

    depth: Literal["exact", "log16"] = "exact"
    """log16: float32 depth of kinds linear, ray, disparity and inverse to a ten-thousandth of its value."""
    normals: Literal["exact", "oct16"] = "exact"
    """oct16: float32 normals to a hundredth of a degree, their length taken as 1."""


EXACT = Precision()

_HOME = {
    "raw": ("plain", "Raw"),
    "zstd": ("plain", "Zstd"),
    "depth": ("planes", "Depth"),
    "avi": ("ffvhuff", "Avi"),
    "webp": ("webp", "Webp"),
    "image": ("planes", "Image"),
    "ffvhuff": ("ffvhuff", "Ffvhuff"),
    "log16": ("quantised", "Log16"),
    "oct16": ("quantised", "Oct16"),
}
CODECS = tuple(_HOME)
"""Names of all codecs."""

_RELATIVE_KINDS = ("linear", "ray", "disparity", "inverse")
"""Kinds of depth of which a relative error is the same relative error of the distance."""


@cache
def codec(name: str) -> Codec:
    """The codec of that name; ValueError when there is none. Its libraries are imported at the first call."""
    try:
        module, kind = _HOME[name]
    except KeyError:
        raise ValueError(f"codec {name!r} is unknown, known are {', '.join(CODECS)}") from None
    return getattr(import_module(f"capture.codecs.{module}"), kind)()


def live_codec(descriptor: Descriptor, precision: Precision = EXACT) -> str:
    """Name of the codec that recording prefers for a channel: little CPU time first, then few bytes."""
    number, family = np.dtype(descriptor.dtype), descriptor.family
    if _is_picture(descriptor):
        return "avi" if descriptor.components >= 3 else "depth"
    if number.itemsize == 1 or family in ("segmentation", "instance"):
        return "zstd"
    if number == np.float32 and family == "depth" and descriptor.kind in _RELATIVE_KINDS and precision.depth == "log16":
        return "log16"
    if number == np.float32 and family == "normal" and descriptor.components == 3 and precision.normals == "oct16":
        return "oct16"
    return "depth"


def hasty_codec(descriptor: Descriptor, precision: Precision = EXACT) -> str:
    """Name of the codec for a channel when there is not the time for `live_codec`: pictures, of which that saves half
    in most of the time that a frame takes, stay as they are; depth, of which it saves nearly all, does not."""
    return "raw" if _is_picture(descriptor) else live_codec(descriptor, precision)


def _is_picture(descriptor: Descriptor) -> bool:
    """Whether it holds colours, or normals of 8 bits, which look like them."""
    return np.dtype(descriptor.dtype).itemsize == 1 and descriptor.family in ("color", "normal")


def rehearse(descriptor: Descriptor, precision: Precision = EXACT) -> None:
    """Encode something of this shape with all codecs that live recording may take for it, so that this thread has its
    libraries and buffers before there is a frame."""
    number = np.dtype(descriptor.dtype)
    noise = np.random.default_rng(0).bytes(2**16 * number.itemsize)
    array = np.resize(np.frombuffer(noise, number), descriptor.shape)
    name, following = "", live_codec(descriptor, precision)
    while name != following:
        name, following = following, codec(following).otherwise
        with suppress(Unsuitable):
            encode(name, array)


def archive_codec(descriptor: Descriptor) -> str:
    """Name of the codec that `takes pack` prefers for a channel: few bytes first, and quick to decode."""
    preferred = live_codec(descriptor)
    return "webp" if preferred == "avi" else preferred


def encode_preferably(name: str, array: NDArray[Any], dense: bool = False) -> tuple[str, bytes]:
    """(codec used, bytes): codec `name`, or what it leaves this array to. ValueError when that takes it neither."""
    chosen = codec(name)
    if chosen.suits(array):
        try:
            return name, encode(name, array, dense)
        except Unsuitable:
            if chosen.otherwise == name:
                raise
    return encode_preferably(chosen.otherwise, array, dense)


def encode(name: str, array: NDArray[Any], dense: bool = False) -> bytes:
    """Bytes of `array` in codec `name`; ValueError when the codec does not exist or does not take this array."""
    return codec(name).encode(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")), dense)


def decode(name: str, data: bytes | memoryview, dtype: str | np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Inverse of `encode`: an array of `dtype` and `shape`; ValueError when the bytes cannot be that array.

    Never allocates more than the array needs, whatever the bytes claim. The result may be read-only.
    """
    return codec(name).decode(memoryview(data), np.dtype(dtype).newbyteorder("<"), tuple(shape))
