"""`realmaster train`: a dataset of pairs in, an in-context LoRA out that lifts."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import (
    CommandError,
    Interrupted,
    WrongUse,
    add_command,
    count,
    positive,
    writable_folder,
)

if TYPE_CHECKING:
    from realmaster.progress import Screen
    from realmaster.train.advice import Advice


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "train",
        "train an adapter that lifts, from a dataset of pairs",
        run=run,
        example="realmaster train pairs -o my-lora --model ltx-2.3 --steps 3000",
        about="Train an in-context LoRA from a dataset of pairs (`realmaster pairs` makes one). "
        "The folder it writes is a model: realmaster lift TAKE --model LORA.\n"
        "Ctrl-C and SIGTERM save the state and end; --resume goes on, to the same result. On several GPUs: "
        "accelerate launch -m realmaster train ...",
    )
    parser.add_argument("dataset", metavar="DATASET", type=Path, nargs="?", help="folder with pairs.jsonl")
    parser.add_argument("--recipe", choices=("embedded",), help="in place of DATASET: make the model that ships, its "
                        "clips included")  # fmt: skip
    parser.add_argument("--minutes", type=positive, default=60.0, help="with --recipe: training time (default: 60)")
    parser.add_argument("--from", dest="begin", metavar="MODEL", type=Path, help="with --recipe: a model that it made "
                        "before, to be trained further")  # fmt: skip
    parser.add_argument("-o", "--out", metavar="LORA", type=Path, required=True, help="folder to write")
    parser.add_argument("--model", metavar="PROFILE|DIR", help="model profile, or a folder in diffusers layout "
                        "(default: embedded)")  # fmt: skip
    parser.add_argument("--rank", type=count, help="of the adapter (default: 32)")
    parser.add_argument("--steps", type=count, metavar="N", help="updates, of each expert where a model has two "
                        "(default: 3000)")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the training in LORA, if there is one")
    parser.add_argument("--settings", metavar="TOML", type=Path, help="further settings: see docs/training.md")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    if (args.recipe is None) == (args.dataset is None):
        raise WrongUse("train wants a DATASET, or --recipe embedded to make the model that ships")
    if args.recipe is not None:
        return _make_embedded(args, screen)
    with screen.step("reading the dataset"):
        from realmaster.train.dataset import DatasetError
        from realmaster.train.loop import Report, Stopped
        from realmaster.train.run import RUN, Training, asked_settings

        overrides: dict[str, Any] = {"steps": args.steps} if args.steps else {}
        overrides |= {"adapter": {"rank": args.rank}} if args.rank else {}
        model = args.model or _begun_with(args.out / RUN) or "embedded"
        settings = asked_settings(args.out, model, args.settings, overrides, args.resume)
        try:
            training = Training(args.dataset, args.out, model, settings, args.resume)
        except DatasetError as error:
            for fault in error.faults:
                screen.say(f"  {fault}")
            raise CommandError(str(error), {"faults": error.faults}) from None
    if not training.accelerator.is_main_process:
        screen.mute()
    with screen.step(f"loading the model {model}"):
        training.load()
    if training.profile.licence:
        screen.say(f"licence: {training.profile.licence}")
    with screen.step("encoding the pairs", unit="files") as step:
        training.encode(step)
    advice = training.advice()
    _show(advice, training, screen)

    total = settings.steps * len(training.experts)
    done = 0
    with screen.step("training", total=total, unit="updates") as step:

        def told(report: Report) -> None:
            nonlocal done
            done = report.update + settings.steps * [e.name for e in training.experts].index(report.expert)
            step(done, total, pace.note(report, total - done))

        pace = _Pace()
        try:
            training.train(told, screen.say)
        except Stopped as stopped:
            screen.say(f"saved after {stopped.updates} updates: go on with --resume")
            raise Interrupted({"out": args.out, "updates": stopped.updates}) from None
    scores = training.all_scores()
    if scores and (last := [row for row in scores if row["update"] == settings.steps]):
        screen.show(_scores_table(last))
    screen.show(f"lift with it: realmaster lift TAKE --model {args.out}")
    return {
        "out": args.out,
        "model": model,
        "updates": total,
        "loss": pace.loss,
        "seconds_per_update": pace.seconds,
        "advice": advice.to_dict(),
        "scores": scores,
    }


CLIPS = (
    "--seeds 0:400 --starts 40 --frames 5",
    "--seeds 400:1800 --starts 12 130 --frames 1",
    "--seeds 1800:2600 --starts 12 130 --frames 2",
    "--seeds 0:400 --starts 60 200 --frames 1 --weather day",
    "--seeds 400:800 --starts 60 200 --frames 1 --weather 'wet dusk'",
)
"""What the embedded model learns from: short videos and many stills, more of them of the hardest light."""


def _make_embedded(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    """The whole recipe of the embedded model; what is done already is not done again."""
    writable_folder(args.out, "the model")
    from realmaster.models import recipe

    if args.begin is not None and not (args.begin / "adapter").is_dir():
        sentence = f"{args.begin} is no model that this recipe made: give its folder with vae/ and adapter/."
        raise CommandError(sentence, {"from": args.begin})
    clips = args.out / "clips"
    leads = os.environ.get("RANK", "0") == "0"
    if not leads:  # they wait for the first process where the training begins
        screen.mute()
    with screen.step("drawing the clips"):
        for options in CLIPS if leads else ():
            command = [sys.executable, "-m", "engine_bridges.city.clips", str(clips), *shlex.split(options)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    notes: list[str] = []
    with screen.step("training", unit="minutes") as step:

        def told(stage: str, done: float, of: float, note: str) -> None:
            step(done, of, f"{stage}: {note}")
            if note.startswith("held out"):
                screen.say(f"{done:.0f} min  {note}")
                notes.append(note)

        model = recipe.make(clips, args.out, args.minutes, told, args.begin)
    screen.show(f"lift with it: realmaster lift TAKE --model {model} --lora {model / 'adapter'}")
    return {"out": args.out, "model": model, "scores": notes[-1:]}


class _Pace:
    """Loss and speed, smoothed, and the time that is left by them."""

    def __init__(self) -> None:
        self.loss: float | None = None
        self.seconds: float | None = None

    def note(self, report: Any, left: int) -> str:
        if not report.skipped:
            self.loss = report.loss if self.loss is None else 0.95 * self.loss + 0.05 * report.loss
        self.seconds = report.seconds if self.seconds is None else 0.9 * self.seconds + 0.1 * report.seconds
        loss = "loss not finite, left out" if report.skipped else f"loss {self.loss:.4f}"
        return f"{loss}, {_duration(left * self.seconds)} left"


def _begun_with(run: Path) -> str | None:
    """The model of a training that is to go on."""
    try:
        return str(json.loads(run.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError):
        return None


def _show(advice: Advice, training: Any, screen: Screen) -> None:
    from realmaster.progress import facts, readable_bytes

    settings = training.settings
    parts = ", ".join(f"{name} {readable_bytes(size)}" for name, size in advice.memory.items())
    experts = f" of each of {len(training.experts)} experts" if len(training.experts) > 1 else ""
    rows = {
        "pairs": f"{advice.pairs}, of them {advice.held_out} held out; {advice.samples} clips of up to "
        f"{training.profile.window} frames",
        "updates": f"{settings.steps}{experts}: each clip is seen {advice.epochs:.0f} times",
        "memory": f"about {readable_bytes(advice.total)} ({parts}); {readable_bytes(advice.loading)} while encoding",
    }
    if not settings.shard:  # a pass of the whole base may not fit
        seconds = training.seconds_per_update()
        total = _duration(seconds * settings.steps * len(training.experts))
        rows["time"] = f"about {total}, at {seconds:.2g} s an update"
    screen.show(facts("training", rows))
    for warning in advice.warnings:
        screen.say(f"warning: {warning}")


def _scores_table(rows: list[dict[str, Any]]) -> Any:
    """Scores of the last previews, those of the untouched render in brackets."""
    from rich.table import Table

    table = Table(title="clips as lifted now (untouched render)", title_justify="left", title_style="bold", box=None)
    names = [name for name in rows[0] if f"{name} of render" in rows[0]]
    for name in ("expert", "pair", *names):
        table.add_column(name)
    for row in rows:
        scores = [f"{row[name]:.3f} ({row[f'{name} of render']:.3f})" for name in names]
        table.add_row(row["expert"], row["pair"], *scores)
    return table


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
