"""Speed of the embedded engine: frames per second of the render with all its buffers, and of the reference.

    python benchmarks/city.py [--frames 48] [--size 320x180] [--seed 5]

Prints one line per measurement; `ratio` is the time against copying the same buffers in memory, a yardstick that
machines share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from engine_bridges.city.scene import City

BUFFERS = ("color", "depth", "normal", "motion", "segmentation", "instance")


def seconds_per_call(work: Callable[[int], object], calls: int) -> float:
    """Median over `calls` calls, after one to warm up."""
    work(0)
    times = []
    for index in range(1, calls + 1):
        start = time.perf_counter()
        work(index)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    city, other = City(options.seed, (width, height)), City(options.seed, (width, height))

    buffers = [getattr(city.frame(0), name) for name in BUFFERS]
    copy = seconds_per_call(lambda index: [buffer.copy() for buffer in buffers], options.frames)
    render = seconds_per_call(city.frame, options.frames)
    both = seconds_per_call(lambda index: (other.frame(index), other.reference(index)), options.frames)
    for name, seconds in (("render and buffers", render), ("reference, after the render", both - render)):
        print(f"{name:28s} {1 / seconds:6.1f} frames/s  {seconds * 1000:6.1f} ms  ratio {seconds / copy:7.0f}")


if __name__ == "__main__":
    main()
