"""Solid primitives in bulk: what every thing in the street is made of.

Works on: convex solids bounded by six planes (boxes, tapered boxes, roofs) and ellipsoids, kept as arrays so that
culling and projection run over all of them at once.
Knows nothing of: streets, cameras, materials' looks, pixels.

Coordinates: metres, OpenCV axes (x right, y down, z forward), so heights are negative y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class Shape(IntEnum):
    """Geometry of a primitive in its local frame."""

    CONVEX = 0
    ELLIPSOID = 1
    GROUND = 2


class Kind(IntEnum):
    """Material of a primitive; both shadings look at it."""

    ROAD = 0
    PAVEMENT = 1
    FACADE = 2
    TRIM = 3
    AWNING = 4
    BODY = 5
    CABIN = 6
    WHEEL = 7
    CLOTH = 8
    HEAD = 9
    BARK = 10
    LEAF = 11
    METAL = 12
    LAMP = 13
    ROOF = 14


PARAMETERS = 8


@dataclass
class Primitives:
    """n primitives as arrays. Local frame to world: p_world = rotation @ p_local + position."""

    rotation: np.ndarray
    """(n, 3, 3) float64"""
    position: np.ndarray
    """(n, 3) float64, metres"""
    half: np.ndarray
    """(n, 3) float64, half extents of the local bounding box, or the semi-axes of the ellipsoid"""
    plane_normal: np.ndarray
    """(n, 6, 3) float64, outward unit normals of the bounding planes (CONVEX)"""
    plane_offset: np.ndarray
    """(n, 6) float64: inside where normal . p_local <= offset"""
    shape: np.ndarray
    """(n,) Shape"""
    kind: np.ndarray
    """(n,) Kind"""
    color: np.ndarray
    """(n, 3) float32 sRGB 0..1, the flat base colour"""
    accent: np.ndarray
    """(n, 3) float32 sRGB 0..1, a second colour: of a shop's sign"""
    parameters: np.ndarray
    """(n, PARAMETERS) float32, their meaning depends on the kind"""
    instance: np.ndarray
    """(n,) uint16, 0 = background"""
    label: np.ndarray
    """(n,) uint8 segmentation class"""

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, index: np.ndarray) -> Primitives:
        """The primitives at `index` (integers or a mask)."""
        return Primitives(*(getattr(self, f.name)[index] for f in fields(self)))

    def moved(self, position: np.ndarray, heading: float) -> Primitives:
        """The primitives, given in a frame, where that frame stands at `position` (metres) with `heading` (radians)."""
        turn = yaw(heading)
        return replace(self, rotation=turn @ self.rotation, position=position + self.position @ turn.T)

    @staticmethod
    def concatenate(parts: Sequence[Primitives]) -> Primitives:
        """All primitives of `parts`, in order."""
        return Primitives(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Primitives)))


def yaw(angle: float) -> np.ndarray:
    """(3, 3) rotation about the vertical: local forward +z turns towards +x by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def pitch(angle: ArrayLike) -> np.ndarray:
    """(..., 3, 3) rotation about x: local forward +z turns downwards (+y) by `angle` (...) radians."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.zeros((*np.shape(angle), 3, 3))
    turn[..., 0, 0] = 1.0
    turn[..., 1, 1], turn[..., 1, 2], turn[..., 2, 1], turn[..., 2, 2] = c, s, -s, c
    return turn


def roll(angle: float) -> np.ndarray:
    """(3, 3) rotation about z: local right +x turns downwards (+y) by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


_AXIS_NORMALS = np.concatenate([np.eye(3), -np.eye(3)])
"""Planes in the order +x, +y (bottom), +z, -x, -y (top), -z."""


class Builder:
    """Collects primitives one by one, with a movable frame of reference, and turns them into arrays."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self.frame = (np.eye(3), np.zeros(3))
        self.instance = 0
        self.label = 0

    def place(self, position: ArrayLike, heading: float = 0.0) -> None:
        """Parts added from now on are given in the frame at `position` (metres) with `heading` (radians)."""
        self.frame = (yaw(heading), np.asarray(position, float))

    def add(
        self,
        kind: Kind,
        color: ArrayLike,
        centre: ArrayLike,
        half: ArrayLike,
        *,
        shape: Shape = Shape.CONVEX,
        rotation: np.ndarray | None = None,
        taper: Sequence[float] = (0.0, 0.0, 0.0),
        parameters: Sequence[float] = (),
        accent: ArrayLike = (0.0, 0.0, 0.0),
    ) -> None:
        """One part. `taper` leans the planes (sides, front, back) inwards towards the top: run over rise."""
        base_rotation, base_position = self.frame
        half_array = np.asarray(half, float)
        normals, offsets = _AXIS_NORMALS.copy(), np.concatenate([half_array, half_array])
        side, front, back = taper
        for plane, lean in ((0, side), (3, side), (2, front), (5, back)):
            if lean:
                normal = _AXIS_NORMALS[plane] + np.array([0.0, -lean, 0.0])
                length = np.linalg.norm(normal)
                # the plane keeps touching the bottom edge of the box, at y = +half[1]
                offsets[plane] = (offsets[plane] - lean * half_array[1]) / length
                normals[plane] = normal / length
        filled = np.zeros(PARAMETERS, np.float32)
        filled[: len(parameters)] = parameters
        self._rows.append(
            (
                base_rotation if rotation is None else base_rotation @ rotation,
                base_position + base_rotation @ np.asarray(centre, float),
                half_array,
                normals,
                offsets,
                int(shape),
                int(kind),
                np.asarray(color, np.float32),
                np.asarray(accent, np.float32),
                filled,
                self.instance,
                self.label,
            )
        )

    def ball(self, kind: Kind, color: ArrayLike, centre: ArrayLike, half: ArrayLike,
             rotation: np.ndarray | None = None, parameters: Sequence[float] = ()) -> None:
        """One ellipsoid with semi-axes `half`."""
        self.add(kind, color, centre, half, shape=Shape.ELLIPSOID, rotation=rotation, parameters=parameters)

    def build(self) -> Primitives:
        """All collected primitives as arrays."""
        if not self._rows:
            return EMPTY
        columns = list(zip(*self._rows, strict=True))
        dtypes: tuple[Any, ...] = (np.float64,) * 5 + (np.uint8, np.uint8) + (np.float32,) * 3 + (np.uint16, np.uint8)
        return Primitives(*(np.asarray(c, dtype=d) for c, d in zip(columns, dtypes, strict=True)))


EMPTY = Primitives(
    np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 6, 3)), np.zeros((0, 6)),
    np.zeros(0, np.uint8), np.zeros(0, np.uint8), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32),
    np.zeros((0, PARAMETERS), np.float32), np.zeros(0, np.uint16), np.zeros(0, np.uint8),
)
