"""`realmaster eval`: score a lift against the engine's geometry and, where there is one, against the truth."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import add_command, add_takes_folder, count, frame_range, takes_folder

if TYPE_CHECKING:
    import numpy as np

    from capture.frame import Frame
    from realmaster.measure import Finding, Scorer
    from realmaster.measure.album import Album
    from realmaster.progress import Screen


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "eval",
        "score a lift against the engine's geometry and a reference",
        run=run,
        example="realmaster eval city-0001 city-0001/lifts/embedded-1 --reference truth.mp4 -o report.html",
        about="Score a lift, and say what stands out. Every score is given for the untouched render too: without that "
        "control a number says little.",
    )
    parser.add_argument("render", metavar="RENDER", help="a take (path or name), or a video of the render")
    parser.add_argument("lifted", metavar="LIFTED", type=Path, help="a video, or the folder of a lift")
    parser.add_argument("--reference", metavar="R", type=Path, help="a video of the truth, for PSNR, SSIM and more")
    parser.add_argument("--frames", type=frame_range, metavar="A:B", help="the render's frames that were lifted "
                        "(default: what the lift's report says, else all)")  # fmt: skip
    parser.add_argument("--seam-period", type=count, metavar="P", help="pixels between the borders of the model's "
                        "patches (default: a grid is looked for)")  # fmt: skip
    parser.add_argument("--dino", metavar="MODEL", help="DINO ViT-B/8 in transformers' layout, for the structure "
                        "distance (default: facebook/dino-vitb8 where the hub's cache has it)")  # fmt: skip
    parser.add_argument("--clip", metavar="MODEL", help="CLIP in transformers' layout, for CMMD (default: "
                        "openai/clip-vit-large-patch14-336 where the hub's cache has it)")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="REPORT", help="write the scores as REPORT.json, and as a "
                        "page with pictures, curves and maps, REPORT.html")  # fmt: skip
    add_takes_folder(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from realmaster.measure import COPY_CAVEAT, Scorer, findings
    from realmaster.measure.album import Album
    from realmaster.measure.learned import learned_measures

    lifted, noted = _lift(args.lifted)
    first, end = args.frames or noted or (0, None)
    out = _outputs(args.out)
    learned, absent = learned_measures(args.dino, args.clip, args.reference is not None)
    scorer, album = Scorer(args.seam_period, learned, first), Album()
    with screen.step("scoring", unit="frames") as step:
        for frame, picture, truth in _moments(args, lifted, first, end):
            moment = scorer.add(frame, picture, truth)
            if out:
                album.add(moment, scorer.latest)
            step(scorer.count)
    if not scorer.count:
        raise UserError(f"{lifted} has no frames to score.")
    found = findings(scorer)
    report = {
        "render": args.render,
        "lifted": lifted,
        "reference": args.reference,
        "frames": scorer.count,
        "first_frame": first,
        "scores": {name: each.to_dict() for name, each in scorer.result().items()},
        "stands_out": [finding.to_dict() for finding in found],
        "worst_frames": {kind: [first + page.index for page in pages] for kind, pages in album.worst.items()},
        "not_scored": [str(each) for each in absent],
        "files": out,
    }
    if out:
        _write(out, report, scorer, album, found)
    screen.show(scores_table(report["scores"], f"{scorer.count} frames of {args.lifted}"))
    lines = ["", *_told(found), "", f"[dim]{COPY_CAVEAT}[/]"]
    if absent:
        lines += [f"[dim]Not scored, for want of weights: {', '.join(each.measure for each in absent)}.[/]"]
    if out:
        lines += [f"the page: [bold]{out['html']}[/]"]
    for line in lines:
        screen.show(line)
    return report


def _told(found: Sequence[Finding]) -> list[str]:
    """What stands out, a line each."""
    if not found:
        return ["[green]nothing stands out[/]"]
    return ["[bold]what stands out[/]", *(f"[yellow]•[/] {finding.sentence}" for finding in found)]


def _outputs(out: Path | None) -> dict[str, Path]:
    """The two files of a report; UserError, before any work is done, where they cannot be written."""
    if out is None:
        return {}
    base = out.with_suffix("") if out.suffix in (".json", ".html") else out
    if base.is_dir():
        raise UserError(f"{base} is a folder: name a file for the report with -o.")
    paths = {kind: base.with_name(f"{base.name}.{kind}") for kind in ("json", "html")}
    try:
        for path in paths.values():
            with path.open("a", encoding="utf-8") as file:
                new = not file.tell()
            if new:
                path.unlink()
    except OSError as error:
        raise UserError(f"Cannot write {path} ({error.strerror}): name another file with -o.") from None
    return paths


def _write(
    out: Mapping[str, Path], report: Mapping[str, Any], scorer: Scorer, album: Album, found: Sequence[Finding]
) -> None:
    from realmaster.measure.report import report_page

    facts = {"lift": str(report["lifted"]), "render": str(report["render"]), "frames": str(report["frames"])}
    if report["reference"]:
        facts["reference"] = str(report["reference"])
    notes = [
        "Each score is computed for the lift, for the untouched render and, where there is one, for the reference, by "
        "the same code; docs/measures.md defines them.",
        *report["not_scored"],
    ]
    curves = {video: {k: [_rounded(v) for v in c] for k, c in each.items()} for video, each in scorer.curves.items()}
    page = report_page(scorer, album, found, facts, notes)
    try:
        out["json"].write_text(json.dumps({**report, "curves": curves}, indent=2, default=str) + "\n", encoding="utf-8")
        out["html"].write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"The report cannot be written ({error.strerror}): name another file with -o.") from None


def _rounded(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _moments(
    args: argparse.Namespace, lifted: Path, first: int, end: int | None
) -> Iterator[tuple[Frame, np.ndarray, np.ndarray | None]]:
    """The render's frames with the lift's pictures and the reference's, as long as the lift lasts."""
    frames = _render(args, first, end)
    references = _video(args.reference) if args.reference else None
    for index, picture in enumerate(_video(lifted)):
        frame = next(frames, None)
        truth = None if references is None else next(references, None)
        if frame is None or (references is not None and truth is None):
            short = args.render if frame is None else args.reference
            raise UserError(f"{short} ends before {args.lifted} does, after {index} frames: give --frames A:B.")
        yield (
            frame,
            _fitted(picture, frame, args.lifted),
            None if truth is None else _fitted(truth, frame, args.reference),
        )


def _fitted(picture: np.ndarray, frame: Frame, name: Path) -> np.ndarray:
    """The picture at the frame's size: videos of odd sizes carry one more row or column."""
    height, width = frame.shape
    if picture.shape[:2] == (height + height % 2, width + width % 2):
        return picture[:height, :width]
    if picture.shape[:2] != (height, width):
        raise UserError(f"{name} is {_size(picture.shape)}, but the render is {_size(frame.shape)}: scale it first.")
    return picture


def scores_table(scores: Mapping[str, Mapping[str, float | None]], title: str) -> Any:
    """A rich table of `{"lifted": {score: value}, "render": {score: value}}`, the lift beside its controls: the render
    and, where `scores` has one, the "reference"."""
    from rich.table import Table

    from realmaster.measure import MEASURES

    headings = {"lifted": "lift", "render": "untouched\nrender", "reference": "reference"}
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("score", no_wrap=True)
    for video in scores:
        table.add_column(headings[video], justify="right", no_wrap=True, style="bold" if video == "lifted" else "")
    table.add_column("", style="dim")  # what gives way where the terminal is narrow
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
