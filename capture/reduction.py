"""Fewer bytes a frame, for a link that carries no more: smaller pictures and compressed channels.

Works on channels, cameras and arrays; knows nothing of messages, sockets or how fast a link is. The daemon says in
`welcome` what it wants (`Reduction`), the bridge does it, and the daemon unpacks what comes (`Coded`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.errors import FrameError
from capture.frame import Descriptor
from capture.picking import picked, picked_camera, picked_color

PROBE = "probe"
"""Capability of a bridge that lets the daemon see what the link carries."""

SHRINK = "shrink"
"""Capability of a bridge that can send every n-th pixel only."""

JPEG = "jpeg"
CODECS = ("zstd", "depth", "image", JPEG)
"""How a channel may be packed. All but the last keep every bit: see `capture.codecs`. JPEG is for colours."""

CAPABILITIES = (PROBE, SHRINK, *(f"codec:{name}" for name in CODECS))
"""What a bridge that can do all of this says in hello."""

JPEG_QUALITY = 90
MOST_SHRINK = 8


@dataclass(frozen=True)
class Coded:
    """One array, packed; stands where the array would. `dtype` and `shape` are those of the pixels."""

    codec: str
    """One of CODECS."""
    data: bytes | memoryview
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """As packed."""
        return len(self.data)

    @property
    def pixel_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def pixels(self) -> NDArray[Any]:
        """The array, read-only. Raises FrameError when the bytes cannot be one of this dtype and shape; takes no more
        memory than that needs, whatever they claim."""
        from capture.codecs import decode

        try:
            if self.codec == JPEG:
                array = _from_jpeg(self.data, self.dtype, self.shape)
            else:
                array = decode(self.codec, memoryview(self.data), self.dtype, self.shape)
        except Exception as error:  # Pillow raises a wide family
            raise FrameError(f"the {self.codec} data cannot be unpacked ({type(error).__name__}).") from None
        array.flags.writeable = False
        return array


@dataclass(frozen=True)
class Reduction:
    """What a bridge shall do with its frames before it sends them."""

    shrink: int = 1
    """Of every channel only each so many-th pixel is sent, both ways: see `capture.picking`."""
    codecs: Mapping[str, str] = field(default_factory=dict)
    """By channel, one of CODECS; a channel that is not here goes as it is."""

    def __post_init__(self) -> None:
        if not 1 <= self.shrink <= MOST_SHRINK:
            raise FrameError(f"pictures cannot be sent {self.shrink} times smaller: use 1 to {MOST_SHRINK}.")
        if unknown := [name for name in self.codecs.values() if name not in CODECS]:
            raise FrameError(f"{str(unknown[0])[:20]!r} is not one of {', '.join(CODECS)}.")

    def __str__(self) -> str:
        exact, lossy = [name for name in self.codecs if name not in self.lossy], self.lossy
        small = f"1/{self.shrink} of the width and height" if self.shrink > 1 else ""
        packed = f"{', '.join(exact)} packed without loss" if exact else ""
        return "; ".join(filter(None, (small, packed, f"{', '.join(lossy)} as JPEG" if lossy else ""))) or "nothing"

    @property
    def lossy(self) -> list[str]:
        """Names of the channels that do not arrive bit for bit, whatever their size."""
        return [name for name, codec in self.codecs.items() if codec == JPEG]

    def describe(self, channel: Descriptor) -> Descriptor:
        """The channel as it is sent. Pixels are fewer and larger, so what is measured in pixels has another scale."""
        if self.shrink == 1:
            return channel
        height, width = channel.shape[:2]
        small = channel.with_shape((-(-height // self.shrink), -(-width // self.shrink), *channel.shape[2:]))
        in_pixels = channel.family == "motion" or (channel.family == "depth" and channel.kind == "disparity")
        if in_pixels and channel.in_metres:
            small = replace(small, scale=channel.factor / self.shrink)
        return small

    def camera(self, camera: Camera | None, shape: Sequence[int]) -> Camera | None:
        """The camera of a picture that has `shape` before it is reduced."""
        return camera if camera is None or self.shrink == 1 else picked_camera(camera, self.shrink, tuple(shape))

    def array(self, channel: Descriptor, array: NDArray[Any]) -> NDArray[Any] | Coded:
        """What is sent of a channel's array; it shares no memory with that."""
        small = (picked_color if channel.family == "color" else picked)(array, self.shrink)
        codec = self.codecs.get(channel.name)
        return np.array(small, order="C") if codec is None else pack(codec, small)


def pack(codec: str, array: NDArray[Any]) -> NDArray[Any] | Coded:
    """The array packed with one of CODECS, or with what that leaves it to; as it is where none of them takes it."""
    from capture.codecs import encode_preferably

    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if codec == JPEG and _is_picture(little.dtype, little.shape):
        return Coded(JPEG, _to_jpeg(little), little.dtype, little.shape)
    used, data = encode_preferably("image" if codec == JPEG else codec, little)
    return Coded(used, data, little.dtype, little.shape) if used in CODECS else little.copy()


def coded(codec: str, data: memoryview, dtype: str, shape: tuple[int, ...]) -> Coded:
    """What arrived, not unpacked yet. Raises FrameError for a codec that is not one of CODECS."""
    if codec not in CODECS:
        raise FrameError(f"the codec {codec[:20]!r} is not one of {', '.join(CODECS)}.")
    return Coded(codec, data, np.dtype(dtype).newbyteorder("<"), shape)


def _is_picture(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return dtype == np.uint8 and len(shape) == 3 and shape[2] in (3, 4)


def _to_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Of the first three components, in whichever order they are: hence colour at full resolution. A fourth, alpha, is
    not kept."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[..., :3])).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _from_jpeg(data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from PIL import Image

    if not _is_picture(dtype, shape):
        raise ValueError("only colours are JPEG")
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:  # reads the size, and no more
        if image.mode != "RGB" or image.size != (shape[1], shape[0]):
            raise ValueError("another picture than was said")
        pixels = np.asarray(image)
    if shape[2] == 3:
        return pixels.copy()
    return np.concatenate([pixels, np.full((*shape[:2], 1), 255, np.uint8)], axis=2)
