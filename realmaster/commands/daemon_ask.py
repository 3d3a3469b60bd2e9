"""`realmaster daemon ACTION`: what the page does with a running daemon, from the command line.

Works on the daemon's HTTP side; knows nothing of frames or models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.client import API, add_action, daemon_of, path_of
from realmaster.commands.daemon_library import show_export
from realmaster.commands.options import WrongUse, add_command, count, folder_name, frame_range, natural, positive

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    keys = add_command(
        actions, "keys", "keys for bridges on other machines", run=_keys, example="realmaster daemon keys game-pc",
        about="Make a key for a bridge on another machine and let it in; without a NAME, list those that are let in.\n"
        "Copy the file to that machine over a safe way, and start the bridge there with REALMASTER_KEY=FILE and\n"
        "REALMASTER_ENDPOINT=tcp://THIS-HOST:5790.",
    )  # fmt: skip
    keys.add_argument("name", nargs="?", type=folder_name, metavar="NAME", help="what the log calls that bridge")
    keys.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.key.json)")
    keys.add_argument("--revoke", action="store_true", help="let that bridge in no more")
    add_action(actions, "status", "what a running daemon does", _status, "status")
    record = add_action(actions, "record", "begin or end a take", _record, "record start")
    record.add_argument("what", choices=("start", "stop"))
    _add_session(record)
    replay = add_action(actions, "replay", "keep what just happened as a take", _replay, "replay --seconds 10")
    replay.add_argument("--seconds", type=positive, metavar="S", help="the last so many (default: all that is kept)")
    _add_session(replay)
    lift = add_action(actions, "lift", "queue a lift of a take", _lift,
                      "lift my-take --frames 0:48 --prompt 'wet street'")  # fmt: skip
    lift.add_argument("take", metavar="TAKE", help="name of a take in the daemon's folder")
    lift.add_argument("--frames", type=frame_range, default=(0, None), metavar="A:B", help="(default: all)")
    lift.add_argument("--prompt", default="", metavar="P", help="(default: the take's or the model's own)")
    lift.add_argument("--seed", type=natural, default=0, metavar="N", help="(default: 0)")
    lift.add_argument("--steps", type=count, metavar="N", help="sampling steps (default: the model's own)")
    lift.add_argument("--model", metavar="PROFILE", help="(default: the daemon's)")
    lift.add_argument("--lora", metavar="L", help="(default: the daemon's)")
    add_action(actions, "lifts", "the lift queue", _lifts, "lifts")
    for name, summary in (
        ("cancel", "cancel a lift, an export or a trim that is queued or running"),
        ("retry", "queue a lift again that failed, was cancelled or set aside"),
    ):
        job = add_action(actions, name, summary, _job, f"{name} 3")
        job.add_argument("job", metavar="JOB", help="its number")
        if name == "cancel":
            job.add_argument("--export", action="store_true", help="the number is that of an export or a trim")
    live = add_action(actions, "live", "switch live lifting", _live, "live on --prompt 'wet street'")
    live.add_argument("switch", choices=("on", "off"))
    live.add_argument("--prompt", default="", metavar="P", help="(default: the model's own)")
    live.add_argument("--seed", type=natural, default=0, metavar="N", help="(default: 0)")
    live.add_argument("--steps", type=count, metavar="N", help="sampling steps (default: the model's own)")
    health = add_action(actions, "health", "examine what a session sends just now", _health, "health")
    _add_session(health)
    control = add_action(actions, "control", "have the engine step, pause, hide its HUD or dump a frame", _control,
                   "control pause")  # fmt: skip
    control.add_argument("name", choices=("step", "pause", "hide_hud", "dump"))
    _add_session(control)
    support = add_action(actions, "support", "write all that somebody who helps wants to know", _support,
                   "support -o state.json")  # fmt: skip
    support.add_argument("-o", "--out", type=Path, default=Path("state.json"), metavar="FILE",
                         help="(default: state.json)")  # fmt: skip
    call = add_action(actions, "call", "any request of the API", _call, "call PATCH /takes/my-take --data "
                "'{\"notes\": \"dusk\"}'")  # fmt: skip
    call.add_argument("method", choices=("GET", "POST", "PUT", "PATCH", "DELETE"))
    call.add_argument("path", metavar="PATH", help=f"what comes after {API}; {API}/openapi.json lists all")
    call.add_argument("--data", metavar="JSON", help="the body")
    call.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the answer to a file, an export say")


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", metavar="ID", help="of several (default: all of them)")


def _keys(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.keys import KeyRing, save_bridge_key

    ring = KeyRing()
    if args.name is None:
        names = sorted(ring.allowed().values()) if ring.exists else []
        screen.show(f"let in: {', '.join(names) or 'nobody'}; the keys are in {ring.folder}")
        return {"allowed": names, "folder": ring.folder}
    if args.revoke:
        ring.revoke(args.name)
        screen.show(f"[green]✓[/] {args.name} is let in no more")
        return {"revoked": args.name}
    out = args.out or Path(f"{args.name}.key.json")
    if out.exists():
        raise UserError(f"{out} exists: choose another file with -o.")
    key = ring.add(args.name)
    save_bridge_key(out, key)
    screen.show(f"[green]✓[/] {out}: a secret; copy it to the bridge's machine, and set REALMASTER_KEY to it there")
    return {"name": args.name, "file": out, "server_key": key.server_key}


def _status(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape

    state: dict[str, Any] = daemon_of(args).call("GET", "/state")
    if state["problem"]:
        screen.show(f"[red]✗[/] {escape(state['problem'])}")
    for session in state["sessions"]:
        title = escape(" ".join(part for part in (session["engine"], session["game"]) if part))
        health = session["health"]["line"] if session["health"] else "not examined yet"
        screen.show(
            f"session {session['id'][:8]}: {title}, {session['fps']} frames/s, {session['dropped']} dropped, {health}"
            + (f", recording {session['recording']}" if session["recording"] else "")
        )
    if not state["sessions"]:
        screen.show(f"no engine is connected to {state['endpoint']}")
    waiting = [job for job in state["lifts"] if job["state"] in ("queued", "running")]
    screen.show(f"{len(state['takes'])} takes, {len(waiting)} lifts queued or running")
    if state["live"]["on"]:
        screen.show(f"live lifting: {state['live']['what']}, {state['live']['lag']} s behind")
    return state


def _record(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    return _told(daemon_of(args).call("POST", f"/record/{args.what}", {"session": args.session}), screen)


def _replay(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    body = {"session": args.session, "seconds": args.seconds}
    return _told(daemon_of(args).call("POST", "/replay/save", body), screen)


def _told(answer: Mapping[str, Any], screen: Screen) -> Mapping[str, Any]:
    for name in answer["takes"]:
        screen.show(f"[green]✓[/] {name}")
    return answer


def _lift(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    names = ("take", "frames", "prompt", "seed", "steps", "model", "lora")
    job = daemon_of(args).call("POST", "/lifts", {name: getattr(args, name) for name in names})
    _show_job(job, screen)
    return job


def _lifts(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    jobs = daemon_of(args).call("GET", "/lifts")
    for job in jobs:
        _show_job(job, screen)
    return {"lifts": jobs}


def _job(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    daemon, kind = daemon_of(args), "exports" if args.action == "cancel" and args.export else "lifts"
    path = path_of(kind, args.job)
    how = ("DELETE", path) if args.action == "cancel" else ("POST", f"{path}/retry")
    job: dict[str, Any] = daemon.call(*how)
    (show_export if kind == "exports" else _show_job)(job, screen)
    return job


def _show_job(job: Mapping[str, Any], screen: Screen) -> None:
    from rich.markup import escape

    left = f", {job['left']} s left" if job["left"] is not None else ""
    screen.show(f"{job['id']}: {job['lift']} of {job['take']}, {job['state']}, {job['done']} of {job['total']}{left}")
    if job["sentence"]:
        screen.show(f"   {escape(job['sentence'])}")


def _live(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    body = {"on": args.switch == "on", "prompt": args.prompt, "seed": args.seed, "steps": args.steps}
    state = daemon_of(args).call("POST", "/live", body)
    screen.show(f"live lifting: {state['what']}")
    return state


def _sessions(args: argparse.Namespace) -> list[str]:
    if args.session:
        return [args.session]
    return [session["id"] for session in daemon_of(args).call("GET", "/sessions")]


def _health(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    reports = {session: daemon_of(args).call("GET", f"/sessions/{session}/health") for session in _sessions(args)}
    for session, report in reports.items():
        screen.show(f"session {session[:8]}: {report['verdict']}, {report['line']}")
    return {"sessions": reports}


def _control(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    sessions = _sessions(args)
    for session in sessions:
        daemon_of(args).call("POST", f"/sessions/{session}/control", {"name": args.name})
    screen.show(f"told {len(sessions)} sessions: {args.name}")
    return {"sessions": sessions, "name": args.name}


def _support(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.files import write_atomically

    found = daemon_of(args).call("GET", "/support")
    write_atomically(args.out, (json.dumps(found, indent=2) + "\n").encode())
    screen.show(f"[green]✓[/] {args.out}: it names takes, games and folders, and no tokens")
    return {"file": args.out}


def _call(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    try:
        body = None if args.data is None else json.loads(args.data)
    except ValueError as error:
        raise WrongUse(f"--data is no JSON: {error}") from None
    answer = daemon_of(args).fetch(args.method, API + "/" + args.path.lstrip("/"), body)
    if args.out is not None:
        args.out.write_bytes(answer)
        return {"file": args.out, "bytes": len(answer)}
    try:
        told = json.loads(answer)
    except ValueError:
        raise WrongUse(f"the answer is {len(answer)} bytes that are no JSON: name a file for them with -o") from None
    if not args.json:
        print(json.dumps(told, indent=2))
    return {"answer": told}
