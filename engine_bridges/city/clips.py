"""Paired clips for training, straight from the engine: render, reference and geometry cue of the same frames, and where
people and vehicles are.

    python -m engine_bridges.city.clips OUT --seeds 0:600

Writes OUT/<seed>-<first frame>.npy, uint8 [4, F, H, W, 3] in the order render, reference, cue, movers (white where
people and vehicles are, else black); clips that are there already are not made again. Knows nothing of takes or
sockets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from capture.geometry import shaded_normals
from engine_bridges.city.scene import City, CityFrame
from engine_bridges.city.things import PERSON, VEHICLE
from engine_bridges.city.weather import WEATHERS

HELD_OUT = 10_000_000
"""Seeds from here on are never trained on: demo and tests use them."""


def cue(frame: CityFrame) -> np.ndarray:
    """uint8 `[H, W, 3]`: geometry without any appearance, as `realmaster.lift.cues` draws it from a take."""
    return shaded_normals(frame.depth, frame.normal)


def movers(frame: CityFrame) -> np.ndarray:
    """bool `[H, W]`: where people and vehicles are, parked ones too."""
    return np.isin(frame.segmentation, (PERSON, VEHICLE))


def make_clip(city: City, first: int, frames: int) -> np.ndarray:
    """uint8 `[4, F, H, W, 3]`: render, reference, cue, movers of frames `first` to `first + frames - 1`."""
    pictures = []
    for index in range(first, first + frames):
        frame = city.frame(index)
        white = np.where(movers(frame)[..., None], np.uint8(255), np.uint8(0))
        pictures.append((frame.color, city.reference(index), cue(frame), np.broadcast_to(white, frame.color.shape)))
    return np.stack([np.stack(kind) for kind in zip(*pictures, strict=True)])


def newcomers(frames: Sequence[CityFrame], smallest: int = 12) -> np.ndarray:
    """bool `[F, H, W]`: where people and vehicles are that nothing was seen of in the first frame, once they cover
    at least `smallest` pixels of some frame. What a pipeline that starts from the first frame cannot have known."""
    instances = np.stack([frame.instance for frame in frames])
    moving = np.stack([movers(frame) for frame in frames])
    known = np.unique(instances[0])
    found = set()
    for instance, mask in zip(instances, moving, strict=True):
        numbers, counts = np.unique(instance[mask], return_counts=True)
        found.update(numbers[counts >= smallest].tolist())
    return moving & np.isin(instances, sorted(found - set(known.tolist())))


def make_clips(
    seed: int, out: Path, starts: Iterable[int], frames: int, size: tuple[int, int], weather: str | None = None
) -> None:
    """All clips of one street."""
    missing = [(first, path) for first in starts if not (path := out / f"{seed:08d}-{first:04d}.npy").exists()]
    if not missing:
        return
    city = City(seed, size, weather=weather)
    for first, path in missing:
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, make_clip(city, first, frames))
        part.replace(path)  # a stopped run leaves no half clip under the name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0:600", help="A:B, from A up to B - 1")
    parser.add_argument("--starts", type=int, nargs="+", default=[0, 96], help="first frames of the clips of a street")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", default="256x144")
    parser.add_argument("--weather", choices=WEATHERS, help="instead of what each seed chooses")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    a, b = (int(part) for part in args.seeds.split(":"))
    if not 0 <= a < b <= HELD_OUT:
        parser.error(f"--seeds wants A:B with 0 <= A < B <= {HELD_OUT}: later seeds are held out")
    width, height = (int(part) for part in args.size.split("x"))
    args.out.mkdir(parents=True, exist_ok=True)
    work = partial(
        make_clips,
        out=args.out,
        starts=args.starts,
        frames=args.frames,
        size=(width, height),
        weather=args.weather,
    )
    with ProcessPoolExecutor(args.workers) as pool:
        for done, _ in enumerate(pool.map(work, range(a, b)), start=1):
            print(f"\r{done} of {b - a} streets", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
