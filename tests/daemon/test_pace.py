"""The estimate of the time that something still takes."""

from __future__ import annotations

import pytest

from daemon.pace import Pace


def test_what_comes_before_the_work_is_not_taken_for_its_pace() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.left(0, 10) is None
    now = 102.0
    assert pace.left(1, 10) == pytest.approx(18.0)
    now = 104.0
    assert pace.left(5, 10) == pytest.approx(4.0)
    assert pace.left(10, 10) == 0.0


def test_nothing_is_told_before_anything_is_done_or_of_nothing() -> None:
    pace = Pace(lambda: 1.0)
    assert pace.left(0, 0) is None and pace.left(0, 5) is None and pace.left(3, 0) is None
