"""`realmaster takes rename`, `notes`, `delete` and `trash`: order in a folder of takes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import add_command, add_take_command, add_takes_folder, folder_name, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    rename = add_take_command(
        actions, "rename", "give a take another name", run_rename, "2026-11-23T01-20-00_city morning-drive"
    )
    rename.add_argument("name", type=folder_name, metavar="NAME", help="the new name")

    notes = add_take_command(
        actions, "notes", "write down what should be remembered of a take", run_notes, 'city-0001 "rain, a long turn"',
        "Write down what should be remembered of a take, or, without TEXT, read it. It is kept as notes.txt in the "
        "take.",
    )  # fmt: skip
    notes.add_argument("text", nargs="?", metavar="TEXT", help="the notes, in place of those before; empty for none")

    delete = add_take_command(
        actions, "delete", "move a take, or a lift of it, to the trash", run_delete, "city-0001 --lift embedded-1"
    )
    delete.add_argument("--lift", metavar="LIFT", help="only this lift")

    trash = add_command(
        actions, "trash", "look into the trash, bring something back, or empty it", run=run_trash,
        example="realmaster takes trash --restore 1764386462-city-0001",
        about="Look into the trash of a folder of takes. With --restore something comes back; with --empty everything "
        "in it is\ndeleted for good.",
    )  # fmt: skip
    what = trash.add_mutually_exclusive_group()
    what.add_argument("--restore", metavar="ID", help="bring this back")
    what.add_argument("--empty", action="store_true", help="delete everything in the trash for good")
    add_takes_folder(trash)


def run_rename(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take_shelf import rename_take

    path = _find(args)
    new = rename_take(path, args.name)
    screen.show(f"[green]✓[/] {path.name} is {new.name} now: {new}")
    return {"take": new, "before": path.name}


def run_notes(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape

    from capture.take_shelf import read_notes, write_notes

    path = _find(args)
    if args.text is not None:
        write_notes(path, args.text)
    notes = read_notes(path)
    screen.show(escape(notes.rstrip()) or f"There are no notes on {path.name}.")
    return {"take": path, "notes": notes}


def run_delete(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take_shelf import trash_lift, trash_take

    path = _find(args)
    entry = trash_take(path) if args.lift is None else trash_lift(path, args.lift)
    what = path.name if args.lift is None else f"{args.lift} of {path.name}"
    screen.show(f"[green]✓[/] {what} is in the trash; `realmaster takes trash --restore {entry.id}` brings it back.")
    return entry.to_dict()


def run_trash(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.table import Table

    from capture.take_shelf import empty_trash, restore, trashed
    from realmaster.progress import readable_bytes

    folder = takes_folder(args)
    if args.restore is not None:
        take = restore(folder, args.restore)
        screen.show(f"[green]✓[/] {take.name} is back: {take}")
        return {"take": take}
    if args.empty:
        freed = empty_trash(folder)
        screen.show(f"[green]✓[/] The trash is empty: {readable_bytes(freed)} are free again.")
        return {"bytes": freed}
    entries = trashed(folder)
    if not entries:
        screen.show(f"The trash of {folder} is empty.")
    else:
        table = Table(title=f"{len(entries)} in the trash of {folder}", title_justify="left", box=None, pad_edge=False)
        for heading in ("id", "take", "lift", "on disk"):
            table.add_column(heading, overflow="fold")
        for entry in entries:
            table.add_row(entry.id, entry.take, entry.lift or "-", readable_bytes(entry.bytes))
        screen.show(table)
    return {"folder": folder, "trash": [entry.to_dict() for entry in entries]}


def _find(args: argparse.Namespace) -> Path:
    """The folder of TAKE, readable or not."""
    from capture.take import take_path
    from capture.take_folder import check_folder

    folder, path = takes_folder(args), Path(args.take)
    if path.name == args.take and ((folder / path).is_dir() or not path.is_dir()):
        return take_path(folder, args.take)
    check_folder(path)
    return path.resolve()
