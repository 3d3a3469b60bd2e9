"""Where things are on a surface: windows on a facade, lines on a road, lamps on a car.

Works on: seen points in their primitive's frame. Both shadings place their detail with these functions, so a window
lies at the same spot in both. A coverage is 0..1, soft over one pixel footprint, or hard when the footprint is 0.
Knows nothing of: colours, light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.noise import cell
from engine_bridges.city.street import BLOCK, FRONT, Street
from engine_bridges.city.things import ROAD_HALF


def coverage(inside: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """How much of a pixel lies inside: `inside` = metres to the border, positive inside."""
    return np.clip(inside / np.maximum(footprint, 1e-4) + 0.5, 0, 1)


@dataclass
class Facade:
    """Coverages (K,) float32 and coordinates in metres on the faces of a building."""

    u: np.ndarray
    height: np.ndarray
    window: np.ndarray
    pane: np.ndarray
    """the glass inside the frame"""
    door: np.ndarray
    sign: np.ndarray
    sill: np.ndarray
    below_lintel: np.ndarray
    """metres below the top of the window, large elsewhere"""
    chance: np.ndarray
    """a number 0..1 per window"""
    shop: np.ndarray
    """bool: a shop window"""
    wall: np.ndarray
    """bool: a wall, not the top of the building"""


def facade(g: GBuffer, where: np.ndarray, footprint: np.ndarray | float) -> Facade:
    """Windows, doors and signs of the FACADE pixels `where` (indices into the seen pixels)."""
    prim = g.prim[where]
    p, half = g.prims.parameters[prim], g.prims.half[prim].astype(np.float32)
    local, face = g.local[where], g.face[where]
    ground, storeys, bay, ww, wh = (p[:, k] for k in range(5))
    street_side = (face == 0) | (face == 3)
    width = 2 * np.where(street_side, half[:, 2], half[:, 0])
    u = np.where(street_side, local[:, 2], local[:, 0]) + width / 2
    h = half[:, 1] - local[:, 1]
    bay = width / np.maximum(np.floor(width / bay), 1)
    k = np.floor(u / bay)
    du = np.abs(u - (k + 0.5) * bay)
    storey = (2 * half[:, 1] - 0.5 - ground) / storeys
    j = np.floor((h - ground) / storey)
    upper = h >= ground
    shop = (p[:, 5] > 0.5) & street_side & ~upper
    is_door = (k == p[:, 6]) & street_side & ~upper
    centre = np.where(upper, ground + (j + 0.5) * storey, np.where(shop, 1.55, ground * 0.55))
    half_height = np.where(shop, 1.1, wh / 2)
    half_width = np.where(shop, bay / 2 - 0.22, ww / 2)
    inside = np.minimum(half_width - du, half_height - np.abs(h - centre))
    inside = np.where(is_door | (upper & (j >= storeys)), -1.0, inside)
    mullion = np.where(shop, bay / 2, du)  # panes part in the middle, except shop windows
    transom = np.abs(h - centre - np.where(shop, 0.65, half_height * 0.35))
    pane = np.minimum(np.minimum(inside - 0.06, mullion - 0.03), transom - 0.03)
    door = np.where(is_door, np.minimum(0.55 - du, 2.35 - h), -1.0)
    sign = np.minimum(0.32 - np.abs(h - 3.08), width / 2 - 0.3 - np.abs(u - width / 2))
    sill = np.minimum(half_width + 0.1 - du, 0.07 - np.abs(h - centre + half_height + 0.07))
    return Facade(
        u=u,
        height=h,
        window=coverage(inside, footprint),
        pane=coverage(pane, footprint),
        door=coverage(door, footprint),
        sign=coverage(np.where(shop, sign, -1.0), footprint),
        sill=coverage(np.where(shop | is_door | (j >= storeys), -1.0, sill), footprint),
        below_lintel=np.where(inside > -0.02, centre + half_height - h, 9.0),
        chance=cell(k, j + 7, g.prims.instance[prim]),
        shop=shop,
        wall=street_side | (face == 2) | (face == 5),
    )


@dataclass
class Road:
    """Coverages (K,) float32 and world coordinates in metres on the road."""

    x: np.ndarray
    z: np.ndarray
    """from the G-buffer's anchor"""
    line: np.ndarray
    gutter: np.ndarray


def road(g: GBuffer, where: np.ndarray, street: Street, footprint: np.ndarray | float) -> Road:
    """Lane markings and crossings of the ROAD pixels `where`."""
    x, z = g.world[where, 0], g.world[where, 2]
    along = np.maximum(footprint, g.z[where] * 0.004) if np.ndim(footprint) else footprint
    dash = coverage(1.5 - np.abs(np.mod(z, 6.0) - 3.0), along)
    line = coverage(0.075 - np.abs(x), footprint) * dash
    line = np.maximum(line, coverage(0.05 - np.abs(np.abs(x) - 3.35), footprint))
    tick = coverage(0.05 - np.abs(np.mod(z + 3.0, 6.0) - 3.0), along)  # between parking bays
    line = np.maximum(line, tick * (np.abs(x) < ROAD_HALF) * (np.abs(x) > 3.35))
    number = int(g.anchor_z // BLOCK)
    for block in range(number - 1, number + 7):
        middle = street.zebra(block)
        if middle is None:
            continue
        dz = np.abs(z - np.float32(middle - g.anchor_z))
        near = dz < 4.0
        stripes = coverage(0.27 - np.abs(np.mod(x + 0.5, 1.0) - 0.5), footprint)
        crossing = stripes * coverage(ROAD_HALF - 0.3 - np.abs(x), footprint) * coverage(1.6 - dz, along)
        line = np.where(near, crossing, line)
    for block in range(number - 1, number + 7):
        for side in (-1, 1):
            if street.has_side_street(block, side):
                start = np.float32(block * BLOCK - g.anchor_z)
                mouth = (z > start) & (z < start + 7.5) & (x * side > 3.0)
                give_way = coverage(0.16 - np.abs(x * side - ROAD_HALF - 0.2), footprint) * (np.mod(z, 1.0) < 0.6)
                line = np.where(mouth, give_way, line)
    line = np.where(np.abs(x) > FRONT, 0, line)
    gutter = coverage(np.abs(x) - ROAD_HALF + 0.28, footprint) * (np.abs(x) < ROAD_HALF + 0.3)
    return Road(x, z, line.astype(np.float32), gutter)


def kerb(g: GBuffer, where: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """Coverage (K,) of the kerb stone on PAVEMENT pixels; their first parameter is the side of the street."""
    prim = g.prim[where]
    side = g.prims.parameters[prim, 0]
    edge = np.abs(g.world[where, 0]) - ROAD_HALF
    return np.where(side != 0, coverage(0.22 - edge, footprint), 0.0)


@dataclass
class Bodywork:
    """Coverages (K,) float32 on a car body."""

    head_lamp: np.ndarray
    tail_lamp: np.ndarray
    plate: np.ndarray
    skirt: np.ndarray
    arch: np.ndarray


def bodywork(g: GBuffer, where: np.ndarray, footprint: np.ndarray | float) -> Bodywork:
    """Lamps, plate, dark skirt and wheel arches of the BODY pixels `where`."""
    prim = g.prim[where]
    local, half, face = g.local[where], g.prims.half[prim].astype(np.float32), g.face[where]
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    front, back, side = face == 2, face == 5, (face == 0) | (face == 3)
    lamp = np.minimum(0.17 - np.abs(np.abs(x) - half[:, 0] + 0.27), 0.09 - np.abs(y + half[:, 1] * 0.25))
    plate = np.minimum(0.26 - np.abs(x), 0.07 - np.abs(y - half[:, 1] * 0.45))
    wheel = 0.38 - np.hypot(np.abs(z) - half[:, 2] * 0.62, y - half[:, 1] + 0.12)
    return Bodywork(
        head_lamp=coverage(np.where(front, lamp, -1.0), footprint),
        tail_lamp=coverage(np.where(back, lamp + 0.02, -1.0), footprint),
        plate=coverage(np.where(front | back, plate, -1.0), footprint),
        skirt=coverage(np.where(side | front | back, y - half[:, 1] + 0.12, -1.0), footprint),
        arch=coverage(np.where(side, wheel, -1.0), footprint),
    )


def cabin_glass(g: GBuffer, where: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """Coverage (K,) of glass on the CABIN pixels `where`: everything but roof and pillars."""
    prim = g.prim[where]
    local, half, face = g.local[where], g.prims.half[prim].astype(np.float32), g.face[where]
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    vertical = half[:, 1] - 0.07 - np.abs(y + 0.02)
    side = (face == 0) | (face == 3)
    pillars = np.minimum(half[:, 2] - np.abs(z) - 0.30, np.abs(z + 0.1) - 0.05)
    across = np.where(side, pillars, half[:, 0] * 0.86 - np.abs(x))
    return coverage(np.where(face == 4, -1.0, np.minimum(vertical, across)), footprint)


def hair(g: GBuffer, where: np.ndarray) -> np.ndarray:
    """(K,) 0 or 1: hair on top and at the back of HEAD pixels."""
    half = g.prims.half[g.prim[where]].astype(np.float32)
    local = g.local[where] / half
    return ((local[:, 1] < -0.35) | (local[:, 2] < -0.3)).astype(np.float32)
