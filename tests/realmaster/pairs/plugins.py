"""An editor and propagators without weights, named as `module:attribute`, for what does not depend on a model."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from realmaster.lift.lifter import LiftRules

LOG = "PAIRS_TEST_LOG"
"""Folder in which every model call leaves a file of its own."""


def noted(what: str) -> None:
    if folder := os.environ.get(LOG):
        (Path(folder) / f"{what}-{os.getpid()}-{time.monotonic_ns()}").write_text("")


def photo(pictures: np.ndarray) -> np.ndarray:
    """Something else than a colour grade, as steady as the render: local contrast, and a colour by brightness."""
    shown = pictures.astype(np.float32)
    grey = shown.mean(-1, keepdims=True)
    around = (np.roll(grey, 2, -2) + np.roll(grey, -2, -2) + np.roll(grey, 2, -3) + np.roll(grey, -2, -3)) / 4
    shade = 20 * np.sin(grey / 20) * np.array([1.0, -0.6, 0.3], np.float32)
    return np.clip(0.8 * shown + 20 + 0.4 * (grey - around) + shade, 0, 255).astype(np.uint8)


class PlainEditor:
    def edit(self, picture, caption, seed, style=None):
        noted("edit")
        return photo(picture)


class WideEditor(PlainEditor):
    """Returns another size: twice as wide."""

    def edit(self, picture, caption, seed, style=None):
        return np.repeat(photo(picture), 2, axis=1)


class FloatEditor(PlainEditor):
    """Returns numbers that are no bytes."""

    def edit(self, picture, caption, seed, style=None):
        return photo(picture).astype(np.float32) / 255


class LargeEditor(PlainEditor):
    """Returns another size of the same proportions, as pipelines do."""

    def edit(self, picture, caption, seed, style=None):
        return np.repeat(np.repeat(photo(picture), 2, axis=0), 2, axis=1)


class WrongEditor(PlainEditor):
    """Returns a picture of another place, but for the third seed that it is given."""

    seeds: list[int] = []

    def edit(self, picture, caption, seed, style=None):
        if seed not in self.seeds:
            self.seeds.append(seed)
        return photo(picture) if len(self.seeds) > 2 else photo(picture)[::-1, ::-1].copy()


class PlainPropagator:
    """Sees the render, and makes of every frame what the editor makes of a still."""

    rules = LiftRules(window=9, overlap=1, frame_step=1, size_multiple=1, max_side=4096)
    cue = "color"
    references = ()

    def propagate(self, cues, anchors, caption, seed):
        noted("propagate")
        time.sleep(float(os.environ.get("PAIRS_TEST_SECONDS", "0")))
        return photo(cues["color"])


class FailingPropagator(PlainPropagator):
    """Fails on one clip: the one that it sees second."""

    seen = 0

    def propagate(self, cues, anchors, caption, seed):
        FailingPropagator.seen += 1
        if FailingPropagator.seen == 2:
            raise RuntimeError("out of memory")
        return super().propagate(cues, anchors, caption, seed)


class DyingPropagator(PlainPropagator):
    """Takes its process with it, the first time."""

    def propagate(self, cues, anchors, caption, seed):
        mark = Path(os.environ[LOG]) / "died"
        if not mark.exists():
            mark.write_text("")
            os._exit(9)
        return super().propagate(cues, anchors, caption, seed)


class ShiftedPropagator(PlainPropagator):
    """Moves the picture aside."""

    def propagate(self, cues, anchors, caption, seed):
        return np.roll(super().propagate(cues, anchors, caption, seed), 6, axis=2)


class EdgesPropagator(PlainPropagator):
    """Is shown edges, and keeps what it was shown."""

    cue = "edges"
    shown: list[np.ndarray] = []

    def propagate(self, cues, anchors, caption, seed):
        self.shown.append(cues["edges"])
        return np.stack([anchors[0]] * len(cues["edges"]))


def broken() -> object:
    raise OSError("no weights")
