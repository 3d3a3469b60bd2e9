"""`realmaster record`: frames from an engine into a take, until the engine ends, enough came, or Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands import record_opengl, record_replay, record_screen
from realmaster.commands.options import (
    CommandError,
    Interrupted,
    WrongUse,
    add_command,
    add_precision,
    add_takes_folder,
    count,
    folder_name,
    natural,
    picture_size,
    positive,
    precision,
    takes_folder,
    writable_folder,
)

if TYPE_CHECKING:
    from daemon.ingest import Ingest
    from realmaster.commands.bridge import Bridge
    from realmaster.progress import Screen

SOURCES = ("city", "panda3d", "opengl", "screen", "listen", "replay")
DEFAULT_SECONDS = 5.0
FPS = 24.0

OWN_OPTIONS = {
    "city": ("mode", "fps", "size", "seed"),
    "panda3d": ("mode", "fps", "size", "seed"),
    "opengl": ("mode", "fps", *record_opengl.OPTIONS),
    "screen": ("fps", *record_screen.OPTIONS),
    "listen": ("listen", "fps"),
    "replay": ("listen",),
}
"""Options that not every source has."""

BRIDGE_SAYS = "realmaster: "
"""How a line of a bridge begins that its user should read."""

WITH_COMMAND = ("panda3d", "opengl")
"""Sources that take a command after --."""

REAL_TIME = ("opengl",)
"""Sources whose clock is the wall's and that do not end by themselves: the recording ends them."""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "record",
        "record a take: from the embedded engine, a game, or any bridge",
        run=run,
        example="realmaster record city --seconds 5 --mode lossless\n"
        "  realmaster record panda3d --frames 120 -- my_game.py\n"
        "  realmaster record opengl --seconds 20 -- openarena\n"
        "  realmaster record screen --window 'My Game' --seconds 20\n"
        "  realmaster record listen --listen tcp://127.0.0.1:5790\n"
        "  realmaster record replay --seconds 10",
        about="Record a take. SOURCE is `city` (the embedded engine), `panda3d` (its sample scene, or your program "
        "after --),\n`opengl` (any OpenGL game on Linux, its command after --), `screen` (a monitor, region "
        "or\nwindow: colour only), `listen` (wait for a bridge that you start yourself; the connection file has its "
        "token), or\n`replay` (the last seconds that a running `realmaster daemon` has kept).",
    )
    parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=" | ".join(SOURCES))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=positive, metavar="S", help="seconds to record, of engine time; of a game's "
                        "own time with opengl")  # fmt: skip
    length.add_argument("--frames", type=count, metavar="N", help="frames to record")
    parser.add_argument("--mode", choices=("live", "lossless"), help="live: the engine never "
                        "waits, frames may be dropped (default of opengl); lossless: it "
                        "waits (default of the others)")  # fmt: skip
    parser.add_argument("--fps", type=positive, help="frames per second of engine time (default: 24), or recorded of "
                        "a live game, at most (default: 30)")  # fmt: skip
    parser.add_argument("--size", type=picture_size, metavar="WxH", help="size of the picture (default: the engine's)")
    parser.add_argument("--seed", type=natural, help="which street the city builds (default: the engine's)")
    parser.add_argument("--name", type=folder_name, help="name of the take (default: time and engine)")
    parser.add_argument("--listen", metavar="ENDPOINT", help="where `record listen` waits, or "
                        "where the daemon of `record replay` does (default: tcp://127.0.0.1:5790)")  # fmt: skip
    add_precision(parser)
    add_takes_folder(parser)
    record_opengl.add_options(parser)
    record_screen.add_options(parser)
    parser.set_defaults(passed_on=None)


class _Watch:
    """What the ingest tells while it records, for the thread that waits."""

    def __init__(self, wanted: int | None) -> None:
        self.closed: list[dict[str, Any]] = []
        self.over = threading.Event()
        """The last session has ended, or a take of `wanted` frames is there."""
        self.complete = False
        """A take of `wanted` frames is there."""
        self.started: float | None = None
        """When the first take began, in time.monotonic() seconds."""
        self._sessions = 0
        self._wanted = wanted
        self._recorded = 0

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return max(self._recorded, sum(entry["frames"] for entry in self.closed))

    def lasted(self, seconds: float | None) -> bool:
        """Whether the first take is so old; False without a number."""
        return seconds is not None and self.started is not None and time.monotonic() - self.started >= seconds

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "state":
            self._recorded = sum(session["recorded"] for session in event["state"]["sessions"])
        elif event["event"] == "take_closed":
            self.closed.append(event)
            if event["frames"] == self._wanted:
                self.complete = True
                self.over.set()
        elif event["event"] == "take_started":
            self.started = self.started or time.monotonic()
        elif event["event"] == "session_opened":
            self._sessions += 1
        elif event["event"] == "session_closed":
            self._sessions -= 1
            if not self._sessions:  # a second bridge that comes and goes does not end the first one's recording
                self.over.set()


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    _check_use(args)
    if args.source == "replay":
        return record_replay.run(args, screen)
    from capture.connection import DEFAULT_ENDPOINT, connection_file, endpoint_port
    from daemon.ingest import Ingest
    from realmaster.commands.bridge import Bridge

    takes = writable_folder(takes_folder(args), "takes")
    if args.name and (takes / args.name).exists():
        raise UserError(f"There is a take called {args.name} already: choose another --name.")
    frames = _wanted_frames(args)
    command = None if args.source == "listen" else _bridge_command(args, frames, screen)
    listen = (args.listen or DEFAULT_ENDPOINT) if command is None else "tcp://127.0.0.1:*"

    watch = _Watch(frames)
    ingest = Ingest(
        listen, takes=takes, auto_record=True, frames=frames, name=args.name, replay_seconds=0.0,
        precision=precision(args), on_event=watch.on_event,
    )  # fmt: skip
    failure, interrupted = None, False
    started = time.monotonic()
    with ExitStack() as running:
        running.enter_context(ingest)
        try:
            if command is None:
                screen.say(f"listening on [bold]{ingest.endpoint}[/]; Ctrl-C ends the recording")
                screen.say(f"connection file: {connection_file(endpoint_port(ingest.endpoint))}")
                _follow(args, screen, ingest, watch, frames, None)
            else:
                bridge = running.enter_context(Bridge(command, ingest.endpoint, ingest.token))
                if args.source == "opengl" and args.mode != "lossless":
                    running.enter_context(record_opengl.behind_the_game())
                _follow(args, screen, ingest, watch, frames, bridge)
                failure = bridge.failure()
        except KeyboardInterrupt:
            interrupted = True
    return _result(args, screen, takes, watch, time.monotonic() - started, failure, interrupted)


def _follow(
    args: argparse.Namespace, screen: Screen, ingest: Ingest, watch: _Watch, frames: int | None, bridge: Bridge | None
) -> None:
    """Show how the recording goes until the bridge, the session, the wanted seconds or frames have ended."""
    from realmaster.progress import readable_bytes

    real_time = args.source in REAL_TIME
    label = "waiting for a bridge" if bridge is None else "recording"
    with screen.step(label, total=frames, unit="frames") as step:
        while True:
            session = next(iter(ingest.state.get("sessions", [])), None)
            if session is not None and session["recording"]:
                size = sum(file.stat().st_size for file in (ingest.takes / session["recording"]).glob("*.rmk"))
                note = f"{session['fps']:.1f} fps, {session['dropped']} dropped, {readable_bytes(size)}"
                note += f", over {session['transport']}"
                step(watch.frames, note=note)
            ended = watch.over.wait(0.2) if bridge is None else bridge.wait(0.2)
            if bridge is not None and bridge.failure() is None:  # of a failure its last words are told at the end
                for sentence in bridge.news(BRIDGE_SAYS):
                    screen.say(sentence)
            if ended:
                break
            if real_time and (watch.complete or watch.lasted(args.seconds)):
                ingest.command("record_stop")  # before the game is ended: how it ends is not asked for
                break
        step(watch.frames)


def _result(
    args: argparse.Namespace, screen: Screen, takes: Path, watch: _Watch, seconds: float,
    failure: str | None, interrupted: bool,
) -> Mapping[str, Any]:  # fmt: skip
    recorded = [entry for entry in watch.closed if entry["frames"]]
    if not recorded:
        if interrupted:
            raise Interrupted({"take": None, "frames": 0})
        raise UserError(f"Nothing was recorded: {failure or 'no frame arrived'}.".replace("..", "."))
    path = takes / recorded[0]["take"]
    last = recorded[-1]
    report = {
        "take": path,
        "frames": recorded[0]["frames"],
        "dropped": sum(entry["dropped"] for entry in recorded),
        "seconds": round(seconds, 2),
        "more_takes": [takes / entry["take"] for entry in recorded[1:]],
    }
    screen.show(f"[green]✓[/] {report['frames']} frames, {report['dropped']} dropped: {path}")
    if args.source == "opengl":
        report |= record_opengl.describe(path, screen)
    elif args.source == "screen":
        report |= record_screen.describe(path, screen)
    for more in report["more_takes"]:
        screen.show(f"  and {more}")
    report["health"] = _examine([path, *report["more_takes"]], screen)
    if last["problem"]:
        raise CommandError(f"The recording ended early, {report['frames']} frames are kept: {last['problem']}", report)
    if failure:
        raise CommandError(f"The {args.source} bridge failed, {report['frames']} frames are kept: {failure}", report)
    if interrupted:
        raise Interrupted(report)
    return report


def _examine(paths: Sequence[Path], screen: Screen) -> str | None:
    """Prove that the takes are what they say they are; the line that says so of the first, None where it failed."""
    from capture.health import keep_health, read_health

    with screen.step("examining", total=len(paths)) as step:
        for done, path in enumerate(paths, 1):
            keep_health(path)
            step(done)
    health = read_health(paths[0])
    if health is None:
        return None
    if health["verdict"] in ("suspicious", "wrong"):
        screen.show(f"  [yellow]![/] {health['line']} (`realmaster doctor --bridge {paths[0].name}` says more)")
    else:
        screen.show(f"  {health['line']}")
    return str(health["line"])


def _wanted_frames(args: argparse.Namespace) -> int | None:
    """How many frames to record; None as long as they come."""
    if args.frames is not None:
        return int(args.frames)
    if args.source in (*REAL_TIME, "screen") or (args.seconds is None and (args.source == "listen" or args.passed_on)):
        return None
    return max(1, round((args.seconds or DEFAULT_SECONDS) * (args.fps or FPS)))


def _bridge_command(args: argparse.Namespace, frames: int | None, screen: Screen) -> list[str]:
    """The command line of the bridge for SOURCE."""
    if args.source == "opengl":
        return record_opengl.command(args, screen)
    if args.source == "screen":
        return record_screen.command(args)
    command = [sys.executable, "-m", f"engine_bridges.{args.source}", "--fps", f"{args.fps or FPS:g}"]
    command += ["--mode", args.mode or "lossless"]
    if frames is not None:
        command += ["--frames", str(frames)]
    if args.size is not None:
        command += ["--size", "{}x{}".format(*args.size)]
    if args.seed is not None:
        command += ["--seed", str(args.seed)]
    if args.passed_on:
        program = args.passed_on[1:] if Path(args.passed_on[0]).stem.startswith("python") else args.passed_on
        command += ["--", *program]
    return command


def _check_use(args: argparse.Namespace) -> None:
    """WrongUse for options that SOURCE does not have."""
    for option in dict.fromkeys(name for names in OWN_OPTIONS.values() for name in names):
        if getattr(args, option) is not None and option not in OWN_OPTIONS[args.source]:
            owners = ", ".join(source for source, names in OWN_OPTIONS.items() if option in names)
            why = ": with `record listen` the bridge decides" if args.source == "listen" else ""
            raise WrongUse(f"--{option.replace('_', '-')} goes with {owners}, not with {args.source}{why}")
    if args.passed_on and args.source not in WITH_COMMAND:
        raise WrongUse(f"`record {args.source}` takes no command after --")
    if args.source == "replay":
        record_replay.check_use(args)
    if args.source == "opengl":
        record_opengl.check_use(args)
