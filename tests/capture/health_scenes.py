"""Scenes whose health is known, for the doctor's tests: the city, the Panda3D sample, and what games give."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from capture.camera import Conventions
from capture.frame import Channel, Frame
from capture.health.mistakes import without_geometry
from capture.take import Take
from engine_bridges.city.bridge import channels, descriptors
from engine_bridges.city.scene import City

ROOT = Path(__file__).parents[2]


@cache
def city(
    seed: int = 10_000_002, frames: int = 14, size: tuple[int, int] = (240, 134), first: int = 0, **kind: Any
) -> list[Frame]:
    """A drive along a street; its size is no whole multiple of anything. `kind`: as for City."""
    street, described = City(seed, size, **kind), descriptors(size)
    return [city_frame(street, described, i) for i in range(first, first + frames)]


def city_frame(street: City, described: list, index: int) -> Frame:
    shown = street.frame(index)
    arrays = channels(shown)
    sent = {d.name: Channel(d, arrays[d.name], index) for d in described}
    return Frame(index, index, shown.time, shown.camera, sent, Conventions(), entities=shown.entities)


@cache
def game(seed: int = 10_000_002) -> list[Frame]:
    """As an OpenGL game gives it: colour and the depth buffer, bottom row first; no pose, no normals, no unit."""
    return without_geometry(city(seed))


def record_panda3d(takes: Path) -> list[Frame]:
    """The Panda3D sample scene, through its bridge."""
    command = [sys.executable, "-m", "realmaster", "record", "panda3d", "--frames", "20", "--size", "240x180"]
    command += ["--name", "panda", "--takes", str(takes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with Take(takes / "panda") as take:
        frames = list(take)
        for frame in frames:
            for channel in frame.channels.values():
                channel.data = np.array(channel.data)
        return frames
