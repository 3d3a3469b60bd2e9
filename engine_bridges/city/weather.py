"""The light of a street: sun, sky, lamps, wet or dry, as both shadings show it.

Knows nothing of: what stands in the street. Colours of light are linear, colours of the cheap picture sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """One situation of light."""

    sun: Color
    """light of the sun; black where it does not come through"""
    elevation: tuple[float, float]
    """lowest and highest sun, degrees"""
    zenith: Color
    horizon: Color
    clouds: Color
    ambient: Color
    """light of the whole sky on an open, level surface"""
    bounce: Color
    """light that comes back from the ground"""
    haze: tuple[float, float]
    """lowest and highest extinction, 1 / m"""
    exposure: float
    lamps: float
    """strength of lamps and lit windows against daylight, 0 = off"""
    lit: float
    """share of the windows that are lit"""
    wet: float
    """0 dry .. 1 rained on"""
    toy_sun: float
    """share of the cheap picture's light that comes from the sun's side"""
    toy_zenith: Color
    toy_horizon: Color
    toy_clouds: Color
    toy_tint: Color

    def array(self, name: str) -> np.ndarray:
        """(3, 1) float32 of one of the colours."""
        return np.asarray(getattr(self, name), np.float32)[:, None]


_OVERCAST = Weather(
    sun=(0.0, 0.0, 0.0), elevation=(50, 60), zenith=(0.62, 0.68, 0.76), horizon=(0.95, 0.98, 1.02),
    clouds=(0.42, 0.46, 0.53), ambient=(1.15, 1.25, 1.38), bounce=(0.16, 0.16, 0.155), haze=(0.004, 0.008),
    exposure=0.75, lamps=0.0, lit=0.06, wet=0.0, toy_sun=0.0, toy_zenith=(0.80, 0.85, 0.90),
    toy_horizon=(0.93, 0.95, 0.96), toy_clouds=(0.98, 0.98, 0.99), toy_tint=(0.95, 0.97, 1.0),
)  # fmt: skip
_DUSK = Weather(
    sun=(0.0, 0.0, 0.0), elevation=(50, 60), zenith=(0.035, 0.075, 0.24), horizon=(0.95, 0.40, 0.17),
    clouds=(0.34, 0.17, 0.22), ambient=(0.25, 0.29, 0.46), bounce=(0.05, 0.04, 0.04), haze=(0.002, 0.005),
    exposure=1.5, lamps=1.0, lit=0.55, wet=0.0, toy_sun=0.0, toy_zenith=(0.58, 0.50, 0.92),
    toy_horizon=(1.0, 0.76, 0.62), toy_clouds=(1.0, 0.62, 0.74), toy_tint=(1.0, 0.91, 0.97),
)  # fmt: skip
WEATHERS = {
    "day": Weather(
        sun=(4.3, 3.75, 2.95), elevation=(30, 56), zenith=(0.10, 0.30, 0.80), horizon=(0.70, 0.88, 1.10),
        clouds=(1.75, 1.70, 1.65), ambient=(0.72, 0.92, 1.24), bounce=(0.50, 0.45, 0.38), haze=(0.0015, 0.004),
        exposure=0.84, lamps=0.0, lit=0.0, wet=0.0, toy_sun=1.0, toy_zenith=(0.36, 0.66, 1.0),
        toy_horizon=(0.84, 0.95, 1.0), toy_clouds=(1.0, 1.0, 1.0), toy_tint=(1.0, 1.0, 0.97),
    ),
    "overcast": _OVERCAST,
    "dusk": _DUSK,
    "wet": replace(_OVERCAST, wet=1.0, toy_tint=(0.88, 0.95, 1.0)),
    "wet dusk": replace(_DUSK, wet=1.0, toy_tint=(0.95, 0.87, 1.0)),
}  # fmt: skip
"""By name, as `City(weather=...)` takes it."""
SHARES = (0.46, 0.15, 0.15, 0.12, 0.12)
"""How often a seed has each of them."""
