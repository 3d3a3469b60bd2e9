"""`realmaster lift`: a take in, photoreal video out."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands.options import (
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
        "window in constant memory.",
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
    first, end = take.clip_range(*(args.frames or (None, None)))
    out = args.out or _free_folder(take.path / "lifts", Path(args.model).stem)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: choose another folder with -o.")
    writable_folder(out.parent, "the lift")

    with screen.step(f"loading the model {args.model}"):
        from realmaster import load_lifter
        from realmaster.lift import lift_take

        lifter = load_lifter(args.model, lora=args.lora)
    # It grows under another name: a folder that bears the lift's name is a whole lift.
    growing = out.with_name(f".{out.name}.part")
    try:
        with screen.step("lifting", total=end - first, unit="frames") as step:
            report = lift_take(
                take,
                growing,
                lifter,
                frames=(first, end),
                prompt=args.prompt,
                seed=args.seed,
                steps=args.steps,
                progress=step,
            )
        if out.exists():
            out.rmdir()
        growing.rename(out)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    screen.show(
        scores_table(report["scores"], f"{take.name}, frames {first}:{end}"),
        "",
        facts("lift", {"folder": out, "speed": f"{report['frames_per_second']} frames a second"}),
    )
    return {"out": out, **report}


def _free_folder(folder: Path, name: str) -> Path:
    """`folder/name-1`, or with the first number that is free."""
    number = 1
    while (folder / f"{name}-{number}").exists():
        number += 1
    return folder / f"{name}-{number}"
