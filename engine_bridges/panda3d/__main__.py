"""`python -m engine_bridges.panda3d`: captures the sample scene, or a program of yours.

Arguments after `--` are a Python program with its own arguments; it runs in this process, and the first ShowBase
that it makes is captured.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from capture.errors import UserError
from engine_bridges.panda3d import program


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x360 (16 to 8192 pixels a side)")
    return int(width), int(height)


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine_bridges.panda3d",
        description="Send what a Panda3D program shows, with depth, normals, motion and ids, to the realmaster daemon.",
        epilog="Example: python -m engine_bridges.panda3d --frames 240 --mode lossless -- my_game.py --level 3",
    )
    parser.add_argument("--endpoint", help="of the daemon (default: REALMASTER_ENDPOINT, else tcp://127.0.0.1:5790)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=_positive(int), metavar="N", help="stop after N frames sent")
    length.add_argument("--seconds", type=_positive(float), metavar="S", help="stop after S seconds of engine time")
    parser.add_argument("--fps", type=_positive(float), default=24.0, help="frames per second (default 24)")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of the picture (default 640x360; a program's own)")
    parser.add_argument("--mode", choices=("live", "lossless"), default="live")
    parser.add_argument("--seed", type=int, default=0, help="of the sample scene (default 0)")
    parser.add_argument("--metres-per-unit", type=_positive(float), help="of the program's world (default 1)")
    parser.add_argument("--window", action="store_true", help="show the sample in a window")
    parser.add_argument("program", nargs="*", help="after --: a Python program with its arguments, to be captured")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the bridge; gives the exit status. A UserError becomes one sentence on stderr and status 1."""
    options = _parser().parse_args(arguments)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, signal.default_int_handler)  # how a parent process asks us to end
    try:
        return _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    program.require_panda3d()
    from engine_bridges.panda3d.capture_target import PandaCapture

    captures: list[PandaCapture] = []
    settings: dict[str, Any] = {
        "endpoint": options.endpoint, "mode": options.mode, "fps": options.fps, "frames": options.frames,
        "seconds": options.seconds, "connect_timeout": 10.0,
    }  # fmt: skip
    try:
        if options.program:
            _capture_program(options, settings, captures)
        else:
            _capture_sample(options, settings, captures)
    finally:
        for capture in captures:
            capture.close()
    if not captures:
        raise UserError("the program ended without making a ShowBase, so there was nothing to capture.")
    if captures[0].error is not None:
        raise captures[0].error
    stats = captures[0].stats
    print(f"panda3d: {stats.sent} frames sent, {stats.dropped} dropped", file=sys.stderr)
    if options.frames is not None and stats.sent < options.frames:
        raise UserError(f"the program ended after {stats.sent} of {options.frames} frames.")
    return 0


def _capture_program(options: argparse.Namespace, settings: dict[str, Any], captures: list[Any]) -> None:
    from engine_bridges.panda3d.capture_target import PandaCapture

    script = Path(options.program[0])

    def begin(base: Any) -> None:
        _start_clock(options)
        captures.append(
            PandaCapture(
                base, game=script.stem, metres_per_unit=options.metres_per_unit or 1.0, on_done=sys.exit, **settings
            )
        )

    with program.on_showbase(begin, prepare=lambda: program.configure(options.size)):
        try:
            program.run_script(script, options.program[1:])
        except SystemExit as ending:
            if ending.code and not (captures and captures[0].done):
                raise UserError(f"the program {script.name} ended with status {ending.code}.") from None


def _capture_sample(options: argparse.Namespace, settings: dict[str, Any], captures: list[Any]) -> None:
    from direct.showbase.ShowBase import ShowBase
    from panda3d.core import ClockObject

    from engine_bridges.panda3d.capture_target import PandaCapture
    from engine_bridges.panda3d.sample import METRES_PER_UNIT, SampleScene

    program.configure(options.size or (640, 360), offscreen=not options.window)
    base = program.open_base(ShowBase)
    if options.mode == "live":
        clock = ClockObject.getGlobalClock()
        clock.setMode(ClockObject.MLimited)
        clock.setFrameRate(options.fps)
    _start_clock(options)
    SampleScene(base, options.seed)
    scale = options.metres_per_unit or METRES_PER_UNIT
    capture = PandaCapture(base, game="sample", metres_per_unit=scale, on_done=lambda: None, **settings)
    captures.append(capture)
    while not capture.done:
        base.taskMgr.step()


def _start_clock(options: argparse.Namespace) -> None:
    """Engine time begins at 0 with capture, so that a lossless recording is the same each time."""
    from panda3d.core import ClockObject

    if options.mode == "lossless":
        ClockObject.getGlobalClock().reset()


if __name__ == "__main__":
    sys.exit(main())
