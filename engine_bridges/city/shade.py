"""The cheap picture: what a simple game would draw. Flat colours, one hard light, blob shadows, a painted sky.

Works on: a G-buffer and the street. Knows nothing of the reference shading.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city import patterns
from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.noise import cloudy
from engine_bridges.city.primitives import Kind
from engine_bridges.city.street import Street
from engine_bridges.city.things import SIGNS


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """(3,) float32"""
    return np.array([red, green, blue], np.float32)


HORIZON = rgb(0.76, 0.87, 0.97)
GLASS = rgb(0.34, 0.46, 0.60)
LINE = rgb(0.93, 0.93, 0.90)
KERB_STONE = rgb(0.82, 0.82, 0.82)
HAIR = rgb(0.24, 0.16, 0.10)
DOOR = rgb(0.40, 0.24, 0.14)
CLOUD = rgb(0.97, 0.98, 1.0)


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """a where share is 0, b where it is 1; (K, 3), (K, 3) or (3,), (K,)."""
    return a + (b - a) * share[:, None]


def sign_color(g: GBuffer, where: np.ndarray) -> np.ndarray:
    """(K, 3) colour of the shop signs of FACADE pixels."""
    number = g.prims.parameters[g.prim[where], 7].astype(int) % 10
    return np.asarray(SIGNS, np.float32)[np.clip(number, 0, len(SIGNS) - 1)]


def clouds(direction: np.ndarray, seed: int) -> np.ndarray:
    """(K,) -1..1 cloud density of world directions (K, 3); high where a cloud is."""
    up = np.maximum(-direction[:, 1], 0) + 0.12
    return cloudy(direction[:, 0] / up * 0.9 + seed * 1.7, direction[:, 2] / up * 0.45 + seed * 0.9)


def blob(g: GBuffer, ground: np.ndarray, street: Street) -> np.ndarray:
    """(K,) 0..1 how far inside the blob of a car or a person the ground pixels lie (1 = its middle)."""
    x, z = g.world[ground, 0], g.world[ground, 2]
    dark = np.zeros(len(ground), np.float32)
    camera_z = g.view.position[2]
    spots = [(m.where(g.time), m.size) for m in g.movers]
    spots += [((position, heading), size) for _, position, heading, size in street.parked(camera_z)]
    for (position, heading), (width, _, length) in spots:
        if not -6 < position[2] - camera_z < 60:
            continue
        dx, dz = x - np.float32(position[0]), z - np.float32(position[2] - g.anchor_z)
        near = np.flatnonzero(np.abs(dx) + np.abs(dz) < 0.8 * (width + length))
        if not len(near):
            continue
        dx, dz = dx[near], dz[near]
        c, s = np.float32(np.cos(heading)), np.float32(np.sin(heading))
        across, along = (c * dx - s * dz) / (width * 0.62), (s * dx + c * dz) / (length * 0.56)
        dark[near] = np.maximum(dark[near], 1 - np.sqrt(np.sqrt(across**4 + along**4)))
    return dark


def render(g: GBuffer, street: Street) -> np.ndarray:
    """(H, W, 3) uint8 sRGB."""
    kind = g.prims.kind[g.prim]
    base = g.prims.color[g.prim].copy()

    def where(wanted: Kind) -> np.ndarray:
        return np.flatnonzero(kind == wanted)

    m = where(Kind.ROAD)
    base[m] = mix(base[m], LINE, patterns.road(g, m, street, 0.0).line)
    m = where(Kind.PAVEMENT)
    base[m] = mix(base[m], KERB_STONE, patterns.kerb(g, m, 0.0))
    m = where(Kind.FACADE)
    f = patterns.facade(g, m, 0.0)
    color = mix(base[m], GLASS * (0.8 + 0.4 * f.chance[:, None]), f.window * f.wall)
    color = mix(color, DOOR, f.door * f.wall)
    base[m] = mix(color, sign_color(g, m), f.sign * f.wall)
    m = where(Kind.BODY)
    b = patterns.bodywork(g, m, 0.0)
    color = mix(base[m], rgb(0.98, 0.96, 0.80), b.head_lamp)
    color = mix(color, rgb(0.80, 0.10, 0.08), b.tail_lamp)
    color = mix(color, rgb(0.92, 0.90, 0.75), b.plate)
    base[m] = mix(color, rgb(0.12, 0.12, 0.13), np.maximum(b.skirt, b.arch))
    m = where(Kind.CABIN)
    base[m] = mix(base[m], GLASS * 0.8, patterns.cabin_glass(g, m, 0.0))
    m = where(Kind.HEAD)
    base[m] = mix(base[m], HAIR, patterns.hair(g, m))

    light = np.clip(g.world_normal @ street.sun.astype(np.float32), 0, 1)
    lit = base * (0.58 + 0.48 * light)[:, None]
    ground = np.flatnonzero(((kind == Kind.ROAD) | (kind == Kind.PAVEMENT)) & (g.z < 60))
    lit[ground] *= (1 - 0.5 * (blob(g, ground, street) > 0.05))[:, None]

    mist = np.float32(street.mist)
    lit = mix(lit, HORIZON, np.clip(g.z / 220, 0, 1) * mist * 0.7)  # the linear fog of an old game

    sky = g.directions[~g.seen]
    sky = sky / np.sqrt((sky * sky).sum(axis=1, keepdims=True))
    up = np.sqrt(np.clip(-sky[:, 1], 0, 1))
    zenith = rgb(0.25, 0.50, 0.92) * (1 - 0.6 * mist) + rgb(0.66, 0.78, 0.93) * (0.6 * mist)
    painted = mix(np.broadcast_to(HORIZON, (len(up), 3)), zenith, up)
    painted = mix(painted, CLOUD, (clouds(sky, street.seed % 97) > 0.25) * 0.85)

    out = np.empty((*g.index.shape, 3), np.float32)
    out[g.seen], out[~g.seen] = lit, painted
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
