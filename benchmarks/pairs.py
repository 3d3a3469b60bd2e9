"""What the making of pairs costs beside the models, and how it scales.

    python benchmarks/pairs.py [overhead] [ray] [memory]

overhead   a real model (the embedded editor and propagator at 320x180, one core) on one worker, loaded and warm before
           the clock starts: the share of wall time in which no model is at work, since the next clip is edited while
           this one is scored; and the share of the processor time that is not the models', which other work on the
           machine does not touch
ray        the same clips on a cluster of two local nodes, by one worker and by two, one core each
memory     a thousand clips by a model that costs nothing: resident memory after the first fifty and at the end

Ratios within one run: the seconds are this machine's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from capture.camera import Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.take import Take, TakeWriter
from engine_bridges.city.scene import City
from engine_bridges.city.takes import record_take
from realmaster.lift.lifter import LiftRules
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.plan import make_job, make_plan
from realmaster.pairs.run import make_pairs
from realmaster.pairs.settings import load_settings
from realmaster.pairs.stages import STAGES, Worker

FRAMES, SHORT = 9, 3
"""Of a clip; of one of many."""

HERE = "benchmarks.pairs"


class Busy:
    """A model that computes for a while, on one core, and does no work of value."""

    SECONDS = float(os.environ.get("PAIRS_BENCH_SECONDS", "2.0"))
    rules = LiftRules(window=FRAMES, overlap=1, frame_step=1, size_multiple=1, max_side=4096)
    cue, references = "color", ()

    def edit(self, picture: np.ndarray, caption: str, seed: int, style: np.ndarray | None = None) -> np.ndarray:
        compute(self.SECONDS / 4)
        return picture

    def propagate(self, cues: dict[str, np.ndarray], anchors: dict[int, np.ndarray], caption: str, seed: int) -> Any:
        compute(self.SECONDS)
        return cues["color"]


class Idle(Busy):
    """A model that costs nothing, of short clips."""

    SECONDS = 0.0
    rules = LiftRules(window=SHORT, overlap=1, frame_step=1, size_multiple=1, max_side=4096)


def compute(seconds: float) -> None:
    """Processor time, not wall time: a share of a busy core counts as much work as a core of its own."""
    import torch

    a = torch.ones(256, 256)
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        a @ a


def street(path: Path, frames: int) -> Take:
    record_take(path, City(20260200), range(frames))
    return Take(path)


def noise(path: Path, frames: int) -> Take:
    """Small pictures that are all different."""
    random = np.random.default_rng(0)
    descriptor = Descriptor("color", "uint8", (36, 64, 3))
    writer = TakeWriter(path, conventions=Conventions(), descriptors=[descriptor], engine="bench", game="", fps=24.0)
    for index in range(frames):
        picture = np.kron(random.integers(0, 255, (9, 16, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
        channel = Channel(descriptor, picture, index)
        flags = ("cut",) if index % SHORT == 0 else ()
        writer.append(Frame(index, index, index / 24, None, {"color": channel}, Conventions(), flags))
    writer.close()
    return Take(path)


def overhead(folder: Path) -> None:
    import torch

    from realmaster.pairs import crew

    torch.set_num_threads(1)  # so that a model's processor time is its thread's
    take = street(folder / "take", 24 * FRAMES)
    settings = load_settings()
    job = make_job(folder / "d", "embedded", "embedded", settings)
    Dataset(job.dataset).begin(job.about, resume=False)
    plan = make_plan([take], job)
    wall, processor = Meter(time.perf_counter), Meter(time.process_time)
    model = {"wall": 0.0, "processor": 0.0}

    class Timed(Worker):
        """Its models are loaded, and have run once, before the clock starts."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            for stage in STAGES:
                self.run(stage, plan.clips[0])
            model.update(wall=0.0, processor=0.0)
            wall.start(), processor.start()

        def _in_turn(self, call: Any, *args: Any) -> tuple[Any, float]:
            def timed(*args: Any) -> Any:
                began = time.thread_time()
                made = call(*args)
                model["processor"] += time.thread_time() - began
                return made

            made, seconds = super()._in_turn(timed, *args)
            model["wall"] += seconds
            return made, seconds

    crew.Worker = Timed  # type: ignore[misc]
    made = make_pairs(plan, job)
    shares = [1 - model["wall"] / wall.passed(), 1 - model["processor"] / processor.passed()]
    print(
        f"overhead  {made.made} clips in {wall.passed():.1f} s: no model at work for {100 * shares[0]:.1f} % of it; "
        f"{100 * shares[1]:.1f} % of the processor time is not the models'"
    )


class Meter:
    """What a clock has counted since it was started."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._began = clock, 0.0

    def start(self) -> None:
        self._began = self._clock()

    def passed(self) -> float:
        return self._clock() - self._began


def ray(folder: Path) -> None:
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    os.environ["OMP_NUM_THREADS"] = "1"
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    take = street(folder / "take", 10 * FRAMES)
    seconds = {}
    for workers in (1, 2):
        cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        for _ in range(workers - 1):
            cluster.add_node(**node)
        job = make_job(folder / f"d{workers}", f"{HERE}:Busy", f"{HERE}:Busy", load_settings())
        Dataset(job.dataset).begin(job.about, resume=False)
        plan, began = make_plan([take], job), []

        def note(done: int, total: int, _: str, began: list[float] = began) -> None:
            if done == 2:  # workers have started, and the pipeline is full
                began.append(time.perf_counter())

        make_pairs(plan, job, ray=cluster.address, progress=note)
        seconds[workers] = (time.perf_counter() - began[0]) / (len(plan.clips) - 2)
        cluster.shutdown()
    print(
        f"ray       {seconds[1]:.2f} s a clip by one worker, {seconds[2]:.2f} s by two: "
        f"{seconds[1] / seconds[2]:.2f} times as fast"
    )


def memory(folder: Path) -> None:
    clips = int(os.environ.get("PAIRS_BENCH_CLIPS", "1000"))
    take = noise(folder / "take", clips * SHORT)
    job = make_job(folder / "d", f"{HERE}:Idle", f"{HERE}:Idle", load_settings())
    Dataset(job.dataset).begin(job.about, resume=False)
    plan, resident = make_plan([take], job), {}
    process = psutil.Process()

    def note(done: int, total: int, _: str) -> None:
        if done and done % 50 == 0:
            resident[done] = process.memory_info().rss / 2**20
            print(f"memory    {resident[done]:.0f} MiB after {done} clips", file=sys.stderr)

    make_pairs(plan, job, progress=note)
    last = max(resident)
    print(f"memory    {resident[50]:.0f} MiB after 50 clips, {resident[last]:.0f} MiB after {last}")


def main() -> None:
    wanted = sys.argv[1:] or ["overhead", "ray", "memory"]
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            {"overhead": overhead, "ray": ray, "memory": memory}[name](Path(folder))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
