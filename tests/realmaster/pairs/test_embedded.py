"""Embedded editor and propagator: pairs whose targets are nearer to the truth than the render is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.video import read_video
from realmaster.pairs.carrying import carry_anchors, complete
from realmaster.pairs.dataset import Dataset
from tests.realmaster.pairs.city_takes import city_take, frames_of, truth
from tests.realmaster.pairs.test_run import make

SEED, SIZE = 20260300, (320, 180)


def psnr(video: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((video.astype(float) - reference) ** 2).mean()))


@pytest.mark.slow
def test_targets_are_nearer_to_the_truth_than_the_render(tmp_path: Path) -> None:
    take = city_take(tmp_path / "take", 10, seed=SEED, size=SIZE)
    result = make(take, tmp_path / "d", "embedded", "embedded")
    assert (result.pairs, result.rejected) == (2, 0)
    for pair in Dataset(tmp_path / "d").pairs():
        first, last = pair["provenance"]["frames"]
        reference = truth(SEED, last - first, first, SIZE)
        render, target = (read_video(tmp_path / "d" / pair[kind])[0] for kind in ("render", "target"))
        assert psnr(target, reference) > psnr(render, reference) + 2


def test_the_truth_of_both_ends_carried_to_the_middle_is_the_truth() -> None:
    frames, reference = frames_of(SEED, 5, 30, (192, 108)), truth(SEED, 5, 30, (192, 108))
    carried, known = carry_anchors(frames, {0: reference[0], 4: reference[4]})
    assert np.array_equal(carried[[0, 4]], reference[[0, 4]]) and known[[0, 4]].all() and 0.9 < known[2].mean() < 1
    difference = np.abs(carried[2].astype(int) - reference[2]).mean(-1)
    assert np.median(difference[known[2]]) < 6
    assert psnr(carried[2], reference[2]) > psnr(np.stack([f.color for f in frames])[2], reference[2]) + 3
    assert psnr(carried[2], reference[2]) > psnr(reference[0], reference[2])  # it moved


def test_only_what_no_anchor_shows_is_painted_in_the_colours_of_the_rest() -> None:
    carried = np.random.default_rng(0).integers(60, 200, (2, 24, 32, 3), np.uint8)
    known = np.ones(carried.shape[:3], bool)
    known[1, :, 20:] = False
    completed = complete(carried - np.uint8(30), carried, known)
    assert np.array_equal(completed[known], carried[known])
    assert np.abs(completed[~known].astype(int) - carried[~known]).max() <= 1
