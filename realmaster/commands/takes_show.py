"""`realmaster takes show`: a summary of a take and a sheet of its pictures."""

from __future__ import annotations

import argparse
import webbrowser
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import add_take_command, takes_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.frame import Frame
    from capture.take import Take
    from realmaster.progress import Screen, Step


def add(actions: Any) -> None:
    show = add_take_command(actions, "show", "sum up a take and draw a sheet of its frames", run, "city-0001 --open")
    show.add_argument("-o", "--out", type=Path, metavar="PNG", help="the sheet (default: sheet.png in the take)")
    show.add_argument("--open", action="store_true", help="open the sheet in this system's picture viewer")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.export.common import take_entry
    from capture.health import read_health
    from capture.take import Take, TakeInfo
    from capture.take_edit import MADE_FROM
    from realmaster.progress import facts, readable_bytes

    take = Take.find(args.take, takes_folder(args))
    about = TakeInfo.of(take)
    health = read_health(take.path)
    events = Counter(event.get("name") for event in take.events)
    good = take.readable
    lost = take.recorded - len(good)
    frames = [take[good[place]] for place in _spread(len(good), 6)]
    sheet = None
    if frames:
        with screen.step("drawing the sheet", total=len(frames), unit="frames") as step:
            sheet = _draw_sheet(take, frames, args.out or take.path / "sheet.png", step)
    if sheet is not None and args.open and not webbrowser.open(sheet.resolve().as_uri()):
        screen.say(f"no picture viewer could be opened: open {sheet} yourself")
    made_from = take.manifest["metadata"].get(MADE_FROM) or []
    parts = [f"{part['take']} {part['first']}:{part['end']}" for part in made_from[:4]] + ["..."] * (len(made_from) > 4)
    reduced = take.manifest["metadata"].get("reduced")
    guessed = {entry["name"] for entry in take.manifest["channels"] if entry.get("estimated")}
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
                **({"sent": "{how}, of {}x{}".format(*reduced["size"], **reduced)} if reduced else {}),
                "channels": ", ".join(f"{name} (estimated)" if name in guessed else name for name in about.channels),
                **({"lengths": take_entry(take)["lengths"]} if "depth" in about.channels else {}),
                "on disk": readable_bytes(about.bytes),
                "state": about.state + repairs,
                **({"made from": ", ".join(parts)} if parts else {}),
                "health": health["line"] if health else f"unknown (`realmaster doctor --bridge {take.name}` tells it)",
                "events": ", ".join(f"{number} {name}" for name, number in sorted(events.items())) or "none",
                "lifts": ", ".join(about.lifts) or "none yet (`realmaster lift` makes one)",
                "sheet": sheet or "no frames to draw",
            },
        )
    )
    found = {"recorded": take.recorded, "lost": lost, "damaged": take.damaged, "events": events, "sheet": sheet}
    return {**about.to_dict(), "health": health, **found, "made_from": made_from, "reduced": reduced}


def _draw_sheet(take: Take, frames: Sequence[Frame], out: Path, step: Step) -> Path:
    """Colour, depth and normals of some frames on one sheet."""
    from capture.pictures import depth_range
    from realmaster.sheet import contact_sheet

    names = [name for name in ("color", "depth", "normal") if any(name in frame.available for frame in frames)]
    names = names or list(frames[0].channels)
    depths = [depth for frame in frames if (depth := _depth(frame)) is not None]
    near, far = depth_range(depths) if depths else (None, None)
    size = frames[0].shape[0] * 320 // max(320, frames[0].shape[1]), min(320, frames[0].shape[1])
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for done, frame in enumerate(frames, 1):
        for name, pictures in rows.items():
            pictures.append(_picture(frame, name, near, far, (max(1, size[0]), size[1])))
        step(done)
    elapsed = take.elapsed
    columns = [f"frame {frame.index}   {elapsed[frame.index]:.2f} s" for frame in frames]
    detail = f"{len(take)} frames, {take.engine}, {frames[0].shape[1]}x{frames[0].shape[0]}"
    derived = "normal" in names and not any("normal" in frame.channels for frame in frames)
    titles = {"normal": "normal\n(from depth)"} if derived else {}
    try:
        sheet = contact_sheet([(titles.get(n, n), row) for n, row in rows.items()], columns, take.name, detail)
        sheet.save(out)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot write the sheet to {out} ({reason}): name another PNG file with -o.") from None
    return out


def _picture(frame: Frame, name: str, near: float | None, far: float | None, size: tuple[int, int]) -> Any:
    """A channel as a picture of (H, W) `size`; grey, and saying so, where it is damaged or missing."""
    import numpy as np

    from capture.errors import FrameError, TakeDamagedError
    from capture.pictures import channel_picture, label, letterbox, shrink

    try:
        return letterbox(shrink(channel_picture(frame, name, near, far), size[1]), size)
    except (TakeDamagedError, FrameError) as error:
        blank = np.full((*size, 3), 64, np.uint8)
        return label(blank, "damaged" if isinstance(error, TakeDamagedError) else f"no {name}")


def _depth(frame: Frame) -> Any:
    from capture.errors import FrameError, TakeDamagedError

    try:
        return frame.depth
    except (TakeDamagedError, FrameError):
        return None


def _spread(length: int, wanted: int) -> list[int]:
    """Up to `wanted` indices from the first to the last, evenly."""
    if length <= wanted:
        return list(range(length))
    return [round(step * (length - 1) / (wanted - 1)) for step in range(wanted)]
