"""`realmaster lift`: a take in, photoreal video out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    parser.add_argument("-o", "--out", type=Path, help="folder to write (default: lifts/<time>/ in the take)")
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

    take = Take.find(args.take, takes_folder(args))
    first, end = take.clip_range(*(args.frames or (None, None)))
    out = writable_folder(args.out or take.path / "lifts" / time.strftime("%Y-%m-%dT%H-%M-%S"), "the lift")

    with screen.step(f"loading the model {args.model}"):
        from realmaster import load_lifter
        from realmaster.lift import lift_take

        lifter = load_lifter(args.model, lora=args.lora)
    with screen.step("lifting", total=end - first, unit="frames") as step:
        report = lift_take(
            take, out, lifter,
            frames=(first, end), prompt=args.prompt, seed=args.seed, steps=args.steps, progress=step,
        )  # fmt: skip
    return report
