"""What pictures differ by, as a loss: for models whose decoder is so cheap that every update can look at what it makes.

Works on decoded videos; knows no model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

DETAIL_SHARE = 5.0
"""How much the strength of the detail counts beside the absolute error. Without it, what is uncertain is blurred."""

LIGHT_SHARE = 2.0
"""How much the squared error of light, averages of 8 x 8 pixels, counts beside the absolute error. Without it, what is
uncertain on a large scale, as where a shadow falls, is one of its two extremes: absolute error has its least there."""

CHANGE_SHARE = 1.5
"""How much the change from frame to frame counts beside the absolute error. Without it, what is uncertain flickers."""

SEAMS_SHARE = 0.25
"""How much patch seams count beside the absolute error: they are too faint for it, and yet seen."""

GRID_SHARE = 10.0
"""How much a grid counts beside the absolute error. Without it, fine detail that cannot be known, as of what wet ground
mirrors, is painted as one: it is as strong as the truth's, and costs no more than any other guess."""

STRESS_SHARE, STRESS_LEAST = 1.5, 0.01
"""How much the errors of what is stressed, absolute and squared, count beside those of the whole pictures, however few
its pixels are, down to this share of them. Without it, what is small and of many kinds, as cars, people and their
lamps are, is learned last."""


def picture_losses(video: Tensor, truth: Tensor, patch: int | None = None, stressed: Tensor | None = None) -> Tensor:
    """`[B]`, of `[B, 3, T, H, W]` in [-1, 1]: absolute error and structural similarity (Zhao et al. 2017, "Loss
    Functions for Image Restoration with Neural Networks"), how far the detail of each square of 8 x 8 pixels is from
    as strong as the truth's, whatever its shape, and the squared error of the squares' means, frame by frame; the error
    of what changes from each frame to the next; the error where `stressed`, bool `[B, 1, T, H, W]`, is true, over all
    of the batch; and, of a codec that works in patches of so many pixels, how far their seams are from as strong as the
    truth has steps there, over all of the batch, as one picture has few, and the grid of the quarters of patches in
    which it refines them."""
    frames, true = (each.transpose(1, 2).flatten(0, 1) for each in (video, truth))
    energies = (functional.avg_pool2d(detail(each).pow(2).mean(1, keepdim=True), 8) for each in (frames, true))
    ours, wanted = ((energy + 1e-4).sqrt() for energy in energies)
    wrong = frames - true
    each = wrong.abs().flatten(1).mean(1) + (1 - ssim(frames, true))
    each = each + DETAIL_SHARE * (ours - wanted).abs().flatten(1).mean(1)
    each = each + LIGHT_SHARE * functional.avg_pool2d(wrong, 8).pow(2).flatten(1).mean(1)
    losses = each.view(len(video), -1).mean(1)
    if video.shape[2] > 1:
        losses = losses + CHANGE_SHARE * (video.diff(dim=2) - truth.diff(dim=2)).abs().flatten(1).mean(1)
    if stressed is not None:
        wrong = (video - truth) * stressed
        there = stressed.float().mean().clamp_min(STRESS_LEAST)
        losses = losses + STRESS_SHARE * (wrong.abs() + wrong.pow(2)).mean() / there
    if patch is not None:
        losses = losses + SEAMS_SHARE * (seams(video, patch) - seams(truth, patch)).abs().mean()
        losses = losses + GRID_SHARE * grid(video - truth, patch // 4)
    return losses


def seams(video: Tensor, patch: int) -> Tensor:
    """How much larger than the steps beside them the steps across each border of patches are, of `[B, 3, T, H, W]`,
    rows then columns, as a ratio `[borders]`; those of outlines, which are large, count little."""
    ratios = []
    for dim in (-1, -2):
        steps = video.diff(dim=dim).abs().clamp_max(0.2).mean([d for d in range(5) if d != 5 + dim])
        border = torch.arange(patch - 1, len(steps) - 1, patch, device=steps.device)
        ratios.append(steps[border] / ((steps[border - 1] + steps[border + 1]) / 2 + 1e-3))
    return torch.cat(ratios)


def grid(video: Tensor, period: int) -> Tensor:
    """`[B]`, of `[B, 3, T, H, W]`: how strong what repeats itself every `period` pixels, all over a picture, is in its
    fine detail; as a mean absolute value. H and W are multiples of the period."""
    frames = detail(video.transpose(1, 2).flatten(0, 1))
    repeated = functional.pixel_unshuffle(frames, period).mean((-2, -1))
    return repeated.abs().mean(1).view(len(video), -1).mean(1)


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity `[N]` of `[N, 3, H, W]` in [-1, 1]; its constants are made for values from 0 up."""
    value = structural_similarity_index_measure(pictures / 2 + 0.5, truth / 2 + 0.5, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value


def detail(pictures: Tensor) -> Tensor:
    """What is finer than five pixels of `[N, 3, H, W]`."""
    return pictures - functional.avg_pool2d(pictures, 5, stride=1, padding=2, count_include_pad=False)
