"""A lifter for tests of the lifting process, which starts without torch: the picture inverted, and the troubles that
its prompt asks for."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from capture.errors import UserError
from capture.take import Take
from capture.video import write_video


@dataclass(frozen=True)
class Rules:
    window: int = 1
    overlap: int = 0
    frame_step: int = 1
    size_multiple: int = 8
    max_side: int = 256


class Inverter:
    """Prompts: "slow", "fail", "die at N", "hang at N", "hang once at N", "memory at N" (while it is not held small).

    N: the brightness of a frame / 20, which in the tests' take is its number.
    """

    cue = "color"
    settings = {"sampling": {"steps": 4}}

    def __init__(self, model: str, lora: str | None, memory: str, rules: Rules | None = None) -> None:
        self.name, self.lora, self.memory = model, lora, memory
        self.rules = rules or Rules()

    def lift(
        self, clip: np.ndarray, prompt: str = "", seed: int = 0, prefix: Any = None, steps: Any = None
    ) -> np.ndarray:
        if prompt == "slow":
            time.sleep(0.3)
        if prompt == "fail":
            raise UserError("It failed as it was asked to.")
        what, _, at = prompt.partition(" at ")
        if at and clip[-1].mean() >= 20 * int(at) - 1:
            if what == "die":
                os._exit(9)
            if what == "memory" and self.memory != "low":
                raise MemoryError
            once = Path(os.environ["REALMASTER_RUNTIME_DIR"]).with_name("hung")  # in a folder of this test
            if what == "hang" or (what == "hang once" and not once.exists()):
                once.touch()
                time.sleep(600)
        lifted = 255 - clip
        if prefix is not None:
            lifted[: len(prefix)] = prefix
        return lifted


def lift_take(
    take: Take, out: Path, lifter: Inverter, frames: tuple[int, int], prompt: str, seed: int, steps: Any, progress: Any,
    preview: Any = None,
) -> None:
    """As `realmaster.lift.lift_take`, which has tests of its own: goes on where it was cut off."""
    kept = out / "windows"
    kept.mkdir(parents=True, exist_ok=True)
    resumed = 0
    for done, index in enumerate(range(*frames), 1):
        file = kept / f"{index}.npy"
        if file.exists():
            resumed += 1
        else:
            if preview is not None:
                preview(index, 255 - take[index].color[None])
            lifted = lifter.lift(take[index].color[None], prompt)
            part = kept / f".{index}.npy"
            np.save(part, lifted[0])
            part.rename(file)
        progress(done, frames[1] - frames[0])
    pictures = [np.load(kept / f"{index}.npy") for index in range(*frames)]
    write_video(out / "lifted.mp4", iter(pictures), fps=24)
    report = {"model": lifter.name, "lora": lifter.lora, "frames": list(frames), "resumed": resumed}
    (out / "report.json").write_text(json.dumps(report))


def load(model: str, lora: str | None, memory: str) -> tuple[Inverter, Any]:
    return Inverter(model, lora, memory), lift_take


def load_chained(model: str, lora: str | None, memory: str) -> tuple[Inverter, Any]:
    """One whose windows of 9 frames begin with 3 of the window before."""
    return Inverter(model, lora, memory, Rules(window=9, overlap=3, frame_step=2)), lift_take
