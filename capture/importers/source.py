"""What every importer offers, what a user may declare about it, and the writing of the take.

Works on frames by number and a take folder. Knows nothing of image files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from capture.camera import BLENDER_WORLD, OPENCV, OPENGL, UNITY, UNREAL, Axes, Conventions
from capture.errors import TakeError, UserError
from capture.frame import NO_POSE, Frame
from capture.take_folder import is_being_written
from capture.take_writer import TakeWriter

DEFAULT_FPS = 24.0


class ImportSourceError(UserError):
    """What is to be imported is incomplete or contradicts itself."""


@dataclass(frozen=True)
class Declared:
    """What a user or a preset says about a source; None where the source says so itself or the usual holds."""

    engine: str | None = None
    world_axes: Axes | None = None
    camera_axes: Axes | None = None
    metres_per_unit: float | None = None
    rows: str | None = None
    """Which row of the image files is the top one: "top" (usual) or "bottom"."""
    depth_kind: str | None = None
    depth_scale: float | str | None = None
    """Engine units per stored number (for depth buffers: 1 / the greatest number), or "unknown"."""
    projection: str | None = None
    """Where the cameras' lenses come from, as `Descriptor.projection`."""
    baseline: float | None = None
    """For depth of kind "disparity": distance of the two eyes in engine units."""
    normal_space: str | None = None
    fps: float | None = None
    vertical_fov: float | None = None
    """Radians; the cameras' field of view where no camera file says it."""
    near: float | None = None
    far: float | None = None
    """Engine units; depth at or beyond `far` is sky."""

    def over(self, base: Declared) -> Declared:
        """These declarations, and where there is none those of `base`."""
        mine = {name: value for name, value in self.to_dict().items() if value is not None}
        return replace(base, **mine)

    def to_dict(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def conventions(self) -> Conventions:
        world = self.world_axes or OPENCV
        return Conventions(world, self.camera_axes or world, self.metres_per_unit or 1.0)


PRESETS: dict[str, Declared] = {
    # Z is the distance along the axis, and normals are the world's.
    "blender": Declared("blender", BLENDER_WORLD, OPENGL, 1.0, normal_space="world"),
    # Centimetres; Unreal has no far plane, what is farther away than 100 km is sky.
    "unreal-mrq": Declared("unreal", UNREAL, UNREAL, 0.01, normal_space="world", near=10.0, far=1e7),
    # The client's transforms are in metres, and depth ends at 1000 m.
    "carla": Declared("carla", UNREAL, UNREAL, 1.0, normal_space="world", far=1000.0),
    "unity-solo": Declared("unity", UNITY, UNITY, 1.0, normal_space="world"),
}


class Source(Protocol):
    """Frames that can be read one after the other. Every method raises ImportSourceError, naming the file."""

    engine: str
    game: str
    fps: float
    conventions: Conventions
    legend: Mapping[str, Mapping[int, str]]
    notes: list[str]
    """Sentences about what a user would wonder about, e.g. a gap in the numbering."""

    def __len__(self) -> int: ...

    def frame(self, index: int) -> Frame:
        """Frame `index`, counted from 0, as it was written."""
        ...


@dataclass
class ImportReport:
    """What an import made."""

    take: Path
    frames: int = 0
    channels: list[str] = field(default_factory=list)
    no_camera: int = 0
    """Frames without a camera."""
    no_pose: int = 0
    """Frames whose field of view is declared and whose pose is unknown."""
    notes: list[str] = field(default_factory=list)


def import_take(
    source: Source,
    out: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> ImportReport:
    """Write all frames of `source` as the take `out`, which must not exist.

    The take appears under its name when it is whole: until then it grows as `.NAME.partial`, which is removed when the
    import fails or is interrupted, and by the next import of that name after a crash.
    progress: called with frames done and frames in all. Raises ImportSourceError, FrameError, TakeError.
    """
    if out.exists():
        raise TakeError(f"there is a take {out} already: choose another name.")
    partial = out.with_name(f".{out.name}.partial")
    if is_being_written(partial):
        raise TakeError(f"{out.name} is being made by another process: wait, or choose another name.")
    shutil.rmtree(partial, ignore_errors=True)  # a crash may have left it
    report = ImportReport(out)
    total = len(source)
    first = source.frame(0)
    try:
        with TakeWriter(
            partial,
            conventions=source.conventions,
            descriptors=[channel.descriptor for channel in first.channels.values()],
            engine=source.engine,
            game=source.game,
            fps=source.fps,
            legend=source.legend,
            metadata=metadata,
        ) as writer:
            for index in range(total):
                frame = first if index == 0 else source.frame(index)
                writer.append(frame)
                report.no_camera += frame.raw_camera is None
                report.no_pose += NO_POSE in frame.flags
                if progress is not None:
                    progress(index + 1, total)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report.frames, report.channels, report.notes = total, list(first.channels), list(source.notes)
    return report
