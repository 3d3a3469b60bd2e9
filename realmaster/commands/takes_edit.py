"""`realmaster takes trim` and `realmaster takes cat`: new takes from parts of old ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import (
    WrongUse,
    add_command,
    add_take_command,
    add_takes_folder,
    folder_name,
    frame_range,
    seconds_range,
    takes_folder,
)

if TYPE_CHECKING:
    from capture.take_edit import EditReport
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    trim = add_take_command(
        actions, "trim", "make a new take from a part of one", run_trim, "city-0001 24:96 --name turn",
        "Make a new take from a part of one. Every frame is copied bit by bit; the take itself stays as it is.",
    )  # fmt: skip
    trim.add_argument("frames", nargs="?", type=frame_range, metavar="A:B", help="frames A up to but without B")
    trim.add_argument(
        "--seconds", type=seconds_range, metavar="A:B", help="in place of frames: from second A up to second B"
    )
    trim.add_argument("--name", type=folder_name, help="name of the new take (default: TAKE-A-B)")

    cat = add_command(
        actions, "cat", "put takes together, one after the other", run=run_cat,
        example="realmaster takes cat city-0001 city-0002 --name drive",
        about="Put takes of one engine together, one after the other, as a new take. Every frame is copied bit by bit; "
        "channels and sizes may differ.",
    )  # fmt: skip
    cat.add_argument("take", nargs="+", metavar="TAKE", help="paths or names of takes, in their order")
    cat.add_argument("--name", type=folder_name, required=True, help="name of the new take")
    add_takes_folder(cat)


def run_trim(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take
    from capture.take_edit import frames_between, trim

    if (args.frames is None) == (args.seconds is None):
        raise WrongUse("name a part of the take, either frames A:B or --seconds A:B")
    with Take.find(args.take, takes_folder(args)) as take:
        if args.seconds is not None:
            args.frames = frames_between(take, *args.seconds)
        first, last = take.clip_range(*args.frames)
        out = take.path.with_name(args.name or f"{take.name}-{first}-{last}")
        with screen.step(f"trimming to {out.name}", unit="frames") as step:
            done = trim(take, first, last, out, progress=step)
    return _tell(done, screen)


def run_cat(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take
    from capture.take_edit import cat

    with ExitStack() as opened:
        takes = [opened.enter_context(Take.find(name, takes_folder(args))) for name in args.take]
        out = takes[0].path.with_name(args.name)
        with screen.step(f"putting together {out.name}", unit="frames") as step:
            done = cat(takes, out, progress=step)
    return _tell(done, screen)


def _tell(done: EditReport, screen: Screen) -> Mapping[str, Any]:
    screen.show(f"[green]✓[/] {done.frames} frames: {done.path}")
    if done.skipped:
        named = ", ".join(done.skipped[:3]) + (" and more" if len(done.skipped) > 3 else "")
        screen.show(f"  {len(done.skipped)} frames are damaged or lost and were left out: {named}.")
    return {"take": Path(done.path), **done.to_dict()}
