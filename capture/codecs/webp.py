"""Codec `webp`: lossless WebP for archives, through Pillow.

Works on 1-byte numbers with 3 or 4 components. A payload is a WebP file, which any browser shows.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from capture.codecs import Unsuitable

_MODES = {3: "RGB", 4: "RGBA"}
_MOST_SIDE = 16383
_MOST_PIXELS = 2**26
"""Pillow takes larger pictures for an attack."""


class Webp:
    """Colours and normals that may take their time."""

    otherwise = "depth"
    bound = None

    def suits(self, array: NDArray[Any]) -> bool:
        return _takes(array.dtype, array.shape)

    def encode(self, array: NDArray[Any], dense: bool) -> bytes:
        if not _takes(array.dtype, array.shape):
            raise Unsuitable(f"codec 'webp' takes 1-byte numbers [H, W, 3 or 4], not {array.dtype} {array.shape}")
        file = io.BytesIO()
        picture = Image.frombuffer(_MODES[array.shape[2]], array.shape[1::-1], array.tobytes(), "raw")
        # exact: colours under a transparent pixel count as well
        picture.save(file, "WEBP", lossless=True, exact=True, quality=0, method=2 if dense else 0)
        return file.getvalue()

    def decode(self, data: memoryview, number: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if not _takes(number, shape):
            raise ValueError(f"codec 'webp' holds 1-byte numbers [H, W, 3 or 4], not {number} {list(shape)}")
        try:
            with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
                if picture.size != shape[1::-1] or getattr(picture, "n_frames", 1) != 1:
                    raise ValueError("the WebP picture has another size")
                # RGBA whose alpha is all opaque may be stored without it.
                pixels = np.asarray(picture.convert(_MODES[shape[2]]))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"the WebP data is broken ({error})") from None
        return pixels.view(number)


def _takes(number: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return (
        number.itemsize == 1 and len(shape) == 3 and shape[2] in _MODES
        and max(shape[:2]) <= _MOST_SIDE and shape[0] * shape[1] <= _MOST_PIXELS
    )  # fmt: skip
