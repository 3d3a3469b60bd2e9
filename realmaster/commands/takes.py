"""`realmaster takes`: list, show, verify, repair and export what has been recorded."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import CommandError, add_command, add_takes_folder, takes_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.frame import Frame
    from capture.take import Take
    from realmaster.progress import Screen, Step


_STATES = {"closed": "[green]closed[/]", "open": "[yellow]open[/]", "recording": "[red]recording[/]"}


def add(commands: Any) -> None:
    takes = commands.add_parser(
        "takes",
        help="look after takes: list, show, verify, repair, export",
        description="Look after what has been recorded. TAKE is a path, or the name of a take in the takes folder.",
        epilog="example:\n  realmaster takes show city-0001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = takes.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    listing = add_command(
        actions, "list", "list the takes of a folder", run=run_list, example="realmaster takes list --takes D:/takes"
    )
    add_takes_folder(listing)

    show = _add(actions, "show", "sum up a take and draw a sheet of its frames", run_show, "city-0001")
    show.add_argument("-o", "--out", type=Path, metavar="PNG", help="the sheet (default: sheet.png in the take)")

    _add(actions, "verify", "read every frame of a take and prove it whole", run_verify, "city-0001")
    _add(actions, "repair", "close a take that a crash left open", run_repair, "city-0001")

    export = _add(
        actions, "export", "write a take in a form that other programs read", run_export, "city-0001 --to mp4"
    )
    export.add_argument("--to", choices=("mp4", "frames"), required=True, help="mp4: one channel as video; "
                        "frames: PNG colour, depth and normals, float32 depth as NPY, cameras.json")  # fmt: skip
    export.add_argument("-o", "--out", type=Path, help="file or folder to write (default: beside the take)")
    export.add_argument(
        "--channel",
        default="color",
        help="channels of the video, several with commas, or side_by_side (default: color)",
    )


def _add(actions: Any, name: str, summary: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = add_command(actions, name, summary, run=run, example=f"realmaster takes {name} {example}")
    parser.add_argument("take", metavar="TAKE", help="path or name of a take")
    add_takes_folder(parser)
    return parser


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


def run_show(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take, TakeInfo
    from realmaster.progress import facts, readable_bytes

    take = Take.find(args.take, takes_folder(args))
    about = TakeInfo.of(take)
    events = Counter(event.get("name") for event in take.events)
    good = take.readable
    lost = take.recorded - len(good)
    frames = [take[good[place]] for place in _spread(len(good), 6)]
    sheet = None
    if frames:
        with screen.step("drawing the sheet", total=len(frames), unit="frames") as step:
            sheet = _draw_sheet(take, frames, args.out or take.path / "sheet.png", step)
    repairs = "" if about.state != "open" else "  (`realmaster takes repair` closes it)"
    screen.show(
        facts(
            take.name,
            {
                "path": take.path,
                "recorded": about.created,
                "engine": " / ".join(filter(None, (about.engine, about.game))),
                "frames": f"{take.recorded}, {about.dropped} dropped, {lost} lost",
                "length": f"{about.seconds:.2f} s at {about.fps:g} fps",
                "picture": "{}x{}".format(*about.size) if about.size else "none",
                "channels": ", ".join(about.channels),
                "on disk": readable_bytes(about.bytes),
                "state": about.state + repairs,
                "events": ", ".join(f"{number} {name}" for name, number in sorted(events.items())) or "none",
                "lifts": ", ".join(about.lifts) or "none yet (`realmaster lift` makes one)",
                "sheet": sheet or "no frames to draw",
            },
        )
    )
    found = {"recorded": take.recorded, "lost": lost, "damaged": take.damaged, "events": events, "sheet": sheet}
    return {**about.to_dict(), **found}


def _draw_sheet(take: Take, frames: Sequence[Frame], out: Path, step: Step) -> Path:
    """Colour, depth and normals of some frames on one sheet."""
    from capture.pictures import channel_picture, depth_range, shrink
    from realmaster.sheet import contact_sheet

    shown = [name for name in ("color", "depth", "normal") if all(name in frame.channels for frame in frames)]
    near, far = depth_range([frame.depth for frame in frames]) if "depth" in shown else (None, None)
    rows: dict[str, list[Any]] = {name: [] for name in shown or frames[0].channels}
    for done, frame in enumerate(frames, 1):
        for name, pictures in rows.items():
            pictures.append(shrink(channel_picture(frame, name, near, far), 320))
        step(done)
    columns = [f"frame {frame.index}   {frame.time - frames[0].time:.2f} s" for frame in frames]
    detail = f"{len(take)} frames, {take.engine}, {frames[0].shape[1]}x{frames[0].shape[0]}"
    try:
        contact_sheet(list(rows.items()), columns, take.name, detail).save(out)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot write the sheet to {out} ({reason}): name another PNG file with -o.") from None
    return out


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


def run_export(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.export import export_frames, export_mp4
    from capture.take import Take

    take = Take.find(args.take, takes_folder(args))
    name = f"{take.name}.mp4" if args.to == "mp4" else f"{take.name}-frames"
    out = args.out or take.path.with_name(name)
    with screen.step(f"exporting {out.name}", total=len(take), unit="frames") as step:
        if args.to == "mp4":
            done = export_mp4(take, out, channel=args.channel, progress=step)
        else:
            done = export_frames(take, out, progress=step)
    screen.show(f"[green]✓[/] {done.frames} frames: {out}")
    if done.missing:
        print(
            f"realmaster: {done.frames} of {done.frames + done.missing} frames were exported, the other {done.missing} "
            f"are lost, damaged or without the channel: `realmaster takes verify {take.name}` says which.",
            file=sys.stderr,
        )
    return {"take": take.path, "to": args.to, **done.to_dict()}


def _path(args: argparse.Namespace) -> Path:
    """The folder of TAKE, which may be too damaged to be opened; names go before paths, as in `Take.find`."""
    from capture.take import take_path

    folder, path = takes_folder(args), Path(args.take)
    is_name = path.name == args.take
    return take_path(folder, args.take) if is_name and ((folder / path).is_dir() or not path.is_dir()) else path


def _spread(length: int, wanted: int) -> list[int]:
    """Up to `wanted` indices from the first to the last, evenly."""
    if length <= wanted:
        return list(range(length))
    return [round(step * (length - 1) / (wanted - 1)) for step in range(wanted)]
