"""Takes of the embedded engine, written without a daemon, and their ground truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.camera import Conventions
from capture.frame import Channel, Frame
from capture.take import Take, TakeWriter
from engine_bridges.city.bridge import channels, descriptors, game_name
from engine_bridges.city.scene import LEGEND, City

SEED = 20260100
SIZE = (160, 96)


@dataclass
class Oddities:
    """What is wrong with a take."""

    cuts: Collection[int] = ()
    late_depth: Collection[int] = ()
    still: Collection[int] = ()
    """Frames that repeat the one before: a pause."""
    black: Collection[int] = ()
    lost_before: Collection[int] = ()
    scene_at: int | None = None
    """From this frame on another street, without a flag."""


def frames_of(
    seed: int, count: int, first: int = 0, size: tuple[int, int] = SIZE, odd: Oddities | None = None,
    without: Collection[str] = (),
) -> list[Frame]:  # fmt: skip
    """Frames as the city sends them."""
    odd = odd or Oddities()
    city, other = City(seed, size), City(seed + 50, size) if odd.scene_at is not None else None
    described: Mapping = {d.name: d for d in descriptors(size) if d.name not in without}
    frames, shown = [], first
    for place in range(count):
        if place not in odd.still:
            shown = first + place
        world = other if other is not None and odd.scene_at is not None and place >= odd.scene_at else city
        seen = world.frame(shown)
        arrays = {name: data for name, data in channels(seen).items() if name in described}
        if place in odd.black:
            arrays["color"] = np.zeros_like(arrays["color"])
        serials = dict.fromkeys(arrays, place)
        if place in odd.late_depth:
            serials["depth"] = place - 1
        flags = [name for name, places in (("cut", odd.cuts), ("desync", odd.late_depth)) if place in places]
        frames.append(
            Frame(
                place, place, place / 24, seen.camera,
                {name: Channel(described[name], data, serials[name]) for name, data in arrays.items()},
                Conventions(), flags, seen.entities, int(place in odd.lost_before),
            )
        )  # fmt: skip
    return frames


def city_take(
    path: Path, count: int = 24, seed: int = SEED, first: int = 0, size: tuple[int, int] = SIZE,
    odd: Oddities | None = None, without: Collection[str] = (),
) -> Take:  # fmt: skip
    described = [d for d in descriptors(size) if d.name not in without]
    legend = {"segmentation": LEGEND} if "segmentation" not in without else {}
    writer = TakeWriter(
        path, conventions=Conventions(), descriptors=described, engine="city", game=game_name(City(seed, size)),
        fps=24.0, legend=legend,
    )  # fmt: skip
    for frame in frames_of(seed, count, first, size, odd, without):
        writer.append(frame)
    writer.close()
    return Take(path)


def truth(seed: int, count: int, first: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The city's reference shading, uint8 `[T, H, W, 3]`."""
    city = City(seed, size)
    return np.stack([city.reference(index) for index in range(first, first + count)])
