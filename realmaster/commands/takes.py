"""`realmaster takes`: look after what has been recorded.

Here are the group itself and its small actions: list, verify, repair. Every other action is a module of its own
(`ACTIONS`) with an `add(actions)`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands import (
    takes_caption,
    takes_edit,
    takes_estimate,
    takes_export,
    takes_import,
    takes_pack,
    takes_shelf,
    takes_show,
)
from realmaster.commands.options import CommandError, add_command, add_take_command, add_takes_folder, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen

ACTIONS = (takes_show, takes_export, takes_import, takes_estimate, takes_caption, takes_edit, takes_pack, takes_shelf)
"""Modules whose `add(actions)` declares one or more actions of `realmaster takes`."""

_STATES = {"closed": "[green]closed[/]", "open": "[yellow]open[/]", "recording": "[red]recording[/]"}


def add(commands: Any) -> None:
    takes = commands.add_parser(
        "takes",
        help="look after takes: list, show, export, trim, verify ...",
        description="Look after what has been recorded. TAKE is a path, or the name of a take in the takes folder.",
        epilog="example:\n  realmaster takes show city-0001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = takes.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    listing = add_command(
        actions, "list", "list the takes of a folder", run=run_list, example="realmaster takes list --takes D:/takes"
    )
    add_takes_folder(listing)
    for module in ACTIONS:
        module.add(actions)
    add_take_command(actions, "verify", "read every frame of a take and prove it whole", run_verify, "city-0001")
    add_take_command(actions, "repair", "close a take that a crash left open", run_repair, "city-0001")


def run_list(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape
    from rich.table import Table

    from capture.take import list_takes
    from realmaster.progress import readable_bytes

    folder = takes_folder(args)
    if args.takes is not None and not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give an existing folder of takes to --takes.")
    with screen.step("reading takes"):
        takes = list_takes(folder)
    result = {"folder": folder, "takes": [take.to_dict() for take in takes]}
    if not takes:
        screen.show(f"No takes in {folder} yet. `realmaster record city --seconds 5` makes one.")
        return result
    table = Table(
        title=f"{len(takes)} take{'s' * (len(takes) != 1)} in {folder}", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("take", style="bold", overflow="fold")
    table.add_column("engine")
    for heading in ("frames", "length", "picture", "on disk", "lifts"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for take in takes:
        if take.state == "unreadable":
            table.add_row(take.name, *[""] * 6, f"[red]unreadable[/]: {escape(take.problem or '')}")
            continue
        table.add_row(
            take.name, take.engine, str(take.frames), f"{take.seconds:.1f} s",
            "{}x{}".format(*take.size) if take.size else "-", readable_bytes(take.bytes), str(len(take.lifts) or "-"),
            _STATES.get(take.state, take.state),
        )  # fmt: skip
    screen.show(table)
    return result


def run_verify(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import verify

    path = _path(args)
    with screen.step("verifying", unit="frames") as step:
        found = verify(path, progress=step)
    report = asdict(found)
    if found.problems:
        first, others = found.problems[0].rstrip("."), len(found.problems) - 1
        more = f" (and {others} more, see --json)" if others else ""
        lost = found.frames - found.good
        counted = f"{found.good} of {found.frames} frames are good" + (f", {lost} lost or damaged" if lost else "")
        raise CommandError(f"{path.name}: {counted}; {first}{more}.", report)
    screen.show(f"[green]✓[/] {path.name}: all {found.frames} frames are good, the take is {found.state}.")
    for note in found.notes:
        screen.show(f"  {note}")
    return report


def run_repair(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import repair

    path = _path(args)
    with screen.step("repairing"):
        done = repair(path)
    what = "repaired" if done.changed else "there was nothing to repair"
    screen.show(f"[green]✓[/] {path.name}: {what}, the take is closed with {done.frames} frames.")
    for action in done.actions:
        screen.show(f"  {action}")
    for sentence in done.lost:
        screen.show(f"  [red]{sentence}[/]")
    return asdict(done)


def _path(args: argparse.Namespace) -> Path:
    """The folder of TAKE, which may be too damaged to be opened; names go before paths, as in `Take.find`."""
    from capture.take import take_path

    folder, path = takes_folder(args), Path(args.take)
    is_name = path.name == args.take
    return take_path(folder, args.take) if is_name and ((folder / path).is_dir() or not path.is_dir()) else path
