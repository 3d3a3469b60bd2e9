"""Drift is told from what wanders with the scene."""

from __future__ import annotations

import numpy as np
import pytest

from realmaster.measure.drift import thirds, thirds_error


def wandering(rng: np.random.Generator, frames: int, memory: float) -> np.ndarray:
    """Scores in dB around 21 that wander by 1.5 dB; `memory` is how much of it is left a frame later."""
    series = np.zeros(frames + 200)
    for at in range(1, len(series)):
        series[at] = memory * series[at - 1] + rng.normal(0, 1.5 * np.sqrt(1 - memory**2))
    return 21 + series[200:]


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.95])
def test_wandering_is_rarely_called_a_drift(memory: float) -> None:
    rng = np.random.default_rng(3)
    takes = [wandering(rng, 300, memory) for _ in range(200)]
    ratios = np.array([thirds(each) / thirds_error(each) for each in takes])
    assert 0.7 < np.sqrt(np.mean(ratios**2)) < 1.8
    assert np.mean(ratios < -2) < 0.12


def test_a_steady_decline_is_a_drift() -> None:
    rng = np.random.default_rng(4)
    for memory in (0.0, 0.8):
        take = wandering(rng, 300, memory) - np.linspace(0, 6, 300)
        assert thirds(take) < -2 and thirds(take) < -2 * thirds_error(take)


def test_series_that_say_nothing() -> None:
    assert np.isnan(thirds_error(np.ones(17))) and np.isnan(thirds_error(np.array([])))
    assert np.isnan(thirds_error(np.array([1.0, np.nan] * 20)))
    assert thirds_error(np.full(30, 4.0)) == 0.0
