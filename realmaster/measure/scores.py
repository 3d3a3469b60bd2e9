"""All scores of a clip in one table: the lift, the untouched render as its control, and the reference where there is
one."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import torch

from capture.frame import Frame
from realmaster.measure.drift import color_drift, thirds, thirds_error
from realmaster.measure.identity import Identity
from realmaster.measure.moment import REFERENCE, RENDER, Moment
from realmaster.measure.placement import Displacement, FrameOrder
from realmaster.measure.realism import Detail, Grade, Likeness, Seams
from realmaster.measure.structure import Structure
from realmaster.measure.temporal import Steadiness

Better = Literal["higher", "lower", "one", "zero", "none"]
"""In which direction a number gets better: higher, lower, nearer to 1, nearer to 0; or it is no judgement."""

NEAREST = 40.0
"""PSNR in dB above which frames count as equally near when thirds of a take are compared."""


@dataclass(frozen=True)
class Measure:
    """How one score is to be read."""

    name: str
    """For people."""
    group: str
    """structure, time, identity, realism, late (things that appear in the middle of a clip) or drift."""
    better: Better
    reading: str
    """What it says, in a few words."""
    unit: str = ""
    digits: int = 3


def _measure(*args: Any, **kwargs: Any) -> Any:
    return field(default=None, metadata={"measure": Measure(*args, **kwargs)})


@dataclass
class Scores:
    """Of one video over a clip; None where something that a score needs is not there. docs/measures.md defines each."""

    depth_edge_alignment: float | None = _measure(
        "depth edges kept", "structure", "higher", "share of the engine's depth edges in the picture"
    )
    depth_edges_to_render: float | None = _measure(
        "  over the render's", "structure", "higher", "at 1 as many as the render"
    )
    depth_edges_to_reference: float | None = _measure(
        "  over the reference's", "structure", "higher", "at 1 as many as the truth"
    )
    edge_f1: float | None = _measure("edges against geometry", "structure", "higher", "F1; texture lowers it")
    displacement: float | None = _measure("displacement", "structure", "lower", "how far beside the geometry", "px", 1)
    displacement_x: float | None = _measure("  to the right", "structure", "zero", "", "px", 1)
    displacement_y: float | None = _measure("  downwards", "structure", "zero", "", "px", 1)
    frame_order: float | None = _measure("frames in their place", "structure", "higher", "1 is all")
    dino_structure: float | None = _measure("DINO structure distance", "structure", "lower", "to the render", digits=2)
    warp_error: float | None = _measure("warp error", "time", "lower", "lower is steadier", digits=4)
    flicker_ratio: float | None = _measure("change over the render's", "time", "one", "1 changes as the render does")
    color_jump: float | None = _measure(
        "colour jumps", "time", "lower", "of the whole picture, frame to frame", digits=4
    )
    identity_color: float | None = _measure("colour of things", "identity", "lower", "spread over time", digits=4)
    identity_texture: float | None = _measure("texture of things", "identity", "lower", "spread over time")
    faces: float | None = _measure("faces (ArcFace)", "identity", "higher", "cosine to the render's")
    photo_odds: float | None = _measure("photograph, not game (CLIP)", "realism", "higher", "log odds", digits=2)
    psnr: float | None = _measure("PSNR to the reference", "realism", "higher", "higher is nearer", "dB", 1)
    ssim: float | None = _measure("SSIM to the reference", "realism", "higher", "higher is nearer")
    ms_ssim: float | None = _measure("MS-SSIM to the reference", "realism", "higher", "higher is nearer")
    lpips: float | None = _measure("LPIPS to the reference", "realism", "lower", "lower is nearer")
    cmmd: float | None = _measure("CMMD to the reference", "realism", "lower", "of frames as a set")
    kid: float | None = _measure("KID to the reference", "realism", "lower", "of frames as a set", digits=4)
    detail_ratio: float | None = _measure("fine detail", "realism", "one", "over the reference's")
    detail_to_render: float | None = _measure("fine detail over render's", "realism", "none", "below 1 is softer")
    seams: float | None = _measure("patch seams", "realism", "lower", "excess gradient on a grid")
    novelty: float | None = _measure("beyond a colour grade", "realism", "none", "0 is a copy of the render")
    psnr_late: float | None = _measure(
        "PSNR of what appears later", "late", "higher", "of things not in the first frame", "dB", 1
    )
    psnr_early: float | None = _measure(
        "PSNR of what was there", "late", "higher", "of things in the first frame", "dB", 1
    )
    psnr_rest: float | None = _measure("PSNR of all else", "late", "higher", "", "dB", 1)
    depth_edges_late: float | None = _measure("depth edges of these", "late", "higher", "share kept")
    warp_error_late: float | None = _measure("warp error of these", "late", "lower", "", digits=4)
    drift_psnr: float | None = _measure("PSNR, last third", "drift", "higher", "minus that of the first third", "dB", 2)
    drift_psnr_error: float | None = _measure("  its standard error", "drift", "none", "as it wanders anyway", "dB", 2)
    drift_color: float | None = _measure("colour, last third", "drift", "lower", "change of the colour grade")
    drift_detail: float | None = _measure("fine detail, last third", "drift", "one", "over the first third's")

    def to_dict(self) -> dict[str, float | None]:
        """Every score by its name, rounded."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: None if value is None else round(value, 4) for name, value in values.items()}


MEASURES: dict[str, Measure] = {each.name: each.metadata["measure"] for each in fields(Scores)}
"""Score -> how to read it, in the order of a report."""


class Scorer:
    """Takes a clip frame by frame. Pictures are not kept: memory grows by a few kilobytes a frame.

    seam_period: pixels between patch borders where the model's are known; else a grid is looked for.
    learned: measures with trained weights, from `realmaster.measure.learned`.
    first_frame: what the clip's first frame is called, for people; its place in a take.
    wanted: names of scores, where few will do: what gives none of them is not measured.
    """

    def __init__(
        self,
        seam_period: int | None = None,
        learned: Sequence[Any] = (),
        first_frame: int = 0,
        wanted: Collection[str] | None = None,
    ) -> None:
        self.first_frame = first_frame
        self._learned = learned
        self.curves: dict[str, dict[str, array[float]]] = {}
        """Video -> score -> its value at each frame, nan where there is none."""
        self.order, self.identity, self.seams, self.grade = FrameOrder(), Identity(), Seams(seam_period), Grade()
        self.displacement, self._likeness = Displacement(), Likeness()
        meters: list[Any] = [
            Structure(), Steadiness(), self._likeness, Detail(),
            self.displacement, self.order, self.identity, self.seams, self.grade,
        ]  # fmt: skip
        self._meters = [each for each in meters if wanted is None or not set(wanted).isdisjoint(each.gives)]
        self._meters += learned
        self.last: Moment | None = None
        """The latest frame, as the measures see it."""

    @property
    def count(self) -> int:
        """Frames so far."""
        return 0 if self.last is None else self.last.index + 1

    @property
    def latest(self) -> dict[str, dict[str, float]]:
        """Video -> score -> its value at the latest frame."""
        return {video: {name: curve[-1] for name, curve in curves.items()} for video, curves in self.curves.items()}

    @torch.inference_mode()
    def add(self, frame: Frame, lifted: np.ndarray, reference: np.ndarray | None = None) -> Moment:
        """The next engine frame with its lift and, where there is one, the truth: uint8 `[H, W, 3]` of one size.

        Returns what the measures have seen of it.

        Structure wants depth; motion wants a motion channel, or depth with cameras; identity wants instances. What is
        absent is not scored. A reference is given for all frames of a clip or for none. ValueError for pictures of
        different sizes.
        """
        pictures = [lifted, frame.color] + ([] if reference is None else [reference])
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(f"pictures of one moment differ in size: {[picture.shape for picture in pictures]}")
        moment = Moment.of(frame, pictures, self.last)
        if self.last is not None and self.last.names != moment.names:
            raise ValueError("a reference is given for all frames of a clip or for none")
        values = {name: value.tolist() for meter in self._meters for name, value in meter.add(moment).items()}
        for place, video in enumerate(moment.names):
            curves = self.curves.setdefault(video, {})
            for name in values.keys() - curves.keys():
                curves[name] = array("d", [float("nan")]) * moment.index
            for name, curve in curves.items():
                curve.append(values[name][place] if name in values else float("nan"))
        if self.last is not None:
            self.last.previous = None  # a chain of all moments would hold every picture
        self.last = moment
        return moment

    @torch.inference_mode()
    def result(self) -> dict[str, Scores]:
        """`{"lifted": Scores, "render": Scores}`, and "reference" where there is one."""
        names = ("lifted", RENDER) if self.last is None else self.last.names
        table: dict[str, dict[str, float]] = {name: {} for name in names}
        for name in names:
            for score, curve in self.curves.get(name, {}).items():
                if np.isfinite(curve).any():
                    table[name][score] = float(np.nanmean(curve))
        if self.last is not None:
            self._summarise(table)
        known = MEASURES.keys()
        return {
            name: Scores(**{k: v for k, v in values.items() if k in known and np.isfinite(v)})
            for name, values in table.items()
        }

    def _summarise(self, table: dict[str, dict[str, float]]) -> None:
        """Add what is known of the whole clip only."""
        names = list(table)
        for summary in (
            self.displacement.summary(), self.order.summary(len(names)), self.identity.summary(),
            self._likeness.summary(), self.seams.summary(len(names)), self.grade.summary(),
            *(each.summary(names) for each in self._learned),
        ):  # fmt: skip
            for score, values in summary.items():
                for name, value in zip(names, values, strict=True):
                    table[name][score] = value
        against = names.index(REFERENCE) if REFERENCE in names else None
        for place, name in enumerate(names):
            row, curves = table[name], self.curves[name]
            for score, ratio in (("depth_edge_alignment", "depth_edges_to"), ("detail", "detail_to")):
                for other in (RENDER, REFERENCE):
                    if table.get(other, {}).get(score) and score in row:
                        row[f"{ratio}_{other}"] = row[score] / table[other][score]
            row["detail_ratio"] = row.get("detail_to_reference", float("nan"))
            if table[RENDER].get("frame_change"):
                row["flicker_ratio"] = row["frame_change"] / table[RENDER]["frame_change"]
            nearness = np.minimum(curves.get("psnr", []), NEAREST)
            row["drift_psnr"], row["drift_psnr_error"] = thirds(nearness), thirds_error(nearness)
            row["drift_color"] = color_drift(self.grade, place, against)
            control = self.curves[RENDER if against is None else REFERENCE]
            if "detail" in curves:
                fine = np.array(curves["detail"]) / np.maximum(control["detail"], 1e-6)
                row["drift_detail"] = 1 + thirds(fine) / max(float(np.nanmean(fine)), 1e-9)


Video = Sequence[np.ndarray] | np.ndarray
"""uint8 `[T, H, W, 3]`, or as many pictures."""


def score_clip(frames: Iterable[Frame], lifted: Video, reference: Video | None = None) -> dict[str, float]:
    """The scores of one lift, uint8 `[T, H, W, 3]`, by name: `MEASURES[name].better` tells in which direction a number
    gets better. What cannot be measured is left out. ValueError when the videos differ in length or size.
    """
    scorer = Scorer()
    truths = [None] * len(lifted) if reference is None else reference
    for frame, picture, truth in zip(frames, lifted, truths, strict=True):
        scorer.add(frame, picture, truth)
    return {name: value for name, value in scorer.result()["lifted"].to_dict().items() if value is not None}
