"""Cues: what a lifter is shown of a frame. The render itself, or a picture drawn from the engine's geometry.

Works on `capture.Frame`; knows no model. Geometric cues hold no texture, and their scale never changes within a take,
so that they are as steady as the geometry.
"""

from __future__ import annotations

import numpy as np

from capture.frame import Frame
from capture.geometry import geometric_edges
from realmaster.lift.lifter import Cue, LiftError

NEAREST, FARTHEST = 0.5, 200.0
"""Metres that are drawn white and black; between them brightness falls with the logarithm of depth."""


def draw_cue(frame: Frame, cue: Cue) -> np.ndarray:
    """The cue of a frame, uint8 `[H, W, 3]`.

    color: the render. edges: white lines on black where depth breaks off or normals crease, as scribbled control
    videos have them. depth: near is bright, far and sky are dark, as monocular estimators draw it.

    Raises `LiftError` when the frame has no depth to draw from.
    """
    if cue == "color":
        return frame.color
    if "depth" not in frame.channels:
        raise LiftError(
            f"This model lifts from {cue} and frame {frame.index} has no depth: record with depth, or lift with "
            "a model that takes the render."
        )
    if cue == "edges":
        picture = geometric_edges(frame.depth, frame.normal).astype(np.uint8) * 255
    else:
        depth = np.clip(frame.depth, NEAREST, FARTHEST)  # sky is infinite
        brightness = np.log(FARTHEST / depth) / np.log(FARTHEST / NEAREST)
        picture = np.rint(255 * brightness).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=-1)
