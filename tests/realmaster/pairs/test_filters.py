"""Filters: on pairs whose truth is known, good ones pass and planted bad ones do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from capture.frame import Frame
from realmaster.pairs.filters import score_anchor, score_pair
from realmaster.pairs.settings import load_settings
from realmaster.pairs.verdicts import PairScores, reasons, structure_reasons
from tests.realmaster.pairs.city_takes import frames_of, truth

SETTINGS = load_settings()
SIZE, FRAMES, BEFORE = (240, 136), 9, 3
SEEDS = (20260100, 20260101)


@pytest.fixture(scope="module")
def streets() -> dict[int, tuple[list[Frame], np.ndarray]]:
    """Seed -> frames and their truth, with three more at both ends."""
    count = FRAMES + 2 * BEFORE
    return {seed: (frames_of(seed, count, 20, SIZE), truth(seed, count, 20, SIZE)) for seed in SEEDS}


def scores(frames: list[Frame], target: np.ndarray) -> PairScores:
    return score_pair(frames[BEFORE : BEFORE + FRAMES], target)


def steps(first: float, last: float) -> np.ndarray:
    return np.linspace(first, last, FRAMES)[:, None, None, None]


def as_picture(video: np.ndarray) -> np.ndarray:
    return np.clip(video, 0, 255).astype(np.uint8)


def blurred(video: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(0.8))) for p in video])


RANDOM = np.random.default_rng(0)
GOOD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the truth": lambda v: v,
    "a little soft": blurred,
    "with grain": lambda v: as_picture(v + RANDOM.normal(0, 4, v.shape)),
    "graded": lambda v: as_picture(v * 0.85 + 20.0),
}
# Each is given (truth, truth with three more frames at both ends, another street's truth).
BAD: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "shifted to the right": lambda v, long, other: np.roll(v, 4, 2),
    "shifted down": lambda v, long, other: np.roll(v, 5, 1),
    "a frame late": lambda v, long, other: long[BEFORE - 1 : BEFORE - 1 + FRAMES],
    "two frames early": lambda v, long, other: long[BEFORE + 2 : BEFORE + 2 + FRAMES],
    "flickering": lambda v, long, other: as_picture(v * (1 + 0.05 * (-1) ** np.arange(FRAMES)[:, None, None, None])),
    "flickering in places": lambda v, long, other: as_picture(v + _blobs(v.shape)),
    "noise of every frame": lambda v, long, other: as_picture(v + RANDOM.normal(0, 25, v.shape)),
    "first anchor of another street": lambda v, long, other: as_picture(other * steps(1, 0) + v * steps(0, 1)),
    "last anchor of another street": lambda v, long, other: as_picture(other * steps(0, 1) + v * steps(1, 0)),
    "last anchor of another light": lambda v, long, other: as_picture(v * (1 - steps(0, 0.4) * [1.0, 0.8, 0.2])),
    "another street": lambda v, long, other: other,
}


def _blobs(shape: tuple[int, ...]) -> np.ndarray:
    small = RANDOM.normal(0, 12, (FRAMES, 6, 8)).repeat(-(-shape[1] // 6), 1).repeat(-(-shape[2] // 8), 2)
    return small[:, : shape[1], : shape[2], None]


@pytest.mark.slow
def test_good_pairs_pass_and_planted_bad_ones_do_not(streets: dict) -> None:
    kept, missed = [], []
    for place, seed in enumerate(SEEDS):
        frames, long = streets[seed]
        inner = slice(BEFORE, BEFORE + FRAMES)
        other = streets[SEEDS[(place + 1) % len(SEEDS)]][1][inner]
        for name, make in GOOD.items():
            why = reasons(scores(frames, make(long[inner])), SETTINGS.filters)
            kept.append((name, seed, why))
        for name, spoil in BAD.items():
            if not reasons(scores(frames, spoil(long[inner].astype(np.float32), long, other)), SETTINGS.filters):
                missed.append((name, seed))
    turned_down = [entry for entry in kept if entry[2]]
    assert len(turned_down) <= 0.1 * len(kept), turned_down
    assert not missed


def test_colour_that_jumps_is_told_like_light_that_jumps(streets: dict) -> None:
    frames, long = streets[SEEDS[0]]
    video, turns = long[BEFORE : BEFORE + FRAMES], (-1) ** np.arange(FRAMES)[:, None, None, None]
    brightness, hue = (
        scores(frames, as_picture(video * (1 + 0.05 * turns * np.array(channels)))).flicker
        for channels in ([1.0, 1.0, 1.0], [1.0, 0.0, -1.0])
    )
    assert brightness is not None and hue is not None
    assert min(brightness, hue) > 2 * SETTINGS.filters.flicker


def test_a_copy_of_the_render_teaches_nothing(streets: dict) -> None:
    frames, _ = streets[SEEDS[0]]
    copy = np.stack([frame.color for frame in frames[BEFORE : BEFORE + FRAMES]])
    found = reasons(scores(frames, copy), SETTINGS.filters)
    assert len(found) == 1 and found[0].startswith("realism")


def test_anchors_of_another_place_or_moved_aside_are_turned_down(streets: dict) -> None:
    frames, long = streets[SEEDS[0]]
    frame, picture = frames[BEFORE], long[BEFORE]
    assert not structure_reasons(score_anchor(frame, picture), SETTINGS.anchors)
    for wrong in (picture[:, ::-1], np.roll(picture, 4, 1), streets[SEEDS[1]][1][BEFORE]):
        assert structure_reasons(score_anchor(frame, np.ascontiguousarray(wrong)), SETTINGS.anchors)


def test_dark_things_beside_edges_do_not_move_a_picture_that_lies_in_place() -> None:
    """A street whose light and shadow fit the engine's edges best a pixel and a half aside; moved by so much, it is
    turned down."""
    size = (256, 144)
    (frame,), picture = frames_of(987003, 1, size=size), truth(987003, 1, size=size)[0]
    found = score_anchor(frame, picture)
    assert found.offset is not None and found.offset < 0.2 / size[0]
    assert not structure_reasons(found, SETTINGS.anchors)
    for shift, axis in ((2, 1), (-2, 1), (2, 0), (-2, 0)):
        moved = score_anchor(frame, np.roll(picture, shift, axis))
        assert moved.offset == pytest.approx(2 / size[0], rel=0.1)
        assert structure_reasons(moved, SETTINGS.anchors)


def test_without_geometry_what_can_be_measured_still_is() -> None:
    frames = frames_of(SEEDS[0], 5, size=(96, 64), without=("depth", "normal", "motion", "instance", "segmentation"))
    found = score_pair(frames, np.stack([np.roll(frame.color, 6, 1) for frame in frames]))
    assert found.anchor_drift is None and found.identity is None and found.flicker is None
    assert any(reason.startswith("structure") for reason in reasons(found, SETTINGS.filters))


def test_scores_survive_json() -> None:
    once = PairScores(depth_edges=0.9, lag=-1, novelty=0.4)
    assert PairScores.from_dict({**once.to_dict(), "of a later version": 1.0}) == once
