"""Does a video hold still where the engine says that it does. numpy only."""

from __future__ import annotations

import numpy as np

TOLERANCE = 16 / 255
"""Pixels that the render itself does not reproduce from its last frame within this are newly seen, or change their
light; nobody can be asked to hold them."""


def residual(color: np.ndarray, warped_previous: np.ndarray) -> np.ndarray:
    """Mean absolute difference over colours of uint8 `[H, W, 3]` pictures, float32 `[H, W]` in [0, 1]."""
    return np.abs(color.astype(np.float32) - warped_previous.astype(np.float32)).mean(-1) / 255


def warp_error(video_residual: np.ndarray, render_residual: np.ndarray, inside: np.ndarray) -> float:
    """Mean of `video_residual` `[H, W]` over the pixels that the render itself holds; nan where there are none."""
    held = inside & (render_residual < TOLERANCE)
    return float(video_residual[held].mean()) if held.any() else float("nan")
