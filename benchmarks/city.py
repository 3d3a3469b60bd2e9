"""Speed of the embedded engine: frames per second of the render with all its buffers, and of the reference.

    python benchmarks/city.py [--frames 24] [--size 256x144 320x180] [--seeds 5 9 12]

Prints two lines per size, means over the seeds; times are of the processor, so a busy machine disturbs them little.
`ratio` is the time against copying the same buffers in memory, a yardstick that machines share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from engine_bridges.city.scene import City

BUFFERS = ("color", "depth", "normal", "motion", "segmentation", "instance")


def seconds_per_call(work: Callable[[int], object], calls: int) -> float:
    """Median processor time over `calls` calls, after one to warm up."""
    work(0)
    times = []
    for index in range(1, calls + 1):
        start = time.process_time()
        work(index)
        times.append(time.process_time() - start)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", nargs="+", default=["256x144", "320x180"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 9, 12], help="wet dusk, day, wet")
    options = parser.parse_args()
    for size in options.size:
        width, height = (int(side) for side in size.split("x"))
        rows = []
        for seed in options.seeds:
            city, other = City(seed, (width, height)), City(seed, (width, height))
            buffers = [getattr(city.frame(0), name) for name in BUFFERS]
            copy = seconds_per_call(lambda index, b=buffers: [buffer.copy() for buffer in b], 20 * options.frames)
            render = seconds_per_call(city.frame, options.frames)
            both = seconds_per_call(lambda index, c=other: (c.frame(index), c.reference(index)), options.frames)
            rows.append((copy, render, both - render))
        copy, render, reference = np.mean(rows, axis=0)
        for name, seconds in (("render and buffers", render), ("reference, after the render", reference)):
            speed = f"{1 / seconds:6.1f} frames/s  {seconds * 1000:6.1f} ms  ratio {seconds / copy:7.0f}"
            print(f"{size:8s} {name:28s} {speed}")


if __name__ == "__main__":
    main()
