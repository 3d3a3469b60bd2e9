"""A clip: consecutive frames of a take, as stacked arrays.

Works on frames; knows nothing of where they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.errors import TakeError
from capture.frame import Frame


class Clip:
    """Consecutive frames as stacked canonical arrays.

    Each array is made when first asked for: `color` alone decodes nothing else. A channel that any of the frames
    lacks is None. Raises TakeError when the frames differ in size.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"Clip({len(self)} frames)"

    @cached_property
    def color(self) -> NDArray[np.uint8] | None:
        """(T, H, W, 3) uint8 sRGB."""
        return self._stack("color")

    @cached_property
    def depth(self) -> NDArray[np.float32] | None:
        """(T, H, W) float32 metres along the optical axis, +inf for sky."""
        return self._stack("depth")

    @cached_property
    def normal(self) -> NDArray[np.float32] | None:
        """(T, H, W, 3) float32 unit vectors in camera space, from depth where none were sent."""
        return self._stack("normal")

    @cached_property
    def motion(self) -> NDArray[np.float32] | None:
        """(T, H, W, 2) float32 pixels, position in the previous frame minus position now."""
        return self._stack("motion")

    @cached_property
    def segmentation(self) -> NDArray[Any] | None:
        """(T, H, W) class ids."""
        return self._stack("segmentation")

    @cached_property
    def instance(self) -> NDArray[Any] | None:
        """(T, H, W) instance ids."""
        return self._stack("instance")

    @cached_property
    def cameras(self) -> tuple[Camera | None, ...]:
        """Canonical cameras."""
        return tuple(frame.camera for frame in self.frames)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """(T,) engine seconds."""
        return np.array([frame.time for frame in self.frames], np.float64)

    def _stack(self, name: str) -> NDArray[Any] | None:
        stacked: NDArray[Any] | None = None
        for i, frame in enumerate(self.frames):
            if name not in frame.available:
                return None
            image = getattr(frame, name)
            if stacked is None:
                stacked = np.empty((len(self.frames), *image.shape), image.dtype)
            elif image.shape != stacked.shape[1:]:
                raise TakeError(
                    f"the {name} channel changes from {_size(stacked[0])} to {_size(image)} at frame {frame.index}: "
                    "choose a clip before or after it."
                )
            stacked[i] = image
        return stacked


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
