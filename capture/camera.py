"""Where a camera is and how it sees: axes, units, pose and intrinsics.

Works on numbers as an engine gives them; `capture.conventions` makes them canonical: OpenCV axes (x right, y down,
z forward) for camera and world, metres, pixel (0, 0) the centre of the top-left pixel. Knows nothing of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from capture.checks import check_keys, is_number
from capture.errors import FrameError

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
        check_keys(values, {"right", "up", "forward"}, {"right", "up", "forward"}, "axes")
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
        if not (is_number(self.metres_per_unit) and 0 < self.metres_per_unit < math.inf):
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
        check_keys(values, names, names, "conventions")
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
            if not is_number(value):
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
        if not (is_number(vfov_radians) and 0 < vfov_radians < math.pi):
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
        check_keys(values, names, names, "camera")
        numbers = {name: values[name] for name in names - {"pose"}}
        return cls(pose_from_list(values["pose"], "the camera pose"), **numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Camera):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.pose.tobytes(), self.fx, self.fy, self.cx, self.cy, self.near, self.far))


def check_pose(pose: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The (4, 4) pose, made read-only, after checking that it is finite, rigid and of the column-vector form."""
    if pose.shape != (4, 4):
        raise FrameError(f"{what} has shape {list(pose.shape)}, but must be 4x4.")
    # In plain numbers: a busy street has a hundred poses a frame, and numpy takes five times as long for so few.
    *axes, last = pose.tolist()
    if not all(map(math.isfinite, chain(*axes, last))):
        raise FrameError(f"{what} contains a value that is not finite.")
    if max(abs(value - wanted) for value, wanted in zip(last, (0.0, 0.0, 0.0, 1.0), strict=True)) > 1e-6:
        raise FrameError(f"the last row of {what} is not 0 0 0 1: send row-major values that act on column vectors.")
    # 1e-3 lets single-precision engines pass and catches scaled or sheared matrices.
    (a, b, c, _), (d, e, f, _), (g, h, i, _) = axes
    lengths = a * a + b * b + c * c, d * d + e * e + f * f, g * g + h * h + i * i
    angles = a * d + b * e + c * f, a * g + b * h + c * i, d * g + e * h + f * i
    if max(abs(length - 1) for length in lengths) > 1e-3 or max(map(abs, angles)) > 1e-3:
        raise FrameError(f"the rotation of {what} is not orthonormal: send it without scale or shear.")
    pose.flags.writeable = False
    return pose


def pose_from_list(values: object, what: str) -> NDArray[np.float64]:
    """(4, 4) from 16 row-major numbers; FrameError otherwise."""
    if not isinstance(values, list | tuple) or len(values) != 16 or not all(map(is_number, values)):
        raise FrameError(f"{what} must be a list of 16 numbers.")
    return np.array(values, dtype=np.float64).reshape(4, 4)
