"""`realmaster record replay`: have a running daemon keep what just happened as a take.

Works on the daemon's HTTP side; knows nothing of frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.client import Daemon
from realmaster.commands.options import CommandError, WrongUse

if TYPE_CHECKING:
    from realmaster.progress import Screen

WRITE_SECONDS = 120.0
"""How long the daemon may take to write what it has in memory."""


def check_use(args: argparse.Namespace) -> None:
    """WrongUse for options of `record` that mean nothing here."""
    for option, default in (
        ("frames", None), ("name", None), ("takes", None), ("depth", "exact"), ("normals", "exact")
    ):  # fmt: skip
        if getattr(args, option) != default:
            raise WrongUse(f"--{option} does not go with `record replay`: what is kept, and where, the daemon was told")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from realmaster.progress import readable_bytes

    daemon = Daemon.at(args.listen)
    takes = []
    with screen.step("saving what just happened"):
        names = daemon.call("POST", "/replay/save", {"seconds": args.seconds})["takes"]
        for name in names:
            takes.append(_closed(daemon, name))
    for take in takes:
        length = f"{take['frames']} frames, {take['seconds']:.1f} s, {readable_bytes(take['bytes'])}"
        screen.show(f"[green]✓[/] {length}: {take['path']}")
    first, *others = takes
    report = {"take": first["path"], "frames": first["frames"], "seconds": round(first["seconds"], 2)}
    return report | {"more_takes": [take["path"] for take in others]}


def _closed(daemon: Daemon, name: str) -> dict[str, Any]:
    """What the daemon says of a take once it is whole."""
    deadline = time.monotonic() + WRITE_SECONDS
    while time.monotonic() < deadline:
        try:
            take = daemon.call("GET", f"/takes/{name}")
        except UserError:  # its folder is not there yet
            take = {"state": "to come"}
        if take["state"] == "closed":
            return take
        time.sleep(0.1)
    raise CommandError(
        f"The daemon has not finished take {name} within {WRITE_SECONDS:.0f} s: see its log; `realmaster takes verify` "
        "says what is there.", {"take": name}
    )  # fmt: skip
