"""`python -m engine_bridges.opengl -- GAME ARGUMENTS`: starts a game and sends what it draws to the daemon.

The game goes on when the daemon goes away, and is found again by the next one; only whoever sets
REALMASTER_GIVE_UP_AFTER (as `realmaster record` does) takes the game down with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import fields

from capture.errors import UserError
from engine_bridges.opengl.build import library
from engine_bridges.opengl.launch import Game, Settings, find_program


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine_bridges.opengl",
        description="Start an OpenGL game and send its colour and depth to the realmaster daemon.",
        epilog="Example: python -m engine_bridges.opengl -- openarena +map oa_dm1",
    )
    parser.add_argument("--endpoint", help="of the daemon (default: REALMASTER_ENDPOINT, else tcp://127.0.0.1:5790)")
    parser.add_argument("--mode", choices=("live", "lossless"), default="live")
    parser.add_argument("--fps", type=_positive, help="frames sent a second, at most (default: every frame)")
    parser.add_argument("--vfov", type=_positive, metavar="DEG", help="vertical field of view, where it cannot be read")
    parser.add_argument("--near", type=_positive, help="distance of the near plane in the game's units, likewise")
    parser.add_argument("--far", type=_positive, help="distance of the far plane, likewise")
    parser.add_argument("--metres-per-unit", type=_positive, metavar="M", help="length of the game's unit")
    parser.add_argument("--patience", type=_positive, default=60.0, metavar="S", help="end a program that shows no "
                        "picture through OpenGL for so many seconds (default 60)")  # fmt: skip
    parser.add_argument("game", nargs="+", help="after --: the game's program with its arguments")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs a game; gives the exit status. A UserError becomes one sentence on stderr and status 1."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the game too
    try:
        _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    find_program(options.game[0])  # before a build that takes a while
    built = library(lambda share, what: print(f"building the bridge: {share:.0%} {what}", file=sys.stderr))
    environment = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)}).environment()
    if options.endpoint:
        environment["REALMASTER_ENDPOINT"] = options.endpoint
    with Game(options.game, built, environment) as game:
        try:
            _watch(game, options.patience)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # nothing more may come between us and the game's end


def _watch(game: Game, patience: float) -> None:
    """Pass on what the game prints until it ends. Raises UserError when that was no good end."""
    recorder = os.getppid() if os.environ.get("REALMASTER_GIVE_UP_AFTER") else None
    ended = False
    while not ended:
        ended = game.wait(0.2)
        print(game.news(), end="", file=sys.stderr, flush=True)
        if not game.draws and (ended or time.monotonic() - game.started > patience):
            raise UserError(game.why_nothing())
        if recorder not in (None, os.getppid()):
            raise UserError("Who recorded the game is gone, and the game was ended with it.")
    if game.failed:
        raise UserError(f"The game {game.name} failed ({game.ending()}).")


if __name__ == "__main__":
    sys.exit(main())
