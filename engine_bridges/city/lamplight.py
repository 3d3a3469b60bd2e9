"""Light of the street lamps, for both pictures.

Works on: a G-buffer and its street. Lamps cast no shadows.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.street import Street
from engine_bridges.city.things import LAMP_HEIGHT


def lamplight(g: GBuffer, street: Street) -> np.ndarray:
    """(M,) light of the street lamps that arrives, against that at a metre's distance."""
    x, y, z = g.world
    nx, ny, nz = g.world_normal
    light = np.zeros_like(x)
    for lamp_x, lamp_z in street.lamps(g.view.position[2]):
        dz = np.float32(lamp_z - g.anchor_z) - z
        near = np.flatnonzero(np.abs(dz) < 16)
        dx, dy, dz = np.float32(lamp_x) - x[near], np.float32(-LAMP_HEIGHT) - y[near], dz[near]
        square = dx * dx + dy * dy + dz * dz + np.float32(0.6)
        distance = np.sqrt(square)
        cosine = (dx * nx[near] + dy * ny[near] + dz * nz[near]) / distance
        downward = np.clip(-dy / distance + np.float32(0.35), 0, 1)  # its hood keeps the light down
        light[near] += np.clip(cosine * 0.85 + 0.15, 0, 1) * downward / square * np.clip(2 - distance / 8, 0, 1)
    return light
