"""What `realmaster record opengl` has of its own: its options, the library built in time, what is said of the depth.

Knows the options and the bridge's command line; the recording itself is `realmaster.commands.record`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import WrongUse, positive

if TYPE_CHECKING:
    from realmaster.progress import Screen

OPTIONS = ("vfov", "near", "far", "metres_per_unit", "patience")
POLITENESS = 8
"""Nice value of what records a game live."""

LIVE_FPS = 30.0
"""Frames recorded a second, at most, unless the user says otherwise. Lossless takes every frame of the game."""


def add_options(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("only for opengl", "what the bridge cannot find out in the game by itself")
    own.add_argument("--vfov", type=_degrees, metavar="DEG", help="vertical field of view in degrees")
    own.add_argument("--near", type=positive, metavar="D", help="distance of the near plane in the game's units")
    own.add_argument("--far", type=positive, metavar="D", help="distance of the far plane in the game's units")
    own.add_argument("--metres-per-unit", type=positive, metavar="M", help="length of the game's unit in metres")
    own.add_argument("--patience", type=positive, metavar="S", help="end a program that shows no picture through "
                     "OpenGL for so many seconds (default: 60)")  # fmt: skip


def check_use(args: argparse.Namespace) -> None:
    """WrongUse for options that contradict each other or miss one another."""
    if not args.passed_on:
        raise WrongUse("`record opengl` needs the game's command after --, as in `record opengl -- openarena`")
    if (args.near is None) != (args.far is None):
        raise WrongUse("--near and --far go together")
    if args.near is not None and args.near >= args.far:
        raise WrongUse("--far must be greater than --near")


def command(args: argparse.Namespace, screen: Screen) -> list[str]:
    """The command line that starts the game with the bridge; builds the library before, which may take a minute.

    Raises UserError when the game or the library cannot be had.
    """
    from engine_bridges.opengl.build import library
    from engine_bridges.opengl.launch import find_program

    find_program(args.passed_on[0])  # nobody wants to wait for a build to be told of a misspelt name
    with screen.step("building the bridge", total=1.0) as step:
        library(lambda share, what: step(share, note=what))
        step(1.0)
    mode = args.mode or "live"
    fps = args.fps or (LIVE_FPS if mode == "live" else None)
    given = {name: getattr(args, name) for name in OPTIONS} | {"fps": fps}
    line = [sys.executable, "-m", "engine_bridges.opengl", "--mode", mode]
    for name, value in given.items():
        if value is not None:
            line += [f"--{name.replace('_', '-')}", f"{value:g}"]
    return [*line, "--", *args.passed_on]


@contextmanager
def behind_the_game() -> Iterator[None]:
    """While a game is recorded live, it comes first on a machine with few cores: our threads, and on Linux our session,
    which is scheduled as one whole against the game's (sched(7), autogroup), take a lower priority.

    Enter it after the game's process was started, which would inherit it. Threads begun in it inherit it too.
    """
    if sys.platform != "linux":
        yield
        return
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, int(thread), POLITENESS)
    group, before = Path("/proc/self/autogroup"), None
    with suppress(OSError, ValueError, IndexError):  # not every kernel groups sessions
        before = group.read_text().split()[-1]
        group.write_text(str(max(POLITENESS, int(before))))
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                group.write_text(before)


def describe(take: Path, screen: Screen) -> Mapping[str, Any]:
    """Say what the depth of a take means: where the projection comes from, and in which unit it is."""
    from capture.take import Take

    with Take(take) as recorded:
        depth = next((c for c in recorded.manifest["channels"] if c["name"] == "depth"), None)
    if depth is None:
        screen.show("  no depth was found in this game, the take has its colour alone")
        return {"depth": None}
    projection, metric = depth.get("projection", "measured"), depth.get("scale") != "unknown"
    unit = "metres" if metric else "units of the game (--metres-per-unit makes metres of them)"
    told = {
        "measured": "as the game sets it",
        "declared": "as declared by --vfov, --near and --far",
        "default": "a guess (--vfov, --near and --far tell it)",
    }
    screen.show(f"  depth in {unit}; projection {told.get(projection, projection)}")
    return {"depth": {"projection": projection, "metres": metric}}


def _degrees(text: str) -> float:
    """An angle between 0 and 180."""
    value = positive(text)
    if value >= 180:
        raise argparse.ArgumentTypeError(f"{text!r} is not an angle between 0 and 180 degrees")
    return value
