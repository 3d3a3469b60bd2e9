"""The camera file of a folder of images: JSON or CSV, one entry per frame.

Works on plain values by name. Knows the ways in which programs write a pose and a lens; knows nothing of images.

An entry names its frame (`file` or `frame`) and may have, flat or under `camera`:

    pose            4x4 or 16 numbers, camera to world, row-major, column vectors
    x y z           position, with one of
      qw qx qy qz     a rotation as quaternion
      pitch yaw roll  Unreal's and CARLA's rotator, degrees
    fx fy cx cy     pixels (cx, cy: the middle without them), or
    vfov_degrees    vertical or
    hfov_degrees    horizontal field of view, square pixels, or
    projection_matrix   the upper left 3x3 or all of an OpenGL projection matrix
    width height    the picture that these numbers are for (the frame's own without them)
    near far        clip distances in engine units
    time serial flags dropped_before

JSON may give values for all frames at its top level; CSV names them in its first line (m00 to m33 for the pose).
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.camera import Camera
from capture.errors import FrameError
from capture.frame import NO_POSE
from capture.importers.source import Declared, ImportSourceError

SeenBy = tuple[Camera | None, tuple[str, ...]]
"""A frame's camera, and the flags that go with it."""

NAMES = ("cameras.json", "cameras.csv", "CameraPoses.csv")
_POSE_COLUMNS = [f"m{row}{column}" for row in range(4) for column in range(4)]
LENS = ("fx", "vfov_degrees", "hfov_degrees", "projection_matrix")
# EasySynth for Unreal writes its own names.
_ALIASES = {"id": "frame", "tx": "x", "ty": "y", "tz": "z", "t": "time"}


class CameraFile:
    """The entries of a camera file by frame number. Raises ImportSourceError, naming the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig")
            document = _read_csv(text) if path.suffix == ".csv" else json.loads(text)
        except (OSError, ValueError, csv.Error) as error:
            raise ImportSourceError(f"{path} cannot be read ({error}): see docs/import.md for its layout.") from None
        if isinstance(document, list):
            document = {"frames": document}
        entries = document.get("frames") if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ImportSourceError(f"{path} has no list `frames` of entries, one per frame.")
        self.document: dict[str, Any] = document
        self.for_all = _flat(document)
        self._entries = {self._number(entry, place): _flat(entry) for place, entry in enumerate(entries)}
        if len(self._entries) < len(entries):
            raise ImportSourceError(f"{path} has several entries for one frame: give each frame one.")

    @property
    def fps(self) -> float | None:
        """Frames per second, where the file says it."""
        fps = self.document.get("fps")
        if fps is None:
            return None
        if not isinstance(fps, int | float) or not 0 < fps < math.inf:
            raise ImportSourceError(f"{self.path} has fps {fps!r}, but it must be a positive number.")
        return float(fps)

    @property
    def legend(self) -> dict[str, dict[int, str]]:
        """Names of ids by channel, where the file has them."""
        legend = self.document.get("legend") or {}
        try:
            return {channel: {int(id): str(name) for id, name in names.items()} for channel, names in legend.items()}
        except (AttributeError, ValueError, TypeError):
            raise ImportSourceError(
                f'{self.path} has a legend that is not of the form {{"segmentation": {{"1": "road"}}}}.'
            ) from None

    @property
    def numbers(self) -> set[int]:
        """The frames that have an entry."""
        return set(self._entries)

    def entry(self, number: int) -> dict[str, Any]:
        """The values for one frame, those for all frames included; those only where it has no entry."""
        return self.for_all | self._entries.get(number, {})

    def camera(self, number: int, shape: tuple[int, ...], declared: Declared) -> SeenBy:
        """The camera of a frame whose picture has `shape` (H, W), as `camera_from`."""
        try:
            return camera_from(self.entry(number), shape, declared)
        except FrameError as error:
            raise ImportSourceError(f"{self.path}, frame {number}: {error}") from None

    def _number(self, entry: Mapping[str, Any], place: int) -> int:
        for name in ("frame", "file", "id"):
            if name in entry:
                found = re.findall(r"\d+", Path(str(entry[name])).stem)
                if found:
                    return int(found[-1])
        raise ImportSourceError(f"{self.path}: entry {place} has no `frame` or `file` with a number in its name.")


def find_cameras(folder: Path) -> CameraFile | None:
    """The camera file of a folder, None without one."""
    return next((CameraFile(folder / name) for name in NAMES if (folder / name).is_file()), None)


def camera_from(values: Mapping[str, Any], shape: tuple[int, ...], declared: Declared) -> SeenBy:
    """The camera that an entry's values describe (see above), in the pixels of a picture of `shape` (H, W).

    Without a pose it stands at the origin and the flag "no_pose" goes with it; without pose and lens it is None.
    FrameError when values are missing or wrong.
    """
    flags: tuple[str, ...] = ()
    pose = _pose(values)
    if pose is None:
        if declared.vertical_fov is None and not any(name in values for name in LENS):
            return None, ()
        pose, flags = np.eye(4), (NO_POSE,)
        # Any pose would do, as long as it does not mirror.
        pose[:3, :3] = declared.conventions.world_axes.basis.T @ declared.conventions.camera_axes.basis
    size = (int(_number(values, "height", shape[0])), int(_number(values, "width", shape[1])))
    near = _number(values, "near", declared.near or 0.1)
    far = _number(values, "far", declared.far or math.inf)
    if not any(name in values for name in LENS) and declared.vertical_fov is not None:
        values = {**values, "vfov_degrees": math.degrees(declared.vertical_fov)}
    fx, fy, cx, cy = _lens(values, size)
    return Camera(pose, fx, fy, cx, cy, near, far).resized(size, shape), flags


def rotator(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """(3, 3) of Unreal's FRotator (and CARLA's Rotation) in degrees, for column vectors.

    Axes x forward, y right, z up; yaw turns x towards y, pitch lifts x towards z, roll turns z towards y.
    """
    cp, cy, cr = (math.cos(math.radians(angle)) for angle in (pitch, yaw, roll))
    sp, sy, sr = (math.sin(math.radians(angle)) for angle in (pitch, yaw, roll))
    # R = Rz(yaw) Ry(pitch) Rx(roll), with the signs that left-handed axes give to pitch and roll.
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    lift = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    bank = np.array([[1, 0, 0], [0, cr, sr], [0, -sr, cr]])
    return turn @ lift @ bank


def quaternion(w: float, x: float, y: float, z: float) -> NDArray[np.float64]:
    """(3, 3) rotation for column vectors. FrameError when it is zero."""
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not 0 < length < math.inf:
        raise FrameError("the quaternion has no length.")
    w, x, y, z = w / length, x / length, y / length, z / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def lens_of_projection(matrix: NDArray[np.float64], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of an OpenGL projection matrix (its upper left 3x3 is enough) for a picture of size (H, W).

    x_ndc = P00 x / d - P02 with d the distance along the axis, and pixel centres are whole numbers.
    """
    height, width = size
    fx, fy = matrix[0, 0] * width / 2, matrix[1, 1] * height / 2
    return fx, fy, (1 - matrix[0, 2]) * width / 2 - 0.5, (1 + matrix[1, 2]) * height / 2 - 0.5


def _pose(values: Mapping[str, Any]) -> NDArray[np.float64] | None:
    if values.get("pose") is not None:
        try:
            return np.array(values["pose"], dtype=np.float64).reshape(4, 4)
        except (TypeError, ValueError):
            raise FrameError("the pose must be a 4x4 matrix of numbers.") from None
    if not all(name in values for name in "xyz"):
        return None
    pose = np.eye(4)
    if "qw" in values:
        pose[:3, :3] = quaternion(*(_number(values, name) for name in ("qw", "qx", "qy", "qz")))
    elif "yaw" in values:
        pose[:3, :3] = rotator(*(_number(values, name) for name in ("pitch", "yaw", "roll")))
    else:
        raise FrameError("a position needs a rotation: qw, qx, qy, qz or pitch, yaw, roll.")
    pose[:3, 3] = [_number(values, name) for name in "xyz"]
    return pose


def _lens(values: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size
    cx, cy = _number(values, "cx", (width - 1) / 2), _number(values, "cy", (height - 1) / 2)
    if "fx" in values:
        fx = _number(values, "fx")
        return fx, _number(values, "fy", fx), cx, cy
    if "projection_matrix" in values:
        try:
            matrix = np.array(values["projection_matrix"], dtype=np.float64)
            matrix = matrix.reshape(math.isqrt(matrix.size), -1)
        except (TypeError, ValueError):
            raise FrameError("the projection must be a 3x3 or 4x4 matrix of numbers.") from None
        if matrix.shape not in ((3, 3), (4, 4)):
            raise FrameError("the projection must be a 3x3 or 4x4 matrix of numbers.")
        if matrix.shape == (4, 4) and matrix[3, 3] != 0:
            raise FrameError("the projection is orthographic: only perspective cameras can be imported.")
        return lens_of_projection(matrix, size)
    for name, side in (("vfov_degrees", height), ("hfov_degrees", width)):
        if name in values:
            fov = _number(values, name)
            if not 0 < fov < 180:
                raise FrameError(f"{name} is {fov:g}, but must lie between 0 and 180.")
            focal = side / 2 / math.tan(math.radians(fov) / 2)
            return focal, focal, cx, cy
    raise FrameError(f"the field of view is missing: give {', '.join(LENS)}, or --vfov.")


def _number(values: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = values.get(name)
    if value is None:
        if default is None:
            raise FrameError(f"{name} is missing.")
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FrameError(f"{name} is {value!r}, but must be a number.") from None


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those under `camera` beside the others, and null as if it were not there."""
    camera = entry.get("camera")
    values = {**entry, **(camera if isinstance(camera, Mapping) else {})}
    return {_ALIASES.get(name, name): value for name, value in values.items() if value is not None and name != "camera"}


def _read_csv(text: str) -> dict[str, Any]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    entries = []
    for row in rows:
        entry: dict[str, Any] = {name.strip(): value.strip() for name, value in row.items() if name and value}
        if all(name in entry for name in _POSE_COLUMNS[:12]):
            numbers = [entry.pop(name, None) for name in _POSE_COLUMNS]
            entry["pose"] = [*numbers[:12], 0, 0, 0, 1]
        entries.append(entry)
    return {"frames": entries}
