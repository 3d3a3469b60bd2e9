"""One image file -> one array, as it was written.

Works on PNG, JPEG, EXR and NPY files. Knows what kinds of numbers a channel may have; knows nothing of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.importers.source import ImportSourceError

SUFFIXES = (".npy", ".exr", ".png", ".jpg", ".jpeg")
"""Files that can be read; where a frame has several of one name, the first kind is the most exact one."""

_EXR_MAGIC = b"\x76\x2f\x31\x01"
_LINEAR_TO_SRGB = 0.0031308
_UNIT = 0.05


def read_image(path: Path) -> NDArray[Any]:
    """(H, W) or (H, W, C) of the file: bytes or 16-bit integers of a PNG, any numbers of an NPY, floats of an EXR.

    The components of an EXR are R, G, B, A or X, Y, Z, or the one that it has. Raises ImportSourceError.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            array = np.load(path, allow_pickle=False)
        elif kind == ".exr":
            array = _only_layer(read_exr(path)[0], path)
        else:
            array = _read_picture(path)
    except ImportSourceError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif" or not array.size:
        raise ImportSourceError(
            f"{path} holds {array.dtype} {list(array.shape)}, which is no image: (H, W) or (H, W, C)."
        )
    return array


def read_exr(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Channels by full name ("ViewLayer.Depth.Z"), of all parts of the file, and the header of the first part.

    Each is (H, W) float16, float32 or uint32, top row first, the pixels of the data window. ImportSourceError.
    """
    try:
        import OpenEXR
    except ImportError:
        raise ImportSourceError("EXR files need the package OpenEXR: `pip install OpenEXR`.") from None
    try:
        with open(path, "rb") as start:
            if start.read(4) != _EXR_MAGIC:  # asked here, for the library complains on stdout
                raise ImportSourceError(f"{path} is no EXR file, or cut: render or copy it again.")
        file = OpenEXR.File(str(path), separate_channels=True)
    except ImportSourceError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None
    channels = {
        _full_name(part.header.get("name"), name): channel.pixels
        for part in file.parts
        for name, channel in part.channels.items()
    }
    return channels, file.header()


def picture(array: NDArray[Any], path: Path) -> tuple[NDArray[np.uint8], float]:
    """(H, W, 3 or 4) sRGB bytes of a picture, and the share of its pixels that were brighter than white.

    Floats are scene-linear light, as EXR files hold it: they get the sRGB curve (IEC 61966-2-1) and nothing else.
    """
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.shape[2] not in (3, 4):
        raise ImportSourceError(f"{path} has {array.shape[2]} components, but a picture has 3 or 4.")
    if array.dtype == np.uint8:
        return array, 0.0
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8), 0.0
    if array.dtype.kind != "f":
        raise ImportSourceError(f"{path} holds {array.dtype}, but a picture has 8 or 16 bits, or linear floats.")
    linear = np.nan_to_num(array[..., :3].astype(np.float32), nan=0.0)
    bright = float((linear > 1).any(axis=2).mean())
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= _LINEAR_TO_SRGB, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(np.uint8), bright


def depth(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """(H, W) float32, float16, uint16 or uint32 depth; of several components the first."""
    if array.ndim == 3:
        array = np.ascontiguousarray(array[..., 0])
    if array.dtype == np.uint8:
        raise ImportSourceError(
            f"{path} has 8 bits per pixel, which is too coarse for depth: write 16-bit PNG, EXR or NPY."
        )
    return _as(array, ("float32", "float16", "uint16", "uint32"), path, "depth")


def normal(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """(H, W, 3) normals of a dtype that a descriptor takes."""
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise ImportSourceError(f"{path} has no three components, but normals need x, y, z.")
    array = np.ascontiguousarray(array[..., :3])
    return _as(array, ("uint8", "uint16", "int8", "int16", "float32", "float16"), path, "normals")


def is_shifted(normals: NDArray[np.floating[Any]]) -> bool:
    """Whether float normals were squeezed into [0, 1] as n / 2 + 0.5, as shaders do for display.

    Told by their length, which is 1 one way or the other for nearly every pixel with a surface.
    """
    vectors = normals.astype(np.float32)
    straight = np.abs(np.linalg.norm(vectors, axis=-1) - 1) < _UNIT
    shifted = np.abs(np.linalg.norm(2 * vectors - 1, axis=-1) - 1) < _UNIT
    return bool(shifted.sum() > straight.sum())


def unshifted(normals: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Normals that were squeezed into [0, 1], and (0, 0, 0) where the length says that there is none.

    A descriptor knows no floats of that kind, hence the way back here.
    """
    vectors = 2 * normals.astype(np.float32) - 1
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(np.abs(length - 1) < 0.5, vectors, np.float32(0))


def ids(array: NDArray[Any], path: Path, family: str) -> NDArray[Any]:
    """(H, W) ids: uint8 or uint16 for segmentation, uint16 or uint32 for instance."""
    if array.ndim != 2:
        raise ImportSourceError(f"{path} shows ids as colours: write one number per pixel, as PNG or NPY.")
    allowed = ("uint8", "uint16") if family == "segmentation" else ("uint16", "uint32")
    if array.dtype.name in allowed:
        return array
    if not np.array_equal(array, np.rint(array)) or array.min() < 0 or array.max() > np.iinfo(allowed[-1]).max:
        raise ImportSourceError(f"{path} holds numbers that are no {family} ids: whole numbers from 0 on are needed.")
    fits = [dtype for dtype in allowed if array.max(initial=0) <= np.iinfo(dtype).max]
    return array.astype(fits[0])


def unreadable(path: Path, error: Exception) -> ImportSourceError:
    """The error about a file that cannot be read."""
    if isinstance(error, OSError) and error.strerror:
        return ImportSourceError(f"{path} cannot be read: {error.strerror}.")
    return ImportSourceError(f"{path} cannot be read, it is damaged or of another kind: write or copy it again.")


def _as(array: NDArray[Any], allowed: tuple[str, ...], path: Path, what: str) -> NDArray[Any]:
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.name not in allowed:
        raise ImportSourceError(f"{path} holds {array.dtype}, but {what} may be {', '.join(allowed)}.")
    return np.ascontiguousarray(array)


def _read_picture(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        if path.suffix.lower() == ".png" and _png_bits(path) == 16 and image.mode not in ("I;16", "I;16B", "I"):
            return _read_deep_png(path)
        if image.mode in ("I;16", "I;16B", "I"):
            return np.asarray(image).astype(np.uint16)
        if image.mode == "P":  # of ids the numbers count, not the colours that they are shown in
            return np.asarray(image)
        return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))


def _png_bits(path: Path) -> int:
    with open(path, "rb") as file:
        head = file.read(25)
    return head[24] if head[12:16] == b"IHDR" else 8


def _read_deep_png(path: Path) -> NDArray[np.uint16]:
    """Colour PNG of 16 bits, of which Pillow keeps 8."""
    import av

    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.to_ndarray(format="rgb48le").astype(np.uint16)


def _only_layer(channels: Mapping[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    for names in (("R", "G", "B", "A"), ("R", "G", "B"), ("X", "Y", "Z")):
        found = {name.rsplit(".", 1)[-1]: array for name, array in channels.items()}
        if len(found) == len(channels) and set(names) <= set(found):
            return np.stack([found[name] for name in names], axis=-1)
    if len(channels) != 1:
        raise ImportSourceError(
            f"{path} has the channels {', '.join(sorted(channels))}, but RGB, XYZ or a single one were expected: put "
            "files with several layers into one folder and import that."
        )
    return next(iter(channels.values()))


def _full_name(part: str | None, channel: str) -> str:
    """The parts of a multi-part file may name their channels with or without the part's own name."""
    if not part or channel == part or channel.startswith(f"{part}.") or "." in channel:
        return channel
    return f"{part}.{channel}"
