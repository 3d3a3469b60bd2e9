"""`realmaster daemon takes`, `export`, `trim`, `rename`, `trash`, `model`, `pairs` and the like: what the page does
with takes, models and pairs, with a daemon that may run on another machine.

Works on the daemon's HTTP side. `realmaster takes` does the same to a folder, without a daemon.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.client import API, add_action, daemon_of, path_of
from realmaster.commands.options import WrongUse, folder_name, frame_range

if TYPE_CHECKING:
    from realmaster.progress import Screen

FORMS = ("mp4", "exr", "frames", "comfyui", "webdataset", "rerun", "lift", "compare")


def add(actions: Any) -> None:
    add_action(actions, "takes", "the takes in the daemon's folder", _takes, "takes")
    export = add_action(actions, "export", "queue an export of a take, or of a lift of it", _export,
                        "export my-take --to compare --lift embedded-1")  # fmt: skip
    _add_take(export)
    export.add_argument("--to", required=True, choices=FORMS, help="lift and compare are of a lift: its video, or "
                        "render and lift beside each other")  # fmt: skip
    export.add_argument("--lift", metavar="LIFT", help="which one")
    export.add_argument("--frames", type=frame_range, metavar="A:B", help="(default: all)")
    export.add_argument("--channel", metavar="C", help="mp4: a channel, several with commas, edges or side_by_side")
    export.add_argument("--up", choices=("y", "z"), help="exr: the world's axis that points up")
    add_action(actions, "exports", "the queue of exports and trims", _exports, "exports")
    download = add_action(actions, "download", "fetch the file of an export; of a folder a zip", _download,
                          "download 2")  # fmt: skip
    download.add_argument("job", metavar="JOB", help="its number")
    download.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: its own name, here)")
    trim = add_action(actions, "trim", "make a new take of a part of one", _trim, "trim my-take 24:96 --name turn")
    _add_take(trim)
    trim.add_argument("frames", type=frame_range, metavar="A:B", help="frames A up to but without B")
    trim.add_argument("--name", type=folder_name, metavar="NAME", help="(default: the take's with A and B)")
    rename = add_action(actions, "rename", "give a take another name", _rename, "rename my-take morning-drive")
    _add_take(rename)
    rename.add_argument("name", type=folder_name, metavar="NAME", help="the new name")
    notes = add_action(actions, "notes", "read or write the notes on a take", _notes, "notes my-take 'rain, a turn'")
    _add_take(notes)
    notes.add_argument("text", nargs="?", metavar="TEXT", help="in place of those before; empty for none")
    delete = add_action(actions, "delete", "move a take, or a lift of it, to the trash", _delete,
                        "delete my-take --lift embedded-1")  # fmt: skip
    _add_take(delete)
    delete.add_argument("--lift", metavar="LIFT", help="only this lift")
    trash = add_action(actions, "trash", "look into the trash, bring back, or delete for good", _trash,
                       "trash --restore 1764386462-my-take")  # fmt: skip
    what = trash.add_mutually_exclusive_group()
    what.add_argument("--restore", metavar="ID", help="bring this back")
    what.add_argument("--delete", metavar="ID", help="delete this for good")
    what.add_argument("--empty", action="store_true", help="delete everything in the trash for good")
    add_action(actions, "models", "what there is to lift with, and what fits that machine", _models, "models")
    model = add_action(actions, "model", "choose the daemon's own model", _model, "model embedded")
    model.add_argument("name", metavar="PROFILE", help="as `models` lists it")
    model.add_argument("--lora", metavar="L", help="adapter (default: the profile's own)")
    pairs = add_action(actions, "pairs", "look through pairs; keep or drop them", _pairs, "pairs street --drop 0003",
                       "List the datasets of pairs, or the pairs of one, or decide about one of these. --settle brings "
                       "the files\nof the dataset in line with what was decided.")  # fmt: skip
    pairs.add_argument("dataset", nargs="?", metavar="DATASET", help="name of a dataset")
    decide = pairs.add_mutually_exclusive_group()
    decide.add_argument("--keep", metavar="PAIR")
    decide.add_argument("--drop", metavar="PAIR")
    decide.add_argument("--undecide", metavar="PAIR", help="leave it to the filters")
    decide.add_argument("--settle", action="store_true")


def _add_take(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("take", metavar="TAKE", help="name of a take in the daemon's folder")


def show_export(job: Mapping[str, Any], screen: Screen) -> None:
    from rich.markup import escape

    far = f"{job['done']} of {job['total']}" if job["state"] == "running" and job["total"] else job["state"]
    screen.show(f"{job['id']}: {job['to']} of {job['take']}, {far}: {escape(job['path'])}")
    for sentence in filter(None, (job["sentence"], *job["notes"])):
        screen.show(f"   {escape(sentence)}")


def _takes(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape

    takes = daemon_of(args).call("GET", "/takes")
    for take in takes:
        lifts = ", ".join(lift["name"] for lift in take["lifts"])
        about = [escape(take["game"] or take["engine"]), f"{take['frames']} frames", f"{take['seconds']:.1f} s"]
        state = [] if take["state"] == "closed" else [take["state"]]
        screen.show(f"{take['name']}: {', '.join([*about, *state])}" + (f"; lifts: {lifts}" if lifts else ""))
    if not takes:
        screen.show("There are no takes yet.")
    return {"takes": takes}


def _export(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    asked = {name: getattr(args, name) for name in ("take", "to", "lift", "channel", "up")}
    job: dict[str, Any] = daemon_of(args).call("POST", "/exports", asked | {"frames": args.frames or (None, None)})
    show_export(job, screen)
    return job


def _exports(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    jobs = daemon_of(args).call("GET", "/exports")
    for job in jobs:
        show_export(job, screen)
    if not jobs:
        screen.show("Nothing has been exported since the daemon was started.")
    return {"exports": jobs}


def _download(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    out = daemon_of(args).download(API + path_of("exports", args.job, "download"), args.out)
    screen.show(f"[green]✓[/] {out}")
    return {"file": out, "bytes": out.stat().st_size}


def _trim(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    daemon = daemon_of(args)
    first, end = args.frames
    if end is None:
        end = daemon.call("GET", path_of("takes", args.take))["frames"]
    body = {"frames": (first, end), "name": args.name}
    job: dict[str, Any] = daemon.call("POST", path_of("takes", args.take, "trim"), body)
    show_export(job, screen)
    return job


def _rename(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    take: dict[str, Any] = daemon_of(args).call("PATCH", path_of("takes", args.take), {"name": args.name})
    screen.show(f"[green]✓[/] {args.take} is {take['name']} now")
    return {"take": take["name"], "before": args.take}


def _notes(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape

    path = path_of("takes", args.take)
    how = ("GET", path) if args.text is None else ("PATCH", path, {"notes": args.text})
    notes = daemon_of(args).call(*how)["notes"]
    screen.show(escape(notes.rstrip()) or f"There are no notes on {args.take}.")
    return {"take": args.take, "notes": notes}


def _delete(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    names = ("takes", args.take) if args.lift is None else ("takes", args.take, "lifts", args.lift)
    entry: dict[str, Any] = daemon_of(args).call("DELETE", path_of(*names))
    what = args.take if args.lift is None else f"{args.lift} of {args.take}"
    screen.show(f"[green]✓[/] {what} is in the trash; `realmaster daemon trash --restore {entry['id']}` brings it back")
    return entry


def _trash(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from realmaster.progress import readable_bytes

    daemon = daemon_of(args)
    if args.restore is not None:
        back: dict[str, Any] = daemon.call("POST", path_of("trash", args.restore, "restore"))
        screen.show(f"[green]✓[/] {back['take']} is back")
        return back
    if args.empty or args.delete is not None:
        freed: dict[str, Any] = daemon.call("DELETE", "/trash" if args.empty else path_of("trash", args.delete))
        screen.show(f"[green]✓[/] {readable_bytes(freed['bytes'])} are free again")
        return freed
    entries = daemon.call("GET", "/trash")
    for entry in entries:
        what = f"lift {entry['lift']} of {entry['take']}" if entry["lift"] else entry["take"]
        screen.show(f"{entry['id']}: {what}, {readable_bytes(entry['bytes'])}")
    if not entries:
        screen.show("The trash is empty.")
    return {"trash": entries}


def _models(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from rich.markup import escape

    daemon = daemon_of(args)
    while (found := daemon.call("GET", "/models"))["pending"]:
        pass  # each answer waits for what is being found out
    own: dict[str, Any] = daemon.call("GET", "/state")["model"]
    for model in found["models"]:
        mark = "[green]✓[/]" if model["runs"] else " "
        chosen = " (the daemon's own)" if model["name"] == own["name"] else ""
        screen.show(f"{mark} {escape(model['name'])}{chosen}: {escape(model['verdict'])}")
    for adapter in found["adapters"]:
        screen.show(f"adapter {escape(adapter['name'])}: {escape(adapter['reference'])}")
    return found | {"model": own}


def _model(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    chosen: dict[str, Any] = daemon_of(args).call("PUT", "/model", {"name": args.name, "lora": args.lora})
    screen.show(f"[green]✓[/] lifts are by {chosen['name']} now" + (f" with {chosen['lora']}" if args.lora else ""))
    return chosen


def _pairs(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    daemon, decided = daemon_of(args), args.keep or args.drop or args.undecide
    if args.dataset is None and (decided or args.settle):
        raise WrongUse("the dataset is missing: realmaster daemon pairs DATASET --keep PAIR")
    if args.dataset is None:
        datasets = daemon.call("GET", "/datasets")
        for each in datasets:
            kept = f"{each['kept']} of {each['pairs']} pairs kept"
            screen.show(f"{each['name']}: {kept}, {each['decided']} decided by hand")
        if not datasets:
            screen.show("There is no dataset of pairs.")
        return {"datasets": datasets}
    if args.settle:
        settled: dict[str, Any] = daemon.call("POST", path_of("datasets", args.dataset, "settle"))
        screen.show(f"[green]✓[/] pairs.jsonl has {settled['pairs']} pairs now, {settled['rejected']} are turned down")
        return settled
    if decided:
        decision = "keep" if args.keep else "drop" if args.drop else None
        path = path_of("datasets", args.dataset, "pairs", decided, "decision")
        answer: dict[str, Any] = daemon.call("PUT", path, {"decision": decision})
        screen.show(f"[green]✓[/] {decided}: {decision or 'as the filters say'}")
        return answer
    pairs = daemon.call("GET", path_of("datasets", args.dataset, "pairs"))
    for pair in pairs:
        kept = "[green]kept[/]" if pair["kept"] else "turned down"
        by_hand = ", by hand" if pair["decision"] else ""
        screen.show(f"{pair['id']}: {kept}{by_hand}" + (f" ({'; '.join(pair['reasons'])})" if pair["reasons"] else ""))
    return {"dataset": args.dataset, "pairs": pairs}
