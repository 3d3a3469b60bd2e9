"""A folder for render-to-real workflows (ComfyUI and the like): control videos of one clip, stills, prompt, metadata.

Works on a Take and a folder. Every video has the same frames at the same even pace, for video models count frames;
metadata.json keeps the engine's times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from capture.errors import TakeError
from capture.export.common import (
    ExportFolder,
    ExportReport,
    Range,
    Selection,
    available_channels,
    frame_entry,
    nearest,
    png,
    take_entry,
)
from capture.export.frames import unit_to_bytes
from capture.frame import Frame
from capture.pictures import depth_range, edges_picture
from capture.take import Take
from capture.take_check import Progress
from capture.video import VideoWriter

COUNTS = {"8n+1": 8, "4n+1": 4, "any": 1}
"""Lengths of clip that video models take, by name: a multiple of this and one more (LTX: 8, Wan: 4)."""

PROMPT = "photorealistic video, natural light, real materials, shot on a cinema camera"
"""What prompt.txt says when nobody said anything."""

_Item = TypeVar("_Item")

_SAMPLED = 24
_FACING = np.array([128, 128, 255], np.uint8)
"""Colour of a surface that faces the camera; sky gets it too, as normal maps have it."""


def export_comfyui(
    take: Take,
    out: str | os.PathLike[str],
    *,
    frames: Range = (None, None),
    count: str = "8n+1",
    multiple: int = 32,
    size: tuple[int, int] | None = None,
    prompt: str = "",
    progress: Progress | None = None,
) -> ExportReport:
    """Write one clip as:

        reference.mp4   the render
        depth.mp4       grey, near white, far and sky black: v = (1/d - 1/far) / (1/near - 1/far), one near and far for
                        the whole clip, in metadata.json
        normal.mp4      (n * 0.5 + 0.5) * 255: right red, up green, towards the camera blue; sky (128, 128, 255)
        edges.mp4       silhouettes and creases, white on black
        first.png, last.png, prompt.txt, metadata.json

    Videos of channels that the take lacks are left out; normals are derived from depth where the engine sent none.

    count: one of COUNTS; the clip loses frames at its end until its length is one that models take.
    multiple: width and height become multiples of this by cutting off the border.
    size: (width, height) to scale to first, so that the picture fills it; what stands over is cut off.
    prompt: text for prompt.txt, by default PROMPT.

    The folder must not exist or be empty. Raises TakeError when the picture changes its size within the clip, is
    smaller than `multiple`, or when the take has no colour.
    """
    if count not in COUNTS:
        raise TakeError(f"the count {count!r} is not one of {', '.join(COUNTS)}.")
    report = ExportReport(str(out))
    names = [name for name in ("color", "depth", "normal") if name in available_channels(take)]
    if "color" not in names:
        raise TakeError(f"take {take.name} has no colour, which is what this export is about.")
    selection = Selection(take, frames, names, report, progress)
    options = {"to": "comfyui", "frames": frames, "count": count, "multiple": multiple, "size": size, "prompt": prompt}
    folder = ExportFolder(Path(out), take, options, resumable=False)
    near, far = depth_range(selection.depths(_SAMPLED)) if "depth" in names else (None, None)
    kinds = ["reference", *(["depth"] if near else []), *(["normal"] if "normal" in names else []),
             *(["edges"] if near else [])]  # fmt: skip
    with folder.filling():
        fitting, entries = _write_videos(selection, folder, kinds, COUNTS[count], near, far, multiple, size)
        report.frames = len(entries)
        selection.finish()
        about = {
            "videos": {kind: f"{kind}.mp4" for kind in kinds},
            "frame_count": report.frames,
            "count_rule": count,
            "width": fitting.width,
            "height": fitting.height,
            "multiple": multiple,
            "from_size": [fitting.shape[1], fitting.shape[0]],
            "scaled_by": fitting.scale,
            "cut_off": {"left": fitting.left, "top": fitting.top},
            "left_out": report.skipped,
            "pace": f"even, {take.fps:g} frames per second; the engine's times are in frames",
        }
        if near and far:
            about["depth"] = {
                "near": near,
                "far": far,
                "unit": " or ".join(sorted({entry["depth_unit"] for entry in entries})),
                "law": "value / 255 = (1 / d - 1 / far) / (1 / near - 1 / far), clipped; sky is 0",
            }
        if "normal" in kinds:
            about["normal"] = "value / 255 * 2 - 1 = (right, up, towards the camera); sky is (128, 128, 255)"
        folder.write("prompt.txt", ((prompt or PROMPT).strip() + "\n").encode())
        folder.write_json("metadata.json", take_entry(take) | about | {"frames": entries})
    left_off = len(selection) - len(report.skipped) - report.frames
    if left_off:
        report.note(f"{left_off} frames at the end were left off, so that there are {report.frames} ({count}).")
    missing = [f"{kind}.mp4" for kind in ("depth", "normal", "edges") if kind not in kinds]
    if missing:
        report.note(f"The take has no depth: there is no {' and no '.join(missing)}.")
    report.files = [str(folder.path / f"{kind}.mp4") for kind in kinds]
    return report


def _write_videos(
    selection: Selection,
    folder: ExportFolder,
    kinds: list[str],
    step: int,
    near: float | None,
    far: float | None,
    multiple: int,
    size: tuple[int, int] | None,
) -> tuple[Fitting, list[dict[str, Any]]]:
    """Videos and stills; returns how the pictures were cut and what each frame is."""
    take = selection.take
    fitting: Fitting | None = None
    entries: list[dict[str, Any]] = []
    with ExitStack() as stack:
        videos = {kind: stack.enter_context(VideoWriter(folder.path / f"{kind}.mp4", fps=take.fps, crf=10))
                  for kind in kinds}  # fmt: skip

        def made() -> Iterator[tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]]:
            nonlocal fitting
            for frame in selection:
                fitting = fitting or Fitting(frame.shape, multiple, size)
                if frame.shape != fitting.shape:
                    raise TakeError(
                        f"take {take.name} changes its size at frame {frame.index}: choose frames before or after it."
                    )
                entry = {"frame": frame.index, **frame_entry(frame), "camera": fitting.camera(frame)}
                yield entry, {kind: fitting.apply(_picture(kind, frame, near, far)) for kind in kinds}

        for entry, pictures in _whole_lengths(made(), step):
            for kind, picture in pictures.items():
                videos[kind].add(picture)
            if not entries:
                folder.write("first.png", png(pictures["reference"]))
            entries.append(entry)
        if fitting is None:
            raise selection.nothing()
        folder.write("last.png", png(pictures["reference"]))
    return fitting, entries


class Fitting:
    """How pictures of one size become pictures whose sides are multiples of a number: scaled, then cut."""

    def __init__(self, shape: tuple[int, int], multiple: int, size: tuple[int, int] | None) -> None:
        self.shape = shape
        height, width = shape
        wanted = size or (width, height)
        self.width, self.height = (side // multiple * multiple for side in wanted)
        if not self.width or not self.height:
            raise TakeError(f"pictures of {wanted[0]}x{wanted[1]} are smaller than the multiple {multiple}: choose 16.")
        self.scale = 1.0 if size is None else max(self.width / width, self.height / height)
        self._scaled = max(self.width, round(width * self.scale)), max(self.height, round(height * self.scale))
        self.left, self.top = (self._scaled[0] - self.width) // 2, (self._scaled[1] - self.height) // 2

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as (height, width, 3)."""
        from PIL import Image

        if picture.shape[1::-1] != self._scaled:
            resized: Any = Image.fromarray(picture).resize(self._scaled, Image.Resampling.LANCZOS)
            picture = np.asarray(resized)
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def camera(self, frame: Frame) -> dict[str, Any] | None:
        """The frame's camera in the pixels of the fitted pictures."""
        entry = frame_entry(frame)["camera"]
        if entry is None or frame.camera is None:
            return None
        seen = frame.camera.resized(self.shape, (self._scaled[1], self._scaled[0]))
        return entry | {"fx": seen.fx, "fy": seen.fy, "cx": seen.cx - self.left, "cy": seen.cy - self.top}


def disparity_picture(depth: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    """Depth (H, W) as grey (H, W, 3), equal steps of 1/d from far (0) to near (255), as depth estimators give it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.nan_to_num(1 / depth, nan=0.0, posinf=0.0)
    value = (inverse - 1 / far) / (1 / near - 1 / far)
    grey = (np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _picture(kind: str, frame: Frame, near: float | None, far: float | None) -> NDArray[np.uint8]:
    """One of the videos' pictures, (H, W, 3) in the size of the frame."""
    if kind == "reference":
        return frame.color
    if kind == "depth":
        assert near is not None and far is not None
        picture = disparity_picture(frame.depth, near, far)
    elif kind == "normal":
        picture = unit_to_bytes(frame.normal * np.array([1, -1, -1], np.float32))
        picture[~frame.normal.any(axis=-1)] = _FACING
    else:
        picture = edges_picture(frame)
    return nearest(picture, frame.shape)


def _whole_lengths(items: Iterator[_Item], step: int) -> Iterator[_Item]:
    """As many of the items, from the first, as make a multiple of `step` and one more; at most `step` wait."""
    yield from islice(items, 1)
    while len(group := list(islice(items, step))) == step:
        yield from group
