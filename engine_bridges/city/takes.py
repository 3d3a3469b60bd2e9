"""Takes of the city without the way over a daemon, for benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from capture.camera import Conventions
from capture.frame import Channel, Frame
from capture.take import TakeWriter
from engine_bridges.city.bridge import ENGINE, channels, descriptors, game_name
from engine_bridges.city.scene import City


def record_take(path: Path, city: City, numbers: Iterable[int]) -> None:
    """Write the city's frames of these numbers, one after the other, as a take."""
    described = descriptors(city.size)
    with TakeWriter(
        path, conventions=Conventions(), descriptors=described, engine=ENGINE, game=game_name(city), fps=city.fps
    ) as writer:
        for index, number in enumerate(numbers):
            made = city.frame(number)
            arrays = channels(made)
            data = {each.name: Channel(each, arrays[each.name], number) for each in described}
            writer.append(Frame(index, number, made.time, made.camera, data, Conventions()))
