"""How often the doctor is right: every mistake planted in many scenes, and the same scenes healthy.

    python -m benchmarks.health --seeds 12 [TAKE ...]

Prints, for each mistake, in how many scenes it was named and nothing else was; and the alarms on healthy scenes.
Scenes are streets of the city at several sizes, the same streets as an OpenGL game gives them (colour and depth buffer
alone), and any healthy takes that are named.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

from capture.camera import Conventions
from capture.frame import Channel, Frame
from capture.health import examine_runs
from capture.health.mistakes import MISTAKES, applies, plant, without_geometry
from capture.health.runs import Run, runs_of, small_frame, take_runs
from capture.take import Take
from engine_bridges.city.bridge import channels, descriptors
from engine_bridges.city.clips import HELD_OUT
from engine_bridges.city.scene import City

SIZES = ((240, 134), (320, 180), (300, 300), (180, 240), (427, 240))


def street(seed: int, frames: int) -> Run:
    """A drive along a street."""
    size = SIZES[seed % len(SIZES)]
    city, described, run = City(seed, size), descriptors(size), []
    for i in range(seed % 90, seed % 90 + frames):
        shown = city.frame(i)
        arrays = channels(shown)
        sent = {d.name: Channel(d, arrays[d.name], i) for d in described}
        run.append(Frame(i, i, shown.time, shown.camera, sent, Conventions(), entities=shown.entities))
    return run


def scenes(seeds: int, frames: int, takes: list[str]) -> Iterator[tuple[str, str, list[Run]]]:
    """(kind, name, runs) of every healthy scene."""
    for seed in range(HELD_OUT + 100, HELD_OUT + 100 + seeds):
        run = street(seed, frames)
        yield "all channels", f"city {seed}", [run]
        yield "colour and depth", f"city {seed}", [without_geometry(run)]
    for path in takes:
        with Take(path) as take:
            runs = [list(run) for run in take_runs(take)]
        complete = "normal" in runs[0][0].channels and runs[0][0].has_pose
        yield "all channels" if complete else "colour and depth", path, runs
        if complete:
            yield "colour and depth", path, [without_geometry(run) for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("takes", nargs="*", metavar="TAKE", help="healthy takes to plant mistakes in")
    parser.add_argument("--seeds", type=int, default=12, help="streets (default 12)")
    parser.add_argument("--frames", type=int, default=14, help="frames of each (default 14)")
    parser.add_argument("--healthy-only", action="store_true", help="count false alarms only")
    args = parser.parse_args()
    named: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    alarms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    began = time.process_time()
    examined = 0
    for kind, name, runs in scenes(args.seeds, args.frames, args.takes):
        for mistake in (None,) if args.healthy_only else (None, *MISTAKES):
            if mistake is not None and not applies(runs[0][0], mistake):
                continue
            sick = runs if mistake is None else [plant(run, mistake) for run in runs]
            small = [part for run in sick for part in runs_of(small_frame(frame) for frame in run)]
            health = examine_runs(small).health
            examined += 1
            if mistake is None:
                alarms[kind][0] += bool(health.problems)
                alarms[kind][1] += 1
                if health.problems:
                    print(f"  alarm: {kind}, {name}: {health.line}", file=sys.stderr, flush=True)
                continue
            hit = len(health.mistakes) == 1 and mistake.startswith(health.mistakes[0])
            among = any(mistake.startswith(found) for found in health.mistakes)
            count = named[kind, mistake]
            count[0] += hit
            count[1] += among
            count[2] += 1
            if not hit:
                print(f"  {kind}, {name}: {mistake} -> {health.mistakes} {health.line}", file=sys.stderr, flush=True)
    for kind, (wrong, all_) in alarms.items():
        print(f"{kind}: {wrong} false alarms in {all_} healthy scenes")
    print(f"\n{'mistake':22} {'all channels':>24} {'colour and depth':>24}")
    for mistake in MISTAKES:
        cells = []
        for kind in ("all channels", "colour and depth"):
            hit, among, all_ = named.get((kind, mistake), (0, 0, 0))
            cells.append(f"{hit} of {all_}" + (f" ({among} among others)" if among > hit else "") if all_ else "-")
        if any(cell != "-" for cell in cells):
            print(f"{mistake:22} {cells[0]:>24} {cells[1]:>24}")
    print(f"\n{examined} examinations, {(time.process_time() - began) / max(1, examined):.2f} s of one core each")


if __name__ == "__main__":
    main()
