"""The cheap picture: what a simple game would draw. Bright flat colours, a plain sun with hard, pale shadows, plain
lamps, blobs under what moves, a painted sky and a faint mirror of it.

Works on: a surface, its G-buffer and the street's sun shadows. Knows nothing of the reference shading.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city.gbuffer import dot
from engine_bridges.city.lamplight import lamplight
from engine_bridges.city.materials import Surface, mix, rgb
from engine_bridges.city.noise import cloudy
from engine_bridges.city.patterns import coverage
from engine_bridges.city.primitives import Kind
from engine_bridges.city.street import Street
from engine_bridges.city.sunlight import Sunlight

LAMP_LIGHT, LAMP_LIMIT = np.float32(8.0), np.float32(0.05)
"""A lamp's strength, and the most that counts of what arrives: what is near a lamp would be white."""

MIRRORED, MIRRORED_BY_PANES = np.float32(1.6), np.float32(0.6)
"""How much stronger than it is a mirror shows; of houses less, or it would hide what is behind their windows."""
GLARE = np.float32(3.0)
"""Strength of the sun's highlight on what is polished: its middle is white."""
CORONA = np.float32(4.0)
"""Strength of the spot around a lamp: 4 leaves the lamp itself as white as it is."""
WET, PUDDLE = np.float32(0.2), np.float32(0.25)
"""Share of what wet ground mirrors, and how much more puddles do."""
MIRRORED_GROUND = rgb(0.46, 0.46, 0.50)


def clouds(direction: np.ndarray, seed: int) -> np.ndarray:
    """(K,) -1..1 cloud density of planar world directions (3, K); high where a cloud is."""
    up = np.maximum(-direction[1], 0) + np.float32(0.12)
    return cloudy(direction[0] / up * 0.9 + np.float32(seed * 1.7), direction[2] / up * 0.45 + np.float32(seed * 0.9))


def sky(direction: np.ndarray, street: Street, sunlight: Sunlight) -> np.ndarray:
    """(3, K) sRGB 0..1 of unit world directions (3, K), without clouds."""
    weather = street.weather
    up = np.sqrt(np.clip(-direction[1], 0, 1))
    painted = mix(weather.array("toy_horizon"), weather.array("toy_zenith"), up)
    glare = np.square(np.square(np.square(np.clip(dot(direction, sunlight.toward), 0, 1))))
    return mix(painted, 1.0, glare * np.float32(0.6 * weather.toy_sun))


def tent(picture: np.ndarray) -> np.ndarray:
    """A picture (C, H, W), each pixel the mean of 3x3, of which the middle counts most."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) * np.float32(1 / 16)


def render(s: Surface, sunlight: Sunlight) -> np.ndarray:
    """(H, W, 3) uint8 sRGB."""
    g, street, weather = s.g, s.street, s.street.weather
    # Sun, its shadows and lamps are strong enough to tell what light there is: a lift is to keep it, not to guess it.
    light = np.float32(0.77 - 0.15 * weather.toy_sun + 0.08 * weather.lamps) + np.float32(0.08) * -g.world_normal[1]
    sun = np.zeros_like(light)
    if weather.toy_sun:
        facing = sunlight.facing(g)
        lit = np.flatnonzero(facing > 0)
        sun[lit] = np.float32(weather.toy_sun) * sunlight.hard(g, lit)
        light[lit] += np.float32(0.48) * facing[lit] * sun[lit]
    if weather.lamps:
        light += LAMP_LIGHT * np.minimum(lamplight(g, street), LAMP_LIMIT)
    light *= 1 - 0.22 * coverage(s.blob - 0.32, np.float32(0.08))
    tint = weather.array("toy_tint")
    picture = s.flat * mix(tint * light, 1, np.minimum(s.bright, 1))
    # So does what glass and paint mirror, the sun first of all: a painted sky, as games have long done it.
    share = s.mirror[s.polished] * (1 - np.minimum(s.bright[s.polished], 1))
    share *= np.where(s.polished < g.of(Kind.FACADE).stop, MIRRORED_BY_PANES, MIRRORED)
    mirrored = mix(MIRRORED_GROUND, sky(s.mirrored_ray, street, sunlight), s.mirrors_sky)
    polished = mix(picture[:, s.polished], mirrored, share)
    glare = s.gloss[s.polished] * sun[s.polished] + np.float32(weather.toy_sun) * s.mirror[s.polished]  # sun, and halo
    glare *= GLARE * np.clip(dot(s.mirrored_ray, sunlight.toward), 0, 1) ** 32
    picture[:, s.polished] = mix(polished, 1.0, np.minimum(glare, 1))
    fog = np.clip(g.z * np.float32(1 / 160), 0, 0.85) * np.float32(0.12 + 0.6 * street.mist)  # linear, as of old
    for shining in (g.of(Kind.LAMP), g.of(Kind.BODY)):  # what shines is seen through it
        fog[shining] *= 1 - s.bright[shining]
    picture = mix(picture, weather.array("toy_horizon"), fog)

    painted = sky(g.sky_ray, street, sunlight)
    density = clouds(g.sky_ray, street.seed % 97)
    cloud = np.float32(0.70) * (density > 0.12) + np.float32(0.22) * density
    painted = mix(painted, weather.array("toy_clouds"), cloud)
    picture = g.picture(picture, painted)
    if weather.lamps:
        picture = _coronas(picture, s)
    if weather.wet:
        _wet_ground(picture, s, sunlight)
    return np.ascontiguousarray(np.moveaxis((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), 0, 2))


def _wet_ground(picture: np.ndarray, s: Surface, sunlight: Sunlight) -> None:
    """Mirrors the picture (3, H, W), in place, in wet ground, as if that were a plain sheet of glass."""
    of, flat = s.mirrored_by_ground, picture.reshape(3, -1)
    mirrored = flat.take(of.pixels(s.g), axis=1)
    mirrored[:, of.sky] = sky(of.ray[:, of.sky], s.street, sunlight)
    at = s.g.pixels[of.wet]
    flat[:, at] = mix(flat[:, at], mirrored, WET + PUDDLE * s.puddle[of.wet])


def _coronas(picture: np.ndarray, s: Surface) -> np.ndarray:
    """The picture (3, H, W) with a spot around each lamp that shines, as games have long drawn them, so that lamps far
    away, which are smaller than a pixel, are seen."""
    shining = np.zeros_like(s.bright)
    for lamps in (s.g.of(Kind.LAMP), s.g.of(Kind.BODY)):
        shining[lamps] = s.bright[lamps]
    *color, share = tent(s.g.picture(np.stack([*(np.minimum(s.flat, 1) * shining), shining])))
    color = np.stack(color) / np.maximum(share, np.float32(1e-6))
    return mix(picture, color, np.minimum(CORONA * share, 1))
