"""Images and arrays, one file per frame and channel.

Works on a Take and a folder. Knows nothing of video.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.export.common import ExportFolder, ExportReport, Range, Selection, frame_entry, npy, png, take_entry
from capture.frame import CANONICAL, Frame
from capture.take import Take
from capture.take_check import Progress


def export_frames(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: Range = (None, None),
    channels: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as images and arrays, canonical, top row first:

        color/000000.png          8-bit sRGB (every colour channel by its name)
        depth/000000.npy          float32 metres along the optical axis, inf for sky
        depth/000000.png          16-bit millimetres, 65535 for 65.535 m and farther (sky too), 0 where unknown
        normal/000000.png         8-bit RGB, n = value / 255 * 2 - 1 in OpenCV camera axes; (128, 128, 128) is sky
        motion/000000.npy         float32 (H, W, 2) pixels, position in the previous frame minus position now
        segmentation/, instance/  16-bit PNG of ids (.npy where ids exceed 65535)
        cameras.json              per frame: file number, serial, time, camera (pose: camera to world, 4x4; fx, fy,
                                  cx, cy), unit of depth, where the normals come from

    Channels of other names are written as sent, as .npy. Where the engine's unit is not known in metres, cameras.json
    says so, and depth/000000.png counts thousandths of it.

    channels: names; by default all that each frame has. The folder must not exist or be empty, or be what the same
    export left unfinished, which is then gone on with. Raises TakeError.
    """
    report = ExportReport(str(out))
    selection = Selection(take, frames, channels, report, progress)
    folder = ExportFolder(Path(out), take, {"to": "frames", "frames": frames, "channels": channels})
    with folder.filling():
        entries = []
        for frame in selection:
            for name in selection.names(frame):
                for file, data in _files(frame, name, folder):
                    folder.write(file, data)
            entries.append({"file": f"{frame.index:06d}", **frame_entry(frame)})
            report.frames += 1
        selection.finish()
        folder.write_json("cameras.json", take_entry(take) | {"frames": entries})
    return report


def _files(frame: Frame, name: str, folder: ExportFolder) -> list[tuple[str, bytes]]:
    """(name, contents) of the files of one channel that are not there yet."""
    stem = f"{name}/{frame.index:06d}"
    descriptor = frame.channels[name].descriptor if name in frame.channels else None
    family = descriptor.family if descriptor is not None else name
    if folder.resumed and (folder.has(f"{stem}.png") or (family != "depth" and folder.has(f"{stem}.npy"))):
        return []  # of depth, the PNG is written last
    if family not in CANONICAL:
        return [(f"{stem}.npy", npy(frame.canonical(name)))]
    array = frame.canonical(name)
    if family == "color":
        return [(f"{stem}.png", png(array))]
    if family == "depth":
        return [(f"{stem}.npy", npy(array)), (f"{stem}.png", png(_thousandths(array)))]
    if family == "normal":
        return [(f"{stem}.png", png(unit_to_bytes(array)))]
    if family == "motion" or array.max(initial=0) > 65535:
        return [(f"{stem}.npy", npy(array))]
    return [(f"{stem}.png", png(array.astype(np.uint16)))]


def unit_to_bytes(vectors: NDArray[Any]) -> NDArray[np.uint8]:
    """Components -1 to 1 as 0 to 255."""
    return np.clip((vectors * 0.5 + 0.5) * 255 + 0.5, 0, 255).astype(np.uint8)


def _thousandths(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    with np.errstate(over="ignore"):
        thousandths = np.nan_to_num(depth * np.float32(1000), nan=0.0, posinf=65535.0)
    return np.clip(thousandths + 0.5, 0, 65535).astype(np.uint16)
