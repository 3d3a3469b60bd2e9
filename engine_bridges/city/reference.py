"""The good picture of the same frame: what a camera in this street would record.

Works on: a surface, its G-buffer and the street's sun shadows. Soft shadows, sky light with occlusion, bounced light,
glass and wet ground that mirror, lamps, haze, bloom and a film curve. All fine detail comes from the surface, so the
cheap picture shows it too; there is no grain.
Light is linear inside; sRGB at the edges.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city import patterns
from engine_bridges.city.gbuffer import GBuffer, dot
from engine_bridges.city.lamplight import lamplight
from engine_bridges.city.materials import Surface, mix, rgb
from engine_bridges.city.primitives import Kind
from engine_bridges.city.shade import clouds, tent
from engine_bridges.city.street import Street
from engine_bridges.city.sunlight import Sunlight

SATURATION, VIGNETTE = np.float32(0.88), 0.16
LAMP_LIGHT = rgb(30.0, 20.0, 10.0)


def film(light: np.ndarray) -> np.ndarray:
    """Linear light to display 0..1: Narkowicz's fit of the ACES film curve, then a square-root display gamma."""
    curve = light * (np.float32(2.51) * light + np.float32(0.03))
    curve /= light * (np.float32(2.43) * light + np.float32(0.59)) + np.float32(0.14)
    return np.sqrt(np.clip(curve, 0, 1, out=curve), out=curve)


def sky_color(direction: np.ndarray, street: Street, with_clouds: bool) -> np.ndarray:
    """(3, K) linear light from unit world directions (3, K)."""
    weather = street.weather
    up = np.clip(-direction[1], 0, 1)
    mist = np.float32(0.45 * street.mist)
    horizon = weather.array("horizon")
    zenith = mix(weather.array("zenith"), horizon, mist)
    sky = mix(horizon, zenith, np.sqrt(np.clip(up * np.float32(1.5), 0, 1)))
    if max(weather.sun):
        toward = np.clip(dot(direction, street.sun.astype(np.float32)), 0, 1)
        sky += weather.array("sun") * (np.float32(0.10) * toward**6 + np.float32(0.5) * toward**60)
    if with_clouds:
        density = clouds(direction, street.seed % 97)
        body = np.clip((density + np.float32(0.10)) * np.float32(2.0), 0, 1)
        sky = mix(sky, weather.array("clouds"), body * np.clip(up * 6, 0, 1) * np.float32(0.85))
    return sky


def _occlusion(g: GBuffer) -> np.ndarray:
    """(M,) 0..1 openness towards the sky light: nearby surfaces in screen space, with a reach of about a metre."""
    height, width = g.index.shape
    u, v = (axis.astype(np.float32) for axis in g.view.rays())
    depth = np.where(g.seen, g.depth, np.float32(1e4)).ravel()
    rows, columns = (a.astype(np.int32) for a in np.divmod(g.pixels, width))
    px, py = g.z * u[columns], g.z * v[rows]
    nx, ny, nz = g.view.rotation.T.astype(np.float32) @ g.world_normal
    reach = np.float32(1.1)
    radius = np.clip(reach * np.float32(g.view.fx) / g.z, 2.0, 0.25 * height)
    closed = np.zeros(len(rows), np.float32)
    taps = 10
    for k in range(taps):
        r, angle = np.sqrt((k + 0.6) / taps), k * 2.399963 + 0.6
        x = columns + (radius * np.float32(r * np.cos(angle))).astype(np.int32)
        y = rows + (radius * np.float32(r * np.sin(angle))).astype(np.int32)
        np.clip(x, 0, width - 1, out=x)
        np.clip(y, 0, height - 1, out=y)
        there = depth.take(y * width + x)
        dx, dy, dz = there * u.take(x) - px, there * v.take(y) - py, there - g.z
        square = dx * dx + dy * dy + dz * dz + np.float32(1e-6)
        rise = (dx * nx + dy * ny + dz * nz) / np.sqrt(square) - np.float32(0.12)
        rise *= np.clip(np.float32(1.6) - square * (1 / (reach * reach)), 0, 1)
        closed += np.maximum(rise, 0, out=rise)
    return np.clip(1 - np.float32(1.5 / taps) * closed, 0.12, 1)


def _contact(s: Surface) -> np.ndarray:
    """(M,) 0..1 openness near the ground, the foot of walls and under cars, from heights and outlines alone."""
    g = s.g
    open_ = 1 - 0.85 * np.clip(s.blob * np.float32(1.5), 0, 1)
    low = (Kind.FACADE, Kind.TRIM, Kind.WHEEL, Kind.BODY, Kind.BARK, Kind.METAL, Kind.CLOTH)
    for at in map(g.of, low):
        open_[at] = 0.40 + 0.60 * np.clip(g.world[1, at] * np.float32(-1 / 0.9), 0, 1)
    at = g.of(Kind.PAVEMENT)
    wall = np.abs(patterns.FRONT + np.float32(0.2) - np.abs(g.world[0, at]))
    open_[at] *= 0.45 + 0.55 * np.clip(wall * np.float32(1 / 1.6), 0, 1)
    return open_


def _mirrors(light: np.ndarray, s: Surface, shadow: np.ndarray, open_: np.ndarray) -> None:
    """Adds to `light` (3, M), in place, what glass and paint mirror of the sky, and the sun's highlights."""
    g, street = s.g, s.street
    sun = street.sun.astype(np.float32)
    shiny, bounced = s.polished, s.mirrored_ray
    straight, facing = s.mirror[shiny], g.facing[shiny]
    # Schlick's Fresnel term, held down for what mirrors little
    grazing = np.square(np.square(np.clip(1 - facing, 0, 1)))
    fresnel = straight + (1 - straight) * grazing * np.clip(straight * 6, 0, 0.8)
    below = street.weather.array("ambient") * rgb(0.17, 0.16, 0.15)
    mirrored = mix(below, sky_color(bounced, street, False), s.mirrors_sky)
    light[:, shiny] *= 1 - fresnel
    light[:, shiny] += mirrored * (fresnel * (0.4 + 0.6 * open_[shiny]))
    if max(street.weather.sun):
        toward = np.clip(dot(bounced, sun), 0, 1)
        highlight = np.square(np.square(np.square(np.square(np.square(toward)))))
        light[:, shiny] += street.weather.array("sun") * (highlight * s.gloss[shiny] * shadow[shiny])


def _wet_ground(picture: np.ndarray, s: Surface) -> None:
    """Mirrors the lit `picture` (3, H, W), in place, in wet ground, smeared along the ray's way on the screen, as on a
    rough surface."""
    g, of = s.g, s.mirrored_by_ground
    height, flat, wet = len(g.index), picture.reshape(3, -1), of.wet
    mirrored = np.zeros((3, len(wet)), np.float32)
    spread = np.float32(height / 180 * 3.2) * (1 - 0.4 * s.puddle[wet])
    for step in range(-3, 4):
        sideways = np.float32(height / 180 * 1.2 * (step % 3 - 1))
        mirrored += np.minimum(flat.take(of.pixels(g, sideways, spread * np.float32(step)), axis=1), 3)
    mirrored *= np.float32(1 / 7)
    mirrored[:, of.sky] = sky_color(of.ray[:, of.sky], s.street, True)
    straight = s.mirror[wet]
    grazing = np.square(np.clip(1 - g.facing[wet], 0, 1))
    share = straight + (1 - straight) * grazing * grazing * np.clip(straight * 3.0, 0, 0.85)
    at = g.pixels[wet]
    flat[:, at] += (mirrored - flat[:, at]) * (share * (1 - 0.7 * np.clip(s.blob[wet] * 1.5, 0, 1)))


def _bloom(picture: np.ndarray) -> np.ndarray:
    """(3, H, W) light that the lens scatters around what is brighter than white: blurred at a quarter of the size."""
    _, height, width = picture.shape
    h, w = -(-height // 4), -(-width // 4)
    bright = np.zeros((3, h * 4, w * 4), np.float32)
    bright[:, :height, :width] = np.clip(picture - 1, 0, 4)
    small = bright.reshape(3, h, 4, w, 4).mean(axis=(2, 4))
    reach = max(2, h // 12)
    taps = np.exp(-0.5 * np.square(np.arange(-2 * reach, 2 * reach + 1) / reach)).astype(np.float32)
    taps /= taps.sum()
    for axis, size in ((1, h), (2, w)):
        padded = np.pad(small, [(2 * reach, 2 * reach) if k == axis else (0, 0) for k in range(3)], mode="edge")
        small = np.zeros_like(small)
        for k, tap in enumerate(taps):
            small += tap * (padded[:, k : k + size] if axis == 1 else padded[:, :, k : k + size])
        place = (np.arange(size * 4, dtype=np.float32) - 1.5) / 4
        low = np.clip(np.floor(place).astype(int), 0, size - 1)
        share = np.clip(place - low, 0, 1).reshape([-1 if k == axis else 1 for k in range(3)])
        low_part, high_part = np.take(small, low, axis=axis), np.take(small, np.minimum(low + 1, size - 1), axis=axis)
        small = low_part + (high_part - low_part) * share
    return small[:, :height, :width]


def _soften(picture: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Smooths the stairs at silhouettes: a 3x3 tent, only where neighbouring pixels see different things."""
    edge = np.zeros(index.shape, bool)
    across, down = index[:, 1:] != index[:, :-1], index[1:] != index[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return picture + (tent(picture) - picture) * np.where(edge, np.float32(0.9), np.float32(0.15))


def reference(s: Surface, sunlight: Sunlight) -> np.ndarray:
    """(H, W, 3) uint8 sRGB."""
    g, street, weather = s.g, s.street, s.street.weather
    normal = g.world_normal
    open_ = _occlusion(g) * _contact(s)
    height = -g.world[1]
    up = -normal[1]
    canyon = 0.50 + 0.50 * np.clip(height * np.float32(1 / 14), 0, 1)
    light = weather.array("ambient") * ((0.55 + 0.45 * up) * canyon * open_)
    from_below = (0.5 - 0.4 * up) * np.clip(1.2 - 0.05 * height, 0.4, 1.2)
    light += weather.array("bounce") * (from_below * open_)
    shadow = np.ones_like(height)
    if max(weather.sun):
        facing = sunlight.facing(g)
        lit = np.flatnonzero(facing > 0)
        shadow[:] = 0
        shadow[lit] = sunlight.soft(g, lit)
        light += weather.array("sun") * (np.maximum(facing, 0) * shadow)
    if weather.lamps:
        light += LAMP_LIGHT * (lamplight(g, street) * open_)
    light *= s.albedo
    _mirrors(light, s, shadow, open_)
    light += s.glow
    air = weather.array("horizon") * np.float32(0.9) * (1 - 0.45 * np.float32(weather.lamps))
    light = mix(light, air, 1 - np.exp(g.z * np.float32(-street.haze)))
    picture = g.picture(light, sky_color(g.sky_ray, street, True))
    if weather.wet:
        _wet_ground(picture, s)
    picture *= np.float32(weather.exposure)
    picture += _bloom(picture) * np.float32(0.35)
    picture = film(_soften(np.minimum(picture, 4), g.index))
    grey = picture[0] * np.float32(0.30) + picture[1] * np.float32(0.59) + picture[2] * np.float32(0.11)
    picture = grey + (picture - grey) * SATURATION
    h, w = grey.shape
    y, x = np.linspace(-1, 1, h, dtype=np.float32), np.linspace(-1, 1, w, dtype=np.float32)
    picture *= 1 - np.float32(VIGNETTE / 2) * (x[None, :] ** 2 + y[:, None] ** 2)
    return np.ascontiguousarray(np.moveaxis((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), 0, 2))
