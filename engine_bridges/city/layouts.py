"""How streets are laid out: how tall, how full, what walls are made of.

Knows nothing of: colours, light, single blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Means of a street; every street of a layout departs from them a little."""

    tall: float
    """height of the buildings, metres"""
    width: float
    """of a building along the street, metres"""
    walls: tuple[float, float, float]
    """shares of plaster, brick and stone"""
    shops: float
    """share of the buildings that have one"""
    gables: float
    balconies: float
    trees: float
    people: float
    cars: float
    """share of the parking bays that are taken"""
    setback: float
    """how unevenly the fronts stand, metres"""

    def varied(self, g: np.random.Generator) -> Layout:
        """One street of this layout."""
        around = {name: getattr(self, name) * g.uniform(0.8, 1.25) for name in ("tall", "width", "people", "cars")}
        return replace(self, **around, trees=min(1.0, self.trees * g.uniform(0.6, 1.4)))


LAYOUTS = {
    "terrace": Layout(9.5, 9.0, (0.25, 0.65, 0.10), 0.25, 0.65, 0.15, 0.7, 1.5, 0.60, 0.2),
    "high street": Layout(10.5, 11.0, (0.40, 0.40, 0.20), 0.90, 0.35, 0.25, 0.4, 3.2, 0.40, 0.5),
    "old town": Layout(12.0, 8.0, (0.70, 0.12, 0.18), 0.55, 0.80, 0.35, 0.35, 2.4, 0.45, 0.6),
    "boulevard": Layout(15.0, 16.0, (0.30, 0.10, 0.60), 0.60, 0.15, 0.60, 1.0, 2.2, 0.50, 0.2),
    "suburb": Layout(7.0, 14.0, (0.60, 0.40, 0.00), 0.15, 0.75, 0.10, 1.0, 1.2, 0.40, 1.2),
    "towers": Layout(24.0, 22.0, (0.45, 0.25, 0.30), 0.70, 0.00, 0.70, 0.6, 2.0, 0.50, 0.8),
    "village": Layout(6.0, 7.0, (0.50, 0.20, 0.30), 0.45, 0.95, 0.00, 0.8, 2.0, 0.35, 1.5),
}
"""By name, as `City(layout=...)` takes it."""
HELD_OUT_LAYOUTS = ("towers", "village")
"""No seed has these: they are for testing a model on streets that it was never trained on."""
