"""The preview that a take carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.export import export_preview
from capture.video import read_video

from ..recordings import record_take
from .scenes import damage


def test_long_takes_get_a_preview_of_the_same_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capture.export.preview._FRAMES", 5)
    monkeypatch.setattr("capture.export.preview._WIDTH", 20)
    path = record_take(tmp_path / "t", 24)
    assert export_preview(path)
    images, times = read_video(path / "preview.mp4")
    assert images.shape == (5, 12, 20, 3)
    assert np.allclose(times, np.arange(5) * 5 / 24, atol=1e-3)


def test_damaged_frames_are_left_out_of_the_preview(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 5)
    damage(path, 2, "color")
    assert export_preview(path)
    assert len(read_video(path / "preview.mp4")[1]) == 4


def test_a_preview_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 5)
    before = sorted(path.iterdir())
    answers = iter((False, False, True))
    assert not export_preview(path, lambda: next(answers))
    assert sorted(path.iterdir()) == before
