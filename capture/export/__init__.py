"""Takes as files that other programs open: one module per format.

Works on a Take and an output path. Knows nothing of how takes are stored. Damaged frames are left out and counted;
nothing unfinished ever stands under a final name.

    mp4         a channel, or several side by side, as video
    exr         multi-layer OpenEXR per frame, with cameras, for Blender and Nuke
    frames      PNG, NPY and JSON per frame
    comfyui     control videos, stills, prompt and metadata for render-to-real workflows
    webdataset  tar shards for training
    rerun       one .rrd with cameras, images and depth as points
"""

from __future__ import annotations

from collections.abc import Callable

from capture.export.comfyui import export_comfyui
from capture.export.common import ExportReport
from capture.export.exr import export_exr
from capture.export.frames import export_frames
from capture.export.mp4 import SIDE_BY_SIDE, export_mp4
from capture.export.preview import export_preview
from capture.export.rerun import export_rerun
from capture.export.webdataset import export_webdataset

FORMATS: dict[str, Callable[..., ExportReport]] = {
    "mp4": export_mp4,
    "exr": export_exr,
    "frames": export_frames,
    "comfyui": export_comfyui,
    "webdataset": export_webdataset,
    "rerun": export_rerun,
}
"""The export of each format by its name: `export(take, out, *, frames, progress, ...) -> ExportReport`."""

__all__ = [
    "FORMATS",
    "SIDE_BY_SIDE",
    "ExportReport",
    "export_comfyui",
    "export_exr",
    "export_frames",
    "export_mp4",
    "export_preview",
    "export_rerun",
    "export_webdataset",
]
