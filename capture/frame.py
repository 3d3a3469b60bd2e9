"""What a frame is: its channels, what their numbers mean, its camera and the things in it.

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
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera, Conventions, check_pose, pose_from_list
from capture.checks import check_keys, is_finite, is_integer, is_number
from capture.errors import FrameError
from capture.threads import cached_property

DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "float16", "float32")
"""Element types that a channel may have; little-endian on the wire and on disk."""

MAX_SIDE = 16384
"""Largest width or height of a channel in pixels."""

DEPTH_KINDS = ("linear", "ray", "ndc", "ndc_reversed", "log", "disparity", "inverse")
NORMAL_SPACES = ("camera", "world")
NORMAL_ENCODINGS = ("snorm", "unorm", "octahedral", "float")
COLOR_ORDERS = ("rgb", "bgr", "rgba", "bgra")
MOTION_KINDS = ("backward_pixels",)
PROJECTIONS = ("measured", "declared", "default")
UNKNOWN_SCALE = "unknown"
"""The `scale` of depth whose engine does not say how long its unit is."""

NO_POSE = "no_pose"
FLAGS = {
    "cut": "the camera jumped: this frame does not continue the one before",
    "desync": "some channel was rendered with another frame; set by the daemon",
    NO_POSE: "the camera's intrinsics, near and far are meant, but its pose is not known and given as identity",
}
"""Flags of a frame that have a meaning here; others are kept. Poses of frames with "no_pose" say nothing: they are
never compared (see `Frame.has_pose`)."""
ROWS = ("top", "bottom")

CanonicalName = Literal["color", "depth", "normal", "motion", "segmentation", "instance"]
CANONICAL: tuple[str, ...] = get_args(CanonicalName)
"""Channels that a Frame offers under their own names, canonical."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


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
    scale: float | str | None = None
    """Depth, motion: value = stored number x scale, by default 1. For linear and ray depth these are engine units
    per stored number; for a depth buffer of n-bit integers it is 1 / (2^n - 1). Depth of floats may say "unknown":
    value = stored number, and how many metres an engine unit has is not known, so that canonical depth is right up
    to one factor (the same for the camera)."""
    baseline: float | None = None
    """Depth of kind "disparity": distance of the two eyes in engine units."""
    projection: str | None = None
    """Depth: where the camera's fx, fy, near and far come from: "measured" in the running engine, "declared" by the
    user, or a "default" that was guessed; None when the engine itself says so."""
    space: str | None = None
    """Normals: "camera" (by default) or "world", in the axes of the session's conventions."""
    encoding: str | None = None
    """Normals: "snorm" (int8, int16: stored / max), "unorm" (uint8, uint16: stored / max * 2 - 1), "float", or
    "octahedral" (two components of any of these number types). By default as the dtype suggests."""
    estimated: bool | None = None
    """True where a model guessed the numbers from the picture; None where the engine made them."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise FrameError(
                f"channel name {str(self.name)[:40]!r} must be 1 to 32 lower-case letters, digits or underscores."
            )
        if not isinstance(self.dtype, str) or self.dtype not in DTYPES:
            raise self._wrong(f"dtype {str(self.dtype)[:20]!r} is not one of {', '.join(DTYPES)}")
        object.__setattr__(self, "shape", check_shape(self.shape, f"channel {self.name}"))
        self._choice("rows", ROWS)
        allowed = {
            "color": ("order",), "depth": ("kind", "scale", "baseline", "projection"),
            "normal": ("space", "encoding"), "motion": ("kind", "scale"),
        }.get(self.family, ())  # fmt: skip
        for name in ("order", "kind", "scale", "baseline", "projection", "space", "encoding"):
            if getattr(self, name) is not None and name not in allowed:
                raise self._wrong(f"the field {name} does not belong to a channel of this name")
        if self.estimated is not None and not isinstance(self.estimated, bool):
            raise self._wrong(f"estimated is {str(self.estimated)[:20]!r}, but must be true or false")
        object.__setattr__(self, "estimated", self.estimated or None)
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

    @property
    def factor(self) -> float:
        """What stored numbers are multiplied by: the scale, or 1 where it is unknown."""
        return float(self.scale) if isinstance(self.scale, int | float) else 1.0

    @property
    def in_metres(self) -> bool:
        """Whether canonical depth is in metres; False where the length of an engine unit is unknown."""
        return self.scale != UNKNOWN_SCALE

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
        check_keys(values, {"name", "dtype", "shape"}, {field.name for field in fields(cls)}, "channel descriptor")
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
        if self.in_metres:
            self._positive("scale")
        elif not self.dtype.startswith("float"):
            raise self._wrong(f"scale unknown needs a dtype of floats, not {self.dtype}: send float32")
        if self.projection is not None:
            self._choice("projection", PROJECTIONS)
        if self.kind == "disparity":
            self._positive("baseline")
        elif self.baseline is not None:
            raise self._wrong("baseline belongs only to depth of kind disparity")

    def _positive(self, name: str) -> None:
        value = getattr(self, name)
        if not (is_number(value) and 0 < value < math.inf):
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
        if not is_finite(self.scale) or self.scale == 0:
            raise self._wrong(f"scale is {self.scale!r}, but must be a number other than 0")
        object.__setattr__(self, "scale", self.factor)

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
        if not is_integer(self.id) or not 0 <= self.id < 2**32:
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
            if isinstance(value, str | Mapping) or len(value) != 3 or not all(is_finite(v) for v in value):
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
        check_keys(values, {"id", "cls"}, {field.name for field in fields(cls)}, "entity")
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
    flags: marks, of which FLAGS says what they mean.  dropped_before: frames lost between the one before and this one.

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

    def _repr_html_(self) -> str:
        from capture.notebook import frame_html

        return frame_html(self)

    @property
    def in_sync(self) -> bool:
        """Whether every channel was rendered with this frame."""
        return all(channel.serial == self.serial for channel in self.channels.values())

    @property
    def has_pose(self) -> bool:
        """Whether the camera's pose is known: a camera was sent, and not with the flag "no_pose"."""
        return self.raw_camera is not None and NO_POSE not in self.flags

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
        return self._convert("color")

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """(H, W) float32 metres along the optical axis, +inf for sky."""
        return self._convert("depth")

    @property
    def available(self) -> tuple[str, ...]:
        """Names of CANONICAL that can be asked for: those that were sent, and normals that depth gives."""
        derived = {"normal"} if "depth" in self.channels and self.raw_camera is not None else set()
        return tuple(name for name in CANONICAL if name in self.channels or name in derived)

    @cached_property
    def normal(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 unit vectors in camera space; (0, 0, 0) where there is no surface.

        Derived from depth where the engine sends none: `"normal" in frame.channels` tells which.
        """
        if "normal" not in self.channels and "normal" in self.available:
            return self.normal_from_depth
        normal = self._convert("normal")
        depth = self.channels.get("depth")
        if depth is not None and depth.data.shape == normal.shape[:2]:
            sky = np.isinf(self.depth)
            if sky.any():
                normal = np.where(sky[..., None], np.float32(0), normal)
        return normal

    @cached_property
    def motion(self) -> NDArray[np.float32]:
        """(H, W, 2) float32 pixels (dx right, dy down): position in the previous frame minus position now."""
        return self._convert("motion")

    @cached_property
    def segmentation(self) -> NDArray[Any]:
        """(H, W) uint8 or uint16 class ids."""
        return self._convert("segmentation")

    @cached_property
    def instance(self) -> NDArray[Any]:
        """(H, W) uint16 or uint32 instance ids, 0 for none."""
        return self._convert("instance")

    @cached_property
    def normal_from_depth(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 unit vectors in camera space that the depth gives, whether or not normals were sent;
        see `capture.geometry.normals_from_depth`. FrameError without depth or camera."""
        from capture.conventions import canonical_camera
        from capture.geometry import normals_from_depth

        descriptor = self.channel("depth").descriptor
        camera = self.camera_of("depth")
        if camera is None:
            raise FrameError(f"frame {self.index} has no camera, which normals from depth need.")
        camera = canonical_camera(camera, self.conventions, descriptor.shape, descriptor.rows)
        return normals_from_depth(self.depth, camera)

    def canonical(self, name: str) -> Any:
        """Canonical array of any channel by name, e.g. "color_hudless"; kept for CANONICAL only. Raises FrameError."""
        return getattr(self, name) if name in CANONICAL else self._convert(name)

    def camera_of(self, name: str) -> Camera | None:
        """The camera as sent, its pixels turned into those of channel `name` as sent (size and row order)."""
        if self.raw_camera is None:
            return None
        own, reference = self.channel(name).descriptor, self._camera_channel().descriptor
        camera = self.raw_camera
        if own.rows != reference.rows:
            camera = camera.flipped(reference.shape[0])
        return camera.resized(reference.shape, own.shape)

    def _convert(self, name: str) -> Any:
        from capture.conventions import canonical_channel

        channel = self.channel(name)
        return canonical_channel(channel.data, channel.descriptor, self.camera_of(name), self.conventions)

    def _camera_channel(self) -> Channel:
        if not self.channels:
            raise FrameError(f"frame {self.index} has no channels.")
        return self.channels.get("color") or next(iter(self.channels.values()))


def check_shape(shape: object, what: str) -> tuple[int, ...]:
    """`shape` as a tuple (H, W) or (H, W, C <= 4) within MAX_SIDE; FrameError otherwise."""
    if not isinstance(shape, list | tuple) or not all(is_integer(n) for n in shape):
        raise FrameError(f"{what}: the shape must be a list of integers.")
    if len(shape) not in (2, 3) or not all(1 <= n <= MAX_SIDE for n in shape[:2]):
        raise FrameError(f"{what}: shape {list(shape)[:4]} must be [H, W] or [H, W, C] with sides 1 to {MAX_SIDE}.")
    if len(shape) == 3 and not 1 <= shape[2] <= 4:
        raise FrameError(f"{what}: shape {list(shape)} has {shape[2]} components, but 1 to 4 are allowed.")
    return tuple(int(n) for n in shape)
