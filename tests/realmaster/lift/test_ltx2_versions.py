"""The LTX-2 lifter on tiny models of 2.0, 2.3 and 2.5: what the transformer is given, counted and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.ltx2 import FRAME_RATE, LTX2Lifter
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2

Calls = list[dict[str, Any]]
VERSIONS = ("2.0", "2.3", "2.5")
TOKENS = 3 * 2 * 3
"""Of a clip of 17 frames of 96x64."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ltx2")
    return {version: save_tiny_ltx2(folder / version, version) for version in VERSIONS}


def write_profile(base: Path, name: str, text: str = "") -> Path:
    path = base.parent / f"{name}.toml"
    path.write_text(f'base = "{base.as_posix()}"\nwindow = 17\noverlap = 9\nmax_side = 96\n{text}\n')
    return path


@pytest.fixture(scope="module")
def lifter(bases: dict[str, Path]) -> LTX2Lifter:
    """Of 2.3, and it may be shown depth and normals too."""
    text = 'references = ["depth", "normals"]\n[sampling]\nsigmas = [1.0, 0.7]\n'
    return load_lifter(write_profile(bases["2.3"], "shown", text))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (17, 64, 96, 3), np.uint8)


@contextmanager
def forwards(lifter: LTX2Lifter) -> Iterator[Calls]:
    """What the transformer is called with."""
    calls: Calls = []
    handle = lifter.pipeline.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


# -- anchors and references


@pytest.mark.parametrize("place", [1, 6, 8, 16])
def test_an_anchor_stands_clean_at_the_time_of_its_frame(lifter: LTX2Lifter, clip: np.ndarray, place: int) -> None:
    with forwards(lifter) as calls:
        lifter.lift(clip, anchors={place: 255 - clip[place]})
    anchor = slice(TOKENS, TOKENS + 6)  # one picture of two by three tokens, before the reference
    for call in calls:
        assert call["hidden_states"].shape[1] == TOKENS + 6 + TOKENS
        seconds = call["video_coords"][0, 0, anchor]
        torch.testing.assert_close(seconds[:, 0], torch.full((6,), place / FRAME_RATE))
        torch.testing.assert_close(seconds[:, 1], torch.full((6,), (place + 1) / FRAME_RATE))
        assert torch.count_nonzero(call["timestep"][0, anchor]) == 0


def test_an_anchor_at_the_first_frame_takes_its_tokens(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    with forwards(lifter) as calls:
        lifter.lift(clip, anchors={0: 255 - clip[0]})
    assert calls[0]["hidden_states"].shape[1] == 2 * TOKENS
    assert calls[0]["timestep"][0, :6].max() == 0 and calls[0]["timestep"][0, 6:TOKENS].min() > 0


def test_anchors_change_what_comes_out_and_not_what_was_lifted_before(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    usual = lifter.lift(clip)
    anchored = lifter.lift(clip, anchors={0: 255 - clip[0], 16: 255 - clip[16]})
    assert anchored.shape == clip.shape and not np.array_equal(anchored, usual)
    prefix = 255 - clip[:9]
    going_on = lifter.lift(clip, prefix=prefix)
    assert np.array_equal(going_on, lifter.lift(clip, prefix=prefix, anchors={3: clip[3]}))
    assert not np.array_equal(going_on, lifter.lift(clip, prefix=prefix, anchors={12: clip[12]}))


def test_references_stand_beside_the_render_at_its_coordinates(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    with forwards(lifter) as calls:
        usual = lifter.lift(clip)
        shown = lifter.lift(clip, references={"depth": 255 - clip, "normals": clip})
    assert [call["hidden_states"].shape[1] // TOKENS for call in calls] == [2, 2, 4, 4]
    target, *references = calls[2]["video_coords"][0].split(TOKENS, dim=1)
    assert all(torch.equal(target, reference) for reference in references)
    assert not np.array_equal(usual, shown)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"anchors": {17: (64, 96, 3)}}, "no frame 17"),
        ({"anchors": {2: (32, 96, 3)}}, "anchor of frame 2"),
        ({"references": {"edges": (17, 64, 96, 3)}}, "takes no reference 'edges'"),
        ({"references": {"depth": (16, 64, 96, 3)}}, "reference depth must be"),
    ],
)
def test_what_does_not_fit_the_clip_is_named(lifter: LTX2Lifter, clip: np.ndarray, given: Any, said: str) -> None:
    arrays = {
        kind: {key: np.zeros(shape, np.uint8) for key, shape in entries.items()} for kind, entries in given.items()
    }
    with pytest.raises(LiftError, match=said):
        lifter.lift(clip, **arrays)
