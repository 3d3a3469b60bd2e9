"""Cues: what a lifter is shown of a frame. The render itself, or a picture drawn from the engine's geometry.

Works on `capture.Frame`; knows no model. Geometric cues hold no texture, and their scale never changes within a take,
so that they are as steady as the geometry.
"""

from __future__ import annotations

import numpy as np
import torch

from capture.frame import Frame
from capture.geometry import geometric_edges, shaded_normals
from realmaster.lift.lifter import Cue, LiftError
from realmaster.measure.moment import LUMA, steepness

NEAREST, FARTHEST = 0.5, 200.0
"""Metres that are drawn white and black; between them brightness falls with the logarithm of depth."""


NEEDS: dict[Cue, str] = {
    "color": "color", "edges": "depth", "depth": "depth", "normals": "normal", "geometry": "normal",
}  # fmt: skip
"""The channel that a cue is drawn from."""


def has_cue(frame: Frame, cue: Cue) -> bool:
    """Whether the frame has what the cue is drawn from."""
    return NEEDS[cue] in frame.available


def draw_cue(frame: Frame, cue: Cue) -> np.ndarray:
    """The cue of a frame, uint8 `[H, W, 3]`.

    color: the render. edges: white lines on black where depth breaks off, normals crease or one thing ends and another
    begins, as scribbled control videos have them. depth: near is bright, far and sky are dark, as monocular estimators
    draw it. normals: the camera space's x to the right, y up and z towards the viewer as red, green and blue from -1
    (0) to 1 (255), as normal maps and estimators draw them; sky is black. geometry: normals in camera axes, darker with
    distance, as the embedded model's base learned them.

    Raises `LiftError` when the frame lacks what the cue is drawn from.
    """
    if cue == "color":
        return frame.color
    if not has_cue(frame, cue):
        raise LiftError(
            f"This model lifts from {cue} and frame {frame.index} has no {NEEDS[cue]}: record with {NEEDS[cue]}, or "
            "lift with a model that takes the render."
        )
    if cue == "normals":
        facing = frame.normal * np.array([1, -1, -1], np.float32)  # ours: x right, y down, z away from the viewer
        picture = np.rint((facing + 1) * 127.5)
        picture[~frame.normal.any(axis=-1)] = 0
        return picture.astype(np.uint8)
    if cue == "geometry":
        return shaded_normals(frame.depth, frame.normal)
    if cue == "edges":
        creased = frame.normal if "normal" in frame.available else None
        things = frame.instance if _same_size(frame, "instance") else None
        picture = geometric_edges(frame.depth, creased, things).astype(np.uint8) * 255
    else:
        depth = np.clip(frame.depth, NEAREST, FARTHEST)  # sky is infinite
        brightness = np.log(FARTHEST / depth) / np.log(FARTHEST / NEAREST)
        picture = np.rint(255 * brightness).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=-1)


def edges_of_color(color: np.ndarray) -> np.ndarray:
    """What stands in for the cue `edges` where the engine sent no depth: the steepest tenth of a picture, uint8
    `[H, W, 3]`, as thin white lines on black. It shows textures and shadows too, which the geometric cue does not."""
    luma = torch.from_numpy(color.astype(np.float32) @ LUMA.numpy() / 255)
    steep = steepness(luma[None])[0].numpy()
    padded = np.pad(steep, 1)
    across = (steep >= padded[1:-1, :-2]) & (steep > padded[1:-1, 2:])
    down = (steep >= padded[:-2, 1:-1]) & (steep > padded[2:, 1:-1])
    lines = (across | down) & (steep > max(float(np.quantile(steep, 0.9)), 1e-6))
    return np.repeat((lines * np.uint8(255))[..., None], 3, axis=-1)


def _same_size(frame: Frame, name: str) -> bool:
    """Whether the frame has the channel, in the size of its depth."""
    return name in frame.channels and frame.channels[name].data.shape == frame.channels["depth"].data.shape
