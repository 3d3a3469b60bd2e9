"""The embedded engine's front: a street per seed, its frames and their reference pictures.

Works on: frame numbers. Frame i shows the street at i / fps seconds and follows from (seed, overrides, size, fps, i)
alone: no state is carried from one frame to the next.
Knows nothing of: sockets, takes, models.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from capture.camera import Camera
from capture.frame import Entity
from engine_bridges.city.gbuffer import GBuffer, draw
from engine_bridges.city.layouts import LAYOUTS
from engine_bridges.city.materials import Surface
from engine_bridges.city.palettes import PALETTES
from engine_bridges.city.primitives import yaw
from engine_bridges.city.raster import FAR, NEAR, View
from engine_bridges.city.reference import reference
from engine_bridges.city.shade import render
from engine_bridges.city.street import Street
from engine_bridges.city.sunlight import Sunlight
from engine_bridges.city.things import LEGEND
from engine_bridges.city.weather import WEATHERS

__all__ = ["LEGEND", "LOOKS", "City", "CityFrame"]

LOOKS: dict[str, Collection[str]] = {"layout": LAYOUTS, "palette": PALETTES, "weather": WEATHERS}
"""What can be chosen of a street in place of the seed's choice, and the names there are."""


@dataclass(frozen=True)
class CityFrame:
    """One frame in canonical form; H, W = size. OpenCV axes in camera and world, metres, pixels."""

    index: int
    time: float
    """seconds of engine time"""
    color: np.ndarray
    """uint8 (H, W, 3) sRGB, the cheap render"""
    depth: np.ndarray
    """float32 (H, W) metres along the optical axis, +inf for sky"""
    normal: np.ndarray
    """float32 (H, W, 3) camera-space unit normals, 0 for sky"""
    motion: np.ndarray
    """float32 (H, W, 2) pixels: where the surface point was in frame index - 1, minus now; frame 0 counts from -1"""
    segmentation: np.ndarray
    """uint8 (H, W), see LEGEND"""
    instance: np.ndarray
    """uint16 (H, W), 0 = background (sky, road, pavement)"""
    camera: Camera
    entities: tuple[Entity, ...]
    """people and vehicles near the camera, in view or not"""


class City:
    """A procedural street. `size` is (width, height) in pixels, `fps` the frames per second of engine time.

    `layout`, `palette` and `weather` (names from LOOKS) overrule what the seed chooses and
    leave everything else as it was. Raises ValueError for a name that is not there.
    """

    def __init__(
        self,
        seed: int,
        size: Sequence[int] = (320, 180),
        fps: float = 24.0,
        *,
        layout: str | None = None,
        palette: str | None = None,
        weather: str | None = None,
    ) -> None:
        width, height = size
        if seed < 0 or width < 16 or height < 16 or not fps > 0:
            raise ValueError(f"a city needs seed >= 0, a size of at least 16x16 and fps > 0, not {seed}, {size}, {fps}")
        self.overrides: dict[str, str | None] = {"layout": layout, "palette": palette, "weather": weather}
        for what, name in self.overrides.items():
            if name is not None and name not in LOOKS[what]:
                raise ValueError(f"a city has no {what} {name!r}: choose one of {', '.join(LOOKS[what])}")
        self.seed, self.size, self.fps = int(seed), (int(width), int(height)), float(fps)
        self._street = Street(self.seed, **self.overrides)
        self._sunlight = Sunlight(self._street)
        self._parked = lru_cache(maxsize=64)(_parked_car)  # the next frame sees most of them again
        self._latest: tuple[int, Surface] | None = None

    @property
    def layout(self) -> str:
        """Name of the street's layout."""
        return self._street.layout_name

    @property
    def palette(self) -> str:
        """Name of the street's palette."""
        return self._street.palette_name

    @property
    def weather(self) -> str:
        """Name of the street's light."""
        return self._street.weather_name

    def frame(self, index: int) -> CityFrame:
        """The cheap render of frame `index` with its buffers."""
        surface = self._surface(index)
        g = surface.g
        label, instance = np.zeros(g.index.size, np.uint8), np.zeros(g.index.size, np.uint16)
        label[g.pixels], instance[g.pixels] = g.prims.label[g.prim], g.prims.instance[g.prim]
        return CityFrame(
            index=index,
            time=index / self.fps,
            color=render(surface, self._sunlight),
            depth=g.depth,
            normal=g.normal,
            motion=g.motion,
            segmentation=label.reshape(g.index.shape),
            instance=instance.reshape(g.index.shape),
            camera=self._camera(g.view),
            entities=self._entities(g),
        )

    def reference(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3) sRGB: the high-quality shading of exactly the same frame."""
        return reference(self._surface(index), self._sunlight)

    def _surface(self, index: int) -> Surface:
        # frame(i) then reference(i) is the common order; the latest buffers are only a cache
        if self._latest is None or self._latest[0] != index:
            buffers = draw(self._street, index / self.fps, (index - 1) / self.fps, self.size)
            self._latest = (index, Surface(buffers, self._street))
        return self._latest[1]

    @staticmethod
    def _camera(view: View) -> Camera:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = view.rotation, view.position
        return Camera(pose=pose, fx=view.fx, fy=view.fy, cx=view.cx, cy=view.cy, near=NEAR, far=FAR)

    def _entities(self, g: GBuffer) -> tuple[Entity, ...]:
        entities = [
            self._parked(number, *position, heading, size)
            for number, position, heading, size in self._street.parked(g.view.position[2])
        ]
        step = 1.0 / self.fps
        for mover in g.movers:
            position, heading = mover.where(g.time)
            vx, vy, vz = ((position - mover.where(g.time - step)[0]) / step).tolist()
            pose = _pose(position, heading)
            entities.append(Entity(mover.instance, mover.cls, mover.model, pose, mover.size, (vx, vy, vz)))
        return tuple(entities)


def _pose(position: Sequence[float] | np.ndarray, heading: float) -> np.ndarray:
    """(4, 4) of what stands at `position` with `heading`."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = yaw(heading), position
    return pose


def _parked_car(number: int, x: float, y: float, z: float, heading: float, size: tuple[float, float, float]) -> Entity:
    return Entity(number, "vehicle", "parked", _pose((x, y, z), heading), size, (0.0, 0.0, 0.0))
