"""`realmaster pairs`: captured takes in, a paired dataset out that trains an in-context adapter."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import (
    Interrupted,
    WrongUse,
    add_command,
    add_takes_folder,
    count,
    natural,
    takes_folder,
)

if TYPE_CHECKING:
    from realmaster.pairs.dataset import Dataset
    from realmaster.pairs.settings import Settings
    from realmaster.progress import Screen

TRAINERS = ("lightricks", "diffsynth", "musubi-tuner", "simpletuner")


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "pairs",
        "make a paired dataset, render and photoreal, from takes",
        run=run,
        example="realmaster pairs city-0001 city-0002 -o dataset --workers 2 --export lightricks",
        about="Make a paired dataset from takes: clips are chosen, their first and last frames edited into\n"
        "photographs, these carried to every frame along the engine's geometry, and what came of it is judged. What\n"
        "was begun goes on with --resume, and nothing is made twice. Without a TAKE, --export and --review work on\n"
        "the dataset that is there.",
    )
    parser.add_argument("takes_in", metavar="TAKE", nargs="*", help="paths or names of takes")
    parser.add_argument("-o", "--out", metavar="DATASET", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--editor", default="embedded", metavar="E", help="who edits the stills: embedded, "
                        "qwen-image-edit, flux2-klein, flux-kontext, or a folder in diffusers layout "
                        "(default: embedded)")  # fmt: skip
    parser.add_argument("--propagator", default="embedded", metavar="P", help="who makes the videos between them: "
                        "embedded, vace, vace-14b, vace-fun, ltx2, sync, a model profile, or a folder in diffusers "
                        "layout (default: embedded)")  # fmt: skip
    parser.add_argument("--prompt", default="", help="what the targets shall look like (default: a caption from the "
                        "take's own names of things)")  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, help="seed of all models (default: 0)")
    parser.add_argument("--frames", type=count, metavar="N", help="length of the clips (default: what the propagator "
                        "makes in one piece)")  # fmt: skip
    parser.add_argument("--most", type=count, metavar="N", help="at most so many clips, the most different ones")
    parser.add_argument("--steps", type=count, metavar="N", help="sampling steps of both models (default: their own)")
    parser.add_argument("--keep-all", action="store_true", help="turn neither anchors nor pairs down; their scores are "
                        "noted all the same")  # fmt: skip
    parser.add_argument("--settings", type=Path, metavar="FILE", help="TOML with thresholds and all the rest")
    parser.add_argument("--workers", type=count, default=1, metavar="N", help="processes, each with its own models "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster (with --workers: so many actors)")
    parser.add_argument("--resume", action="store_true", help="go on with the dataset that is in the folder")
    parser.add_argument("--dry-run", action="store_true", help="say how many clips, GPU hours and gigabytes; make none")
    parser.add_argument("--export", choices=TRAINERS, action="append", default=[], metavar="TRAINER",
                        help=f"write the files of a trainer too: {', '.join(TRAINERS)}")  # fmt: skip
    parser.add_argument("--review", action="store_true", help="serve a page of picture sheets to keep or drop pairs by")
    add_takes_folder(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from realmaster.pairs.dataset import Dataset

    settings = _settings(args)
    if not args.takes_in and not (args.export or args.review):
        raise WrongUse("name a TAKE to make pairs of, or --export or --review for a dataset that is there")
    report: dict[str, Any] = {"out": args.out}
    if args.takes_in:
        report |= _make(args, settings, screen)
        if args.dry_run:
            return report
    dataset = Dataset.find(args.out)
    if args.review:
        from realmaster.commands.pairs_review import serve

        screen.say("Ctrl-C ends the review")
        decided = serve(dataset, settings.filters, lambda url: screen.show(f"the page: {url}"))
        report |= {"decided": decided} | dataset.settle(settings.filters)
    for trainer in args.export:
        from realmaster.pairs.export import export

        report.setdefault("exports", {})[trainer] = path = export(dataset, trainer)
        screen.show(f"{trainer}: {path}")
    return report


def _make(args: argparse.Namespace, settings: Settings, screen: Screen) -> dict[str, Any]:
    from capture.take import Take
    from realmaster.pairs.dataset import Dataset
    from realmaster.pairs.plan import estimate, make_job, make_plan
    from realmaster.pairs.run import make_pairs
    from realmaster.progress import facts

    takes = {str((take := Take.find(name, takes_folder(args))).path.resolve()): take for name in args.takes_in}
    job = make_job(args.out, args.editor, args.propagator, settings)
    for licence in job.about["licences"]:
        if licence:
            screen.say(f"licence: {licence}")
    dataset = Dataset(args.out)
    is_new = not dataset.about
    if not args.dry_run:
        dataset.begin(job.about, args.resume)
    try:
        with screen.step("reading the takes", unit="frames") as step:
            plan = make_plan(list(takes.values()), job, args.seed, lambda done, total, name: step(done, total, name))
    except BaseException:
        if is_new and not args.dry_run:
            dataset.abandon()
        raise
    for note in plan.notes:
        screen.say(note)
    cost = estimate(plan, list(takes.values()), job)
    if args.dry_run:
        screen.show(facts("plan", _cost_rows(cost)))
        return {"plan": cost, "notes": plan.notes}
    try:
        with screen.step("making pairs", total=len(plan.clips), unit="clips") as bar:
            result = make_pairs(
                plan, job, workers=args.workers, ray=args.ray,
                progress=lambda done, total, note: bar(done, total, note),
            )  # fmt: skip
    except KeyboardInterrupt:
        screen.say("what is made so far is kept: --resume goes on from there")
        raise Interrupted({"out": args.out}) from None
    reasons = _reasons(dataset)
    listed = ", ".join(f"{why} {clips}" for why, clips in reasons.items())
    turned_down = f"{result.rejected} ({listed}), see rejected.jsonl" if result.rejected else "0"
    rows = {"folder": args.out, "pairs": result.pairs, "turned down": turned_down}
    if result.deaths:
        rows["workers"] = f"{result.deaths} died; what they had in hand was done again by others"
    screen.show(facts("dataset", rows))
    return {
        "pairs": result.pairs,
        "rejected": result.rejected,
        "reasons": reasons,
        "clips": len(plan.clips),
        "made": result.made,
        "workers": result.workers,
        "workers_died": result.deaths,
        "seconds": round(result.seconds, 2),
        "notes": plan.notes,
    }


def _reasons(dataset: Dataset) -> dict[str, int]:
    """Why clips were turned down, in a word each, the most frequent first; a clip counts once for each word."""
    words = Counter(
        word for entry in dataset.rejected() for word in sorted({why.partition(":")[0] for why in entry["reasons"]})
    )
    return dict(words.most_common())


def _cost_rows(cost: Mapping[str, Any]) -> dict[str, str]:
    hours = "unknown" if cost["gpu_hours"] is None else f"{cost['gpu_hours']:.3g}"
    return {
        "clips": f"{cost['clips']}, of which {cost['clips_to_make']} are to be made",
        "frames": str(cost["frames"]),
        "GPU hours": f"{hours} ({cost['gpu_hours_are']})",
        "gigabytes": f"about {cost['gigabytes']:.3g}",
    }


def _settings(args: argparse.Namespace) -> Settings:
    """Those of the file, with what the command line says in their place."""
    from realmaster.pairs.settings import keeping_all, load_settings, with_steps

    settings = load_settings(args.settings)
    if args.steps:
        settings = with_steps(settings, args.steps)
    if args.keep_all:
        settings = keeping_all(settings)
    clips = {name: value for name, value in (("frames", args.frames), ("most", args.most)) if value is not None}
    changes: dict[str, Any] = {"clips": settings.clips.model_copy(update=clips)}
    if args.prompt:
        changes["prompt"] = args.prompt
    return settings.model_copy(update=changes)
