"""A recording for the Rerun viewer: cameras, images, and depth as points in space.

Works on a Take and an .rrd path, through the `rerun-sdk` package (extra `rerun`).
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capture.errors import TakeError
from capture.export.common import ExportReport, Range, Selection, disk_errors, nearest, take_entry
from capture.files import replacing
from capture.frame import Frame
from capture.pictures import depth_range, motion_to_picture, normal_to_picture, values_to_picture
from capture.take import Take
from capture.take_check import Progress

_SAMPLED = 12
_PATIENCE = 60.0
"""Seconds that the disk may take for the last of the data."""
_RESERVE = 64 * 2**20
"""Bytes that are left free: Rerun's writer may wait forever on a full disk, so it must not come to that."""
_CAMERA, _IMAGE = "world/camera", "world/camera/image"


def export_rerun(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: Range = (None, None),
    channels: Sequence[str] | None = None,
    quality: int = 95,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a take as an .rrd with three timelines: `time` (engine seconds), `serial`, and `frame` (of the take).

        about                   what the take is, and its units
        world                   right-handed, x right, y down, z forward
        world/camera            where the camera is; left out where the pose is unknown
        world/camera/image      its pinhole
          .../color             JPEG; other colours by their names
          .../depth             half-precision metres, 0 for sky: the viewer shows it as points
          .../normal, motion    pictures, for looking at
          .../segmentation, instance   ids, with the take's legend

    quality: of the JPEGs, 1 to 95. Channels of another size than the picture are brought to its size by the nearest
    pixel; those of no known kind become grey pictures. Raises TakeError, also when `rerun-sdk` is not installed.
    """
    try:
        import rerun
    except ImportError:
        raise TakeError('the rerun export needs rerun-sdk: `pip install "realmaster[rerun]"` installs it.') from None
    path = Path(out)
    report = ExportReport(str(path), files=[str(path)])
    selection = Selection(take, frames, channels, report, progress)
    shown = depth_range(selection.depths(_SAMPLED))
    stream = rerun.RecordingStream("realmaster", recording_id=take.manifest["id"], send_properties=False)
    with disk_errors(path, "the recording"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            stream.set_log_time_enabled(False)
            stream.set_log_tick_enabled(False)
            stream.save(partial, default_blueprint=_blueprint(selection))
            stream.log("world", rerun.ViewCoordinates.RDF, static=True)
            stream.log("about", rerun.TextDocument(_about(take)), static=True)
            _log_legend(stream, take)
            for frame in selection:
                if shutil.disk_usage(path.parent).free < _RESERVE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                stream.set_time("time", duration=frame.time)
                stream.set_time("serial", sequence=frame.serial)
                stream.set_time("frame", sequence=frame.index)
                _log_camera(stream, frame)
                for name in selection.names(frame):
                    stream.log(f"{_IMAGE}/{name}", _image(frame, name, shown, quality))
                report.frames += 1
            selection.finish()
            try:
                stream.flush(timeout_sec=_PATIENCE)
                stream.disconnect()
            except (RuntimeError, ValueError) as error:  # what Rerun makes of a full disk
                raise OSError(None, str(error)) from None
    return report


def _log_camera(stream: Any, frame: Frame) -> None:
    import rerun

    camera = frame.camera
    if camera is None:
        return
    if frame.has_pose:
        where = rerun.Transform3D(translation=camera.pose[:3, 3], mat3x3=camera.pose[:3, :3])
        stream.log(_CAMERA, where)
    height, width = frame.shape
    pinhole = rerun.Pinhole(
        # Rerun counts pixels from the corner of the image, not from the first pixel's centre.
        image_from_camera=camera.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]),
        resolution=[width, height],
        camera_xyz=rerun.ViewCoordinates.RDF,
    )
    stream.log(_IMAGE, pinhole)


def _image(frame: Frame, name: str, shown: tuple[float, float], quality: int) -> Any:
    """A channel as one of Rerun's archetypes."""
    import rerun

    family = frame.channels[name].descriptor.family if name in frame.channels else name
    array = nearest(frame.canonical(name), frame.shape)
    if family == "depth":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        half[~np.isfinite(half)] = 0
        return rerun.DepthImage(half, meter=1.0, colormap="turbo", depth_range=shown)
    if family in ("segmentation", "instance"):
        ids = array.astype(np.uint16) if array.max(initial=0) <= 65535 else array.astype(np.uint32)
        return rerun.SegmentationImage(ids)
    if family == "normal":
        array = normal_to_picture(array)
    elif family == "motion":
        array = motion_to_picture(array)
    elif family != "color" or array.dtype != np.uint8:
        array = values_to_picture(array)
    return rerun.EncodedImage(contents=_jpeg(array, quality), media_type="image/jpeg")


def _jpeg(image: Any, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="jpeg", quality=quality)
    return file.getvalue()


def _log_legend(stream: Any, take: Take) -> None:
    import rerun

    for channel, names in take.legend.items():
        context = rerun.AnnotationContext([rerun.AnnotationInfo(id=i, label=name) for i, name in names.items()])
        stream.log(f"{_IMAGE}/{channel}", context, static=True)


def _blueprint(selection: Selection) -> Any:
    """Space on the left, pictures on the right."""
    import rerun.blueprint as views

    frame = next(selection.sample(1), None)
    names = [] if frame is None else selection.names(frame)
    pictures = [views.Spatial2DView(origin=_IMAGE, contents=f"$origin/{name}", name=name) for name in names]
    space = views.Spatial3DView(
        origin="world", contents=["$origin/**", f"- {_IMAGE}/normal", f"- {_IMAGE}/motion"], name="space"
    )
    about = views.TextDocumentView(origin="about", name="about")
    return views.Blueprint(
        views.Horizontal(views.Vertical(space, about, row_shares=[4, 1]), views.Grid(*pictures), column_shares=[2, 1])
    )


def _about(take: Take) -> str:
    entry = take_entry(take)
    return "\n".join(f"{key}: {entry[key]}" for key in ("take", "engine", "game", "created", "fps", "lengths", "axes"))
