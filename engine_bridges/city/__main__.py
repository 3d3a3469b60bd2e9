"""`python -m engine_bridges.city`: drives through the embedded engine's street and sends what it sees."""

from __future__ import annotations

import argparse
import math
import sys

from capture.errors import UserError
from engine_bridges.city.bridge import run
from engine_bridges.city.scene import LOOKS, City


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 4096 and 16 <= int(height) <= 4096):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 320x180 (16 to 4096 pixels a side)")
    return int(width), int(height)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine_bridges.city",
        description="Send a drive through a procedural street, with exact depth, normals, motion and ids, to the "
        "realmaster daemon.",
        epilog="Example: python -m engine_bridges.city --seed 7 --seconds 5 --mode lossless",
    )
    parser.add_argument("--endpoint", help="of the daemon (default: REALMASTER_ENDPOINT, else tcp://127.0.0.1:5790)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=_count, metavar="N", help="stop after N frames sent (default: never)")
    length.add_argument("--seconds", type=_positive, metavar="S", help="stop after S seconds of engine time")
    parser.add_argument("--seed", type=_seed, default=0, help="which street (default 0)")
    for what, known in LOOKS.items():
        parser.add_argument(f"--{what}", choices=known, help="default: as the seed has it")
    parser.add_argument("--fps", type=_positive, default=24.0, help="frames per second of engine time (default 24)")
    parser.add_argument("--size", type=_size, default=(320, 180), metavar="WxH", help="default 320x180")
    parser.add_argument("--mode", choices=("live", "lossless"), default="live", help="live: by the wall clock, frames "
                        "may be left out; lossless: as fast as the daemon takes them (default live)")  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the bridge; gives the exit status. A UserError becomes one sentence on stderr and status 1."""
    options = _parser().parse_args(arguments)
    frames = options.frames
    if options.seconds is not None:
        frames = max(1, round(options.seconds * options.fps))
    city = City(options.seed, options.size, options.fps, **{what: getattr(options, what) for what in LOOKS})
    try:
        stats = run(city, options.endpoint, frames=frames, mode=options.mode)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"city: {stats.sent} frames sent, {stats.dropped} dropped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
