"""What a browser is shown of a frame: any channel, or the edges of its geometry, as JPEG bytes.

Works on `capture.Frame` and pictures; knows nothing of sockets, takes or pages.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from capture.frame import CANONICAL, CanonicalName, Frame
from capture.pictures import channel_picture, edges_picture, shrink

EDGES = "edges"
View = CanonicalName | Literal["edges"]
VIEWS: tuple[str, ...] = (*CANONICAL, EDGES)
"""What can be shown of a frame."""

NEAR_METRES, FAR_METRES = 1.0, 150.0
"""The colours of depth span this, always, so that a moving picture does not flicker with its content."""


def jpeg(image: NDArray[np.uint8], max_width: int = 960, quality: int = 80) -> bytes:
    """Uint8 HxWx3 as JPEG bytes, no wider than `max_width` pixels."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shrink(image, max_width))).save(out, "JPEG", quality=quality)
    return out.getvalue()


def frame_jpeg(frame: Frame, view: str = "color", max_width: int = 960) -> bytes:
    """One of VIEWS of a frame as JPEG bytes. Raises FrameError when the frame lacks it."""
    if view == EDGES:
        return jpeg(edges_picture(frame), max_width)
    return jpeg(channel_picture(frame, view, NEAR_METRES, FAR_METRES), max_width)


def has_view(frame: Frame, view: str) -> bool:
    """Whether a frame has what `frame_jpeg` needs for a view."""
    return ("depth" if view == EDGES else view) in frame.available
