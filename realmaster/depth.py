"""Depth that a model guesses from the picture, for takes whose engine sent none.

Works on takes and on depth estimators of transformers (Depth Anything and its relatives). Knows nothing of engines. A
channel made here says `estimated` in its descriptor, and what its numbers are worth: metric models give metres, the
others 1/z up to a factor and an offset that nobody knows, which may differ from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import UserError
from capture.frame import UNKNOWN_SCALE, Channel, Descriptor, Frame
from capture.take import Take
from realmaster.model_folders import found

EXAMPLE = "depth-anything/Depth-Anything-V2-Small-hf"


class DepthModelError(UserError):
    """A depth model cannot be loaded, or a take has nothing for it to do."""


class DepthEstimator:
    """A depth estimator; weights come from safetensors files only.

    model: a folder in transformers' layout (config.json, model.safetensors, preprocessor_config.json), or the id of
        such a repository on the Hugging Face hub.
    device: a torch device; by default the first GPU, else the CPU.

    Raises DepthModelError.
    """

    def __init__(self, model: str, device: str | None = None) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        with found(model, "depth model", EXAMPLE, DepthModelError) as source:
            self._processor = AutoImageProcessor.from_pretrained(source)
            self._model = AutoModelForDepthEstimation.from_pretrained(source, use_safetensors=True)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device).eval()
        self.metric = getattr(self._model.config, "depth_estimation_type", "relative") == "metric"
        """Whether the model gives metres."""

    def __call__(self, color: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W) float32 from a picture (H, W, 3) uint8 sRGB: metres along the optical axis, or 1/z, see above."""
        import torch

        inputs = self._processor(images=color, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_depth_estimation(outputs, target_sizes=[color.shape[:2]])
        depth: NDArray[np.float32] = found[0]["predicted_depth"].float().cpu().numpy()
        return np.maximum(depth, 0)  # resampling may go below, and 1/z of 0 is infinitely far

    def descriptor(self, shape: tuple[int, int]) -> Descriptor:
        """What the numbers mean, for a picture of `shape` (H, W)."""
        law: Mapping[str, Any] = {"kind": "linear"} if self.metric else {"kind": "inverse", "scale": UNKNOWN_SCALE}
        return Descriptor("depth", "float32", shape, estimated=True, **law)


def check_wanted(take: Take) -> None:
    """DepthModelError when a take has depth already, or no colour to guess it from."""
    if "depth" in take.channels:
        raise DepthModelError(f"take {take.name} has depth already: the engine's own is better than a guess.")
    if "color" not in take.channels:
        raise DepthModelError(f"take {take.name} has no colour to estimate depth from.")


class EstimatedTake:
    """A take's frames with estimated depth beside what was recorded; a `capture.importers.Source`."""

    def __init__(self, take: Take, estimator: DepthEstimator) -> None:
        check_wanted(take)
        self._take, self._estimator = take, estimator
        self._frames = take.readable
        self.engine, self.game, self.fps = take.engine, take.game, take.fps
        self.conventions = take.conventions
        self.legend: Mapping[str, Mapping[int, str]] = take.legend
        self.notes: list[str] = []
        if not estimator.metric:
            self.notes.append("the model knows no metres: depth is 1/z up to a factor and an offset, per frame.")
        if len(self._frames) < take.recorded:
            self.notes.append(f"{take.recorded - len(self._frames)} lost frames of the take are left out.")

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> Frame:
        """Frame `index` as recorded, and its estimated depth."""
        recorded = self._take[self._frames[index]]
        depth = self._estimator(recorded.color)
        channel = Channel(self._estimator.descriptor((depth.shape[0], depth.shape[1])), depth, recorded.serial)
        return Frame(
            index, recorded.serial, recorded.time, recorded.raw_camera, {**recorded.channels, "depth": channel},
            recorded.conventions, recorded.flags, recorded.entities, recorded.dropped_before, recorded.capture_time,
        )  # fmt: skip
