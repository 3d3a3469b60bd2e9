"""Clips: where takes are cut, which frames are left out, and that the chosen ones differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.health import HEALTH
from capture.take import Take
from realmaster.pairs.clips import Candidate, candidates, caption, choose, runs, survey
from realmaster.pairs.settings import ClipSettings, PairsError, load_settings
from tests.realmaster.pairs.city_takes import Oddities, city_take

SETTINGS = load_settings().clips


@pytest.fixture(scope="module")
def odd_take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    odd = Oddities(cuts=(5,), late_depth=(9,), still=range(13, 18), black=(21,), lost_before=(26,), scene_at=30)
    return city_take(tmp_path_factory.mktemp("odd") / "take", 36, size=(96, 64), odd=odd)


def test_a_take_is_cut_where_it_breaks(odd_take: Take) -> None:
    found = survey(odd_take, SETTINGS)
    assert found.breaks == {
        5: "cut", 26: "frames lost", 30: "another scene", 21: "another scene", 22: "another scene",  # black, and back
    }  # fmt: skip
    assert found.unfit == {
        9: "channels out of step", 21: "blank", **dict.fromkeys(range(12, 18), "nothing moves"),
    }  # fmt: skip
    assert runs(found) == [(0, 5), (5, 9), (10, 12), (18, 21), (22, 26), (26, 30), (30, 36)]


def test_a_whole_take_has_one_run_and_a_caption_of_what_it_shows(tmp_path: Path) -> None:
    found = survey(city_take(tmp_path / "take", 8, size=(96, 64)), SETTINGS)
    assert runs(found) == [(0, 8)]
    assert "road" in caption(found.classes) and "building" in caption(found.classes)
    of_four = candidates(0, found, 4, 4)
    assert [(clip.first, clip.last) for clip in of_four] == [(0, 4), (4, 8)]
    assert 0.1 < np.expm1(of_four[0].features[0]) < 1.0  # metres a frame of a car at 24 frames a second


def test_a_take_whose_channels_are_out_of_step_is_refused(tmp_path: Path) -> None:
    take = city_take(tmp_path / "take", 3, size=(96, 64))
    (take.path / HEALTH).write_text(
        '{"line": "depth is one frame late", "checks": [{"name": "in step", "verdict": "wrong", '
        '"summary": "depth is one frame late"}]}'
    )
    with pytest.raises(PairsError, match="depth is one frame late"):
        survey(take, SETTINGS)


def clip(first: int, features: tuple[float, ...], shade: float, take: int = 0) -> Candidate:
    picture = np.full((3, 18, 32), shade, np.float32)
    return Candidate(take, first, first + 9, np.array(features, np.float32), picture)


def settings(**changes: float) -> ClipSettings:
    return SETTINGS.model_copy(update=changes)


def test_near_duplicates_are_left_out() -> None:
    still = (0.0,) * 6
    chosen, duplicates = choose([clip(0, still, 0.5), clip(9, still, 0.505), clip(18, still, 0.9)], settings())
    assert duplicates == 1 and [c.first for c in chosen] == [0, 18]


def test_of_many_the_most_different_ones_are_chosen() -> None:
    alike = [clip(9 * i, (0.01 * i, 0, 0, 0, 0, 0), 0.2 + 0.05 * i) for i in range(8)]
    fast, far = clip(100, (5, 0, 0, 0, 0, 0), 0.8), clip(200, (0, 0, 0, 6, 0, 0), 0.9)
    chosen, _ = choose([*alike, fast, far], settings(most=3))
    assert {100, 200} <= {c.first for c in chosen} and len(chosen) == 3


def test_chosen_clips_of_one_take_never_overlap() -> None:
    clips = [clip(4 * i, (i % 5, 0, 0, 0, 0, 0), 0.05 * i, take=i % 2) for i in range(16)]
    chosen, _ = choose(clips, settings(most=8))
    assert not any(a is not b and a.overlaps(b) for a in chosen for b in chosen)


def test_unknown_features_do_not_hinder() -> None:
    nan = float("nan")
    chosen, _ = choose([clip(0, (nan,) * 6, 0.1), clip(9, (nan,) * 6, 0.9)], settings())
    assert len(chosen) == 2
