"""The street: what stands and moves where, for every seed, at every time.

Works on: an endless straight street along +z made of blocks; each block follows from (seed, block number) alone, so
any moment can be built without the moments before it.
Knows nothing of: pixels, light.

Metres, seconds, radians; OpenCV axes, so a height h above the road is y = -h. The road lies at y = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from engine_bridges.city.drive import Drive
from engine_bridges.city.layouts import HELD_OUT_LAYOUTS, LAYOUTS
from engine_bridges.city.palettes import HELD_OUT_PALETTES, PALETTES, Colors
from engine_bridges.city.primitives import EMPTY, Builder, Kind, Primitives, Shape, pitch, roll
from engine_bridges.city.things import (
    BUILDING,
    CAR_SIZES,
    CLOTHES,
    KERB,
    LAMP_REACH,
    PAVEMENT,
    PERSON,
    POLE,
    ROAD,
    ROAD_HALF,
    SKINS,
    TROUSERS,
    VEGETATION,
    VEHICLE,
    add_car,
    add_lamp,
    add_person,
    add_tree,
)
from engine_bridges.city.weather import SHARES, WEATHERS

BLOCK = 24.0
"""length of a block along the street, metres"""
FRONT = 8.8
"""middle of the road to the building line"""
SIDE_STREET = 7.5
"""width of a side street, at the start of its block"""
AHEAD, BEHIND = 300.0, 14.0
"""how far the street is built in front of and behind the camera"""
DETAIL = 130.0
"""how far small things are built"""
TRAFFIC = 100.0
"""how far cars drive and people walk"""
ONCOMING_SPACING = 48.0
"""mean distance of the cars in the stream towards the camera"""

Path = Callable[[float], tuple[np.ndarray, float]]
"""time -> position (3,) on the ground, heading"""


@dataclass(frozen=True)
class Mover:
    """Something that moves: parts(time) always lists the same primitives in the same order."""

    instance: int
    cls: str
    model: str
    where: Path
    parts: Callable[[float], Primitives]
    size: tuple[float, float, float]


@dataclass
class Block:
    """One block: its still primitives, its movers and where things are that textures need to know."""

    still: Primitives
    backdrop: Primitives
    """buildings only, for blocks far away"""
    movers: list[Mover] = field(default_factory=list)
    parked: list[tuple[int, np.ndarray, float, tuple[float, float, float]]] = field(default_factory=list)
    lamps: list[tuple[float, float]] = field(default_factory=list)
    """x and z of the street lamps' light"""


@dataclass(frozen=True)
class Plot:
    """One side of a block, while it is laid out."""

    g: np.random.Generator
    ids: Iterator[int]
    """instance numbers for what is put here"""
    number: int
    """of the block"""
    side: int
    """-1 left, 1 right"""
    gap: float
    """width of the side street at its start, 0 for none"""

    @property
    def start(self) -> float:
        """z at which the block begins."""
        return self.number * BLOCK


class Street:
    """Everything that a seed decides. `layout`, `palette` and `weather` are names that overrule the seed's choice."""

    def __init__(
        self, seed: int, *, layout: str | None = None, palette: str | None = None, weather: str | None = None
    ) -> None:
        self.seed = seed
        g = np.random.default_rng([seed, 0x5EED])
        drone = g.random() < 0.35
        height = g.uniform(2.6, 4.0) if drone else g.uniform(1.4, 2.1)
        self.drive = Drive(
            speed=g.uniform(4.0, 9.5), height=height, x=g.uniform(-0.8, 1.2) if drone else g.uniform(1.2, 2.0),
            sway=g.uniform(0.1, 0.5), sway_rate=g.uniform(0.3, 0.6), turn=g.uniform(0.02, 0.13),
            turn_rate=g.uniform(0.35, 0.7), look_down=g.uniform(0.06, 0.14) if drone else g.uniform(-0.03, 0.05),
            phase=g.uniform(0, 2 * np.pi), vertical_fov=g.uniform(0.80, 1.02),
        )
        # one generator each, so that an override leaves everything else as it was
        self.layout_name = layout or _choice(seed, 1, [n for n in LAYOUTS if n not in HELD_OUT_LAYOUTS])
        self.palette_name = palette or _choice(seed, 2, [n for n in PALETTES if n not in HELD_OUT_PALETTES])
        self.weather_name = weather or _choice(seed, 3, list(WEATHERS), SHARES)
        self.layout = LAYOUTS[self.layout_name].varied(np.random.default_rng([seed, 4]))
        self.palette, self.weather = PALETTES[self.palette_name], WEATHERS[self.weather_name]
        azimuth = g.choice([-1, 1]) * np.radians(g.uniform(30, 150))  # from the street's direction
        height_of_sun, thickness = g.random(), g.random() ** 2
        low, high = np.radians(self.weather.elevation)
        elevation = low + (high - low) * height_of_sun
        self.sun = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
        )
        thin, thick = self.weather.haze
        self.haze = thin + (thick - thin) * thickness
        self.mist = self.haze / 0.008
        """0 clear .. 1 hazy, as both shadings show it"""
        self.leaf = np.array(self.palette.leaf) + g.uniform(-0.06, 0.10, 3) * (1.0, 0.6, 0.5)
        self.lead_car = g.random() < 0.5
        self.side_streets = (-1,) if self.lead_car else ((1,), (-1, 1))[int(g.integers(2))]
        self.oncoming = g.random() < 0.75
        self.oncoming_speed = g.uniform(5.0, 9.0)
        self.first_side_street = int(g.integers(1, 3))
        self.paint = tuple(g.permutation(len(self.palette.cars)))
        # all of these follow from the seed; kept because the next frame needs them again
        self.block = lru_cache(maxsize=64)(self._make_block)
        self._lead_car = lru_cache(maxsize=1)(self._make_lead_car)
        self._oncoming_car = lru_cache(maxsize=16)(self._make_oncoming_car)
        self._still = lru_cache(maxsize=2)(self._make_still)

    # -- what surrounds a place ---------------------------------------------------------------------------------

    def has_side_street(self, number: int, side: int) -> bool:
        """Whether the block begins with a side street on that side (-1 left, 1 right)."""
        return side in self.side_streets and (number - self.first_side_street + (side > 0)) % 3 == 0

    def zebra(self, number: int) -> float | None:
        """z of the middle of the block's zebra crossing, or None."""
        return number * BLOCK + 13.0 if (number + self.seed) % 3 == 0 else None

    def still(self, z: float) -> Primitives:
        """Ground and still things around a camera at `z`."""
        return self._still(*(int((z + reach) // BLOCK) for reach in (-BEHIND, DETAIL, AHEAD)))

    def _make_still(self, first: int, detailed: int, last: int) -> Primitives:
        parts = [self._ground()]
        for number in range(first, last + 1):
            parts.append(self.block(number).still if number <= detailed else self.block(number).backdrop)
        return Primitives.concatenate(parts)

    def movers(self, time: float) -> list[Mover]:
        """Movers that may be seen at `time`."""
        z = self.drive.z(time)
        first, last = int((z - BEHIND) // BLOCK), int((z + TRAFFIC) // BLOCK)
        found = [m for number in range(first - 1, last + 1) for m in self.block(number).movers]
        found += self._traffic(time)
        near = []
        for mover in found:
            position, _ = mover.where(time)
            if z - BEHIND < position[2] < z + TRAFFIC:
                near.append(mover)
        return near

    def parked(self, z: float) -> list[tuple[int, np.ndarray, float, tuple[float, float, float]]]:
        """Parked cars around a camera at `z`: instance, position (3,), heading, (width, height, length)."""
        first, last = int((z - BEHIND) // BLOCK), int((z + 60.0) // BLOCK)
        return [car for number in range(first, last + 1) for car in self.block(number).parked]

    def lamps(self, z: float) -> list[tuple[float, float]]:
        """Street lamps around a camera at `z`: x and z of their light."""
        first, last = int((z - BEHIND) // BLOCK), int((z + 72.0) // BLOCK)
        return [lamp for number in range(first, last + 1) for lamp in self.block(number).lamps]

    @staticmethod
    def _ground() -> Primitives:
        b = Builder()
        b.label = ROAD
        b.add(Kind.ROAD, (0.36, 0.37, 0.40), (0, 0, 0), (1, 0, 1), shape=Shape.GROUND)
        return b.build()

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _make_block(self, number: int) -> Block:
        g = np.random.default_rng([self.seed, number + 100_000])
        buildings, small = Builder(), Builder()
        block = Block(EMPTY, EMPTY)
        ids = itertools.count(1 + (number % 400) * 160)
        for side in (-1, 1):
            gap = SIDE_STREET if self.has_side_street(number, side) else 0.0
            plot = Plot(g, ids, number, side, gap)
            doors = self._buildings(plot, buildings)
            self._furniture(plot, small, block)
            self._parked(plot, small, block)
            self._people(plot, block, doors)
            if gap:
                self._side_street_car(plot, block)
        block.backdrop = buildings.build()
        block.still = Primitives.concatenate([block.backdrop, small.build()])
        return block

    def _buildings(self, plot: Plot, b: Builder) -> list[float]:
        """Pavement and buildings; returns the z of the doors."""
        g, ids, side = plot.g, plot.ids, plot.side
        z0, z1 = plot.start + plot.gap, plot.start + BLOCK
        b.instance, b.label = 0, PAVEMENT
        depth = 30.0
        b.add(Kind.PAVEMENT, (0.70, 0.69, 0.67), (side * (ROAD_HALF + depth / 2), -KERB / 2, (z0 + z1) / 2),
              (depth / 2, KERB / 2, (z1 - z0) / 2), parameters=(side,))
        doors = []
        layout, palette = self.layout, self.palette
        count = max(1, round((z1 - z0) / layout.width + g.uniform(-0.4, 0.4)))
        cuts = z0 + (z1 - z0) * np.linspace(0, 1, count + 1)
        cuts[1:-1] += g.uniform(-0.15, 0.15, count - 1) * (z1 - z0) / count
        for a, c in itertools.pairwise(cuts.tolist()):
            b.instance, b.label = next(ids), BUILDING
            material = int(g.choice(3, p=layout.walls))
            colors = (palette.plasters, palette.bricks, palette.stones)[material]
            color = np.array(_pick(g, colors)) + g.uniform(-0.05, 0.05)
            color = np.clip(color + g.uniform(-0.02, 0.02, 3), 0, 1)
            storey, ground = g.uniform(2.9, 3.4), g.uniform(3.5, 4.0)
            storeys = max(1, int(round((layout.tall * g.uniform(0.7, 1.35) - ground) / storey)))
            height = ground + storeys * storey + 0.5
            front = FRONT + g.uniform(0.0, 0.3 + layout.setback)
            width, deep = c - a, g.uniform(9.0, 12.0)
            shop = float(g.random() < layout.shops)
            bay = g.uniform(2.1, 3.2)
            bays = max(1, int(width / bay))
            door = int(g.integers(bays))
            sign = _pick(g, palette.signs)
            window_width, window_height = bay * g.uniform(0.36, 0.52), storey * g.uniform(0.48, 0.62)
            x = side * (front + deep / 2)
            b.place((x, 0, (a + c) / 2))
            b.add(Kind.FACADE, color, (0, -height / 2, 0), (deep / 2, height / 2, width / 2),
                  parameters=(ground, storeys, bay, window_width, window_height, shop, door, material), accent=sign)
            trim = np.clip(color * 0.55 + 0.42, 0, 1)
            gable = g.random() < layout.gables
            b.add(Kind.TRIM, trim, (0, -height - 0.15, 0), (deep / 2 + 0.25, 0.15, width / 2 - 0.02))
            if gable:
                rise = g.uniform(1.8, 2.8)
                roof = _pick(g, palette.roofs)
                b.add(Kind.ROOF, roof, (0, -height - 0.3 - rise / 2, 0), (deep / 2 + 0.1, rise / 2, width / 2 - 0.02),
                      taper=((deep / 2) / rise, 0, 0))
            chimney_z = g.uniform(-0.35, 0.35) * width
            b.add(Kind.TRIM, (0.55, 0.38, 0.32), (-side * deep * 0.25, -height - 1.3, chimney_z), (0.35, 1.3, 0.5))
            # a string course above the ground floor gives the facade relief
            b.add(Kind.TRIM, trim, (-side * deep / 2, -ground - 0.08, 0), (0.12, 0.13, width / 2 - 0.02))
            if shop and g.random() < 0.6:
                b.add(Kind.AWNING, sign, (-side * (deep / 2 + 0.55), -2.75, 0),
                      (0.62, 0.04, width / 2 - 0.5), rotation=roll(-side * 0.42))
            if not shop and g.random() < layout.balconies:
                for floor in range(1, storeys):
                    for k in range(bays):
                        if (k + door) % 2 == 0:
                            z, y = -width / 2 + (k + 0.5) * width / bays, -ground - floor * storey - 0.35
                            b.add(Kind.TRIM, trim, (-side * (deep / 2 + 0.4), y, z), (0.4, 0.35, window_width * 0.72))
            b.place((0, 0, 0))
            doors.append(a + (door + 0.5) * width / bays)
        if plot.gap:  # something closes the view along the side street
            b.instance = next(ids)
            b.add(Kind.FACADE, _pick(g, palette.plasters), (side * 46, -6, z0 - SIDE_STREET / 2), (5, 6, 16),
                  parameters=(3.6, 2, 2.6, 1.1, 1.6, 0, 1, 0))
        return doors

    def _furniture(self, plot: Plot, b: Builder, block: Block) -> None:
        g, ids, side, z0, gap = plot.g, plot.ids, plot.side, plot.start, plot.gap
        if g.random() < 0.9:
            b.instance, b.label = next(ids), POLE
            z = z0 + 11.0 + (side > 0) * 1.5
            add_lamp(b, side, z)
            block.lamps.append((side * (ROAD_HALF + 0.45 - LAMP_REACH), z))
        for z in (z0 + 4.0 + gap * 0.7, z0 + 18.5):
            if g.random() < self.layout.trees:
                b.instance, b.label = next(ids), VEGETATION
                add_tree(g, b, side, z + g.uniform(-1, 1), self.leaf)
        if g.random() < 0.4:
            b.instance, b.label = next(ids), POLE
            litter_bin = (side * (ROAD_HALF + 0.7), -KERB - 0.45, z0 + 9.0)
            b.add(Kind.METAL, (0.20, 0.40, 0.28), litter_bin, (0.26, 0.45, 0.26))
        if g.random() < 0.35 and not gap:
            b.instance, b.label = next(ids), VEGETATION
            b.add(Kind.LEAF, self.leaf * 0.9, (side * (FRONT - 0.35), -KERB - 0.45, z0 + 15.0), (0.32, 0.45, 2.4))

    def _parked(self, plot: Plot, b: Builder, block: Block) -> None:
        g, ids, side, z0, gap = plot.g, plot.ids, plot.side, plot.start, plot.gap
        zebra = self.zebra(plot.number)
        for slot in range(4):
            z = z0 + 3.0 + slot * 6.0
            if (gap and slot < 2) or (zebra is not None and abs(z - zebra) < 5.0) or g.random() > self.layout.cars:
                continue
            position, heading = np.array([side * (ROAD_HALF - 1.05), 0.0, z]), (0.0 if side > 0 else np.pi)
            b.instance, b.label = next(ids), VEHICLE
            b.place(position, heading + g.uniform(-0.03, 0.03))
            size = add_car(b, _pick(g, self.palette.cars), int(g.integers(3)), driven=False)
            block.parked.append((b.instance, position, heading, size))
            b.place((0, 0, 0))

    # -- movers ---------------------------------------------------------------------------------------------------

    def _car(self, instance: int, paint: int, model: int, where: Path) -> Mover:
        b = Builder()
        b.instance, b.label = instance, VEHICLE
        add_car(b, self.palette.cars[paint % len(self.palette.cars)], model, driven=True)
        car = b.build()

        def parts(time: float) -> Primitives:
            return car.moved(*where(time))

        parts = lru_cache(maxsize=3)(parts)  # the moment before this frame was the last frame's own
        return Mover(instance, "vehicle", ("saloon", "hatchback", "van")[model], where, parts, CAR_SIZES[model])

    def _traffic(self, time: float) -> list[Mover]:
        """Cars in the lanes: one ahead of the camera, and a stream that comes towards it."""
        cars = [self._lead_car()] if self.lead_car else []
        if self.oncoming:
            passed = self.drive.z(time) + self.oncoming_speed * time
            first, last = (int((passed + reach) // ONCOMING_SPACING) for reach in (-BEHIND, TRAFFIC))
            cars += [self._oncoming_car(k) for k in range(first, last + 1)]
        return cars

    def _make_lead_car(self) -> Mover:
        gap = 13.0 + 5.0 * (self.seed % 3)

        def ahead(t: float):
            z = self.drive.speed * t + gap + 2.5 * np.sin(0.35 * t)
            return np.array([1.75 + 0.1 * np.sin(0.4 * t), 0.0, z]), 0.0

        return self._car(64_001, self.paint[0], self.seed % 3, ahead)

    def _make_oncoming_car(self, k: int) -> Mover:
        offset = 18.0 * np.sin(k * 2.4 + self.seed)

        def towards(t: float):
            return np.array([-1.75, 0.0, k * ONCOMING_SPACING + offset - self.oncoming_speed * t]), np.pi

        return self._car(64_010 + k % 900, self.paint[k % len(self.paint)], k % 3, towards)

    def _side_street_car(self, plot: Plot, block: Block) -> None:
        """A car comes out of the side street as the camera draws near: it joins (right) or gives way (left)."""
        g, ids, side, z0, drive = plot.g, plot.ids, plot.side, plot.start, self.drive
        z_lane = z0 + SIDE_STREET / 2 + (1.6 if side > 0 else -1.6)
        speed = g.uniform(5.0, 6.5)
        radius = 3.5
        straight = 24.0 - (1.75 + radius)
        if side > 0:  # in the lane a few car lengths ahead of the camera
            start = drive.arrival(z_lane - g.uniform(11.0, 17.0)) - (straight + radius * np.pi / 2) / speed
        else:
            start = drive.arrival(z0 - g.uniform(14.0, 24.0)) - 2.0
        away = drive.speed + 1.0
        instance, paint, model = next(ids), int(g.integers(8)), int(g.integers(3))

        def where(t: float):
            s = (t - start) * speed
            if side < 0:
                stop = 24.0 - 8.2
                s = max(s, 0.0)
                ease = stop * (1 - np.exp(-s / stop * 1.4))  # slows down to the stop line
                return np.array([-24.0 + ease, 0.0, z_lane]), np.pi / 2
            if s <= straight:
                return np.array([24.0 - max(s, 0.0), 0.0, z_lane]), -np.pi / 2
            angle = (s - straight) / radius
            if angle < np.pi / 2:
                x, z = 1.75 + radius * (1 - np.sin(angle)), z_lane + radius * (1 - np.cos(angle))
                return np.array([x, 0.0, z]), -np.pi / 2 + angle
            after = (s - straight - radius * np.pi / 2) / speed
            return np.array([1.75, 0.0, z_lane + radius + away * after]), 0.0

        block.movers.append(self._car(instance, paint, model, where))

    def _people(self, plot: Plot, block: Block, doors: list[float]) -> None:
        g, ids, side, z0, drive = plot.g, plot.ids, plot.side, plot.start, self.drive
        for door in doors:  # out of a door, across the pavement, then along it
            if g.random() > 0.22 * self.layout.people:
                continue
            start = drive.arrival(door - g.uniform(9.0, 20.0))
            speed = g.uniform(1.1, 1.6)
            way = g.choice([-1, 1])

            def leaves(t: float, start=start, speed=speed, way=way, door=door):
                s = max((t - start) * speed, 0.0)
                out = FRONT + 1.5
                walk = 3.1
                if s < walk:
                    return np.array([side * (out - s), -KERB, door]), -side * np.pi / 2
                return np.array([side * (out - walk), -KERB, door + way * (s - walk)]), (0.0 if way > 0 else np.pi)

            block.movers.append(self._person(g, next(ids), leaves))
        for _ in range(int(g.poisson(0.6 * self.layout.people))):  # along the pavement
            z, speed = z0 + g.uniform(0, BLOCK), g.choice([-1, 1]) * g.uniform(1.0, 1.6)
            x, passes = side * g.uniform(ROAD_HALF + 1.6, FRONT - 0.5), drive.arrival(z0)

            def walks(t: float, z=z, speed=speed, x=x, passes=passes):
                return np.array([x, -KERB, z + speed * (t - passes)]), (0.0 if speed > 0 else np.pi)

            block.movers.append(self._person(g, next(ids), walks))
        zebra = self.zebra(plot.number)
        if zebra is not None and not self.oncoming and g.random() < 0.45 * self.layout.people:
            # over before the cars come
            z, speed = zebra + g.uniform(-0.8, 0.8), g.uniform(1.2, 1.6)
            start = drive.arrival(zebra - 26.0 * self.lead_car) - 2 * (ROAD_HALF + 1.0) / speed - g.uniform(0.3, 1.5)

            def crosses(t: float, start=start, z=z, speed=speed):
                s = np.clip((t - start) * speed, -0.5, 2 * (ROAD_HALF + 1.0))
                return np.array([side * (ROAD_HALF + 1.0 - s), -0.02, z]), -side * np.pi / 2

            block.movers.append(self._person(g, next(ids), crosses))

    def _person(self, g: np.random.Generator, instance: int, where: Path) -> Mover:
        look = (CLOTHES[int(g.integers(8))], TROUSERS[int(g.integers(4))], SKINS[int(g.integers(3))])
        scale, phase = g.uniform(0.92, 1.08), g.uniform(0, 6.28)

        b = Builder()
        b.instance, b.label = instance, PERSON
        joints, swings = add_person(b, look, scale)
        standing = b.build()

        def parts(time: float) -> Primitives:
            position, heading = where(time)
            before, _ = where(time - 0.2)
            stride = min(float(np.linalg.norm(position - before)) / 0.2, 1.4) / 1.4
            angle = 0.55 * stride * np.sin(2 * np.pi * 0.95 * time + phase)
            turns = pitch(angle * swings)
            centres = joints + (turns @ (standing.position - joints)[..., None])[..., 0]
            return replace(standing, rotation=turns, position=centres).moved(position, heading)

        return Mover(instance, "person", "walker", where, lru_cache(maxsize=3)(parts), (0.5, 1.75 * scale, 0.5))


def _choice(seed: int, matter: int, names: list[str], shares: tuple[float, ...] | None = None) -> str:
    """One of `names`, drawn for one matter alone."""
    return names[int(np.random.default_rng([seed, matter, 0xC17]).choice(len(names), p=shares))]


def _pick(g: np.random.Generator, colors: Colors) -> tuple[float, float, float]:
    """One of the colours; takes one random number, however many colours there are."""
    return colors[int(g.random() * len(colors))]
