"""Lift a recording: from a take to a video, with a report of how it was made and what it scores."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from capture.frame import Frame
from capture.pictures import tile
from capture.take import Take
from capture.video import write_video
from realmaster.lift.lifter import Lifter, LiftError, Progress
from realmaster.lift.windows import count_windows, lift_long
from realmaster.measure import Scorer


def lift_take(
    take: Take,
    out: str | Path,
    lifter: Lifter,
    frames: tuple[int, int] | None = None,
    prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
) -> dict:
    """Lift frames `[a, b)` of `take` (default: all) into the folder `out`: `lifted.mp4` at the take's own times,
    `report.json`, and stills. Returns the report. Raises `LiftError`, `TakeError`.
    """
    first, last = (0, len(take)) if frames is None else frames
    if not 0 <= first < last <= len(take):
        raise LiftError(f"Frames {first}:{last} are not in this take: it has {len(take)}, counted from 0.")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LiftError(f"The folder {out} cannot be written ({error.strerror}); choose another with -o.") from error

    started = time.monotonic()
    chosen = take[first:last]
    times = [frame.time for frame in chosen]  # a lost frame is known now, not after an hour of lifting
    stills = sorted({0, (last - first) // 2, last - first - 1})
    scorer = Scorer()
    under_way: deque[Frame] = deque()  # read, not yet lifted: a frame is decoded once

    def renders() -> Iterator[np.ndarray]:
        for frame in chosen:
            under_way.append(frame)
            yield frame.color

    def lifted() -> Iterator[np.ndarray]:
        pictures = lift_long(lifter, renders(), prompt, seed, steps, total=last - first, progress=progress)
        for index, picture in enumerate(pictures):
            frame = under_way.popleft()
            scorer.add(frame, picture)
            if index in stills:
                side_by_side = tile([frame.color, picture], labels=["render", "lifted"])
                Image.fromarray(side_by_side).save(out / f"still-{first + index:05d}.png")
            yield picture

    write_video(out / "lifted.mp4", lifted(), times=times)
    seconds = time.monotonic() - started
    report = {
        "model": lifter.name,
        "prompt": prompt,
        "seed": seed,
        "steps": steps,
        "frames": [first, last],
        "frames_lifted": scorer.count,
        "windows": count_windows(last - first, lifter.rules),
        "window_frames": lifter.rules.window,
        "seconds": round(seconds, 2),
        "frames_per_second": round((last - first) / seconds, 2),
        "scores": {name: scores.to_dict() for name, scores in scorer.result().items()},
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
