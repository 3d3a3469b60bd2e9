"""The miniature study: lifts of streets that no training has seen, against the truth that the engine can shade.

    python benchmarks/study.py embedded mine=runs/my-lora --seeds 10000500:10000506 -o study.md

Each argument is a lift: a profile, a folder or a profile file of `realmaster lift --model`, with a name of its own
before `=`; or `editing`, every frame edited as a picture by itself; or `pipeline`, what `realmaster pairs` makes of it:
anchors and propagation. The untouched render and the reference itself are rows too. Prints a table in markdown and,
with -o, writes it, with every clip's scores beside it as JSON. From Python, `study` takes any functions from a clip to
its video.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.frame import Channel, Frame
from engine_bridges.city.bridge import channels, descriptors
from engine_bridges.city.clips import HELD_OUT
from engine_bridges.city.scene import LOOKS, City
from realmaster.measure import Scorer

RENDER, TRUTH = "untouched render", "reference"


@dataclass(frozen=True)
class Clip:
    """A piece of a street: what the engine sent, and its reference shading, uint8 [T, H, W, 3]."""

    seed: int
    frames: list[Frame]
    reference: np.ndarray

    @property
    def color(self) -> np.ndarray:
        """uint8 [T, H, W, 3]: the render."""
        return np.stack([frame.color for frame in self.frames])


System = Callable[[Clip], np.ndarray]
"""From a clip to its lift, uint8 [T, H, W, 3]. It must not look at the reference, unless it is meant as a bound."""

COLUMNS: Mapping[str, tuple[str, int]] = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "detail_ratio": ("fine detail / truth's", 2),
    "seams": ("seams", 3),
    "flicker_ratio": ("change / render's", 2),
    "warp_error": ("warp error", 4),
    "depth_edges_to_reference": ("depth edges / truth's", 3),
    "psnr_late": ("PSNR of what appears later", 2),
    "psnr_early": ("PSNR of things that were there", 2),
    "psnr_rest": ("PSNR of all else", 2),
    "drift_psnr": ("drift dB", 2),
    "drift_psnr_error": ("its error", 2),
}
"""Score -> heading, digits."""


def held_out_clip(
    seed: int, size: tuple[int, int], frames: int, first: int = 0, back: bool = False, **look: str | None
) -> Clip:
    """A clip of a street from its seed on; `size` is (width, height), `look` the City's layout, palette or weather in
    place of the seed's. ValueError for a street that training may see.

    With `back`, the second half is the first one backwards. So the last third shows what the first one shows, and
    where the two differ it is the lift that drifts, not the street. Such a clip has no motion vectors.
    """
    if seed < HELD_OUT:
        raise ValueError(f"street {seed} is not held out: seeds from {HELD_OUT} on are")
    city, about = City(seed, size, **look), {each.name: each for each in descriptors(size)}
    engine, truth = [], []
    for place in range(frames):
        index = first + (min(place, frames - 1 - place) if back else place)
        made = city.frame(index)
        data = {name: Channel(about[name], array, index) for name, array in channels(made).items()}
        if back:
            del data["motion"]  # it tells of the frame before, which is the next one on the way back
        serial = first + place
        engine.append(Frame(place, serial, serial / city.fps, made.camera, data, entities=made.entities))
        truth.append(city.reference(index))
    return Clip(seed, engine, np.stack(truth))


def lift_of(model: str, seed: int = 0, steps: int | None = None) -> System:
    """The system that `realmaster lift --model MODEL` is: windows, overlap and all."""
    from realmaster import load_lifter
    from realmaster.lift.cues import draw_cue
    from realmaster.lift.windows import lift_long

    lifter = load_lifter(model)

    def system(clip: Clip) -> np.ndarray:
        cues = (draw_cue(frame, lifter.cue) for frame in clip.frames)
        return np.stack(list(lift_long(lifter, cues, seed=seed, steps=steps)))

    return system


def editing() -> System:
    """Every frame edited as a picture by itself, by the editor that makes the anchors of `realmaster pairs`."""
    from realmaster.pairs.editors import load_editor
    from realmaster.pairs.settings import load_settings

    editor = load_editor("embedded", load_settings())
    return lambda clip: np.stack([editor.edit(frame.color, "", seed) for seed, frame in enumerate(clip.frames)])


def pipeline() -> System:
    """Anchors edited, then propagated along the geometry: what `realmaster pairs` makes, before its filters."""
    from realmaster.pairs.carrying import carry_anchors, complete
    from realmaster.pairs.editors import load_editor
    from realmaster.pairs.propagators import anchor_places, load_propagator
    from realmaster.pairs.settings import load_settings

    settings = load_settings()
    editor, propagator = load_editor("embedded", settings), load_propagator("embedded", settings)
    rules = propagator.rules

    def system(clip: Clip) -> np.ndarray:
        places = anchor_places(len(clip.frames), rules.window, rules.overlap)
        anchors = {place: editor.edit(clip.frames[place].color, "", 0) for place in places}
        carried, known = carry_anchors(clip.frames, anchors)
        return complete(propagator.propagate({propagator.cue: carried}, anchors, "", 0), carried, known)

    return system


def study(systems: Mapping[str, System], clips: Sequence[Clip]) -> dict[str, list[dict[str, float | None]]]:
    """System -> the scores of its lift of each clip; the render and the reference are systems as well."""
    all_systems: dict[str, System] = {RENDER: lambda clip: clip.color, **systems, TRUTH: lambda clip: clip.reference}
    results: dict[str, list[dict[str, float | None]]] = {name: [] for name in all_systems}
    for clip in clips:
        for name, system in all_systems.items():
            started, scorer = time.monotonic(), Scorer()
            video = system(clip)
            seconds = time.monotonic() - started
            for frame, picture, truth in zip(clip.frames, video, clip.reference, strict=True):
                scorer.add(frame, picture, truth)
            scores = scorer.result()["lifted"].to_dict()
            results[name].append({**scores, "seed": clip.seed, "frames_per_second": round(len(video) / seconds, 2)})
            print(f"street {clip.seed}, {name}: {scores['psnr']:.2f} dB, {seconds:.1f} s", file=sys.stderr, flush=True)
    return results


def table(results: Mapping[str, Sequence[Mapping[str, float | None]]]) -> str:
    """Means over the clips, in markdown; a system's mean is over the clips that have the score."""
    lines = [
        "| | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, clips in results.items():
        cells = []
        for score, (_, digits) in COLUMNS.items():
            known = [clip[score] for clip in clips if clip[score] is not None]
            own = name == TRUTH and score.startswith(("psnr", "ssim", "drift"))
            cells.append("–" if own or not known else f"{np.mean(known):.{digits}f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lifts", nargs="*", default=["embedded"], metavar="[NAME=]MODEL")
    parser.add_argument(
        "--seeds", default=f"{HELD_OUT + 500}:{HELD_OUT + 504}", metavar="A:B", help="streets A to B - 1"
    )
    for what, names in LOOKS.items():
        parser.add_argument(f"--{what}", choices=names, help="instead of what each seed chooses")
    parser.add_argument("--size", default="256x144", metavar="WxH")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--back", action="store_true", help="streets there and back again: what drifts is the lift")
    parser.add_argument("--steps", type=int)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.md")
    args = parser.parse_args()
    a, b = (int(part) for part in args.seeds.split(":"))
    width, height = (int(part) for part in args.size.split("x"))
    systems = {}
    for each in args.lifts:
        name, _, model = each.rpartition("=")
        made = {"editing": editing, "pipeline": pipeline}.get(model)
        systems[name or model] = made() if made else lift_of(model, steps=args.steps)
    look = {what: getattr(args, what) for what in LOOKS}
    clips = [held_out_clip(seed, (width, height), args.frames, back=args.back, **look) for seed in range(a, b)]
    results = study(systems, clips)
    kinds = [*filter(None, look.values()), f"{args.frames} frames of {args.size}"]
    if args.back:
        kinds.append("there and back again")
    heading = f"{b - a} streets from seed {a}, {', '.join(kinds)}, against the reference shading.\n"
    print(heading)
    print(table(results))
    if args.out:
        args.out.write_text(f"{heading}\n{table(results)}\n", encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
