"""What `realmaster record screen` has of its own: what of the screen is recorded, and what became of its frames.

Knows the options and the bridge's command line; the recording itself is `realmaster.commands.record`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import natural

if TYPE_CHECKING:
    from realmaster.progress import Screen

OPTIONS = ("monitor", "region", "window", "cursor", "no_duplicates")
FPS = 30.0
"""Frames recorded a second unless the user says otherwise."""


def add_options(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("only for screen", "which part of it; Ctrl-C ends the recording")
    what = own.add_mutually_exclusive_group()
    what.add_argument("--monitor", type=natural, metavar="N", help="1 is the first (default), 0 all together")
    what.add_argument("--region", type=_region, metavar="X,Y,W,H", help="left, top, width, height on the desktop")
    what.add_argument("--window", metavar="TITLE", help="a window by its title or a part of it; it is followed")
    own.add_argument("--cursor", action="store_const", const=True, help="record the mouse cursor too (Linux)")
    own.add_argument("--no-duplicates", action="store_const", const=True, help="leave out pictures equal to the one "
                     "before (default: they are kept, and flagged)")  # fmt: skip


def command(args: argparse.Namespace) -> list[str]:
    """The command line of the bridge, which without --frames or --seconds runs until it is ended."""
    line = [sys.executable, "-m", "capture.screen", "--fps", f"{args.fps or FPS:g}"]
    for name in (*OPTIONS, "frames", "seconds"):
        value, option = getattr(args, name), f"--{name.replace('_', '-')}"
        if value is not None:
            line += [option] if value is True else [f"{option}={value}"]
    return line


def describe(take: Path, screen: Screen) -> Mapping[str, Any]:
    """Say what was seen: how many pictures were equal to the one before, how many were black."""
    from capture.screen import BLACK, BLACK_SECONDS, DUPLICATE, black_reason
    from capture.take import Take

    with Take(take) as recorded:
        flags, fps = [recorded[index].flags for index in recorded.readable], recorded.fps
    duplicates, black = (sum(flag in of_frame for of_frame in flags) for flag in (DUPLICATE, BLACK))
    screen.show(f"  colour only; {duplicates} pictures equal to the one before, {black} black")
    if 0 < black == len(flags) < BLACK_SECONDS * fps:  # too short for the bridge to say it
        screen.say(black_reason())
    return {"duplicates": duplicates, "black": black}


def _region(text: str) -> str:
    """The text, once it is known to be a region."""
    from capture.screen import region

    region(text)
    return text
