"""A frame as it is examined: canonical arrays at two sizes, and ways to read them anew.

Works on small frames (`capture.health.runs`). A Shot is read once, as declared; every other reading of it is another
Shot with some arrays or camera numbers exchanged, which is cheap. Knows nothing of which reading is the true one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Axes, Camera, Conventions
from capture.conventions import _decode_normal, canonical_camera, check_handedness, ray_lengths
from capture.errors import FrameError
from capture.frame import Channel, Frame
from capture.health.edges import Edges
from capture.health.geometry_scores import View

GEOMETRY_SIDE = 180
"""Longest side of the arrays that geometry is judged by."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame under one reading."""

    frame: Frame
    color: NDArray[np.uint8] | None
    depth: NDArray[np.float32] | None
    camera: Camera | None
    """Canonical, in the pixels of the depth."""
    pose_known: bool
    vectors: NDArray[np.float32] | None
    """(h, w, 3) normals as sent, top row first, in the axes and space they were sent in."""
    normal_turn: NDArray[np.float64] | None
    """(3, 3) that brings `vectors` into canonical camera space."""
    mirrors: bool = False
    """The declared axes and the pose exclude each other: one of them is of the other handedness."""

    @classmethod
    def of(cls, frame: Frame) -> Shot:
        """As declared. Where axes and pose exclude each other, with a world of the other handedness."""
        color = frame.color if "color" in frame.channels else None
        depth = camera = None
        conventions, mirrors = frame.conventions, False
        if frame.raw_camera is not None:
            try:
                check_handedness(frame.raw_camera, conventions)
            except FrameError:
                mirrors = True
                conventions = replace(conventions, world_axes=_mirrored(conventions.world_axes))
        frame = Frame(
            frame.index, frame.serial, frame.time, frame.raw_camera, frame.channels, conventions, frame.flags,
            frame.entities, frame.dropped_before, frame.capture_time,
        )  # fmt: skip
        if "depth" in frame.channels:
            depth = frame.depth
            camera = frame.camera_of("depth")
            if camera is not None:
                descriptor = frame.channels["depth"].descriptor
                camera = canonical_camera(camera, conventions, descriptor.shape, descriptor.rows)
        elif frame.raw_camera is not None:
            camera = frame.camera
        vectors = turn = None
        if "normal" in frame.channels and depth is not None:
            vectors = sent_vectors(frame.channels["normal"], depth.shape)
            turn = declared_turn(frame, conventions)
        return cls(frame, color, depth, camera, frame.has_pose, vectors, turn, mirrors)

    @cached_property
    def edges(self) -> Edges:
        return Edges.of(self.color, self.depth)

    @cached_property
    def view(self) -> View | None:
        """The geometry at most GEOMETRY_SIDE pixels wide; None without depth and camera."""
        if self.depth is None or self.camera is None:
            return None
        step, y0, x0 = stride(self.depth.shape, GEOMETRY_SIDE)
        c = self.camera
        camera = replace(c, fx=c.fx / step, fy=c.fy / step, cx=(c.cx - x0) / step, cy=(c.cy - y0) / step)
        return View(np.ascontiguousarray(self.depth[y0::step, x0::step]), camera)

    @property
    def light(self) -> Shot:
        """The same with nothing but its geometry, at the size of `view`: quick to read anew."""
        if self.view is None:
            return self
        return replace(self, color=None, depth=self.view.depth, camera=self.view.camera)

    @cached_property
    def normal(self) -> NDArray[np.float32] | None:
        """(h, w, 3) sent normals in canonical camera space, as `view` sees them."""
        if self.vectors is None or self.normal_turn is None:
            return None
        return unit(self.vectors @ self.normal_turn.T.astype(np.float32))


def stride(shape: tuple[int, ...], longest_side: int) -> tuple[int, int, int]:
    """(step, first row, first column) that pick a picture of at most `longest_side`, symmetric about its middle."""
    step = -(-max(shape[:2]) // longest_side)
    return step, (shape[0] - 1) % step // 2, (shape[1] - 1) % step // 2


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Vectors (..., 3) of length 1; (0, 0, 0) where there is next to none."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    good = np.isfinite(length) & (length > 0.1)
    return np.where(good, vectors / np.where(good, length, 1), 0).astype(np.float32)


def sent_vectors(channel: Channel, depth_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(h, w, 3) normals as stored, top row first, one for each pixel of `Shot.view`."""
    height, width = channel.data.shape[:2]
    data = channel.data[::-1] if channel.descriptor.rows == "bottom" else channel.data
    step, y0, x0 = stride(depth_shape, GEOMETRY_SIDE)
    rows = np.arange(y0, depth_shape[0], step) * height // depth_shape[0]
    columns = np.arange(x0, depth_shape[1], step) * width // depth_shape[1]
    return np.asarray(_decode_normal(data[rows[:, None], columns], channel.descriptor), np.float32)


def declared_turn(frame: Frame, conventions: Conventions) -> NDArray[np.float64] | None:
    """(3, 3) from the axes and space in which normals are said to be into canonical camera space."""
    basis = conventions.camera_axes.basis
    if frame.channels["normal"].descriptor.space == "camera":
        return basis
    return None if frame.raw_camera is None else basis @ frame.raw_camera.pose[:3, :3].T


# -- other readings


def turned_over(shot: Shot, *names: str) -> Shot:
    """With the rows of channels in the other order."""
    changes: dict[str, Any] = {}
    if "color" in names and shot.color is not None:
        changes["color"] = shot.color[::-1]
    if "depth" in names and shot.depth is not None:
        changes["depth"] = shot.depth[::-1]
    if "normal" in names and shot.vectors is not None:
        changes["vectors"] = shot.vectors[::-1]
    return replace(shot, **changes)


def ray_as_planar(shot: Shot) -> Shot:
    """The depth is the distance along the ray."""
    assert shot.depth is not None and shot.camera is not None
    return replace(shot, depth=(shot.depth / ray_lengths(shot.camera, shot.depth.shape)).astype(np.float32))


def planar_as_ray(shot: Shot) -> Shot:
    """The depth, divided by the length of the ray when it was read, is the distance along the axis."""
    assert shot.depth is not None and shot.camera is not None
    return replace(shot, depth=(shot.depth * ray_lengths(shot.camera, shot.depth.shape)).astype(np.float32))


def other_end_first(shot: Shot) -> Shot:
    """Depth of a buffer read the other way round: 1 is near where 0 was, or near and far exchanged.

    With v' = 1 - v in 1/z = 1/n - v (1/n - 1/f) follows 1/z' = 1/n + 1/f - 1/z.
    """
    assert shot.depth is not None and shot.camera is not None
    near, far = shot.camera.near, shot.camera.far
    back = 0.0 if math.isinf(far) else 1 / far
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / near + back - 1 / shot.depth.astype(np.float64)
        # What lies at the far plane is sky; a few rounding steps of the buffer are allowed for.
        sky = inverse <= back + (1 / near - back) * 2.0**-23
        depth = np.where(sky, np.inf, 1 / np.where(sky, 1, inverse))
    return replace(shot, depth=depth.astype(np.float32))


def affine_inverse(shot: Shot, factor: float, offset: float) -> Shot:
    """1/z is `factor` times what it was read as, plus `offset` [1/m]: another near or far plane, another unit."""
    assert shot.depth is not None
    with np.errstate(divide="ignore"):
        inverse = factor / shot.depth.astype(np.float64) + np.where(np.isfinite(shot.depth), offset, 0)
        depth = np.where(inverse > 0, 1 / np.maximum(inverse, 1e-12), np.inf)
    return replace(shot, depth=depth.astype(np.float32))


def focal(shot: Shot, ratio: float) -> Shot:
    """A focal length of `ratio` times the declared one, in both directions."""
    assert shot.camera is not None
    return replace(shot, camera=replace(shot.camera, fx=shot.camera.fx * ratio, fy=shot.camera.fy * ratio))


def posed(shot: Shot, pose: NDArray[np.float64]) -> Shot:
    """With another canonical pose; world normals follow it not."""
    assert shot.camera is not None
    return replace(shot, camera=replace(shot.camera, pose=pose))


def pose_as_sent(shot: Shot, how: str) -> NDArray[np.float64]:
    """(4, 4) canonical pose if what was sent is the inverse pose ("inverse") or its rotation is transposed."""
    camera, conventions = shot.frame.raw_camera, shot.frame.conventions
    assert camera is not None
    sent = camera.world_to_camera if how == "inverse" else camera.pose.copy()
    if how == "transposed":
        sent[:3, :3] = sent[:3, :3].T
    pose = np.eye(4)
    world, own = conventions.world_axes.basis, conventions.camera_axes.basis
    pose[:3, :3] = world @ sent[:3, :3] @ own.T
    pose[:3, 3] = conventions.metres_per_unit * world @ sent[:3, 3]
    return pose


def later(run: Sequence[Shot], lag: int) -> list[Shot | None]:
    """For each shot the one `lag` frames later; None where that lies outside the run, or was dropped."""
    places = np.cumsum([1 + shot.frame.dropped_before for shot in run]).tolist()
    at = dict(zip(places, run, strict=True))
    return [at.get(place + lag) for place in places]


def shifted(run: list[Shot], what: str, lag: int) -> list[Shot]:
    """The run with color, depth, normal or pose taken from `lag` frames later: put right what was `lag` late."""
    shots = []
    for shot, other in zip(run, later(run, lag), strict=True):
        if other is None:
            continue
        if what == "color":
            shots.append(replace(shot, color=other.color))
        elif what == "depth":
            shots.append(replace(shot, depth=other.depth))
        elif what == "normal":
            shots.append(replace(shot, vectors=other.vectors, normal_turn=shot.normal_turn))
        elif shot.camera is not None and other.camera is not None:
            shots.append(posed(shot, other.camera.pose))
    return shots


def _mirrored(axes: Axes) -> Axes:
    return Axes(("-" if axes.right[0] == "+" else "+") + axes.right[1], axes.up, axes.forward)
