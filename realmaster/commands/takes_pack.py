"""`realmaster takes pack`: make takes smaller without losing a bit."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import add_take_command, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    add_take_command(
        actions, "pack", "make a take smaller without losing a bit", run, "city-0001",
        "Make a take smaller without losing a bit. It takes a while: some minutes for a minute of 1080p. A packed file "
        "takes the\nplace of the old one only when it was read back and compared, so it may be interrupted; the next "
        "call goes on.",
    )  # fmt: skip


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.pack import pack
    from capture.take import Take
    from realmaster.progress import readable_bytes

    with Take.find(args.take, takes_folder(args)) as take:
        path = take.path
    with screen.step(f"packing {path.name}", unit="frames") as step:
        done = pack(path, progress=step)
    if done.packed:
        share = 100 * done.bytes / max(1, done.bytes_before)
        before, now = readable_bytes(done.bytes_before), readable_bytes(done.bytes)
        screen.show(f"[green]✓[/] {path.name}: {done.packed} frames packed, {before} are now {now} ({share:.0f} %).")
    else:
        screen.show(f"[green]✓[/] {path.name}: there was nothing left to pack.")
    return done.to_dict()
