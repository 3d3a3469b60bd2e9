"""Colours of streets. Walls, paints and signs of one street come from one palette.

Knows nothing of: geometry, light. Colours are sRGB 0..1, as the surfaces would look in white light.
"""

from __future__ import annotations

from dataclasses import dataclass

Colors = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Palette:
    """What a street's colours are drawn from."""

    bricks: Colors
    plasters: Colors
    stones: Colors
    roofs: Colors
    signs: Colors
    cars: Colors
    leaf: tuple[float, float, float]


_CARS = ((0.78, 0.12, 0.12), (0.12, 0.25, 0.62), (0.90, 0.90, 0.92), (0.16, 0.17, 0.20), (0.62, 0.66, 0.70),
         (0.92, 0.72, 0.16), (0.14, 0.42, 0.28), (0.40, 0.62, 0.80))  # fmt: skip
_SIGNS = ((0.75, 0.15, 0.15), (0.15, 0.35, 0.60), (0.15, 0.45, 0.30), (0.85, 0.65, 0.15), (0.25, 0.22, 0.28))
_ROOFS = ((0.55, 0.26, 0.20), (0.36, 0.36, 0.40), (0.45, 0.33, 0.28))

PALETTES = {
    "brick": Palette(
        bricks=((0.66, 0.33, 0.25), (0.58, 0.36, 0.27), (0.50, 0.27, 0.22), (0.70, 0.47, 0.32), (0.46, 0.34, 0.30)),
        plasters=((0.90, 0.84, 0.68), (0.82, 0.77, 0.68), (0.70, 0.77, 0.80), (0.74, 0.64, 0.58)),
        stones=((0.70, 0.67, 0.60), (0.62, 0.60, 0.58)), roofs=_ROOFS, signs=_SIGNS, cars=_CARS,
        leaf=(0.28, 0.50, 0.18),
    ),
    "pastel": Palette(
        bricks=((0.74, 0.48, 0.38), (0.70, 0.55, 0.42), (0.62, 0.42, 0.40)),
        plasters=((0.93, 0.76, 0.62), (0.64, 0.78, 0.66), (0.66, 0.78, 0.88), (0.93, 0.87, 0.62), (0.90, 0.66, 0.64)),
        stones=((0.84, 0.78, 0.70), (0.76, 0.74, 0.72)), roofs=_ROOFS,
        signs=((0.85, 0.35, 0.40), (0.30, 0.55, 0.70), (0.95, 0.80, 0.40), (0.40, 0.60, 0.45)), cars=_CARS,
        leaf=(0.36, 0.56, 0.20),
    ),
    "sandstone": Palette(
        bricks=((0.72, 0.56, 0.38), (0.66, 0.50, 0.36), (0.60, 0.44, 0.32)),
        plasters=((0.88, 0.78, 0.58), (0.90, 0.83, 0.70), (0.80, 0.66, 0.48)),
        stones=((0.80, 0.70, 0.52), (0.74, 0.64, 0.48), (0.84, 0.76, 0.62)), roofs=((0.62, 0.36, 0.24),) + _ROOFS[2:],
        signs=_SIGNS, cars=_CARS, leaf=(0.38, 0.47, 0.16),
    ),
    "nordic": Palette(
        bricks=((0.48, 0.22, 0.18), (0.40, 0.26, 0.24), (0.56, 0.32, 0.22)),
        plasters=((0.78, 0.56, 0.26), (0.66, 0.30, 0.22), (0.82, 0.80, 0.72), (0.38, 0.48, 0.56), (0.46, 0.54, 0.44)),
        stones=((0.58, 0.58, 0.60), (0.50, 0.50, 0.52)), roofs=((0.26, 0.26, 0.30), (0.36, 0.24, 0.22)),
        signs=_SIGNS, cars=_CARS, leaf=(0.20, 0.42, 0.20),
    ),
    "concrete": Palette(
        bricks=((0.52, 0.44, 0.40), (0.58, 0.54, 0.50), (0.42, 0.36, 0.34)),
        plasters=((0.74, 0.74, 0.74), (0.62, 0.64, 0.66), (0.84, 0.82, 0.78), (0.56, 0.60, 0.58)),
        stones=((0.66, 0.66, 0.66), (0.56, 0.58, 0.60)), roofs=((0.40, 0.40, 0.42), (0.32, 0.33, 0.36)),
        signs=((0.85, 0.20, 0.15), (0.10, 0.40, 0.70), (0.95, 0.75, 0.10), (0.15, 0.15, 0.17)), cars=_CARS,
        leaf=(0.30, 0.46, 0.22),
    ),
    "tropical": Palette(
        bricks=((0.84, 0.44, 0.34), (0.72, 0.36, 0.40)),
        plasters=((0.30, 0.72, 0.72), (0.94, 0.56, 0.50), (0.97, 0.82, 0.40), (0.52, 0.74, 0.42), (0.78, 0.58, 0.80)),
        stones=((0.90, 0.86, 0.78),), roofs=((0.70, 0.34, 0.24), (0.40, 0.52, 0.54)),
        signs=((0.95, 0.30, 0.45), (0.10, 0.60, 0.65), (0.98, 0.75, 0.20)), cars=_CARS, leaf=(0.34, 0.60, 0.22),
    ),
    "slate": Palette(
        bricks=((0.34, 0.32, 0.36), (0.42, 0.34, 0.36)),
        plasters=((0.52, 0.56, 0.62), (0.70, 0.72, 0.76), (0.42, 0.46, 0.50)),
        stones=((0.46, 0.48, 0.52), (0.56, 0.56, 0.60)), roofs=((0.24, 0.26, 0.30),),
        signs=((0.60, 0.20, 0.25), (0.20, 0.30, 0.45), (0.70, 0.60, 0.30)), cars=_CARS, leaf=(0.24, 0.40, 0.26),
    ),
}  # fmt: skip
"""By name, as `City(palette=...)` takes it."""
HELD_OUT_PALETTES = ("tropical", "slate")
"""No seed has these: they are for testing a model on colours that it was never trained on."""
