"""Held-out clips, lifted by the lifter itself with the adapter as `lift` will load it: what a preview shows is what a
lift gives, to the bit. Scored by `realmaster.measure`, with the untouched render as control, and laid out as pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from capture.files import write_atomically
from capture.frame import Channel, Descriptor, Frame
from capture.video import iterate_video, write_video
from realmaster.lift.adapters import NAME as LIFTED_BY
from realmaster.lift.adapters import fused
from realmaster.lift.lifter import Progress
from realmaster.lift.pipeline_lifter import PipelineLifter
from realmaster.lift.profiles import Profile
from realmaster.lift.windows import Shown, Window, lift_windows
from realmaster.measure import Scorer
from realmaster.sheet import contact_sheet
from realmaster.train.dataset import Pair, Video
from realmaster.train.loop import NAME as TRAINED_AS
from realmaster.train.settings import ValidationSettings

FPS = 24.0
"""Of preview videos; the dataset's own times say nothing to the model."""

SCORES = ("psnr", "ssim", "detail_ratio")
"""Those of `realmaster.measure` that ask nothing of the engine: a dataset has pictures alone."""


@contextmanager
def lifting_as(lifter: PipelineLifter, profile: Profile) -> Iterator[PipelineLifter]:
    """The lifter as `profile` has it, beside an adapter in training, which is set aside and put back."""
    transformers = [part for name in ("transformer", "transformer_2") if (part := getattr(lifter.pipeline, name, None))]
    before = lifter.profile
    downscale, rules = lifter.reference_downscale, lifter.rules
    modes = [transformer.training for transformer in transformers]
    try:
        lifter.adapt(profile)
        for transformer in transformers:
            transformer.eval()
        # As in a lifter that loads it. (A base that is spread over processes cannot take it in: all but the rounding.)
        with fused(lifter.pipeline) if lifter.may_fuse else nullcontext():
            yield lifter
    finally:
        for transformer, mode in zip(transformers, modes, strict=True):
            adapters = getattr(transformer, "peft_config", {})
            if LIFTED_BY in adapters:
                transformer.delete_adapters(LIFTED_BY)
            if TRAINED_AS in adapters:
                transformer.set_adapter(TRAINED_AS)
                _trainable(transformer)
            transformer.train(mode)
        lifter.adapt(before)  # it has no adapter: that is in training
        lifter.reference_downscale, lifter.rules = downscale, rules


def _trainable(transformer: torch.nn.Module) -> None:
    for name, weight in transformer.named_parameters():
        weight.requires_grad_(".lora_" in name and f".{TRAINED_AS}." in name)


def lift_pairs(
    lifter: PipelineLifter, pairs: Sequence[Pair], settings: ValidationSettings, folder: Path
) -> list[dict[str, Any]]:
    """Lift each pair's render into `folder`: ID.mp4, a sheet ID.png (render, lifted, target; first, middle and last
    frame), and the lifted ones of these as they are, ID-NNNNN.png. Returns a row of scores for each pair."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_lift_pair(lifter, pair, settings, folder) for pair in pairs]


def lift_pair(lifter: PipelineLifter, pair: Pair, settings: ValidationSettings) -> Iterator[np.ndarray]:
    """The lifted frames of a pair, uint8 `[H, W, 3]` each, window by window as a take is lifted."""
    total = min(pair.frames, settings.frames or pair.frames)
    cues = (lifter.cue, *lifter.references)
    pictures = zip(*(_frames(pair.shown[cue], total) for cue in cues), strict=True)
    shown = (Shown(first, dict(zip(lifter.references, further, strict=True))) for first, *further in pictures)

    def lift(window: Window, step: Progress) -> np.ndarray:
        return lifter.lift(
            window.frames,
            pair.caption,
            settings.seed,
            window.prefix,
            settings.steps,
            step,
            references=window.references,
        )

    yield from lift_windows(lifter.rules, shown, [lift], total=total)


def _lift_pair(lifter: PipelineLifter, pair: Pair, settings: ValidationSettings, folder: Path) -> dict[str, Any]:
    total = min(pair.frames, settings.frames or pair.frames)
    stills = sorted({0, total // 2, total - 1})
    scorer, rows = Scorer(), []

    def scored() -> Iterator[np.ndarray]:
        renders, targets = (_frames(video, total) for video in (pair.render, pair.target))
        for index, (lifted, render, target) in enumerate(
            zip(lift_pair(lifter, pair, settings), renders, targets, strict=True)
        ):
            color = Channel(Descriptor("color", "uint8", render.shape), render, index)
            scorer.add(Frame(index, index, index / FPS, None, {"color": color}), lifted, target)
            if index in stills:
                rows.append((f"frame {index}", [render, lifted, target]))
                Image.fromarray(lifted).save(folder / f"{pair.id}-{index:05d}.png")
            yield lifted

    write_video(folder / f"{pair.id}.mp4", scored(), fps=FPS)
    scores = {name: each.to_dict() for name, each in scorer.result().items()}
    row: dict[str, Any] = {"pair": pair.id}
    for key in SCORES:
        if (value := scores["lifted"][key]) is not None:
            row |= {key: value, f"{key} of render": scores["render"][key]}
    told = ", ".join(f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, float))
    contact_sheet(rows, ["render", "lifted", "target"], pair.id, told).save(folder / f"{pair.id}.png")
    return row


def _frames(video: Video, most: int | None) -> Iterator[np.ndarray]:
    for index, (_, picture) in enumerate(iterate_video(video.path)):
        if most is not None and index >= most:
            return
        yield picture


def keep_scores(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The scores of a preview, beside it."""
    write_atomically(folder / "scores.json", (json.dumps(list(rows), indent=2) + "\n").encode())
