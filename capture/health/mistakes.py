"""A healthy recording with one mistake in it: what the doctor must find, and what each mistake looks like.

Works on consecutive frames and gives back frames as a bridge with that mistake would have sent them. Knows nothing of
how mistakes are found. `MISTAKES` holds them all by name; the doctor's findings use the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from capture.camera import Axes, Camera
from capture.conventions import canonical_depth, encode_depth, ray_lengths
from capture.errors import FrameError
from capture.frame import NO_POSE, Channel, Frame
from capture.health.runs import Run, described, holding, late, redeclared

Plant = Callable[[Run], Run]


def plant(frames: Sequence[Frame], mistake: str) -> Run:
    """The frames with the mistake of that name; FrameError when there is none of that name or they cannot have it
    (no normals, no pose)."""
    if mistake not in MISTAKES:
        raise FrameError(f"there is no mistake {mistake!r}, but: {', '.join(MISTAKES)}.")
    run = list(frames)
    if not run or not applies(run[0], mistake):
        raise FrameError(f"the mistake {mistake} cannot be made in these frames: they lack what it is about.")
    return MISTAKES[mistake](run)


def applies(frame: Frame, mistake: str) -> bool:
    """Whether a frame has what the mistake is about."""
    about = mistake.split("_")[0]
    if about in ("camera", "pose", "units"):
        return frame.has_pose and "depth" in frame.channels
    if mistake == "depth_scale":
        return frame.has_pose and "depth" in frame.channels and frame.channels["depth"].descriptor.in_metres
    if about in ("fov", "depth"):
        needs_camera = about == "fov" or mistake in ("depth_near", "depth_ray", "depth_planar", "depth_reversed")
        return "depth" in frame.channels and (frame.raw_camera is not None or not needs_camera)
    if mistake in ("normal_world", "normal_camera"):
        return frame.has_pose and "normal" in frame.channels and (
            frame.channels["normal"].descriptor.space == mistake.removeprefix("normal_")
        )  # fmt: skip
    return about in frame.channels or about == "picture"


def without_geometry(frames: Sequence[Frame], scale_known: bool = False) -> Run:
    """Colour and depth as an OpenGL game gives them: bottom row first, ndc depth, no pose, no normals."""
    return [_as_opengl(frame, scale_known) for frame in frames]


def _as_opengl(frame: Frame, scale_known: bool) -> Frame:
    color, depth = frame.channels["color"], frame.channels["depth"]
    height = color.descriptor.shape[0]
    camera = frame.raw_camera
    assert camera is not None
    metres = frame.camera
    assert metres is not None
    own = Camera(np.eye(4), metres.fx, metres.fy, metres.cx, height - 1 - metres.cy, 0.1, min(metres.far, 2000.0))
    flipped = frame.color[::-1]
    meaning = replace(
        depth.descriptor, kind="ndc", rows="bottom", dtype="float32", scale=1.0 if scale_known else "unknown"
    )
    ndc = encode_depth(frame.depth, replace(meaning, scale=1.0), own).astype(np.float32)
    # Through a 24-bit buffer, as games keep it.
    ndc = (np.rint(ndc.astype(np.float64) * (2**24 - 1)) / (2**24 - 1)).astype(np.float32)
    channels = {
        "color": holding(color, flipped, rows="bottom", order="rgb"),
        "depth": Channel(meaning, np.ascontiguousarray(ndc), depth.serial),
    }
    conventions = replace(frame.conventions, metres_per_unit=1.0)
    return Frame(frame.index, frame.serial, frame.time, own, channels, conventions, (*frame.flags, NO_POSE))


def _each(change: Callable[[Frame], Frame]) -> Plant:
    return lambda run: [change(frame) for frame in run]


def _rows(*names: str) -> Plant:
    """Rows sent in the other order than declared."""

    def flip(frame: Frame) -> Frame:
        flipped = {n: holding(c, c.data[::-1]) for n in names if (c := frame.channels.get(n)) is not None}
        return redeclared(frame, flipped)

    return _each(flip)


def _late(name: str, frames: int) -> Plant:
    return lambda run: late(run, name, frames)


def _stuck(name: str) -> Plant:
    """The channel of the first frame in all frames."""

    def stick(run: Run) -> Run:
        first = run[0].channels[name]
        return [redeclared(f, {name: Channel(first.descriptor, first.data, f.serial)}) for f in run]

    return stick


def _black(frame: Frame) -> Frame:
    color = frame.channels["color"]
    return redeclared(frame, {"color": holding(color, np.zeros_like(color.data))})


def _bgr(frame: Frame) -> Frame:
    color = frame.channels["color"]
    swapped = color.data.copy()
    swapped[..., :3] = color.data[..., 2::-1]
    return redeclared(frame, {"color": holding(color, swapped)})


def _flat_depth(frame: Frame) -> Frame:
    depth = frame.channels["depth"]
    return redeclared(frame, {"depth": holding(depth, np.full_like(depth.data, np.float32(1)))})


def _eight_bit_depth(frame: Frame) -> Frame:
    """As read from an 8-bit picture of depth and stretched back."""
    depth = frame.channels["depth"]
    values = depth.data.astype(np.float64)
    finite = np.isfinite(values)
    largest = values[finite].max()
    steps = np.where(finite, np.rint(values / largest * 255) / 255 * largest, values)
    return redeclared(frame, {"depth": holding(depth, steps.astype(depth.data.dtype))})


def _depth_sent_as(kind: str, said: str) -> Plant:
    """Depth in truth of `kind`, declared as `said`."""

    def change(frame: Frame) -> Frame:
        depth, camera = frame.channels["depth"], frame.camera_of("depth")
        m = frame.conventions.metres_per_unit
        metres = canonical_depth(depth.data, depth.descriptor, camera, m)
        sent = replace(depth.descriptor, kind=kind, dtype="float32", scale=1.0, baseline=None)
        if camera is not None and math.isinf(camera.far) and kind == "log":
            camera = replace(camera, far=1000.0)
        data = encode_depth(metres, sent, camera, m).astype(np.float32)
        return redeclared(frame, {"depth": Channel(replace(sent, kind=said), np.ascontiguousarray(data), depth.serial)})

    return _each(change)


def _ray_or_planar(ray_sent: bool) -> Plant:
    """The distance along the ray where that along the axis is declared, or the other way."""

    def change(frame: Frame) -> Frame:
        depth, camera = frame.channels["depth"], frame.camera_of("depth")
        assert camera is not None
        if not ray_sent:
            return _depth_sent_as("linear", "ray")([frame])[0]
        if depth.descriptor.kind == "linear":
            return _depth_sent_as("ray", "linear")([frame])[0]
        # A buffer of another law: the law of the ray length is put where that of the axis belongs.
        m = frame.conventions.metres_per_unit
        metres = canonical_depth(depth.data, depth.descriptor, camera, m)
        bottom = depth.descriptor.rows == "bottom"
        lengths = ray_lengths(camera, metres.shape)
        longer = metres * (lengths[::-1] if bottom else lengths).astype(np.float32)
        data = encode_depth(longer, depth.descriptor, camera, m)
        return redeclared(frame, {"depth": Channel(depth.descriptor, np.ascontiguousarray(data), depth.serial)})

    return _each(change)


def _reversed(frame: Frame) -> Frame:
    """Depth that falls with distance, declared as one that rises."""
    depth, camera = frame.channels["depth"], frame.camera_of("depth")
    if depth.descriptor.kind not in ("ndc", "ndc_reversed"):
        return _depth_sent_as("ndc_reversed", "ndc")([frame])[0]
    said = depth.descriptor.kind
    return _depth_sent_as("ndc_reversed" if said == "ndc" else "ndc", said)([frame])[0] if camera else frame


def _forward(frame: Frame) -> Frame:
    return _depth_sent_as("ndc", "ndc_reversed")([frame])[0]


def _near(factor: float) -> Plant:
    """A near plane that is not the one the buffer was made with."""

    def change(frame: Frame) -> Frame:
        camera = frame.raw_camera
        assert camera is not None
        if frame.channels["depth"].descriptor.kind not in ("ndc", "ndc_reversed", "log"):
            frame = _depth_sent_as("ndc", "ndc")([frame])[0]
        return redeclared(frame, camera=replace(camera, near=camera.near * factor))

    return _each(change)


def _far(factor: float) -> Plant:
    def change(frame: Frame) -> Frame:
        camera = frame.raw_camera
        assert camera is not None
        if frame.channels["depth"].descriptor.kind not in ("ndc", "ndc_reversed", "log"):
            frame = _depth_sent_as("ndc", "ndc")([frame])[0]
        return redeclared(frame, camera=replace(camera, far=camera.far * factor))

    return _each(change)


def _scaled_depth(factor: float) -> Plant:
    """Depth in other units than the camera's positions."""

    def change(frame: Frame) -> Frame:
        depth = frame.channels["depth"]
        metres = frame.depth * np.float32(factor)
        descriptor = replace(depth.descriptor, kind="linear", dtype="float32", scale=1.0, rows="top")
        data = (metres / frame.conventions.metres_per_unit).astype(np.float32)
        return redeclared(frame, {"depth": Channel(descriptor, np.ascontiguousarray(data), depth.serial)})

    return _each(change)


def _fov(ratio: float | None) -> Plant:
    """A focal length of `ratio` times the true one; None: the vertical field of view is the horizontal one."""

    def change(frame: Frame) -> Frame:
        camera = frame.raw_camera
        assert camera is not None
        height, width = frame.shape
        r = height / width if ratio is None else ratio
        return redeclared(frame, camera=replace(camera, fx=camera.fx * r, fy=camera.fy * r))

    return _each(change)


def _turned_normals(turn: Sequence[Sequence[int]]) -> Plant:
    def change(frame: Frame) -> Frame:
        normal = frame.channels["normal"]
        data = normal.data.copy()
        stored = _signed(normal)
        data[..., :3] = _unsigned(normal, stored @ np.array(turn).T)
        return redeclared(frame, {"normal": holding(normal, data)})

    return _each(change)


def _signed(normal: Channel) -> np.ndarray:
    values = normal.data[..., :3].astype(np.float64)
    if normal.descriptor.dtype.startswith("float"):
        return values
    top = np.iinfo(normal.descriptor.dtype).max
    return values / top * 2 - 1 if normal.descriptor.dtype.startswith("u") else values / top


def _unsigned(normal: Channel, values: np.ndarray) -> np.ndarray:
    if not normal.descriptor.dtype.startswith("float"):
        top = np.iinfo(normal.descriptor.dtype).max
        values = (values * 0.5 + 0.5) * top if normal.descriptor.dtype.startswith("u") else values * top
        values = np.rint(values)
    return values.astype(normal.descriptor.dtype)


def _other_space(frame: Frame) -> Frame:
    """Normals of one space declared as those of the other: "normal_world" is in world space and not said to be."""
    normal = frame.channels["normal"]
    space = "world" if normal.descriptor.space == "camera" else "camera"
    return redeclared(frame, {"normal": described(normal, space=space)})


def _packed(frame: Frame) -> Frame:
    """Numbers that mean n * 0.5 + 0.5, declared as numbers that mean n."""
    normal = frame.channels["normal"]
    packed = _signed(normal) * 0.5 + 0.5
    if normal.descriptor.dtype in ("uint8", "uint16"):
        signed = {"uint8": "int8", "uint16": "int16"}[normal.descriptor.dtype]
        return redeclared(frame, {"normal": holding(normal, normal.data.view(signed), encoding="snorm")})
    top = 1.0 if normal.descriptor.dtype.startswith("float") else float(np.iinfo(normal.descriptor.dtype).max)
    data = normal.data.copy()
    data[..., :3] = (packed * top).astype(data.dtype)
    return redeclared(frame, {"normal": holding(normal, data)})


def _flat_normals(frame: Frame) -> Frame:
    normal = frame.channels["normal"]
    data = np.zeros_like(normal.data)
    data[..., 2] = 1 if normal.descriptor.dtype.startswith("float") else np.iinfo(normal.data.dtype).max
    return redeclared(frame, {"normal": holding(normal, data)})


def _inverse_pose(frame: Frame) -> Frame:
    camera = frame.raw_camera
    assert camera is not None
    return redeclared(frame, camera=replace(camera, pose=camera.world_to_camera))


def _transposed_pose(frame: Frame) -> Frame:
    camera = frame.raw_camera
    assert camera is not None
    pose = camera.pose.copy()
    pose[:3, :3] = pose[:3, :3].T
    return redeclared(frame, camera=replace(camera, pose=pose))


def _camera_axes(change_axes: Callable[[Axes], Axes]) -> Plant:
    """The camera's axes are not those that are declared."""

    def change(frame: Frame) -> Frame:
        return redeclared(
            frame, conventions=replace(frame.conventions, camera_axes=change_axes(frame.conventions.camera_axes))
        )

    return _each(change)


def _turn_back(axes: Axes) -> Axes:
    """Looks the other way and stands on its head: OpenGL's axes taken for OpenCV's."""
    return Axes(axes.right, _negative(axes.up), _negative(axes.forward))


def _swap(axes: Axes) -> Axes:
    """Right and up exchanged, forward turned so that handedness stays."""
    return Axes(axes.up, axes.right, _negative(axes.forward))


def _negative(axis: str) -> str:
    return ("-" if axis[0] == "+" else "+") + axis[1]


def _other_hand(frame: Frame) -> Frame:
    """World and camera both declared of the other hand: the pose passes, the picture is mirrored."""
    conventions = frame.conventions
    world, camera = conventions.world_axes, conventions.camera_axes
    mirrored = replace(
        conventions,
        world_axes=Axes(_negative(world.right), world.up, world.forward),
        camera_axes=Axes(_negative(camera.right), camera.up, camera.forward),
    )
    return redeclared(frame, conventions=mirrored)


def _one_hand(frame: Frame) -> Frame:
    """Only the world declared of the other hand: no such pose can be."""
    world = frame.conventions.world_axes
    return redeclared(
        frame,
        conventions=replace(frame.conventions, world_axes=Axes(_negative(world.right), world.up, world.forward)),
    )


def _world_up(frame: Frame) -> Frame:
    """Up and forward of the world exchanged: a z-up world taken for a y-up one."""
    world = frame.conventions.world_axes
    return redeclared(
        frame, conventions=replace(frame.conventions, world_axes=Axes(world.right, world.forward, _negative(world.up)))
    )


def _units(factor: float) -> Plant:
    """metres_per_unit of another unit, everything else consistent."""

    def change(frame: Frame) -> Frame:
        conventions = replace(frame.conventions, metres_per_unit=frame.conventions.metres_per_unit * factor)
        return redeclared(frame, conventions=conventions)

    return _each(change)


MISTAKES: dict[str, Plant] = {
    "color_rows": _rows("color"),
    "depth_rows": _rows("depth"),
    "normal_rows": _rows("normal"),
    "picture_rows": _rows("color", "depth", "normal"),
    "color_late": _late("color", 1),
    "depth_late": _late("depth", 1),
    "normal_late": _late("normal", 1),
    "pose_late": _late("camera", 1),
    "color_early": _late("color", -1),
    "normal_early": _late("normal", -1),
    "pose_early": _late("camera", -1),
    "color_stale": _stuck("color"),
    "depth_stale": _stuck("depth"),
    "normal_stale": _stuck("normal"),
    "color_black": _each(_black),
    "color_bgr": _each(_bgr),
    "depth_flat": _each(_flat_depth),
    "depth_8_bit": _each(_eight_bit_depth),
    "depth_ray": _ray_or_planar(True),
    "depth_planar": _ray_or_planar(False),
    "depth_reversed": _each(_reversed),
    "depth_forward": _each(_forward),
    "depth_near": _near(10.0),
    "depth_far": _far(0.02),
    "depth_scale": _scaled_depth(0.01),
    "fov_wide": _fov(0.7),
    "fov_narrow": _fov(1.4),
    "fov_horizontal": _fov(None),
    "normal_axes_negated": _turned_normals([[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "normal_axes_swapped": _turned_normals([[1, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "normal_world": _each(_other_space),
    "normal_camera": _each(_other_space),
    "normal_packed": _each(_packed),
    "normal_flat": _each(_flat_normals),
    "pose_inverse": _each(_inverse_pose),
    "pose_transposed": _each(_transposed_pose),
    "camera_axes_back": _camera_axes(_turn_back),
    "camera_axes_swapped": _camera_axes(_swap),
    "camera_handedness": _each(_one_hand),
    "camera_mirrored": _each(_other_hand),
    "pose_world_up": _each(_world_up),
    "units_metres": _units(0.01),
}
"""Every mistake by its name."""
