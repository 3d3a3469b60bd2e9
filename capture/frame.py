"""What a frame is: its channels, its camera, and what their numbers mean.

Works on numpy arrays as an engine delivers them, with the descriptors that explain them, and hands out canonical
arrays through `capture.conventions`. Knows nothing of sockets, files or engines.

Canonical means: colour sRGB uint8, top row first; depth float32 metres along the optical axis, +inf for sky;
normals float32, unit length, camera space; OpenCV axes (x right, y down, z forward) for camera and world;
pixel (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from capture.errors import FrameError

DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "float16", "float32")
"""Element types that a channel may have; little-endian on the wire and on disk."""

MAX_SIDE = 16384
"""Largest width or height of a channel in pixels."""

DEPTH_KINDS = ("linear", "ray", "ndc", "ndc_reversed", "log", "disparity", "inverse")
NORMAL_SPACES = ("camera", "world")
NORMAL_ENCODINGS = ("snorm", "unorm", "octahedral", "float")
COLOR_ORDERS = ("rgb", "bgr", "rgba", "bgra")
MOTION_KINDS = ("backward_pixels",)
ROWS = ("top", "bottom")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_AXIS_VECTORS = {
    "+x": (1, 0, 0), "-x": (-1, 0, 0), "+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1),
}  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """Which signed engine axis points right, up and forward, e.g. `Axes("+x", "+y", "-z")` for OpenGL.

    The three letters must differ; handedness follows from them. Raises FrameError otherwise.
    """

    right: str
    up: str
    forward: str

    def __post_init__(self) -> None:
        for role in ("right", "up", "forward"):
            letter = getattr(self, role)
            if not isinstance(letter, str) or letter not in _AXIS_VECTORS:
                raise FrameError(f"axis {role} is {str(letter)[:20]!r}, but must be one of +x -x +y -y +z -z.")
        if len({self.right[1], self.up[1], self.forward[1]}) != 3:
            raise FrameError(
                f"axes right {self.right}, up {self.up}, forward {self.forward} must use x, y and z once each."
            )

    @property
    def basis(self) -> NDArray[np.float64]:
        """(3, 3) matrix B with v_opencv = B @ v_engine; its determinant is -1 for left-handed axes."""
        right, up, forward = (_AXIS_VECTORS[letter] for letter in (self.right, self.up, self.forward))
        return np.array([right, [-c for c in up], forward], dtype=np.float64)

    def to_dict(self) -> dict[str, str]:
        return {"right": self.right, "up": self.up, "forward": self.forward}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Axes:
        """Inverse of `to_dict`; raises FrameError on missing, unknown or wrong fields."""
        _check_keys(values, {"right", "up", "forward"}, {"right", "up", "forward"}, "axes")
        return cls(values["right"], values["up"], values["forward"])


OPENCV = Axes("+x", "-y", "+z")
OPENGL = Axes("+x", "+y", "-z")
UNITY = Axes("+x", "+y", "+z")
UNREAL = Axes("+y", "+z", "+x")
PANDA3D = Axes("+x", "+z", "+y")
BLENDER_WORLD = Axes("+x", "+z", "+y")


@dataclass(frozen=True)
class Conventions:
    """What holds for a whole session: axes of world and camera, and the length of one engine unit.

    A pose maps camera coordinates in `camera_axes` to world coordinates in `world_axes`.
    """

    world_axes: Axes = OPENCV
    camera_axes: Axes = OPENCV
    metres_per_unit: float = 1.0

    def __post_init__(self) -> None:
        if not (_is_number(self.metres_per_unit) and 0 < self.metres_per_unit < math.inf):
            raise FrameError(f"metres_per_unit is {self.metres_per_unit!r}, but must be a positive number.")

    def to_dict(self) -> dict[str, Any]:
        return {
            "world_axes": self.world_axes.to_dict(),
            "camera_axes": self.camera_axes.to_dict(),
            "metres_per_unit": float(self.metres_per_unit),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conventions:
        """Inverse of `to_dict`; raises FrameError."""
        names = {"world_axes", "camera_axes", "metres_per_unit"}
        _check_keys(values, names, names, "conventions")
        return cls(
            Axes.from_dict(values["world_axes"]), Axes.from_dict(values["camera_axes"]), values["metres_per_unit"]
        )


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    pose: (4, 4) float64, camera-to-world, acting on column vectors. Its rotation is orthonormal; a determinant of
        -1 is right when the engine's camera and world axes differ in handedness (Unity's camera matrices).
    fx, fy, cx, cy: pixels, pixel (0, 0) is the centre of the first pixel of the image as stored (so of the
        bottom-left pixel when rows are sent bottom first).
    near, far: clip distances along the optical axis in engine units (metres once canonical); far may be inf.

    Raises FrameError when a value is not finite, the rotation not orthonormal, or a length not positive.
    """

    pose: NDArray[np.float64]
    fx: float
    fy: float
    cx: float
    cy: float
    near: float = 0.1
    far: float = math.inf

    def __post_init__(self) -> None:
        try:
            pose = np.array(self.pose, dtype=np.float64, order="C")
        except (TypeError, ValueError):
            raise FrameError("the camera pose must be a 4x4 matrix of numbers.") from None
        object.__setattr__(self, "pose", check_pose(pose, "the camera pose"))
        for name in ("fx", "fy", "cx", "cy", "near", "far"):
            value = getattr(self, name)
            if not _is_number(value):
                raise FrameError(f"camera {name} is {value!r}, but must be a number.")
            value = float(value)
            if not math.isfinite(value) and not (name == "far" and value == math.inf):
                raise FrameError(f"camera {name} is {value}, but must be finite.")
            object.__setattr__(self, name, value)
        if self.fx <= 0 or self.fy <= 0:
            raise FrameError(f"camera fx and fy are {self.fx:g} and {self.fy:g}, but must be positive pixels.")
        if not 0 < self.near < self.far:
            raise FrameError(f"camera near and far are {self.near:g} and {self.far:g}, but need 0 < near < far.")

    @classmethod
    def from_vertical_fov(
        cls,
        pose: ArrayLike,
        vfov_radians: float,
        width: int,
        height: int,
        near: float = 0.1,
        far: float = math.inf,
    ) -> Camera:
        """Square pixels, principal point in the middle of a `width` x `height` image.

        fy = (height / 2) / tan(vfov / 2); the middle is ((width - 1) / 2, (height - 1) / 2).
        """
        if not (_is_number(vfov_radians) and 0 < vfov_radians < math.pi):
            raise FrameError(f"the vertical field of view is {vfov_radians!r}, but must be in (0, pi) radians.")
        focal = 0.5 * height / math.tan(0.5 * vfov_radians)
        return cls(np.asarray(pose), focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), near, far)

    @property
    def K(self) -> NDArray[np.float64]:  # noqa: N802 (the field's name for it)
        """(3, 3) intrinsic matrix, pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def world_to_camera(self) -> NDArray[np.float64]:
        """(4, 4) inverse of `pose`."""
        rotation, translation = self.pose[:3, :3], self.pose[:3, 3]
        inverse = np.eye(4)
        inverse[:3, :3] = rotation.T
        inverse[:3, 3] = -rotation.T @ translation
        return inverse

    def flipped(self, height: int) -> Camera:
        """The same camera for the image with its `height` rows in reverse order."""
        return replace(self, cy=height - 1 - self.cy)

    def resized(self, shape: tuple[int, ...], new_shape: tuple[int, ...]) -> Camera:
        """The same camera for an image of `new_shape` (H, W) in place of `shape` (H, W).

        Pixel centres are integers, hence the half-pixel shifts: x' = (x + 0.5) * W' / W - 0.5.
        """
        if tuple(shape[:2]) == tuple(new_shape[:2]):
            return self
        sy, sx = new_shape[0] / shape[0], new_shape[1] / shape[1]
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values: pose as 16 floats, row-major."""
        values: dict[str, Any] = {"pose": [float(v) for v in self.pose.ravel()]}
        return values | {name: getattr(self, name) for name in ("fx", "fy", "cx", "cy", "near", "far")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Camera:
        """Inverse of `to_dict`; raises FrameError on missing, unknown or wrong fields."""
        names = {field.name for field in fields(cls)}
        _check_keys(values, names, names, "camera")
        numbers = {name: values[name] for name in names - {"pose"}}
        return cls(pose_from_list(values["pose"], "the camera pose"), **numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Camera):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.pose.tobytes(), self.fx, self.fy, self.cx, self.cy, self.near, self.far))


@dataclass(frozen=True)
class Descriptor:
    """What a channel's numbers mean.

    The family of a channel is its name up to the first underscore (`color_hudless` is a colour). Families:
    color and albedo, depth, normal, motion, segmentation, instance; a channel of another name is kept as sent and
    has no canonical form. Fields that do not belong to the family must be None. Raises FrameError.
    """

    name: str
    """Lower case letters, digits, underscores; at most 32."""
    dtype: str
    """One of DTYPES. Colour uint8; segmentation uint8/uint16; instance uint16/uint32."""
    shape: tuple[int, ...]
    """(H, W) or (H, W, components) of the array as sent."""
    rows: str = "top"
    """Which image row comes first: "top" or "bottom"."""
    order: str | None = None
    """Colour: order of the components, "rgb", "bgr", "rgba", "bgra"; by default rgb or rgba."""
    kind: str | None = None
    """Depth: one of DEPTH_KINDS, by default "linear". Motion: "backward_pixels"."""
    scale: float | None = None
    """Depth, motion: value = stored number x scale, by default 1. For linear and ray depth these are engine units
    per stored number; for a depth buffer of n-bit integers it is 1 / (2^n - 1)."""
    baseline: float | None = None
    """Depth of kind "disparity": distance of the two eyes in engine units."""
    space: str | None = None
    """Normals: "camera" (by default) or "world", in the axes of the session's conventions."""
    encoding: str | None = None
    """Normals: "snorm" (int8, int16: stored / max), "unorm" (uint8, uint16: stored / max * 2 - 1), "float", or
    "octahedral" (two components of any of these number types). By default as the dtype suggests."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise FrameError(
                f"channel name {str(self.name)[:40]!r} must be 1 to 32 lower-case letters, digits or underscores."
            )
        if not isinstance(self.dtype, str) or self.dtype not in DTYPES:
            raise self._wrong(f"dtype {str(self.dtype)[:20]!r} is not one of {', '.join(DTYPES)}")
        object.__setattr__(self, "shape", check_shape(self.shape, f"channel {self.name}"))
        self._choice("rows", ROWS)
        allowed = {"color": ("order",), "depth": ("kind", "scale", "baseline"), "normal": ("space", "encoding"),
                   "motion": ("kind", "scale")}.get(self.family, ())  # fmt: skip
        for name in ("order", "kind", "scale", "baseline", "space", "encoding"):
            if getattr(self, name) is not None and name not in allowed:
                raise self._wrong(f"the field {name} does not belong to a channel of this name")
        check = getattr(self, f"_check_{self.family}", None)
        if check is not None:
            check()

    @property
    def family(self) -> str:
        """color (also for albedo), depth, normal, motion, segmentation, instance, or the name's first word."""
        first = self.name.split("_", 1)[0]
        return "color" if first == "albedo" else first

    @property
    def components(self) -> int:
        """Numbers per pixel."""
        return self.shape[2] if len(self.shape) == 3 else 1

    @property
    def nbytes(self) -> int:
        """Bytes of one image of this channel."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def with_shape(self, shape: Sequence[int]) -> Descriptor:
        """The same meaning at another resolution; number of components must not change (FrameError)."""
        shape = tuple(shape)
        if shape == self.shape:
            return self
        if len(shape) != len(self.shape) or shape[2:] != self.shape[2:]:
            raise self._wrong(f"shape changed from {list(self.shape)} to {list(shape)}, only H and W may change")
        return replace(self, shape=shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the fields that do not apply."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["shape"] = list(self.shape)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Descriptor:
        """Inverse of `to_dict`; raises FrameError on missing, unknown or wrong fields."""
        _check_keys(values, {"name", "dtype", "shape"}, {field.name for field in fields(cls)}, "channel descriptor")
        return cls(**values)

    def _wrong(self, what: str) -> FrameError:
        return FrameError(f"channel {self.name}: {what}.")

    def _choice(self, name: str, allowed: Sequence[str]) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or value not in allowed:
            raise self._wrong(f"{name} {str(value)[:20]!r} is not one of {', '.join(allowed)}")

    def _default(self, name: str, value: object) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def _dtype(self, *allowed: str) -> None:
        if self.dtype not in allowed:
            raise self._wrong(f"dtype {self.dtype} is not one of {', '.join(allowed)}")

    def _flat(self) -> None:
        if len(self.shape) != 2:
            raise self._wrong(f"shape {list(self.shape)} must be [H, W]")

    def _check_color(self) -> None:
        self._dtype("uint8")
        self._default("order", "rgba" if self.components == 4 else "rgb")
        self._choice("order", COLOR_ORDERS)
        if len(self.shape) != 3 or self.shape[2] != len(str(self.order)):
            raise self._wrong(f"shape {list(self.shape)} does not fit the component order {self.order}")

    def _check_depth(self) -> None:
        self._flat()
        self._dtype("float32", "float16", "uint16", "uint32")
        self._default("kind", "linear")
        self._choice("kind", DEPTH_KINDS)
        self._default("scale", 1.0)
        self._positive("scale")
        if self.kind == "disparity":
            self._positive("baseline")
        elif self.baseline is not None:
            raise self._wrong("baseline belongs only to depth of kind disparity")

    def _positive(self, name: str) -> None:
        value = getattr(self, name)
        if not (_is_number(value) and 0 < value < math.inf):
            raise self._wrong(f"{name} is {value!r}, but must be a positive number")
        object.__setattr__(self, name, float(value))

    def _check_normal(self) -> None:
        self._dtype("float32", "float16", "int8", "int16", "uint8", "uint16")
        natural = "float" if self.dtype.startswith("float") else "unorm" if self.dtype[0] == "u" else "snorm"
        self._default("space", "camera")
        self._default("encoding", "octahedral" if self.components == 2 else natural)
        self._choice("space", NORMAL_SPACES)
        self._choice("encoding", NORMAL_ENCODINGS)
        components = (2,) if self.encoding == "octahedral" else (3, 4)
        if self.components not in components:
            raise self._wrong(f"{self.encoding} normals have {components[0]} components, not {self.components}")
        if self.encoding not in ("octahedral", natural):
            raise self._wrong(f"encoding {self.encoding} does not fit dtype {self.dtype}")

    def _check_motion(self) -> None:
        self._dtype("float32", "float16", "int16")
        if self.components != 2:
            raise self._wrong(f"motion has 2 components (dx, dy), not {self.components}")
        self._default("kind", "backward_pixels")
        self._choice("kind", MOTION_KINDS)
        self._default("scale", 1.0)
        scale = self.scale
        if scale is None or not _is_finite(scale) or scale == 0:
            raise self._wrong(f"scale is {scale!r}, but must be a number other than 0")
        object.__setattr__(self, "scale", float(scale))

    def _check_segmentation(self) -> None:
        self._flat()
        self._dtype("uint8", "uint16")

    def _check_instance(self) -> None:
        self._flat()
        self._dtype("uint16", "uint32")


@dataclass
class Channel:
    """One image-shaped array of a frame, raw as sent.

    `data` has the descriptor's dtype and shape (FrameError otherwise). `serial` is the frame it was rendered with.
    """

    descriptor: Descriptor
    data: NDArray[Any]
    serial: int

    def __post_init__(self) -> None:
        if self.data.shape != self.descriptor.shape or self.data.dtype != np.dtype(self.descriptor.dtype):
            raise FrameError(
                f"channel {self.descriptor.name} is {self.data.dtype} {list(self.data.shape)}, but its descriptor "
                f"says {self.descriptor.dtype} {list(self.descriptor.shape)}."
            )


@dataclass(frozen=True)
class Entity:
    """A thing in the scene that the engine knows by name: a person, a car.

    All in engine units and world axes as sent; `capture.conventions.canonical_entity` converts.
    """

    id: int
    """The number that the `instance` channel shows for it."""
    cls: str
    """Class, e.g. "person"."""
    model: str = ""
    """The engine's name of its model or skin: equal names look alike."""
    pose: NDArray[np.float64] | None = None
    """(4, 4) entity-to-world, column vectors; right-handed or left-handed as the world."""
    size: tuple[float, float, float] | None = None
    """Extent of its box along its own x, y, z."""
    velocity: tuple[float, float, float] | None = None
    """Engine units per second, world axes."""

    def __post_init__(self) -> None:
        if not _is_integer(self.id) or not 0 <= self.id < 2**32:
            raise FrameError(f"entity id is {self.id!r}, but must be an integer from 0 to 2^32 - 1.")
        for name in ("cls", "model"):
            if not isinstance(getattr(self, name), str):
                raise FrameError(f"entity {self.id}: {name} must be text.")
        if self.pose is not None:
            pose = np.array(self.pose, dtype=np.float64, order="C")
            object.__setattr__(self, "pose", check_pose(pose, f"the pose of entity {self.id}"))
        for name in ("size", "velocity"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, str | Mapping) or len(value) != 3 or not all(_is_finite(v) for v in value):
                raise FrameError(f"entity {self.id}: {name} must be three finite numbers.")
            object.__setattr__(self, name, tuple(float(v) for v in value))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: pose as 16 floats, row-major, or None."""
        return {
            "id": int(self.id),
            "cls": self.cls,
            "model": self.model,
            "pose": None if self.pose is None else [float(v) for v in self.pose.ravel()],
            "size": None if self.size is None else list(self.size),
            "velocity": None if self.velocity is None else list(self.velocity),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Entity:
        """Inverse of `to_dict`; raises FrameError on missing, unknown or wrong fields."""
        _check_keys(values, {"id", "cls"}, {field.name for field in fields(cls)}, "entity")
        plain = dict(values)
        if plain.get("pose") is not None:
            plain["pose"] = pose_from_list(plain["pose"], "the pose of an entity")
        for name in ("size", "velocity"):
            if plain.get(name) is not None and not isinstance(plain[name], list | tuple):
                raise FrameError(f"entity {name} must be a list of three numbers.")
        return cls(**plain)

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Entity) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class Frame:
    """One rendered image with its buffers, camera, times and flags.

    Construct it with everything as the engine sent it. Read the canonical forms from `color`, `depth`, `normal`,
    `motion`, `segmentation`, `instance` and `camera`; each is converted when first asked for and then kept, and
    must not be written to. What was sent stays in `channels`, `raw_camera` and `entities`.

    index: position in its session or take, from 0.  serial: the engine's frame number; gaps are lost frames.
    time: engine seconds.  capture_time: seconds of the sender's monotonic clock when the frame was read back.
    flags: marks such as "cut", "desync".  dropped_before: frames lost between the one before and this one.

    The camera's fx, fy, cx, cy belong to the pixels of the `color` channel, or of the first channel without one.
    """

    def __init__(
        self,
        index: int,
        serial: int,
        time: float,
        camera: Camera | None,
        channels: dict[str, Channel],
        conventions: Conventions | None = None,
        flags: Sequence[str] = (),
        entities: Sequence[Entity] = (),
        dropped_before: int = 0,
        capture_time: float | None = None,
    ) -> None:
        for name, channel in channels.items():
            if channel.descriptor.name != name:
                raise FrameError(f"channel {name} carries the descriptor of channel {channel.descriptor.name}.")
        self.index = index
        self.serial = serial
        self.time = time
        self.raw_camera = camera
        self.channels = channels
        self.conventions = conventions if conventions is not None else Conventions()
        self.flags = tuple(flags)
        self.entities = tuple(entities)
        self.dropped_before = dropped_before
        self.capture_time = capture_time

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, serial={self.serial}, time={self.time:g}, channels={list(self.channels)})"

    @property
    def in_sync(self) -> bool:
        """Whether every channel was rendered with this frame."""
        return all(channel.serial == self.serial for channel in self.channels.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all channels as sent."""
        return sum(channel.data.nbytes for channel in self.channels.values())

    def channel(self, name: str) -> Channel:
        """The raw channel; FrameError that names it when the frame has none."""
        try:
            return self.channels[name]
        except KeyError:
            have = ", ".join(self.channels) or "none"
            raise FrameError(f"frame {self.index} has no channel {name!r}, only: {have}.") from None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the channel that the camera's pixels refer to: color, or the first without one."""
        height, width = self._camera_channel().descriptor.shape[:2]
        return height, width

    @cached_property
    def camera(self) -> Camera | None:
        """Canonical camera (metres, OpenCV axes, top row first), or None where the engine sent none."""
        from capture.conventions import canonical_camera

        if self.raw_camera is None:
            return None
        descriptor = self._camera_channel().descriptor
        return canonical_camera(self.raw_camera, self.conventions, descriptor.shape, descriptor.rows)

    @cached_property
    def color(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 sRGB."""
        return self.canonical("color")

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """(H, W) float32 metres along the optical axis, +inf for sky."""
        return self.canonical("depth")

    @cached_property
    def normal(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 unit vectors in camera space; (0, 0, 0) where there is no surface."""
        normal = self.canonical("normal")
        depth = self.channels.get("depth")
        if depth is not None and depth.data.shape == normal.shape[:2]:
            sky = np.isinf(self.depth)
            if sky.any():
                normal = np.where(sky[..., None], np.float32(0), normal)
        return normal

    @cached_property
    def motion(self) -> NDArray[np.float32]:
        """(H, W, 2) float32 pixels (dx right, dy down): position in the previous frame minus position now."""
        return self.canonical("motion")

    @cached_property
    def segmentation(self) -> NDArray[Any]:
        """(H, W) uint8 or uint16 class ids."""
        return self.canonical("segmentation")

    @cached_property
    def instance(self) -> NDArray[Any]:
        """(H, W) uint16 or uint32 instance ids, 0 for none."""
        return self.canonical("instance")

    def canonical(self, name: str) -> Any:
        """Canonical array of any channel by name, e.g. "color_hudless"; not kept. Raises FrameError."""
        from capture.conventions import canonical_channel

        channel = self.channel(name)
        return canonical_channel(channel.data, channel.descriptor, self.camera_of(name), self.conventions)

    def camera_of(self, name: str) -> Camera | None:
        """The camera as sent, its pixels turned into those of channel `name` as sent (size and row order)."""
        if self.raw_camera is None:
            return None
        own, reference = self.channel(name).descriptor, self._camera_channel().descriptor
        camera = self.raw_camera
        if own.rows != reference.rows:
            camera = camera.flipped(reference.shape[0])
        return camera.resized(reference.shape, own.shape)

    def _camera_channel(self) -> Channel:
        if not self.channels:
            raise FrameError(f"frame {self.index} has no channels.")
        return self.channels.get("color") or next(iter(self.channels.values()))


def check_shape(shape: object, what: str) -> tuple[int, ...]:
    """`shape` as a tuple (H, W) or (H, W, C <= 4) within MAX_SIDE; FrameError otherwise."""
    if not isinstance(shape, list | tuple) or not all(_is_integer(n) for n in shape):
        raise FrameError(f"{what}: the shape must be a list of integers.")
    if len(shape) not in (2, 3) or not all(1 <= n <= MAX_SIDE for n in shape[:2]):
        raise FrameError(f"{what}: shape {list(shape)[:4]} must be [H, W] or [H, W, C] with sides 1 to {MAX_SIDE}.")
    if len(shape) == 3 and not 1 <= shape[2] <= 4:
        raise FrameError(f"{what}: shape {list(shape)} has {shape[2]} components, but 1 to 4 are allowed.")
    return tuple(int(n) for n in shape)


def check_pose(pose: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The (4, 4) pose, made read-only, after checking that it is finite, rigid and of the column-vector form."""
    if pose.shape != (4, 4):
        raise FrameError(f"{what} has shape {list(pose.shape)}, but must be 4x4.")
    if not np.isfinite(pose).all():
        raise FrameError(f"{what} contains a value that is not finite.")
    if np.abs(pose[3] - (0.0, 0.0, 0.0, 1.0)).max() > 1e-6:
        raise FrameError(f"the last row of {what} is not 0 0 0 1: send row-major values that act on column vectors.")
    # 1e-3 lets single-precision engines pass and catches scaled or sheared matrices.
    rotation = pose[:3, :3]
    if np.abs(rotation).max() > 1.001 or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
        raise FrameError(f"the rotation of {what} is not orthonormal: send it without scale or shear.")
    pose.flags.writeable = False
    return pose


def pose_from_list(values: object, what: str) -> NDArray[np.float64]:
    """(4, 4) from 16 row-major numbers; FrameError otherwise."""
    if not isinstance(values, list | tuple) or len(values) != 16 or not all(_is_number(v) for v in values):
        raise FrameError(f"{what} must be a list of 16 numbers.")
    return np.array(values, dtype=np.float64).reshape(4, 4)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return _is_number(value) and math.isfinite(value)  # type: ignore[arg-type]


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_keys(values: object, required: set[str], allowed: set[str], what: str) -> None:
    if not isinstance(values, Mapping):
        raise FrameError(f"{what} must be a map.")
    missing = required - values.keys()
    if missing:
        raise FrameError(f"{what} lacks the field {sorted(missing)[0]}.")
    unknown = values.keys() - allowed
    if unknown:
        raise FrameError(f"{what} has an unknown field {str(min(unknown, key=str))[:40]!r}.")
