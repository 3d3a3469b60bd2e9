"""`realmaster eval`: score a lift against the engine's geometry and, where there is one, against the truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import add_command, add_takes_folder, frame_range, takes_folder

if TYPE_CHECKING:
    import numpy as np

    from capture.frame import Frame
    from realmaster.progress import Screen


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "eval",
        "score a lift against the engine's geometry and a reference",
        run=run,
        example="realmaster eval city-0001 city-0001/lifts/embedded-1 --reference truth.mp4 -o report.json",
        about="Score a lift. Every score is given for the untouched render too: without that control a number says "
        "little.",
    )
    parser.add_argument("render", metavar="RENDER", help="a take (path or name), or a video of the render")
    parser.add_argument("lifted", metavar="LIFTED", type=Path, help="a video, or the folder of a lift")
    parser.add_argument("--reference", metavar="R", type=Path, help="a video of the truth, for PSNR and SSIM")
    parser.add_argument("--frames", type=frame_range, metavar="A:B", help="the render's frames that were lifted "
                        "(default: what the lift's report says, else all)")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="REPORT", help="write the scores as JSON")
    add_takes_folder(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from realmaster.measure import Scorer

    lifted, noted = _lift(args.lifted)
    first, end = args.frames or noted or (0, None)
    frames = _render(args, first, end)
    references = _video(args.reference) if args.reference else None
    scorer = Scorer()
    with screen.step("scoring", unit="frames") as step:
        for picture in _video(lifted):
            frame = next(frames, None)
            truth = None if references is None else next(references, None)
            if frame is None or (references is not None and truth is None):
                short = args.render if frame is None else args.reference
                raise UserError(
                    f"{short} ends before {args.lifted} does, after {scorer.count} frames: give --frames A:B."
                )
            for other, name in ((picture, args.lifted), (truth, args.reference)):
                if other is not None and other.shape[:2] != frame.shape:
                    raise UserError(f"{name} is {_size(other.shape)}, but {args.render} is {_size(frame.shape)}.")
            scorer.add(frame, picture, truth)
            step(scorer.count)
    scores = {name: each.to_dict() for name, each in scorer.result().items()}
    report = {
        "render": args.render,
        "lifted": lifted,
        "reference": args.reference,
        "frames": scorer.count,
        "scores": scores,
    }
    if args.out:
        try:
            args.out.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot write {args.out} ({error.strerror}): name another file with -o.") from None
    screen.show(scores_table(scores, f"{scorer.count} frames of {args.lifted}"))
    return report


def scores_table(scores: Mapping[str, Mapping[str, float | None]], title: str) -> Any:
    """A rich table of `{"lifted": {score: value}, "render": {score: value}}`, the lift beside its controls: the render
    and, where `scores` has one, the "reference"."""
    from rich.table import Table

    from realmaster.measure import MEASURES

    headings = {"lifted": "lift", "render": "untouched render", "reference": "reference"}
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("score")
    for video in scores:
        table.add_column(headings[video], justify="right", style="bold" if video == "lifted" else "")
    table.add_column("", style="dim")
    for key, measure in MEASURES.items():
        values = [each.get(key) for each in scores.values()]
        if values[0] is None:
            continue
        cells = ["-" if v is None else f"{v:.{measure.digits}f} {measure.unit}".strip() for v in values]
        table.add_row(measure.name, *cells, measure.reading)
    return table


def _lift(path: Path) -> tuple[Path, tuple[int, int] | None]:
    """The video of a lift, and the frames of its take that it shows when its report says so."""
    if not path.is_dir():
        return path, None
    try:
        first, end = json.loads((path / "report.json").read_text("utf-8"))["frames"]
    except (OSError, ValueError, KeyError, TypeError):
        return path / "lifted.mp4", None
    return path / "lifted.mp4", (int(first), int(end))


def _render(args: argparse.Namespace, first: int, end: int | None) -> Iterator[Frame]:
    """Frames [first, end) of a take, or of a video, which has colour only."""
    from capture.take import Take

    path = Path(args.render)
    if not path.is_file():
        yield from Take.find(args.render, takes_folder(args))[first:end]
        return
    from capture.frame import Channel, Descriptor, Frame

    for index, picture in enumerate(_video(path)):
        if end is not None and index >= end:
            return
        if index >= first:
            color = Channel(Descriptor("color", "uint8", picture.shape), picture, index)
            yield Frame(index, index, float(index), None, {"color": color})


def _video(path: Path) -> Iterator[np.ndarray]:
    from capture.video import iterate_video

    for _, picture in iterate_video(path):
        yield picture


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
