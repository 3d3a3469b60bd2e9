"""`realmaster doctor --bridge`: is a take, or what an engine sends just now, what it says it is?"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.client import API, Daemon, path_of
from realmaster.commands.options import CommandError, takes_folder

if TYPE_CHECKING:
    from capture.frame import Frame
    from capture.health import Examination
    from realmaster.progress import Screen

LIVE = "live"
FRAMES = 42
"""Live frames that are examined."""

_MARKS = {"good": "[green]✓[/]", "cannot tell": "[dim]?[/]", "suspicious": "[yellow]![/]", "wrong": "[red]✗[/]"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bridge", nargs="?", const=LIVE, metavar="TAKE", help="examine a take, or without TAKE what an engine sends "
        "just now: are its channels of one frame, and is everything as declared?",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="PNG", help="the picture of --bridge (default: health.png in "
                        "the take, or here)")  # fmt: skip
    parser.add_argument("--listen", metavar="ENDPOINT", help="where --bridge waits for an engine when no daemon runs "
                        "(default: tcp://127.0.0.1:5790)")  # fmt: skip


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    """Examine, show a table, write the picture. Raises CommandError when something is wrong."""
    what, out = args.bridge, args.out
    if what == LIVE:
        daemon = None if args.listen else _daemon()
        if daemon is not None:
            title, report, picture = _of_daemon(daemon, screen)
        else:
            title, report, picture = _of_bridge(args, screen)
        path = out or Path("health.png")
        _write(path, lambda: path.write_bytes(picture))
    else:
        title, report, path = _of_take(args, screen)
    _show(title, report, path, screen)
    result = {"what": title, "picture": path, **report}
    wrong = [check for check in report["checks"] if check["verdict"] == "wrong"]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise CommandError(f"{title}: {wrong[0]['sentence'].rstrip('.')}{more}.", result)
    return result


def _of_take(args: argparse.Namespace, screen: Screen) -> tuple[str, dict[str, Any], Path]:
    from capture.health import examine_take, write_health
    from capture.health.picture import draw
    from capture.take import Take

    take = Take.find(args.bridge, takes_folder(args))
    if not len(take):
        raise UserError(f"take {take.name} has no frames to examine.")
    with screen.step("examining"):
        examination = examine_take(take)
    path = args.out or take.path / "health.png"
    _write(path, lambda: draw(examination, take.name).save(path))
    if take.state == "closed":
        _write(take.path, lambda: write_health(take.path, examination.health))
    return take.name, examination.health.to_dict(), path


def _of_daemon(daemon: Daemon, screen: Screen) -> tuple[str, dict[str, Any], bytes]:
    """The newest session of a running daemon, which examines it itself."""
    sessions = daemon.call("GET", "/state")["sessions"]
    if not sessions:
        raise UserError(
            f"No engine is connected to the daemon at {daemon.url}: start one, or name a take after --bridge."
        )
    session = sessions[-1]
    health = path_of("sessions", session["id"], "health")
    with screen.step("examining"):
        report = daemon.call("GET", health)
        picture = daemon.fetch("GET", f"{API}{health}.png")
    return f"{session['engine']} {session['game']}".strip(), report, picture


def _of_bridge(args: argparse.Namespace, screen: Screen) -> tuple[str, dict[str, Any], bytes]:
    """Wait for a bridge, as `record listen` does, and look at its first frames."""
    import io
    import tempfile

    from capture.connection import DEFAULT_ENDPOINT
    from capture.health import examine
    from capture.health.picture import draw
    from daemon.ingest import Ingest

    collected = _Collected(FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        ingest = Ingest(
            args.listen or DEFAULT_ENDPOINT, takes=Path(folder), replay_seconds=0.0, previews=False,
            on_event=collected.on_event, on_frame=collected.on_frame,
        )  # fmt: skip
        with ingest, screen.step("waiting for a bridge", total=FRAMES, unit="frames") as step:
            screen.say(f"listening on [bold]{ingest.endpoint}[/]; start the engine, Ctrl-C ends")
            while not collected.over.wait(0.2):
                step(len(collected.frames))
            step(len(collected.frames))
    if not collected.frames:
        raise UserError("The engine left before it sent a frame.")
    examination: Examination = examine(collected.frames)
    out = io.BytesIO()
    draw(examination, collected.title).save(out, "PNG")
    return collected.title, examination.health.to_dict(), out.getvalue()


class _Collected:
    """The first frames of the first session that sends any; made small at once, so that no memory is held back."""

    def __init__(self, wanted: int) -> None:
        self.frames: list[Frame] = []
        self.title = "live"
        self.over = threading.Event()
        self._wanted = wanted
        self._session: str | None = None

    def on_frame(self, session: str, frame: Frame) -> None:
        from capture.health.runs import small_frame

        self._session = self._session or session
        if session == self._session and not self.over.is_set():
            self.frames.append(small_frame(frame))
            if len(self.frames) >= self._wanted:
                self.over.set()

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "session_opened" and self._session is None:
            self.title = f"{event['engine']} {event['game']}".strip()
        elif event["event"] == "session_closed" and event["session"] == self._session:
            self.over.set()


def _daemon() -> Daemon | None:
    """The running daemon; None where there is none that answers."""
    try:
        daemon = Daemon.at()
    except UserError:
        return None
    return daemon if daemon.answers() else None


def _write(path: Path, write: Any) -> None:
    try:
        write()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot write {path} ({reason}): name another PNG file with -o.") from None


def _show(title: str, report: Mapping[str, Any], path: Path, screen: Screen) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"health of {escape(title)}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("check", style="bold", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    table.add_column("figure", style="dim", overflow="fold")
    for check in report["checks"]:
        name, verdict = check["name"], check["verdict"]
        table.add_row(_MARKS[verdict], name, verdict, escape(check["sentence"]), escape(check["figure"]))
    screen.show(table, "")
    facts = Table(box=None, pad_edge=False)
    for heading in ("channel", "least", "most", "mean", "variance", "finite", "repeated"):
        facts.add_column(heading, justify="left" if heading == "channel" else "right", style="dim")
    for channel in report["channels"]:
        numbers = [f"{channel[name]:.4g}" for name in ("low", "high", "mean", "variance")]
        repeated = f"{channel['repeated']} of {channel['compared']}"
        facts.add_row(channel["name"], *numbers, f"{channel['finite']:.0%}", repeated)
    screen.show(facts)
    screen.show(f"\n{_MARKS[report['verdict']]} {escape(report['line'])} ({report['frames']} frames examined)")
    screen.show(f"  {escape(str(path))}")
