"""A small dataset of pairs from the embedded engine, in the layout that `realmaster pairs` writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from capture.video import write_video
from engine_bridges.city.scene import City


def make_dataset(
    folder: Path, pairs: int = 8, frames: int = 9, size: tuple[int, int] = (96, 64), seed: int = 500
) -> Path:
    """Each pair is another stretch of one street; targets are the engine's reference shading. `size`: width, height.
    Cues are the normals as a picture, under the name `normals`."""
    for kind in ("render", "target", "cues"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rows, city = [], City(seed, size)
    for number in range(pairs):
        name, first = f"pair-{number:03d}", 25 * number
        span = range(first, first + frames)
        drawn = [city.frame(index) for index in span]
        normals = [np.rint((frame.normal + 1) * 127.5).astype(np.uint8) for frame in drawn]
        videos = {
            f"render/{name}.mp4": [frame.color for frame in drawn],
            f"target/{name}.mp4": [city.reference(index) for index in span],
            f"cues/{name}-normals.mp4": normals,
        }
        for path, pictures in videos.items():
            write_video(folder / path, pictures, crf=4)
        rows.append(
            {
                "id": name,
                "render": f"render/{name}.mp4",
                "target": f"target/{name}.mp4",
                "cues": {"normals": f"cues/{name}-normals.mp4"},
                "caption": f"a street, number {number}",
                "scores": {"depth_edges": 0.9},
                "provenance": {"take": f"city-{seed}", "frames": [first, first + frames]},
            }
        )
    write_rows(folder, rows)
    return folder


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
