"""Windows: every frame once, in order, each window going on from the one before."""

from __future__ import annotations

import numpy as np
import pytest

from realmaster.lift import LiftError, LiftRules, lift_long
from realmaster.lift.windows import count_windows


class Recorder:
    """A lifter that adds one to every pixel and remembers how it was asked."""

    name = "recorder"

    def __init__(self, window: int, overlap: int, step: int = 4) -> None:
        self.rules = LiftRules(window=window, overlap=overlap, frame_step=step, size_multiple=32, max_side=320)
        self.asked: list[tuple[list[int], list[int] | None]] = []

    def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None):
        self.asked.append((clip[:, 0, 0, 0].tolist(), None if prefix is None else prefix[:, 0, 0, 0].tolist()))
        if progress:
            progress(1, 1)
        return clip + 1


def numbered(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 6, 3)).copy()


@pytest.mark.parametrize("count", [1, 5, 8, 9, 10, 17, 18, 40])
@pytest.mark.parametrize(("window", "overlap"), [(9, 1), (9, 5), (17, 9), (9, 0), (1, 0)])
def test_every_frame_is_lifted_once_and_in_order(count: int, window: int, overlap: int) -> None:
    lifter = Recorder(window, overlap)
    lifted = list(lift_long(lifter, iter(numbered(count))))
    assert [int(frame[0, 0, 0]) for frame in lifted] == [n + 1 for n in range(count)]
    assert len(lifter.asked) == count_windows(count, lifter.rules)
    for (before, _), (clip, prefix) in zip(lifter.asked, lifter.asked[1:], strict=False):
        if overlap:
            assert clip[:overlap] == before[-overlap:]
            assert prefix == [n + 1 for n in clip[:overlap]]
        else:
            assert prefix is None


def test_frames_come_as_soon_as_their_window_is_done() -> None:
    seen = []

    def source():
        for frame in numbered(30):
            seen.append(int(frame[0, 0, 0]))
            yield frame

    next(lift_long(Recorder(9, 1), source()))
    assert len(seen) == 9  # constant memory: nothing is read ahead


def test_progress_counts_every_frame_and_never_goes_back() -> None:
    calls: list[tuple[int, int]] = []
    list(lift_long(Recorder(9, 1), iter(numbered(20)), total=20, progress=lambda d, n: calls.append((d, n))))
    done = [d for d, _ in calls]
    assert done == sorted(done) and calls[-1] == (20, 20)


@pytest.mark.parametrize(("window", "overlap"), [(8, 1), (9, 2), (9, 9), (1, 1), (0, 0)])
def test_rules_that_cannot_work_are_refused(window: int, overlap: int) -> None:
    with pytest.raises(LiftError):
        LiftRules(window=window, overlap=overlap, frame_step=4, size_multiple=32, max_side=320)
