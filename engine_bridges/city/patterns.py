"""Where things are on a surface: windows and bricks on a facade, lines and cracks on a road, lamps on a car.

Works on: seen points of one kind, in their primitive's frame. Both shadings take their detail from here, so every
window, brick and crack lies at the same pixels in both. A coverage is the share 0..1 of a pixel's footprint that lies
inside, so that detail which a pixel cannot hold fades into its mean and does not shimmer.
Knows nothing of: colours, light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_bridges.city.gbuffer import GBuffer
from engine_bridges.city.noise import PERIOD, cell, cloudy
from engine_bridges.city.primitives import Kind
from engine_bridges.city.street import BLOCK, FRONT, Street
from engine_bridges.city.things import ROAD_HALF


def coverage(inside: np.ndarray, footprint: np.ndarray | np.float32) -> np.ndarray:
    """How much of a pixel lies inside a border: `inside` = metres to it, positive inside."""
    return np.clip(inside / footprint + np.float32(0.5), 0, 1)


def band(distance: np.ndarray, half_width: np.ndarray | float, footprint: np.ndarray) -> np.ndarray:
    """How much of a pixel lies in a band: `distance` (>= 0) metres from its middle. Exact for a box-shaped pixel."""
    half = footprint * np.float32(0.5)
    return np.clip(
        (np.minimum(half_width, distance + half) - np.maximum(-half_width, distance - half)) / footprint, 0, 1
    )


def fade(size: np.ndarray | float, footprint: np.ndarray) -> np.ndarray:
    """1 where a pattern of period `size` metres is well resolved, 0 where a pixel swallows most of a period."""
    return np.clip(2 - 2.5 * footprint / size, 0, 1)


@dataclass
class Courses:
    """Brickwork or slabs, (K,) float32."""

    joint: np.ndarray
    """coverage"""
    tone: np.ndarray
    """-0.5..0.5, one number per brick"""


def courses(
    across: np.ndarray,
    along: np.ndarray,
    height: np.ndarray | float,
    length: np.ndarray | float,
    joint: float,
    foot_across: np.ndarray,
    foot_along: np.ndarray,
    which: np.ndarray | int,
    offset: int = 0,
) -> Courses:
    """Rows `height` metres wide, stacked `across`, of bricks `length` metres long, every other row shifted by half."""
    v = across / height
    row = np.floor(v)
    s = along / length + np.float32(0.5) * np.mod(row, 2)
    column = np.floor(s)
    half = joint / 2
    seen_across, seen_along = fade(height, foot_across), fade(length, foot_along)
    bed = band((0.5 - np.abs(v - row - 0.5)) * height, half, foot_across) * seen_across
    head = band((0.5 - np.abs(s - column - 0.5)) * length, half, foot_along) * seen_along * seen_across
    tone = (cell(column + offset, row, which) - np.float32(0.5)) * seen_across * seen_along
    return Courses(np.maximum(bed, head), tone)


@dataclass
class Facade:
    """Coverages and coordinates in metres (K,) float32 on the faces of a building."""

    u: np.ndarray
    height: np.ndarray
    foot_u: np.ndarray
    foot_height: np.ndarray
    window: np.ndarray
    pane: np.ndarray
    """the glass inside the frame"""
    door: np.ndarray
    door_panel: np.ndarray
    sign: np.ndarray
    letters: np.ndarray
    sill: np.ndarray
    streak: np.ndarray
    """rain stains below the sills, 0..1"""
    below_lintel: np.ndarray
    """metres below the top of the window"""
    chance: np.ndarray
    """a number 0..1 per window"""
    goods: np.ndarray
    """-0.5..0.5: what stands in a shop's window"""
    shop: np.ndarray
    """1 on a shop's ground floor"""
    wall: np.ndarray
    """1 on walls, 0 on the top of the building"""


def facade(g: GBuffer) -> Facade:
    """Windows, doors and signs of the FACADE pixels."""
    at = g.of(Kind.FACADE)
    prim, face, local = g.prim[at], g.face[at], g.local[:, at]
    half = g.of_prims(g.prims.half, at)
    ground, storeys, bay, ww, wh, has_shop, door_bay = g.of_prims(g.prims.parameters[:, :7], at)
    street_side = (face == 0) | (face == 3)
    wall = street_side | (face == 2) | (face == 5)
    foot_v, foot_u = g.footprint_along(1, at), g.footprint[at]
    half_width_of_wall = np.where(street_side, half[2], half[0])
    width = 2 * half_width_of_wall
    u = np.where(street_side, local[2], local[0]) + half_width_of_wall
    h = half[1] - local[1]
    bay = width / np.maximum(np.floor(width / bay), 1)
    k = np.floor(u / bay)
    du = np.abs(u - (k + np.float32(0.5)) * bay)
    storey = (2 * half[1] - np.float32(0.5) - ground) / storeys
    j = np.floor((h - ground) / storey)
    upper = h >= ground
    shop = (has_shop > 0.5) & street_side & ~upper
    is_door = (k == door_bay) & street_side & ~upper
    centre = np.where(upper, ground + (j + np.float32(0.5)) * storey, np.where(shop, np.float32(1.55), ground * 0.55))
    half_height = np.where(shop, np.float32(1.1), wh / 2)
    half_width = np.where(shop, bay / 2 - np.float32(0.22), ww / 2)
    here = (wall & ~(is_door | (upper & (j >= storeys)))).astype(np.float32)
    dv = np.abs(h - centre)
    columns = band(du, half_width, foot_u) * here
    window = columns * band(dv, half_height, foot_v)
    pane = band(du, half_width - np.float32(0.07), foot_u) * band(dv, half_height - np.float32(0.07), foot_v) * here
    # panes part in the middle, except shop windows
    pane *= 1 - band(du, 0.03, foot_u) * ~shop
    pane *= 1 - band(np.abs(h - centre - np.where(shop, np.float32(0.65), half_height * 0.35)), 0.03, foot_v)
    leaf = is_door & wall
    door = band(du, 0.55, foot_u) * coverage(np.float32(2.35) - h, foot_v) * leaf
    panel = band(np.abs(du - np.float32(0.27)), 0.15, foot_u) * band(
        np.abs(np.mod(h, np.float32(1.1)) - np.float32(0.55)), 0.38, foot_v
    )
    sign = band(np.abs(h - np.float32(3.08)), 0.32, foot_v) * shop
    sign *= coverage(half_width_of_wall - np.float32(0.3) - np.abs(u - half_width_of_wall), foot_u)
    letter = np.floor(u / np.float32(0.42))
    letters = band(np.abs(u - (letter + np.float32(0.5)) * np.float32(0.42)), 0.13, foot_u) * fade(0.42, foot_u)
    letters *= band(np.abs(h - np.float32(3.08)), 0.15, foot_v) * (cell(letter, prim, 3) > 0.3) * sign
    below = centre - half_height - h
    sill = band(du, half_width + np.float32(0.1), foot_u) * band(np.abs(below - np.float32(0.07)), 0.07, foot_v)
    sill *= here * ~shop
    streak = columns * ~shop * np.exp(np.minimum(-below, 0) * np.float32(1.6)) * (below > 0.1)
    streak *= np.clip(cloudy(u * np.float32(1.4), h * np.float32(0.12)) * 0.7 + 0.5, 0, 1) * fade(0.5, foot_u)
    goods = cell(np.floor(u / np.float32(0.5)), np.floor(h / np.float32(0.55)), prim) - np.float32(0.5)
    goods *= shop * (h < 1.7) * fade(0.5, foot_u) * fade(0.5, foot_v)
    return Facade(
        u, h, foot_u, foot_v, window, pane, door, panel, sign, letters, sill, streak, centre + half_height - h,
        cell(k, j + 7, g.prims.instance[prim]), goods, shop.astype(np.float32), wall.astype(np.float32),
    )  # fmt: skip


def tiled(g: GBuffer, z: np.ndarray, scale: float) -> np.ndarray:
    """World z times `scale` for `cloudy`: the same along the whole street, whatever the G-buffer's anchor is."""
    return z * np.float32(scale) + np.float32(g.anchor_z * scale % PERIOD)


@dataclass
class Road:
    """Coverages (K,) float32 and world coordinates in metres on the road."""

    x: np.ndarray
    z: np.ndarray
    """from the G-buffer's anchor"""
    line: np.ndarray
    gutter: np.ndarray
    patch: np.ndarray
    """-0.5..0.5: repaired rectangles"""
    crack: np.ndarray
    track: np.ndarray
    """where the tyres roll"""
    cover: np.ndarray
    """rims of manholes"""
    stain: np.ndarray
    """-1..1"""
    puddle: np.ndarray
    """0..1 where water would stand"""


def puddles(g: GBuffer, x: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """(K,) 0..1 on the ground."""
    return np.clip((cloudy(x * np.float32(0.30), tiled(g, z, 0.14)) - 0.02) * 5 + 0.5, 0, 1)


def road(g: GBuffer, street: Street) -> Road:
    """Markings and wear of the ROAD pixels."""
    at = g.of(Kind.ROAD)
    x, z = g.world[0, at], g.world[2, at]
    fine, along = g.footprint_along(0, at), g.footprint[at]
    side = np.abs(x)
    dash = coverage(1.5 - np.abs(np.mod(z, 6.0) - 3.0), along)
    line = band(side, 0.075, fine) * dash
    line = np.maximum(line, band(np.abs(side - np.float32(3.35)), 0.05, fine))
    tick = band(np.abs(np.mod(z + 3.0, 6.0) - 3.0), 0.05, along)  # between parking bays
    line = np.maximum(line, tick * (side < ROAD_HALF) * (side > 3.35))
    number = int(g.anchor_z // BLOCK)
    for block in range(number - 1, number + 7):
        middle = street.zebra(block)
        if middle is not None:
            dz = np.abs(z - np.float32(middle - g.anchor_z))
            near = np.flatnonzero(dz < 4.0)
            stripes = band(np.abs(np.mod(x[near] + 0.5, 1.0) - 0.5), 0.27, fine[near])
            line[near] = stripes * (side[near] < ROAD_HALF - 0.3) * band(dz[near], 1.6, along[near])
        for way in (-1, 1):
            if street.has_side_street(block, way):
                start = np.float32(block * BLOCK - g.anchor_z)
                mouth = np.flatnonzero((z > start) & (z < start + 7.5) & (x * way > 3.0))
                give_way = band(np.abs(side[mouth] - ROAD_HALF - 0.2), 0.16, fine[mouth])
                line[mouth] = give_way * (np.mod(z[mouth], 1.0) < 0.6)
    line *= side < FRONT
    gutter = coverage(side - np.float32(ROAD_HALF - 0.28), fine) * (side < ROAD_HALF + 0.3)

    row, column = np.floor(z / 8.0), np.floor(x / np.float32(2.7))
    chance = cell(column, row + int(g.anchor_z // 8), 11)
    inside = band(np.abs(z / 8 - row - 0.5) * 8, 1.2 + 2.4 * chance, along)
    inside *= band(np.abs(x - (column + 0.5) * np.float32(2.7)), 1.0, fine)
    patch = inside * np.where(chance > 0.72, (chance - 0.72) * 1.8, 0) - inside * (chance < 0.12) * 0.4
    wander = cloudy(x * np.float32(0.45), tiled(g, z, 0.33))
    where = np.clip(cloudy(x * np.float32(0.11) + 5, tiled(g, z, 0.08)) * 4 - 0.4, 0, 1)
    crack = band(np.abs(wander) * 1.5, 0.016, along) * fade(0.35, along) * where
    hole = np.hypot(x - np.float32(0.95), np.mod(z + 5.0, 24.0) - 12.0)
    cover = band(np.abs(hole - 0.36), 0.06, along) + 0.45 * coverage(0.36 - hole, along)
    track = np.exp(-np.square((np.abs(side - np.float32(1.75)) - np.float32(0.75)) / np.float32(0.35)))
    stain = cloudy(x * np.float32(0.7), tiled(g, z, 0.25))
    return Road(x, z, line, gutter, patch, crack, track, cover, stain, puddles(g, x, z, along))


@dataclass
class Pavement:
    """Coverages (K,) float32 on the pavement."""

    x: np.ndarray
    """metres from the kerb stone"""
    z: np.ndarray
    slabs: Courses
    kerb: np.ndarray
    stain: np.ndarray
    earth: np.ndarray
    """1 on the beds of trees"""
    puddle: np.ndarray


def pavement(g: GBuffer) -> Pavement:
    """Slabs and kerb of the PAVEMENT pixels; their first parameter is the side of the street, 0 for a tree's bed."""
    at = g.of(Kind.PAVEMENT)
    x, z = np.abs(g.world[0, at]) - np.float32(ROAD_HALF), g.world[2, at]
    foot_x, along = g.footprint_along(0, at), g.footprint[at]
    earth = g.of_prims(g.prims.parameters[:, :1], at)[0] == 0
    size = 0.8
    slabs = courses(x - np.float32(0.22), z, size, size, 0.045, foot_x, along, 5, round(g.anchor_z / size))
    kerb = coverage(np.float32(0.22) - x, foot_x) * ~earth
    stain = cloudy(x * np.float32(0.6), tiled(g, z, 0.25))
    return Pavement(x, z, slabs, kerb, stain, earth.astype(np.float32), puddles(g, g.world[0, at], z, along))


@dataclass
class Bodywork:
    """Coverages (K,) float32 on a car body."""

    head_lamp: np.ndarray
    tail_lamp: np.ndarray
    plate: np.ndarray
    skirt: np.ndarray
    arch: np.ndarray
    seam: np.ndarray
    height: np.ndarray
    """0 at the waist, 1 at the bottom"""


def bodywork(g: GBuffer) -> Bodywork:
    """Lamps, plate, dark skirt, wheel arches and doors of the BODY pixels."""
    at = g.of(Kind.BODY)
    half, face, foot = g.of_prims(g.prims.half, at), g.face[at], g.footprint[at]
    x, y, z = g.local[:, at]
    front, back, side = face == 2, face == 5, (face == 0) | (face == 3)
    lamp = np.minimum(0.17 - np.abs(np.abs(x) - half[0] + 0.27), 0.09 - np.abs(y + half[1] * 0.25))
    plate = np.minimum(0.26 - np.abs(x), 0.07 - np.abs(y - half[1] * 0.45))
    wheel = 0.38 - np.hypot(np.abs(z) - half[2] * 0.62, y - half[1] + 0.12)
    seam = np.minimum(np.abs(z + 0.15), np.abs(np.abs(z) - half[2] * 0.36))
    handle = np.minimum(0.09 - np.abs(np.abs(z + 0.15) - 0.25), 0.025 - np.abs(y + half[1] * 0.55))
    return Bodywork(
        head_lamp=coverage(lamp, foot) * front,
        tail_lamp=coverage(lamp + 0.02, foot) * back,
        plate=coverage(plate, foot) * (front | back),
        skirt=coverage(y - half[1] + 0.12, foot) * (side | front | back),
        arch=coverage(wheel, foot) * side,
        seam=np.maximum(band(seam, 0.015, foot), coverage(handle, foot)) * side,
        height=np.clip(y / half[1] * 0.5 + 0.5, 0, 1),
    )


def cabin_glass(g: GBuffer) -> np.ndarray:
    """Coverage (K,) of glass on the CABIN pixels: everything but roof and pillars."""
    at = g.of(Kind.CABIN)
    half, face = g.of_prims(g.prims.half, at), g.face[at]
    x, y, z = g.local[:, at]
    vertical = half[1] - 0.07 - np.abs(y + 0.02)
    side = (face == 0) | (face == 3)
    pillars = np.minimum(half[2] - np.abs(z) - 0.30, np.abs(z + 0.1) - 0.05)
    across = np.where(side, pillars, half[0] * 0.86 - np.abs(x))
    return coverage(np.minimum(vertical, across), g.footprint[at]) * (face != 4)


def hair(g: GBuffer) -> np.ndarray:
    """(K,) 0 or 1: hair on top and at the back of HEAD pixels."""
    at = g.of(Kind.HEAD)
    _, y, z = g.local[:, at] / g.of_prims(g.prims.half, at)
    return ((y < -0.35) | (z < -0.3)).astype(np.float32)


def blob(g: GBuffer, street: Street) -> np.ndarray:
    """(M,) 0..1 how far inside the outline of a car or a person ground pixels lie (1 = its middle); 0 elsewhere."""
    dark = np.zeros(len(g.prim), np.float32)
    view, camera_z = g.view, g.view.position[2]
    row = g.pixels // view.width
    spots = [(m.where(g.time), m.size) for m in g.movers]
    spots += [((position, heading), size) for _, position, heading, size in street.parked(camera_z)]
    corners = np.array([(x, 0, z) for x in (-1, 1) for z in (-1, 1)])
    for (position, heading), (width, _, length) in spots:
        if not -6 < position[2] - camera_z < 60:
            continue
        # the rows of the picture that the spot may touch
        seen = (position + corners * 0.7 * np.hypot(width, length) - view.position) @ view.rotation
        if seen[:, 2].max() < 0.3:
            continue
        y = view.fy * seen[:, 1] / np.maximum(seen[:, 2], 0.3) + view.cy
        window = np.floor(y.min()), np.ceil(y.max()) + 1
        for at in (g.of(Kind.ROAD), g.of(Kind.PAVEMENT)):
            first, last = at.start + np.searchsorted(row[at], window)
            if first == last:
                continue
            dx = g.world[0, first:last] - np.float32(position[0])
            dz = g.world[2, first:last] - np.float32(position[2] - g.anchor_z)
            c, s = np.float32(np.cos(heading)), np.float32(np.sin(heading))
            across, along = (c * dx - s * dz) / (width * 0.8), (s * dx + c * dz) / (length * 0.62)
            away = np.square(np.square(across)) + np.square(np.square(along))
            near = np.flatnonzero(away < 1)
            dark[first + near] = np.maximum(dark[first + near], 1 - np.sqrt(np.sqrt(away[near])))
    return dark
