"""`realmaster daemon`: sessions, recording, lifting and the page, until Ctrl-C."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands import daemon_ask, daemon_library
from realmaster.commands.options import (
    add_command,
    add_precision,
    add_takes_folder,
    positive,
    precision,
    takes_folder,
    writable_folder,
)

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "daemon",
        "receive, record and lift while the engine runs, with a page",
        run=run,
        example="realmaster daemon --takes ./takes --http 127.0.0.1:8765",
        about="Receive frames from bridges, record and lift them while the engine runs, and show it all on a page. "
        "Ctrl-C ends\nit in good order. With an ACTION: do what the page does, with a daemon that runs.",
    )
    parser.add_argument("--listen", metavar="ENDPOINT", help="where bridges connect (default: tcp://127.0.0.1:5790)")
    parser.add_argument("--http", metavar="HOST:PORT", help="address of the page (default: 127.0.0.1:8765)")
    parser.add_argument("--model", default="embedded", metavar="PROFILE|DIR", help="model profile, or a folder in "
                        "diffusers layout (default: embedded)")  # fmt: skip
    parser.add_argument("--lora", metavar="L", help="adapter: a safetensors file, a folder, or a hub id")
    parser.add_argument("--replay-seconds", type=_seconds, default=20.0, metavar="S", help="how much of what "
                        "just happened can still be saved; 0 for nothing (default: 20)")  # fmt: skip
    parser.add_argument("--replay-memory", type=positive, metavar="MB", help="memory for that (default: 2000, or a "
                        "quarter of the machine's)")  # fmt: skip
    parser.add_argument("--remote-mbit", type=_mbit, metavar="N|inf", help="what the link to engines on other machines "
                        "carries, which send smaller frames where that is too little; inf: they never do (default: it "
                        "is measured)")  # fmt: skip
    parser.add_argument("--log", choices=("text", "json"), default="text", help="json: one object a line, for programs "
                        "(default: text)")  # fmt: skip
    parser.add_argument("--datasets", type=Path, metavar="DIR", help="folder of datasets of pairs to look through "
                        "(default: `datasets` beside the takes)")  # fmt: skip
    add_precision(parser)
    add_takes_folder(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions, on a daemon that runs")
    daemon_ask.add(actions)
    daemon_library.add(actions)


def _seconds(text: str) -> float:
    return 0.0 if text == "0" else positive(text)


def _mbit(text: str) -> float:
    return math.inf if text == "inf" else positive(text)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.connection import DEFAULT_ENDPOINT, connection_file, endpoint_port
    from daemon import logs
    from daemon.service import DaemonConfig, Service
    from realmaster.lift.profiles import load_profile
    from realmaster.progress import facts

    takes = writable_folder(takes_folder(args), "takes")
    load_profile(args.model)  # a profile that does not exist is said now, not at the first lift
    config = DaemonConfig(
        takes=takes,
        listen=args.listen or DEFAULT_ENDPOINT,
        http=args.http or DaemonConfig.http,
        http_token=os.environ.get("REALMASTER_HTTP_TOKEN"),
        model=args.model,
        lora=args.lora,
        replay_seconds=args.replay_seconds,
        replay_bytes=None if args.replay_memory is None else round(args.replay_memory * 1e6),
        precision=precision(args),
        remote_mbit=args.remote_mbit,
        datasets=args.datasets,
    )
    logs.set_up(logs.LogSettings(form=args.log))
    service = Service(config)
    with screen.step("starting"):
        service.start()
    where = {"page": service.http_url, "endpoint": service.endpoint, "takes": takes, "model": args.model}
    connection = connection_file(endpoint_port(service.endpoint))
    screen.show(facts("realmaster daemon", {**where, "connection file": connection, "end it with": "Ctrl-C"}))
    service.run_forever()
    return {**where, "connection_file": connection}
