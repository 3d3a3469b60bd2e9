"""`realmaster takes import`: a take from what other programs rendered."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import FrameError
from realmaster.commands.options import (
    add_command,
    add_takes_folder,
    folder_name,
    positive,
    takes_folder,
    writable_folder,
)

if TYPE_CHECKING:
    from capture.camera import Axes
    from capture.importers import Declared
    from realmaster.progress import Screen

DEPTH_KINDS = ("linear", "ray", "ndc", "ndc_reversed", "log", "disparity", "inverse")
PRESETS = ("blender", "unreal-mrq", "carla", "unity-solo")
AXES = ("opencv", "opengl", "unity", "unreal", "panda3d", "blender")


def add(actions: Any) -> None:
    parser = add_command(
        actions,
        "import",
        "make a take of images that another program rendered",
        run=run,
        example="realmaster takes import renders/ --preset blender --name street\n"
        "  realmaster takes import kitchen/ --depth-kind ray --axes unity --vfov 60",
        about="Make a take of a folder of images with depth and cameras, of layered EXR files, or of a simulator's\n"
        "dataset. Numbers are kept as they are; a preset or the options say what they mean. docs/import.md has the\n"
        "layouts, and the script that writes Blender's cameras.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of the images")
    parser.add_argument("--preset", choices=PRESETS, help="the program that wrote them")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("-o", "--out", type=Path, metavar="TAKE", help="folder of the take to be made")
    place.add_argument("--name", type=folder_name, help="name of the take (default: the name of SOURCE)")
    add_takes_folder(parser)
    meaning = parser.add_argument_group("what the numbers mean (before the preset, where both speak)")
    meaning.add_argument("--depth-kind", choices=DEPTH_KINDS, help="linear: along the optical axis; ray: along the "
                         "viewing ray; ndc: a depth buffer (default: linear)")  # fmt: skip
    meaning.add_argument("--depth-scale", type=scale, metavar="UNITS",
                         help="engine units per stored number, or `unknown` (default: 1; PNG: 1 mm)")  # fmt: skip
    meaning.add_argument("--baseline", type=positive, metavar="UNITS", help="distance of the eyes, for disparity")
    meaning.add_argument("--normal-space", choices=("camera", "world"), help="axes of the normals (default: camera)")
    meaning.add_argument("--axes", type=axes, metavar="AXES", help="the world's right, up, forward: "
                         f"{' | '.join(AXES)}, or signed like +x,+z,+y (default: opencv)")  # fmt: skip
    meaning.add_argument("--camera-axes", type=axes, metavar="AXES", help="the cameras' (default: as the world's)")
    meaning.add_argument("--metres-per-unit", type=positive, metavar="M", help="length of an engine unit (default: 1)")
    meaning.add_argument("--rows", choices=("top", "bottom"), help="the row that an image begins with (default: top)")
    meaning.add_argument("--fps", type=positive, help="frames per second (default: the camera file's, else 24)")
    meaning.add_argument("--vfov", type=fov, metavar="DEGREES", help="vertical field of view, if no file has it")
    meaning.add_argument("--near", type=positive, metavar="UNITS", help="near distance, if no file has it")
    meaning.add_argument("--far", type=positive, metavar="UNITS", help="far distance, likewise; from there on is sky")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.importers import import_take, open_source

    out = args.out
    if out is None:
        out = writable_folder(takes_folder(args), "takes") / (args.name or _name_of(args.source))
    source = open_source(args.source, args.preset, _declared(args))
    about = {"source": args.source.resolve().name, "preset": args.preset}
    with screen.step(f"importing {out.name}", total=len(source), unit="frames") as step:
        done = import_take(source, out, metadata={"import": about}, progress=step)
    screen.show(f"[green]✓[/] {done.frames} frames with {', '.join(done.channels)}: {done.take}")
    without = {"no camera": done.no_camera, "a declared lens and no pose": done.no_pose}
    notes = [*done.notes, *(f"{count} frames have {what}." for what, count in without.items() if count)]
    for note in notes:
        screen.show(f"  {note[0].upper()}{note[1:]}")
    return {"take": done.take, "frames": done.frames, "channels": done.channels, "no_camera": done.no_camera,
            "no_pose": done.no_pose, "notes": notes}  # fmt: skip


def axes(text: str) -> Axes:
    """A name of AXES, or three signed axes: right, up, forward."""
    from capture import camera

    named = {"opencv": camera.OPENCV, "opengl": camera.OPENGL, "unity": camera.UNITY, "unreal": camera.UNREAL,
             "panda3d": camera.PANDA3D, "blender": camera.BLENDER_WORLD}  # fmt: skip
    if text in named:
        return named[text]
    try:
        return camera.Axes(*text.split(","))
    except (FrameError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(AXES)}, nor right, up and forward such as +x,+z,+y ({error})"
        ) from None


def scale(text: str) -> float | str:
    """A number above zero, or the word `unknown`."""
    return text if text == "unknown" else positive(text)


def fov(text: str) -> float:
    """A field of view in degrees, given in radians."""
    degrees = positive(text)
    if degrees >= 180:
        raise argparse.ArgumentTypeError(f"{text!r} is not a field of view between 0 and 180 degrees")
    return math.radians(degrees)


def _declared(args: argparse.Namespace) -> Declared:
    from capture.importers import Declared

    return Declared(
        world_axes=args.axes,
        camera_axes=args.camera_axes,
        metres_per_unit=args.metres_per_unit,
        rows=args.rows,
        depth_kind=args.depth_kind,
        depth_scale=args.depth_scale,
        baseline=args.baseline,
        normal_space=args.normal_space,
        fps=args.fps,
        vertical_fov=args.vfov,
        near=args.near,
        far=args.far,
    )


def _name_of(source: Path) -> str:
    """The folder's name, as far as it can be a take's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.resolve().name).strip("._-")[:80]
    return name or "import"
