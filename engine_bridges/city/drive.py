"""The camera's way along the street.

Knows nothing of: what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_bridges.city.primitives import pitch, yaw


@dataclass(frozen=True)
class Drive:
    """A drive at steady speed with a slow sway and turn of the head. Metres, seconds, radians."""

    speed: float
    height: float
    """of the camera above the road"""
    x: float
    """right of the middle of the road"""
    sway: float
    sway_rate: float
    turn: float
    turn_rate: float
    look_down: float
    phase: float
    vertical_fov: float

    def z(self, time: float) -> float:
        """How far along the street the camera is."""
        return self.speed * time + 0.6 * np.sin(0.5 * time + self.phase)

    def arrival(self, z: float) -> float:
        """When the camera passes `z`, to within a tenth of a second."""
        return z / self.speed

    def pose(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (3, 3) and position (3,), camera to world."""
        heading = self.turn * np.sin(self.turn_rate * time + self.phase)
        x = self.x + self.sway * np.sin(self.sway_rate * time + self.phase)
        bob = 0.04 * self.height * np.sin(0.7 * time + self.phase)
        return yaw(heading) @ pitch(self.look_down), np.array([x, -(self.height + bob), self.z(time)])
