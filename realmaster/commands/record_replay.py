"""`realmaster record replay`: have a running daemon keep what just happened as a take.

Works on the daemon's HTTP side; knows nothing of frames.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from capture.errors import SenderError, UserError
from realmaster.commands.options import CommandError, WrongUse

if TYPE_CHECKING:
    from realmaster.progress import Screen

API = "/api/v1"
ANSWER_SECONDS = 15.0
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
    from capture.connection import DEFAULT_ENDPOINT, read_connection
    from realmaster.progress import readable_bytes

    endpoint = args.listen or DEFAULT_ENDPOINT
    try:
        daemon = read_connection(endpoint).http
    except SenderError:
        raise UserError(
            f"No daemon runs at {endpoint} that could have kept anything: start one with `realmaster daemon`."
        ) from None
    if not daemon:
        raise UserError(f"What listens on {endpoint} is no `realmaster daemon`: only that keeps replays.")
    takes = []
    with screen.step("saving what just happened"):
        names = _call(daemon, "POST", "/replay/save", {"seconds": args.seconds})["takes"]
        for name in names:
            takes.append(_closed(daemon, name))
    for take in takes:
        length = f"{take['frames']} frames, {take['seconds']:.1f} s, {readable_bytes(take['bytes'])}"
        screen.show(f"[green]✓[/] {length}: {take['path']}")
    first, *others = takes
    report = {"take": first["path"], "frames": first["frames"], "seconds": round(first["seconds"], 2)}
    return report | {"more_takes": [take["path"] for take in others]}


def _closed(daemon: str, name: str) -> dict[str, Any]:
    """What the daemon says of a take once it is whole."""
    deadline = time.monotonic() + WRITE_SECONDS
    while time.monotonic() < deadline:
        try:
            take = _call(daemon, "GET", f"/takes/{name}")
        except UserError:  # its folder is not there yet
            take = {"state": "to come"}
        if take["state"] == "closed":
            return take
        time.sleep(0.1)
    raise CommandError(
        f"The daemon has not finished take {name} within {WRITE_SECONDS:.0f} s: see its log; `realmaster takes verify` "
        "says what is there.", {"take": name}
    )  # fmt: skip


def _call(daemon: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """An answer of the daemon; UserError with its own sentence when it refuses."""
    request = urllib.request.Request(
        daemon + API + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"},
        method=method,
    )  # fmt: skip
    if token := os.environ.get("REALMASTER_HTTP_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own
    try:
        with direct.open(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            sentence = json.load(error)["error"]
        except (ValueError, KeyError, TypeError):
            sentence = f"The daemon at {daemon} answers with {error.code}."
        raise UserError(sentence) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"The daemon at {daemon} does not answer ({error}): start one with `realmaster daemon`."
        ) from None
