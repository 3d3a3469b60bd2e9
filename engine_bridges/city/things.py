"""Single things of the street: cars, people, trees and lamps as primitives, their colours and their classes.

Works on: a Builder, placed where the thing shall stand.
Knows nothing of: where things stand, how they move, light.
"""

from __future__ import annotations

import numpy as np

from engine_bridges.city.primitives import Builder, Kind

LEGEND = {
    0: "sky", 1: "road", 2: "pavement", 3: "building", 4: "vegetation", 5: "vehicle", 6: "person", 7: "pole",
}  # fmt: skip
"""Class ids of the segmentation."""
SKY, ROAD, PAVEMENT, BUILDING, VEGETATION, VEHICLE, PERSON, POLE = LEGEND

ROAD_HALF = 5.4
"""middle of the road to the kerb, metres"""
KERB = 0.13
"""height of the pavement, metres"""

CLOTHES = ((0.75, 0.18, 0.20), (0.18, 0.30, 0.60), (0.92, 0.88, 0.80), (0.20, 0.22, 0.26), (0.85, 0.60, 0.20),
           (0.25, 0.52, 0.40), (0.55, 0.35, 0.60), (0.45, 0.65, 0.80))
TROUSERS = ((0.18, 0.22, 0.34), (0.22, 0.22, 0.24), (0.45, 0.40, 0.32), (0.34, 0.36, 0.42))
SKINS = ((0.92, 0.74, 0.62), (0.76, 0.56, 0.44), (0.50, 0.34, 0.26))

CAR_SIZES = ((1.78, 1.42, 4.3), (1.72, 1.48, 3.8), (1.90, 2.00, 4.8))
"""width, height, length of saloon, hatchback, van"""


def add_car(b: Builder, paint: tuple[float, float, float], model: int, driven: bool) -> tuple[float, float, float]:
    """A car at the builder's place, its nose towards local +z. Returns width, height, length.

    Its lamps shine at dusk when it is `driven`.
    """
    width, height, length = CAR_SIZES[model]
    waist = (0.88, 0.90, 1.05)[model]
    cabin_length, cabin_z, rake, back = (
        (2.5, -0.25, 0.75, 0.6), (2.5, -0.45, 0.7, 0.25), (3.5, -0.6, 0.5, 0.05)
    )[model]  # fmt: skip
    dark = (0.10, 0.10, 0.11)
    body = (width / 2, (waist - 0.2) / 2, length / 2)
    b.add(Kind.BODY, paint, (0, -(waist + 0.2) / 2, 0), body, taper=(0.06, 0.16, 0.08), parameters=(driven,))
    cabin = height - waist
    # sunk a little into the body, so that no light shows between them
    b.add(Kind.CABIN, paint, (0, -waist - cabin / 2 + 0.03, cabin_z),
          (width / 2 - 0.06, cabin / 2 + 0.03, cabin_length / 2), taper=(0.22, rake, back))
    for x in (-1, 1):
        for z in (-1, 1):
            b.ball(Kind.WHEEL, dark, (x * (width / 2 - 0.06), -0.32, z * length * 0.31), (0.12, 0.32, 0.32))
    return width, height, length


def add_person(b: Builder, look: tuple, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A standing person at the builder's place, facing local +z.

    Returns hip or shoulder (n, 3) of each part, and how far it swings (n,), as a share of the right leg's angle.
    """
    shirt, trousers, skin = look
    joints, swings = [], []
    for x, share in ((0.10, 1.0), (-0.10, -1.0)):
        hip, shoulder = np.array([x, -0.86, 0]) * scale, np.array([x * 2.6, -1.42, 0]) * scale
        b.ball(Kind.CLOTH, trousers, hip + (0, 0.43 * scale, 0), np.array([0.095, 0.46, 0.11]) * scale)
        b.ball(Kind.CLOTH, shirt, shoulder + (0, 0.28 * scale, 0), np.array([0.06, 0.32, 0.07]) * scale)
        joints += [hip, shoulder]
        swings += [share, -0.8 * share]
    b.ball(Kind.CLOTH, shirt, (0, -1.16 * scale, 0), np.array([0.23, 0.36, 0.15]) * scale)
    b.ball(Kind.HEAD, skin, (0, -1.61 * scale, 0.01), np.array([0.115, 0.15, 0.13]) * scale)
    return np.array([*joints, np.zeros(3), np.zeros(3)]), np.array([*swings, 0.0, 0.0])


LAMP_HEIGHT, LAMP_REACH = 5.6, 1.4
"""of a street lamp's light above the road and out from its pole, metres"""


def add_lamp(b: Builder, side: int, z: float) -> None:
    """A street lamp at the kerb of `side` (-1 left, 1 right), its head over the road."""
    x, color = side * (ROAD_HALF + 0.45), (0.28, 0.30, 0.33)
    b.add(Kind.METAL, color, (x, -2.9, z), (0.07, 2.9, 0.07))
    b.add(Kind.METAL, color, (x, -0.55, z), (0.13, 0.45, 0.13))
    b.add(Kind.METAL, color, (x - side * 0.7, -5.75, z), (0.75, 0.05, 0.05))
    b.add(Kind.LAMP, (0.95, 0.93, 0.82), (x - side * LAMP_REACH, -LAMP_HEIGHT - 0.08, z), (0.32, 0.09, 0.14))


def add_tree(g: np.random.Generator, b: Builder, side: int, z: float, leaf: np.ndarray) -> None:
    """A street tree at the kerb of `side`: a trunk in its bed of earth and a crown of leafy balls."""
    x = side * (ROAD_HALF + 0.85)
    trunk = g.uniform(2.3, 2.9)
    b.add(Kind.PAVEMENT, (0.40, 0.31, 0.24), (x, -KERB - 0.01, z), (0.55, 0.015, 0.55), parameters=(0,))
    b.add(Kind.BARK, (0.45, 0.33, 0.24), (x, -trunk / 2 - KERB, z), (0.16, trunk / 2 + 0.3, 0.16),
          taper=(0.02, 0.02, 0.02))
    tint = np.clip(leaf + g.uniform(-0.04, 0.04, 3), 0, 1)
    radius = g.uniform(0.9, 1.35)
    b.ball(Kind.LEAF, tint, (x, -trunk - radius * 0.9, z), (radius * 1.15, radius, radius * 1.15))
    for k in range(4):
        angle = 1.57 * k + g.uniform(-0.4, 0.4)
        r = radius * g.uniform(0.6, 0.78)
        height = trunk + radius * g.uniform(0.6, 1.7)
        centre = (x + np.cos(angle) * radius * 0.7, -height, z + np.sin(angle) * radius * 0.7)
        b.ball(Kind.LEAF, np.clip(tint + g.uniform(-0.03, 0.03), 0, 1), centre, (r, r * 0.85, r))
    for _ in range(4):
        angle, out, r = g.uniform(0, 6.28), radius * g.uniform(0.7, 1.15), radius * g.uniform(0.32, 0.48)
        centre = (x + np.cos(angle) * out, -trunk - radius * g.uniform(0.3, 1.9), z + np.sin(angle) * out)
        b.ball(Kind.LEAF, np.clip(tint + g.uniform(-0.03, 0.03), 0, 1), centre, (r, r * 0.8, r))
