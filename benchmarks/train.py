"""What the training loop costs beside its bare arithmetic.

    python benchmarks/train.py [--model embedded] [--updates 30] [--pairs 5] [--size 160x96] [--frames 9]

Trains an adapter on pairs of the embedded engine, and after every update does the same update bare: forward, backward,
clipping and optimizer of a second copy of the model, on tensors that are there already. Both are timed in turn, so
that whatever else the machine does hits both. `rate` is the loop's share of the bare step rate: the median of that of
each update, and its quartiles. Checkpoints, previews and the first updates are left out; drawing and moving the
batches, looking at losses, the log and TensorBoard are the loop's alone. Of a model with two experts, the first.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

from capture.video import write_video
from engine_bridges.city.scene import City
from realmaster.train.loop import Report, add_adapter, make_optimizer
from realmaster.train.run import Training
from realmaster.train.settings import load_settings

WARM_UP = 3
"""Updates that are not counted."""


def write_pairs(folder: Path, count: int, frames: int, size: tuple[int, int]) -> None:
    """Pairs of render and reference shading, in a dataset's layout. size: width, height."""
    city, rows = City(7, size), []
    for kind in ("render", "target"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        span = range(30 * number, 30 * number + frames)
        write_video(folder / f"render/{number}.mp4", (city.frame(index).color for index in span), crf=4)
        write_video(folder / f"target/{number}.mp4", (city.reference(index) for index in span), crf=4)
        rows.append(f'{{"id": "{number}", "render": "render/{number}.mp4", "target": "target/{number}.mp4", ')
        rows[-1] += '"caption": "a street", "scores": {}}'
    (folder / "pairs.jsonl").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", default="160x96")
    parser.add_argument("--batch-size", type=int, default=1)
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    with tempfile.TemporaryDirectory() as scratch:
        dataset, out = Path(scratch) / "dataset", Path(scratch) / "out"
        write_pairs(dataset, args.pairs, args.frames, (width, height))
        settings = load_settings(
            overrides={
                "steps": args.updates,
                "batch_size": args.batch_size,
                "window": args.frames,
                "validation": {"every": 0},
                "checkpoints": {"every": args.updates},
                "experts": ["high_noise"],
            }
        )
        training = Training(dataset, out, args.model, settings)
        training.load()
        training.encode()
        print(f"{args.model}: {len(training.samples)} clips of {training.samples[0].tokens} tokens")
        loop, bare = measure(training)
    low, rate, high = statistics.quantiles((theirs / ours for ours, theirs in zip(loop, bare, strict=True)), n=4)
    print(f"loop {1000 * statistics.median(loop):.1f} ms an update, bare {1000 * statistics.median(bare):.1f} ms")
    print(f"rate {rate:.3f} ({low:.3f} to {high:.3f}) of the bare step rate, over {len(loop)} updates")


def measure(training: Training) -> tuple[list[float], list[float]]:
    """Seconds of each update, by the loop and bare."""
    family, settings, expert = training.family, training.settings, training.experts[0]
    transformer = copy.deepcopy(expert.transformer)
    weights = list(add_adapter(family, transformer, settings).values())
    optimizer = make_optimizer(weights, settings)
    if settings.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    transformer.train()
    autocast = training.accelerator.autocast
    batches = training._batches(expert)
    loop: list[float] = []
    bare: list[float] = []
    mark = time.perf_counter()

    def told(report: Report) -> None:
        nonlocal mark
        loop.append(time.perf_counter() - mark)
        batch = batches.make(report.update - 1, 0).to(training.accelerator.device)
        begun = time.perf_counter()
        with autocast():
            loss = family.losses(transformer, batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        del loss  # what it leaves behind is given back in its own time
        if training.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        bare.append(time.perf_counter() - begun)
        mark = time.perf_counter()

    training.train(told)
    return loop[WARM_UP:], bare[WARM_UP:]


if __name__ == "__main__":
    main()
