"""`realmaster takes export`: a take in the form that another program reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import WrongUse, add_take_command, count, frame_range, picture_size, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen

_SUFFIX = {"mp4": ".mp4", "rerun": ".rrd"}
"""Formats that are one file; the others are folders."""

_ABOUT = """Write a take in a form that other programs read.

  mp4         video of one channel, or of several side by side, at the speed at which it was played
  exr         multi-layer OpenEXR per frame with cameras, for Blender and Nuke
  frames      PNG colour, normals and ids, NPY and 16-bit PNG depth, cameras.json
  comfyui     reference, depth, normal and edge videos, stills, prompt, metadata, for render-to-real workflows
  webdataset  tar shards for training
  rerun       a recording for the Rerun viewer, depth as points in space

docs/exports.md says what is in each file."""

_OPTIONS = {
    "channel": ("mp4", "exr", "frames", "webdataset", "rerun"),
    "fit": ("mp4",),
    "up": ("exr",),
    "count": ("comfyui",),
    "multiple": ("comfyui",),
    "size": ("comfyui",),
    "prompt": ("comfyui",),
    "clip": ("webdataset",),
    "shard_mb": ("webdataset",),
}
"""Formats that an option belongs to."""


def add(actions: Any) -> None:
    export = add_take_command(
        actions, "export", "write a take in a form that other programs read", run, "city-0001 --to exr", _ABOUT
    )
    formats = ("mp4", "exr", "frames", "comfyui", "webdataset", "rerun")
    export.add_argument("--to", choices=formats, required=True, help="the format")
    export.add_argument("-o", "--out", type=Path, help="file or folder to write (default: beside the take)")
    export.add_argument(
        "--frames", type=frame_range, default=(None, None), metavar="A:B", help="only frames A up to but without B"
    )
    export.add_argument(
        "--channel", metavar="NAMES",
        help="channels, several with commas (default: all); of an mp4 also edges or side_by_side (default: color)",
    )  # fmt: skip
    export.add_argument(
        "--fit", action="store_true", default=None,
        help="mp4: scale pictures of another size into the first one's, in place of a file for each size",
    )  # fmt: skip
    export.add_argument("--up", choices=("y", "z"), help="exr: the world's axis that points up (default: y)")
    export.add_argument(
        "--count", choices=("8n+1", "4n+1", "any"), help="comfyui: lengths that the model takes (default: 8n+1)"
    )
    export.add_argument(
        "--multiple", type=count, metavar="N", help="comfyui: width and height are multiples of N (default: 32)"
    )
    export.add_argument("--size", type=picture_size, metavar="WxH", help="comfyui: scale the pictures to fill this")
    export.add_argument("--prompt", metavar="TEXT", help="comfyui: what prompt.txt says")
    export.add_argument("--clip", type=count, metavar="N", help="webdataset: samples of N frames (default: 1)")
    export.add_argument(
        "--shard-mb", type=count, metavar="MB", help="webdataset: largest size of a shard (default: 256)"
    )


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.export import FORMATS
    from capture.take import Take

    options = _options(args)
    take = Take.find(args.take, takes_folder(args))
    suffix = _SUFFIX.get(args.to)
    out = args.out or take.path.with_name(f"{take.name}{suffix}" if suffix else f"{take.name}-{args.to}")
    with screen.step(f"exporting {out.name}", unit="frames") as step:
        done = FORMATS[args.to](take, out, frames=args.frames, progress=step, **options)
    screen.show(f"[green]✓[/] {done.frames} frames: {out}")
    for note in done.notes:
        screen.show(f"  {note}")
    if done.missing:
        print(
            f"realmaster: {done.frames} of {done.frames + done.missing} frames were exported, the other {done.missing} "
            f"are lost, damaged or without the channel: `realmaster takes verify {take.name}` says which.",
            file=sys.stderr,
        )
    return {"take": take.path, "to": args.to, **done.to_dict()}


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The format's own options, under the names of the export functions. WrongUse for those of another format."""
    options = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    for name in options:
        if args.to not in _OPTIONS[name]:
            raise WrongUse(f"--{name.replace('_', '-')} belongs to --to {' or '.join(_OPTIONS[name])}")
    if "shard_mb" in options:
        options["shard_bytes"] = options.pop("shard_mb") * 2**20
    if "channel" in options and args.to != "mp4":
        options["channels"] = [name.strip() for name in options.pop("channel").split(",") if name.strip()]
    return options
