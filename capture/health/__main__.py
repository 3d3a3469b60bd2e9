"""A copy of a take with one mistake in it, to see what the doctor makes of it.

    python -m capture.health TAKE depth_late -o sick
    realmaster doctor --bridge sick

Without a mistake it lists them all.
"""

from __future__ import annotations

import argparse
import sys

from capture.errors import UserError
from capture.health.mistakes import MISTAKES, plant, without_geometry
from capture.take import Take, TakeWriter

MOST_FRAMES = 200


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m capture.health", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("take", help="path of a healthy take")
    parser.add_argument("mistake", nargs="?", help="name of the mistake")
    parser.add_argument("-o", "--out", default="sick", help="the take to be made (default: sick)")
    parser.add_argument("--as-game", action="store_true", help="colour and depth buffer only, as an OpenGL game's")
    args = parser.parse_args()
    if args.mistake is None:
        print(*MISTAKES, sep="\n")
        return 0
    try:
        with Take(args.take) as take:
            frames = list(take[:MOST_FRAMES])
            frames = plant(without_geometry(frames) if args.as_game else frames, args.mistake)
            descriptors = [channel.descriptor for channel in frames[0].channels.values()]
            with TakeWriter(
                args.out, conventions=frames[0].conventions, descriptors=descriptors, engine=take.engine,
                game=f"{take.game} with {args.mistake}", fps=take.fps, preview=False,
            ) as writer:  # fmt: skip
                for frame in frames:
                    writer.append(frame)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(frames)} frames with {args.mistake}: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
