"""An image as it was read -> the channel of a frame: what its numbers mean, by its name and by what was declared.

Works on arrays; remembers what the images of a source have in common. Knows nothing of where they were read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError
from capture.frame import Channel, Descriptor
from capture.importers import images
from capture.importers.source import Declared, ImportSourceError

_CLIPPED_SHARE = 0.01


class ChannelReader:
    """Makes the channels of one source, frame by frame; tells in `notes` what a user would wonder about."""

    def __init__(self, declared: Declared, notes: list[str]) -> None:
        self._declared = declared
        self._notes = notes
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._shifted: dict[str, bool] = {}
        self._clipped: set[str] = set()

    def channel(self, name: str, array: NDArray[Any], path: Path, serial: int) -> Channel:
        """The channel `name` of frame `serial` from an image (H, W) or (H, W, C) that was read from `path`.

        ImportSourceError, naming the file, when the numbers do not fit the channel or its size changes.
        """
        try:
            descriptor, array = self._describe(name, array, path)
        except FrameError as error:
            raise ImportSourceError(f"{path}: {error}") from None
        size = self._sizes.setdefault(name, array.shape[:2])
        if array.shape[:2] != size:
            raise ImportSourceError(
                f"{path} is {array.shape[1]}x{array.shape[0]}, but the {name} images before it are "
                f"{size[1]}x{size[0]}: import images of one size, each size as a take of its own."
            )
        return Channel(descriptor, array, serial)

    def _describe(self, name: str, array: NDArray[Any], path: Path) -> tuple[Descriptor, NDArray[Any]]:
        family, meaning = family_of(name), {}
        if family == "color":
            array, clipped = images.picture(array, path)
            self._note_clipped(name, clipped)
        elif family == "depth":
            array = images.depth(array, path)
            meaning = self._depth_law(array)
        elif family == "normal":
            array = self._straight(name, images.normal(array, path))
            meaning = {"space": self._declared.normal_space or "camera"}
        elif family in ("segmentation", "instance"):
            array = images.ids(array, path, family)
        elif array.dtype == np.float64:
            array = array.astype(np.float32)
        descriptor = Descriptor(name, array.dtype.name, array.shape, rows=self._declared.rows or "top", **meaning)
        return descriptor, np.ascontiguousarray(array)

    def _depth_law(self, array: NDArray[Any]) -> dict[str, Any]:
        """The depth fields of a descriptor.

        Integers are millimetres where nothing is declared about linear and ray depth, as depth cameras, ROS (REP 118)
        and `takes export` write them, and the full range of a depth buffer for the other kinds.
        """
        kind, scale = self._declared.depth_kind or "linear", self._declared.depth_scale
        if scale is None and array.dtype.kind == "u":
            millimetre = 0.001 / (self._declared.metres_per_unit or 1.0)
            scale = millimetre if kind in ("linear", "ray") else 1 / float(np.iinfo(array.dtype).max)
        law: dict[str, Any] = {"kind": kind, "scale": scale or 1.0, "projection": self._declared.projection}
        return law | ({"baseline": self._declared.baseline} if kind == "disparity" else {})

    def _straight(self, name: str, normals: NDArray[Any]) -> NDArray[Any]:
        """Float normals as vectors, also where they were squeezed into [0, 1]; the first frame decides."""
        if normals.dtype.kind != "f":
            return normals
        if name not in self._shifted:
            self._shifted[name] = images.is_shifted(normals)
            if self._shifted[name]:
                self._notes.append(f"{name} holds numbers from 0 to 1, which were read as n / 2 + 0.5.")
        return images.unshifted(normals) if self._shifted[name] else normals

    def _note_clipped(self, name: str, share: float) -> None:
        if share > _CLIPPED_SHARE and name not in self._clipped:
            self._clipped.add(name)
            self._notes.append(
                f"{name} is scene-linear light and was clipped where it is brighter than white ({share:.0%} of the "
                "first such picture): for a film-like view render PNG files too, into a folder `color` beside."
            )


def family_of(name: str) -> str:
    """The family of a channel's name, as `capture.frame.Descriptor.family` has it."""
    first = name.split("_", 1)[0]
    return "color" if first == "albedo" else first
