"""`realmaster lift`: a take in, photoreal video out."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from capture.files import numbered, replacing
from realmaster.commands.options import (
    Interrupted,
    add_command,
    add_takes_folder,
    count,
    frame_range,
    natural,
    takes_folder,
    writable_folder,
)

if TYPE_CHECKING:
    import numpy as np

    from realmaster.progress import Screen


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "lift",
        "turn a take into photorealistic video of the same geometry",
        run=run,
        example='realmaster lift city-0001 --frames 0:48 --prompt "an overcast morning"',
        about="Turn a take into photorealistic video of the same geometry. Takes of any length are lifted window by "
        "window in constant memory.\nA lift that was interrupted goes on where it stopped when it is asked for again.",
    )
    parser.add_argument("take", metavar="TAKE", help="path or name of a take")
    parser.add_argument("-o", "--out", type=Path, help="folder to write (default: lifts/MODEL-1 in the take)")
    parser.add_argument("--model", default="embedded", metavar="PROFILE|DIR", help="model profile, or a folder in "
                        "diffusers layout (default: embedded)")  # fmt: skip
    parser.add_argument("--lora", metavar="L", help="adapter: a safetensors file, a folder, or a hub id")
    parser.add_argument("--lora-scale", type=strength, metavar="S", help="its strength, 0 (none) to 2 (default: the "
                        "profile's)")  # fmt: skip
    parser.add_argument("--prompt", default="", help="what the video shall look like (default: prompt.txt in the take, "
                        "else the profile's)")  # fmt: skip
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what it shall not look like; only models with "
                        "guidance hear it (default: the profile's)")  # fmt: skip
    parser.add_argument("--anchor", type=anchor, action="append", metavar="FRAME=PICTURE", help="a still that this "
                        "frame shall come close to; may be given again")  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument("--frames", type=frame_range, metavar="A:B", help="only frames A up to but without B")
    parser.add_argument("--steps", type=count, help="sampling steps (default: the profile's)")
    parser.add_argument("--memory", choices=("auto", "low", "full"), default="auto", help="hold the model as fast as "
                        "what is free allows, as small as can be, or without saving (default: auto)")  # fmt: skip
    parser.add_argument("--preview", type=Path, metavar="PICTURE", help="a PNG or JPEG that shows, at every step, what "
                        "the model expects the window to become")  # fmt: skip
    add_takes_folder(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take
    from realmaster.commands.evaluate import scores_table
    from realmaster.progress import facts

    take = Take.find(args.take, takes_folder(args))
    _name_whole_lifts(take.path / "lifts" if args.out is None else args.out.parent)
    frames = take.clip_range(*(args.frames or (None, None)))
    if args.out and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"{args.out} is there already: choose another folder with -o.")
    writable_folder(args.out.parent if args.out else take.path / "lifts", "the lift")
    # What is wrong with these is known before a large model loads for minutes.
    anchors = {frame: _read_picture(path) for frame, path in args.anchor or ()}
    shown = None if args.preview is None else _preview_to(args.preview)

    with screen.step(f"loading the model {args.model}"):
        from realmaster import load_lifter
        from realmaster.lift import lift_job, lift_take
        from realmaster.lift.memory import Plan
        from realmaster.lift.profiles import load_profile
        from realmaster.lift.takes import conversion

        lifter = load_lifter(args.model, args.lora, lora_scale=args.lora_scale, memory=args.memory)
    licence = load_profile(args.model).licence
    if licence and _not_shown_before(licence):
        screen.say(f"licence: {licence}")
    if (held := lifter.settings.get("memory", "")) not in ("", str(Plan())):
        screen.say(f"memory: {held}")
    screen.say(_conversion_sentence(conversion(take, lifter)))
    asked = {
        "frames": frames,
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt,
        "seed": args.seed,
        "steps": args.steps,
        "anchors": anchors,
    }
    out = args.out or _free_folder(take.path / "lifts", Path(args.model).stem, lift_job(take, lifter, **asked))
    growing, notes = _growing(out), list[str]()
    try:
        with screen.step("lifting", total=frames[1] - frames[0], unit="frames") as step:

            def told(done: int, total: int) -> None:
                step(done, total)
                while len(notes) < len(lifter.notes):
                    notes.append(lifter.notes[len(notes)])
                    screen.say(notes[-1])

            report = lift_take(take, growing, lifter, **asked, progress=told, preview=shown)
    except BaseException as error:
        if not any(growing.glob("windows/*")):
            shutil.rmtree(growing, ignore_errors=True)
        elif isinstance(error, KeyboardInterrupt):
            screen.say("what is lifted so far is kept: the same command goes on from there")
            raise Interrupted({"unfinished": growing}) from None
        raise
    if out.exists():
        out.rmdir()
    growing.rename(out)
    screen.show(
        scores_table(report["scores"], f"{take.name}, frames {frames[0]}:{frames[1]}"),
        "",
        facts("lift", {"folder": out, "speed": f"{report['frames_per_second']} frames a second"}),
    )
    return {"out": out, "licence": licence, **report}


def _preview_to(path: Path) -> Callable[[int, np.ndarray], None]:
    """What writes previews to this picture; whoever opens it sees a whole one."""
    from PIL import Image

    from capture.pictures import overview

    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"The preview {path} must end in .png or .jpg.")

    writable_folder(path.parent, "the preview")

    def show(_frame: int, pictures: np.ndarray) -> None:
        with replacing(path) as partial:
            Image.fromarray(overview(pictures)).save(partial)

    return show


def strength(text: str) -> float:
    """An adapter's strength."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a strength from 0 to 2")
    return value


def anchor(text: str) -> tuple[int, Path]:
    """`12=still.png` -> (12, still.png)."""
    frame, _, picture = text.partition("=")
    if not frame.isdecimal() or not picture:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame and a picture such as 0=first.png")
    return int(frame), Path(picture)


def _read_picture(path: Path) -> np.ndarray:
    """uint8 `[H, W, 3]`."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"The anchor {path} is not there or is no picture.") from error


def _conversion_sentence(facts: Mapping[str, Any]) -> str:
    def size(of: Mapping[str, Any], name: str = "size") -> str:
        return "x".join(map(str, of[name]))

    take, model = facts["take"], facts["model"]
    filled = f", filled up to {size(model, 'filled_to')}" if model["filled_to"] != model["size"] else ""
    told = model["told_frames_per_second"]
    return (
        f"{size(take)} at {take['frames_per_second']:g} frames a second, lifted at {size(model)}{filled} in windows of "
        f"{model['window']} frames{f' (the model is told {told:g} a second)' if told else ''}; "
        "the result has the take's size, frames and times"
    )


def _not_shown_before(licence: str) -> bool:
    """Whether this user sees this line for the first time; remembered in the configuration folder."""
    import platformdirs

    file = Path(platformdirs.user_config_dir("realmaster")) / "licences-shown.txt"
    try:
        if licence in file.read_text(encoding="utf-8").splitlines():
            return False
    except (OSError, UnicodeDecodeError):
        pass
    with contextlib.suppress(OSError):  # then it is shown again
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as shown:
            shown.write(f"{licence}\n")
    return True


def _growing(out: Path) -> Path:
    """Under this name a lift grows: a folder that bears the lift's own name is a whole lift."""
    return out.with_name(f".{out.name}.part")


def _name_whole_lifts(folder: Path) -> None:
    """Give their names to lifts in `folder` that were whole when their program was killed, just before it did."""
    for growing in folder.glob(".*.part"):
        named = growing.with_name(growing.name[1 : -len(".part")])
        whole = (growing / "report.json").exists() and not (growing / "job.json").exists()  # see lift_take
        if whole and not named.exists():
            growing.rename(named)


def _free_folder(folder: Path, name: str, job: dict[str, Any]) -> Path:
    """`folder/name-1`, or with the first number that is free, or under which this very job was begun."""
    from realmaster.lift.takes import is_unfinished

    def is_free(out: Path) -> bool:
        return not out.exists() and (not _growing(out).exists() or is_unfinished(_growing(out), job))

    return next(out for free in numbered(name, bare=False) if is_free(out := folder / free))
