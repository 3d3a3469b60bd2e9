"""What lifting costs beside the model: time against the bare diffusers pipeline, memory over the length of a take.

    python -m benchmarks.lift [--frames 17] [--size 256x160] [--steps 8] [--repeat 9] [--take-frames 96]
        [--memory-frames 60,600]

Models: tiny ones with random weights of the real classes (LTX-2.3 and Wan 2.1), so that what is ours weighs as much as
it ever will. `ratio` is the processor time of our `lift` over that of the pipeline's own call with the same prompt
embeddings, reference and steps, guidance off, both in this process, by turns; the middle of all pairs of turns, with
the quartiles. (LTX-2's own call makes sound too, which a lift leaves out.) Then a short and a long take, each lifted in
a process of its own: greatest resident memory. Before all that, the embedded model: a take lifted as users lift it, by
`realmaster lift` on two cores, and what a frame costs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LTX2InContextPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.take import Take, TakeWriter
from realmaster import load_lifter
from realmaster.lift import pipeline_lifter
from realmaster.lift.ltx2 import GUIDANCE_OFF
from realmaster.lift.wan_in_context import WanInContextPipeline, WanReference
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan

FAMILIES: dict[str, Callable[[Path], Path]] = {"ltx-2.3": save_tiny_ltx2, "wan-2.1": save_tiny_wan}


def load(folder: Path, window: int, steps: int) -> Any:
    """A tiny model in windows of `window` frames."""
    profile = folder.with_suffix(".toml")
    sigmas = np.linspace(1, 1 / steps, steps).round(6).tolist()
    profile.write_text(f'base = "{folder.as_posix()}"\nwindow = {window}\noverlap = 1\n[sampling]\nsigmas = {sigmas}\n')
    return load_lifter(profile, device="cpu")


def overhead(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Print the ratio of our call to the pipeline's."""
    width, height = options.size
    lifter = load(folder, options.frames, options.steps)
    clip = np.random.default_rng(0).integers(0, 255, (options.frames, height, width, 3), np.uint8)
    lifter.lift(clip, "a street")  # the prompt is encoded, everything is warm
    bare = bare_call(lifter, folder, clip)
    bare()
    calls = {"lift": lambda: lifter.lift(clip, "a street"), "pipeline": bare}
    turns = [{name: cpu_seconds(calls[name]) for name in sorted(calls, reverse=turn % 2 == 1)}
             for turn in range(options.repeat)]  # fmt: skip
    low, middle, high = np.quantile([turn["lift"] / turn["pipeline"] for turn in turns], [0.25, 0.5, 0.75])
    times = "  ".join(f"{call} {np.median([turn[call] for turn in turns]) * 1000:6.0f} ms" for call in calls)
    print(f"{name:8s} {times}  ratio {middle:.3f} ({low:.3f} to {high:.3f})")


def embedded_take(folder: Path, frames: int) -> None:
    """Print how fast `realmaster lift` is, loaded, and the greatest memory of its process, on two cores at most."""
    take = folder / "city"
    command = [sys.executable, "-m", "realmaster"]
    record = ["record", "city", "--frames", str(frames), "--size", "256x144", "--takes", str(folder), "--name", "city"]
    subprocess.run([*command, *record], check=True, stdout=subprocess.DEVNULL)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    process = subprocess.Popen([*command, "lift", str(take), "--json"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, before)
    assert process.stdout is not None
    report = json.loads(process.stdout.read().splitlines()[-1])
    _, code, used = os.wait4(process.pid, 0)
    assert code == 0 and report["frames_lifted"] == frames, report
    print(
        f"embedded 256x144, `realmaster lift` on {min(2, len(before))} cores: {report['frames_per_second']:.1f} frames "
        f"a second, {used.ru_maxrss / 2**20:.2f} GiB at most"
    )


def embedded_frame(repeat: int) -> None:
    """Print what the embedded model takes for a frame, and what it would with its adapter computed at every layer."""
    clip = np.random.default_rng(0).integers(0, 255, (1, 144, 256, 3), np.uint8)
    fuse = pipeline_lifter.fuse
    lifters = {"as it is": load_lifter("embedded", device="cpu")}
    pipeline_lifter.fuse = lambda pipeline: []
    lifters["adapter at every layer"] = load_lifter("embedded", device="cpu")
    pipeline_lifter.fuse = fuse
    for lifter in lifters.values():
        lifter.lift(clip)
    turns = [{name: cpu_seconds(partial(lifter.lift, clip)) for name, lifter in lifters.items()} for _ in range(repeat)]
    for name in lifters:
        print(f"embedded 256x144, {name}: {np.median([turn[name] for turn in turns]):.3f} s a frame on one core")


def cpu_seconds(call: Callable[[], object]) -> float:
    """Processor time of this process: what others do on the machine counts less."""
    start = time.process_time()
    call()
    return time.process_time() - start


def bare_call(lifter: Any, folder: Path, clip: np.ndarray) -> Callable[[], object]:
    """The pipeline's own call as a script makes it, with everything prepared that can be, and guidance off."""
    frames, height, width, _ = clip.shape
    sigmas, shown = lifter.profile.sampling.sigmas, clip.astype(np.float32) / 255
    common = {"height": height, "width": width, "num_frames": frames, "sigmas": sigmas, "output_type": "np"}
    pipeline: Any
    if lifter.name.startswith("ltx"):
        pipeline = LTX2InContextPipeline.from_pretrained(folder)
        common |= GUIDANCE_OFF | lifter._prompt("a street")
        common |= {"reference_conditions": LTX2ReferenceCondition(shown)}
    else:
        pipeline = WanInContextPipeline.from_pretrained(folder)
        pipeline.scheduler = lifter.pipeline.scheduler
        common |= {"num_inference_steps": len(sigmas), "guidance_scale": 1.0}
        common |= {"references": [WanReference(torch.from_numpy(shown).permute(0, 3, 1, 2))]}
        common |= lifter._texts(lifter._prompts(["a street"])[0], None)
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(**common, generator=torch.Generator().manual_seed(0))


def record(folder: Path, frames: int, size: tuple[int, int]) -> Path:
    """A take of colour alone."""
    width, height = size
    descriptor = Descriptor("color", "uint8", (height, width, 3))
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, width, height)
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    writer = TakeWriter(folder, conventions=Conventions(), descriptors=[descriptor], engine="noise", game="", fps=30.0)
    for index in range(frames):
        channel = Channel(descriptor, np.roll(noise, index, axis=1), index)
        writer.append(Frame(index, index, index / 30, camera, {"color": channel}, Conventions()))
    writer.close()
    return folder


def peak(model: Path, take: Path, window: int, answer: Any) -> None:
    """Lift a take and send the greatest memory beyond the loaded model's, in bytes."""
    from realmaster.lift import lift_take

    torch.set_num_threads(1)
    lifter = load(model, window, 1)
    with Take(take) as opened:
        lift_take(opened, take.with_name(f"{take.name}-warm"), lifter, frames=(0, window))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lift_take(opened, take.with_name(f"{take.name}-lift"), lifter)
    answer.send((before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=17, help="of one window (8k + 1)")
    parser.add_argument("--size", default="256x160", type=lambda text: tuple(map(int, text.split("x"))))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--take-frames", type=int, default=96, help="of the take lifted with the embedded model")
    parser.add_argument("--memory-frames", default="60,600", type=lambda text: list(map(int, text.split(","))))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        embedded_take(Path(folder), options.take_frames)
    torch.set_num_threads(1)
    embedded_frame(options.repeat)
    with tempfile.TemporaryDirectory() as folder:
        for name, save in FAMILIES.items():
            model = save(Path(folder) / name)
            overhead(name, model, options)
            peaks = []
            for frames in options.memory_frames:
                take = record(Path(folder) / f"{name}-{frames}", frames, options.size)
                ours, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=peak, args=(model, take, options.frames, theirs)
                )
                process.start()
                warm, most = ours.recv()
                process.join()
                peaks.append(most)
                print(
                    f"{name:8s} {frames:5d} frames: {most / 2**20:.0f} MiB at most, {warm / 2**20:.0f} after one window"
                )
            print(f"{name:8s} memory of the long take over the short one's: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
