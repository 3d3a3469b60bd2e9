"""`realmaster record`: frames from an engine into a take, until the engine ends, enough came, or Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import (
    CommandError,
    Interrupted,
    WrongUse,
    add_command,
    add_takes_folder,
    count,
    folder_name,
    natural,
    picture_size,
    positive,
    takes_folder,
    writable_folder,
)

if TYPE_CHECKING:
    from daemon.ingest import Ingest
    from realmaster.progress import Screen

SOURCES = ("city", "panda3d", "listen")
DEFAULT_SECONDS = 5.0


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "record",
        "record a take: from the embedded engine, a Panda3D program, or any bridge",
        run=run,
        example="realmaster record city --seconds 5 --mode lossless\n"
        "  realmaster record panda3d --frames 120 -- my_game.py\n"
        "  realmaster record listen --listen tcp://127.0.0.1:5790",
        about="Record a take. SOURCE is `city` (the embedded engine), `panda3d` (its sample scene, or your program "
        "after --),\nor `listen` (wait for a bridge that you start yourself; the connection file has its token).",
    )
    parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=" | ".join(SOURCES))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=positive, metavar="S", help="seconds of engine time to record")
    length.add_argument("--frames", type=count, metavar="N", help="frames to record")
    parser.add_argument("--mode", choices=("live", "lossless"), help="live: the engine never "
                        "waits, frames may be dropped; lossless: it waits (default)")  # fmt: skip
    parser.add_argument("--fps", type=positive, default=24.0, help="frames per second of engine time (default: 24)")
    parser.add_argument("--size", type=picture_size, metavar="WxH", help="size of the picture (default: the engine's)")
    parser.add_argument("--seed", type=natural, help="which street the city builds (default: the engine's)")
    parser.add_argument("--name", type=folder_name, help="name of the take (default: time and engine)")
    parser.add_argument("--listen", metavar="ENDPOINT", help="where `record listen` waits "
                        "(default: tcp://127.0.0.1:5790)")  # fmt: skip
    add_takes_folder(parser)
    parser.set_defaults(passed_on=None)


class _Watch:
    """What the ingest tells while it records, for the thread that waits."""

    def __init__(self, wanted: int | None) -> None:
        self.closed: list[dict[str, Any]] = []
        self.over = threading.Event()
        """The last session has ended, or a take of `wanted` frames is there."""
        self._sessions = 0
        self._wanted = wanted
        self._recorded = 0

    @property
    def frames(self) -> int:
        """Frames recorded so far."""
        return max(self._recorded, sum(entry["frames"] for entry in self.closed))

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "state":
            self._recorded = sum(session["recorded"] for session in event["state"]["sessions"])
        elif event["event"] == "take_closed":
            self.closed.append(event)
            if event["frames"] == self._wanted:
                self.over.set()
        elif event["event"] == "session_opened":
            self._sessions += 1
        elif event["event"] == "session_closed":
            self._sessions -= 1
            if not self._sessions:  # a second bridge that comes and goes does not end the first one's recording
                self.over.set()


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    _check_use(args)
    from capture.connection import DEFAULT_ENDPOINT, connection_file, endpoint_port
    from daemon.ingest import Ingest
    from realmaster.commands.bridge import Bridge

    takes = writable_folder(takes_folder(args), "takes")
    if args.name and (takes / args.name).exists():
        raise UserError(f"There is a take called {args.name} already: choose another --name.")
    frames = _wanted_frames(args)
    command = None if args.source == "listen" else _bridge_command(args, frames)
    listen = (args.listen or DEFAULT_ENDPOINT) if command is None else "tcp://127.0.0.1:*"

    watch = _Watch(frames)
    ingest = Ingest(listen, takes=takes, auto_record=True, frames=frames, replay_seconds=0.0, on_event=watch.on_event)
    failure, interrupted = None, False
    started = time.monotonic()
    with ExitStack() as running:
        running.enter_context(ingest)
        try:
            if command is None:
                screen.say(f"listening on [bold]{ingest.endpoint}[/]; Ctrl-C ends the recording")
                screen.say(f"connection file: {connection_file(endpoint_port(ingest.endpoint))}")
                _follow(screen, ingest, watch, frames, None)
            else:
                bridge = running.enter_context(Bridge(command, ingest.endpoint, ingest.token))
                _follow(screen, ingest, watch, frames, bridge)
                failure = bridge.failure()
        except KeyboardInterrupt:
            interrupted = True
    return _result(args, screen, takes, watch, time.monotonic() - started, failure, interrupted)


def _follow(screen: Screen, ingest: Ingest, watch: _Watch, frames: int | None, bridge: Any) -> None:
    """Show how the recording goes until the bridge, the session or the wanted number of frames has ended."""
    from realmaster.progress import readable_bytes

    label = "waiting for a bridge" if bridge is None else "recording"
    with screen.step(label, total=frames, unit="frames") as step:
        while True:
            session = next(iter(ingest.state.get("sessions", [])), None)
            if session is not None and session["recording"]:
                size = sum(file.stat().st_size for file in (ingest.takes / session["recording"]).glob("*.rmk"))
                note = f"{session['fps']:.1f} fps, {session['dropped']} dropped, {readable_bytes(size)}"
                step(watch.frames, note=note)
            if watch.over.wait(0.2) if bridge is None else bridge.wait(0.2):
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
    if args.name:
        path = path.rename(takes / args.name)
    last = recorded[-1]
    report = {
        "take": path,
        "frames": recorded[0]["frames"],
        "dropped": sum(entry["dropped"] for entry in recorded),
        "seconds": round(seconds, 2),
        "more_takes": [takes / entry["take"] for entry in recorded[1:]],
    }
    screen.show(f"[green]✓[/] {report['frames']} frames, {report['dropped']} dropped: {path}")
    for more in report["more_takes"]:
        screen.show(f"  and {more}")
    if last["problem"]:
        raise CommandError(f"The recording ended early, {report['frames']} frames are kept: {last['problem']}", report)
    if failure:
        raise CommandError(f"The {args.source} bridge failed, {report['frames']} frames are kept: {failure}", report)
    if interrupted:
        raise Interrupted(report)
    return report


def _wanted_frames(args: argparse.Namespace) -> int | None:
    """How many frames to record; None as long as they come."""
    if args.frames is not None:
        return int(args.frames)
    if args.seconds is None and (args.source == "listen" or args.passed_on):
        return None
    return max(1, round((args.seconds or DEFAULT_SECONDS) * args.fps))


def _bridge_command(args: argparse.Namespace, frames: int | None) -> list[str]:
    """The command line of the bridge for SOURCE."""
    command = [sys.executable, "-m", f"engine_bridges.{args.source}", "--fps", f"{args.fps:g}"]
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
    listens = args.source == "listen"
    if listens and args.mode is not None:
        raise WrongUse("--mode is the bridge's: with `record listen` the bridge decides whether it waits")
    for option in ("seed", "size"):
        if listens and getattr(args, option) is not None:
            raise WrongUse(f"--{option} is the engine's: `record listen` takes what the bridge sends")
    if args.listen and not listens:
        raise WrongUse("--listen goes with `record listen`: other sources bring their own bridge")
    if args.passed_on and args.source != "panda3d":
        raise WrongUse(f"`record {args.source}` takes no command after --")
