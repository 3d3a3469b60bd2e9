"""`realmaster takes estimate`: a copy of a take with depth that a model guesses from the picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import add_take_command, folder_name, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    parser = add_take_command(
        actions,
        "estimate",
        "copy a take and add depth that a model guesses",
        run,
        "screen-0001 --depth-model depth-anything/Depth-Anything-V2-Small-hf",
        about="Copy a take that has colour alone (`record screen`) and add depth that a model guesses from each\n"
        "picture. The channel is marked as estimated: it is no measurement, and it is not steady from frame to frame.",
    )
    parser.add_argument("--depth-model", required=True, metavar="DIR|ID", help="folder or hub id of a depth estimator "
                        "that transformers knows, e.g. Depth Anything")  # fmt: skip
    place = parser.add_mutually_exclusive_group()
    place.add_argument("-o", "--out", type=Path, metavar="TAKE", help="folder of the take to be made")
    place.add_argument("--name", type=folder_name, help="name of the take (default: the name of TAKE and -depth)")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.importers import import_take
    from capture.take import Take
    from realmaster.depth import DepthEstimator, EstimatedTake, check_wanted

    with Take.find(args.take, takes_folder(args)) as take:
        check_wanted(take)  # before the model takes its time to load
        out = args.out or (takes_folder(args) if args.name else take.path.parent) / (args.name or f"{take.name}-depth")
        with screen.step("loading the model"):
            estimator = DepthEstimator(args.depth_model)
        source = EstimatedTake(take, estimator)
        about = {"estimated": {"from": take.name, "depth_model": Path(args.depth_model).name}}
        with screen.step("estimating depth", total=len(source), unit="frames") as step:
            done = import_take(source, out, metadata={**take.manifest.get("metadata", {}), **about}, progress=step)
    screen.show(f"[green]✓[/] {done.frames} frames with estimated depth: {done.take}")
    for note in done.notes:
        screen.show(f"  {note[0].upper()}{note[1:]}")
    return {"take": done.take, "frames": done.frames, "metric": estimator.metric, "notes": done.notes}
