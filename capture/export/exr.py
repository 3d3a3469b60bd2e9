"""OpenEXR: one multi-layer file per frame, with its camera, for Blender, Nuke and whatever else reads EXR.

Works on a Take and a folder, through the maintainers' OpenEXR package. Sources: OpenEXR, "Technical Introduction"
(layers, colour) and "Standard Optional Attributes" (worldToCamera, worldToNDC, chromaticities).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import TakeError
from capture.export.common import (
    ExportFolder,
    ExportReport,
    Range,
    Selection,
    depth_unit,
    frame_entry,
    nearest,
    take_entry,
)
from capture.frame import Frame
from capture.take import Take
from capture.take_check import Progress

WORLDS = {
    "y": np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]], np.float64),
    "z": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64),
}
"""(3, 3) from canonical world axes (x right, y down, z forward) to right-handed ones with this letter up: y (Nuke,
Maya, Houdini, USD; z towards the viewer) or z (Blender; y forward)."""

_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
"""Chromaticities of red, green, blue and white: ITU-R BT.709, which are those of sRGB."""


def export_exr(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: Range = (None, None),
    channels: Sequence[str] | None = None,
    up: str = "y",
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as NAME.000000.exr ..., cameras.json, and import_to_blender.py, which builds the animated camera.

    Layers, as compositors name them: R G B, half, linear light (sRGB undone, Rec. 709 primaries);
    Z, float, metres along the optical axis, inf for sky;
    N.X N.Y N.Z, half, unit vectors in world space, (0, 0, 0) for sky;
    backward.u backward.v, float, pixels to the right and up: where the surface was in the previous frame;
    segmentation.id, instance.id, 32-bit integers (programs that know only floats read them as such);
    other colours as NAME.R NAME.G NAME.B, other depths as NAME.Z, anything else as NAME.X, .Y, .Z, .W as sent.
    Channels of another size than the picture are brought to its size by the nearest pixel.

    up: the world's axis that points up, "y" or "z" (see WORLDS); of normals and of the matrices in the files. Without
        a pose the camera is taken as the world's origin.

    The folder must not exist or be empty, or be what the same export left unfinished. Raises TakeError.
    """
    if up not in WORLDS:
        raise TakeError(f"the world's up axis is {up!r}, but must be y or z.")
    report = ExportReport(str(out))
    selection = Selection(take, frames, channels, report, progress)
    folder = ExportFolder(Path(out), take, {"to": "exr", "frames": frames, "channels": channels, "up": up})
    stem = re.sub(r"[^\w-]+", "_", take.name)
    with folder.filling():
        entries = []
        for frame in selection:
            file = f"{stem}.{frame.index:06d}.exr"
            if not folder.has(file):
                with folder.writing(file) as path:
                    write_frame(path, frame, selection.names(frame), take, up)
            entries.append({"file": file, "frame": frame.index, **frame_entry(frame)})
            report.frames += 1
        selection.finish()
        folder.write("import_to_blender.py", (Path(__file__).parent / "import_to_blender.py").read_bytes())
        about = {"exr_world_up": up, "exr_world_from_axes": WORLDS[up].tolist()}
        folder.write_json("cameras.json", take_entry(take) | about | {"frames": entries})
    return report


def write_frame(path: Path, frame: Frame, names: Sequence[str], take: Take, up: str) -> None:
    """One EXR file of these channels of a frame."""
    import OpenEXR

    layers: dict[str, NDArray[Any]] = {}
    resampled = []
    for name in names:
        array = frame.canonical(name)
        if array.shape[:2] != frame.shape:
            resampled.append(f"{name} from {array.shape[1]}x{array.shape[0]}")
            array = nearest(array, frame.shape)
        family = frame.channels[name].descriptor.family if name in frame.channels else name
        layers |= _layers(name, family, array, WORLDS[up] @ _rotation(frame))
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.ZIP_COMPRESSION,
        **attributes(frame, take, up),
    }
    if resampled:
        header["realmaster:resampled"] = ", ".join(resampled) + ", nearest pixel"
    try:
        OpenEXR.File(header, layers).write(str(path))
    except RuntimeError as error:  # what OpenEXR makes of a full disk
        raise OSError(None, str(error)) from None


def attributes(frame: Frame, take: Take, up: str) -> dict[str, Any]:
    """What a frame's header says, under OpenEXR's standard names where it has one, else under `realmaster:`.

    Standard matrices act on row vectors and single precision; `realmaster:cameraToWorld` is the pose in double
    precision for column vectors and a camera that looks along -z with y up, as cameras of Blender and Nuke do.
    """
    values: dict[str, Any] = {
        "chromaticities": _REC709,
        "framesPerSecond": Fraction(take.fps).limit_denominator(1001),
        "imageCounter": frame.index,
        "comments": f"take {take.name}, frame {frame.index}, engine {take.engine}",
        "realmaster:take": take.name,
        "realmaster:frame": frame.index,
        "realmaster:serial": str(frame.serial),  # an EXR integer has 32 bits
        "realmaster:time": repr(frame.time),  # and its floats as well
        "realmaster:flags": " ".join(frame.flags),
        "realmaster:depth": f"{depth_unit(frame)} along the optical axis, inf for sky",
        "realmaster:world": f"right-handed, {up} up, {depth_unit(frame)}",
        "realmaster:normals": "world space, " + ("from the engine" if "normal" in frame.channels else "from depth"),
        "realmaster:pose": "from the engine" if frame.has_pose else "unknown: the camera is taken as the origin",
    }
    if created := _exr_date(take.manifest["created"]):
        values["capDate"] = created
        values["utcOffset"] = 0.0
    camera = frame.camera
    if camera is None:
        return values
    height, width = frame.shape
    values |= {
        "realmaster:K": camera.K,
        "realmaster:near": camera.near,
        "realmaster:fovVerticalDegrees": math.degrees(2 * math.atan(0.5 * height / camera.fy)),
        "realmaster:fovHorizontalDegrees": math.degrees(2 * math.atan(0.5 * width / camera.fx)),
        "realmaster:cameraToWorld": np.ascontiguousarray(camera_to_world(frame, up)),
        "worldToCamera": _for_rows(world_to_camera(frame, up)),
        "worldToNDC": _for_rows(world_to_ndc(frame, up)),
    }
    if math.isfinite(camera.far):
        values["realmaster:far"] = camera.far
    return values


def camera_to_world(frame: Frame, up: str) -> NDArray[np.float64]:
    """(4, 4), column vectors: from a camera that looks along -z with y up to the world of the file."""
    world = np.eye(4)
    world[:3, :3] = WORLDS[up]
    return world @ _pose(frame) @ np.diag([1.0, -1.0, -1.0, 1.0])


def world_to_camera(frame: Frame, up: str) -> NDArray[np.float64]:
    """(4, 4), column vectors: to OpenEXR's camera space, which is left-handed: x right, y up, z forward."""
    return np.diag([1.0, 1.0, -1.0, 1.0]) @ np.linalg.inv(camera_to_world(frame, up))


def world_to_ndc(frame: Frame, up: str) -> NDArray[np.float64]:
    """(4, 4), column vectors, to be divided by the fourth component: to OpenEXR's NDC, (0, 0) the upper left corner
    of the image and (1, 1) the lower right one. The third component is 0 at near and 1 at far."""
    camera = frame.camera
    assert camera is not None
    height, width = frame.shape
    near, far = camera.near, camera.far
    scale = 1.0 if math.isinf(far) else far / (far - near)
    # Pixel 0 has its centre at 0.5 of the image's edge-to-edge coordinates.
    projection = np.array([
        [camera.fx / width, 0, (camera.cx + 0.5) / width, 0],
        [0, -camera.fy / height, (camera.cy + 0.5) / height, 0],
        [0, 0, scale, -near * scale],
        [0, 0, 1, 0],
    ])  # fmt: skip
    return projection @ world_to_camera(frame, up)


def _for_rows(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """A matrix for column vectors as the one for row vectors, in single precision and, as OpenEXR reads memory and not
    strides, in C order."""
    return np.ascontiguousarray(matrix.T, np.float32)


def _linear_table() -> NDArray[np.float16]:
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float16)


_LINEAR = _linear_table()


def to_linear(color: NDArray[np.uint8]) -> NDArray[np.float16]:
    """sRGB bytes as linear light, 0 to 1; every byte comes back from its half. IEC 61966-2-1."""
    return _LINEAR[color]


def _layers(name: str, family: str, array: NDArray[Any], to_world: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """EXR channels of a canonical array."""
    if family == "color":
        prefix = "" if name == "color" else f"{name}."
        return _split(array if array.dtype != np.uint8 else to_linear(array), [f"{prefix}{c}" for c in "RGB"])
    if family == "depth":
        return _split(array, ["Z" if name == "depth" else f"{name}.Z"])
    if family == "normal":
        prefix = "N" if name == "normal" else name
        world = (array @ to_world.T.astype(np.float32)).astype(np.float16)
        return _split(world, [f"{prefix}.{c}" for c in "XYZ"])
    if family == "motion":
        prefix = "backward" if name == "motion" else name
        # Rows count downwards in our pixels and upwards in a compositor's.
        return _split(array * np.array([1, -1], np.float32), [f"{prefix}.u", f"{prefix}.v"])
    if family in ("segmentation", "instance"):
        return _split(array.astype(np.uint32), [f"{name}.id"])
    if array.dtype.kind == "u":
        array = array.astype(np.uint32)
    elif array.dtype.kind == "i":
        array = array.astype(np.float32)
    return _split(array, [f"{name}.{c}" for c in "XYZW"])


def _split(array: NDArray[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    planes = array[..., None] if array.ndim == 2 else array
    return {name: np.ascontiguousarray(planes[..., i]) for i, name in zip(range(planes.shape[2]), names, strict=False)}


def _pose(frame: Frame) -> NDArray[np.float64]:
    return np.eye(4) if frame.camera is None or not frame.has_pose else frame.camera.pose


def _rotation(frame: Frame) -> NDArray[np.float64]:
    return _pose(frame)[:3, :3]


def _exr_date(text: str) -> str | None:
    """ISO 8601 as OpenEXR's "YYYY:MM:DD hh:mm:ss"."""
    try:
        return f"{datetime.fromisoformat(text):%Y:%m:%d %H:%M:%S}"
    except ValueError:
        return None
