"""`realmaster lift`: a take in, photoreal video out."""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
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
    parser.add_argument("--prompt", default="", help="what the video shall look like")
    parser.add_argument("--seed", type=natural, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument("--frames", type=frame_range, metavar="A:B", help="only frames A up to but without B")
    parser.add_argument("--steps", type=count, help="sampling steps (default: the profile's)")
    add_takes_folder(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take
    from realmaster.commands.evaluate import scores_table
    from realmaster.progress import facts

    take = Take.find(args.take, takes_folder(args))
    frames = take.clip_range(*(args.frames or (None, None)))
    if args.out and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"{args.out} is there already: choose another folder with -o.")
    writable_folder(args.out.parent if args.out else take.path / "lifts", "the lift")

    with screen.step(f"loading the model {args.model}"):
        from realmaster import load_lifter
        from realmaster.lift import lift_job, lift_take
        from realmaster.lift.profiles import load_profile

        lifter = load_lifter(args.model, lora=args.lora)
    if licence := load_profile(args.model).licence:
        screen.say(f"licence: {licence}")
    asked = {"frames": frames, "prompt": args.prompt, "seed": args.seed, "steps": args.steps}
    out = args.out or _free_folder(take.path / "lifts", Path(args.model).stem, lift_job(take, lifter, **asked))
    growing = _growing(out)
    try:
        with screen.step("lifting", total=frames[1] - frames[0], unit="frames") as step:
            report = lift_take(take, growing, lifter, **asked, progress=step)
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
    return {"out": out, **report}


def _growing(out: Path) -> Path:
    """Under this name a lift grows: a folder that bears the lift's own name is a whole lift."""
    return out.with_name(f".{out.name}.part")


def _free_folder(folder: Path, name: str, job: dict[str, Any]) -> Path:
    """`folder/name-1`, or with the first number that is free, or under which this very job was begun."""
    from realmaster.lift.takes import is_unfinished

    for number in itertools.count(1):
        out = folder / f"{name}-{number}"
        if not out.exists() and (not _growing(out).exists() or is_unfinished(_growing(out), job)):
            return out
    raise AssertionError("unreachable")
