"""Windows: every frame once, in order, each window going on from the one before."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from realmaster.lift import LiftError, LiftRules, lift_long
from realmaster.lift.windows import count_windows


class Recorder:
    """A lifter that adds one to every pixel and remembers how it was asked."""

    name = "recorder"

    def __init__(self, window: int, overlap: int, step: int = 4) -> None:
        self.rules = LiftRules(window=window, overlap=overlap, frame_step=step, size_multiple=32, max_side=320)
        self.asked: list[tuple[list[int], list[int] | None]] = []

    def lanes(self):
        return [self]

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


class Together(Recorder):
    """Three lanes: each window waits until another is at work beside it, and the last is lifted first."""

    def __init__(self, window: int) -> None:
        super().__init__(window, 0)
        self.beside = threading.Barrier(3)
        self.threads: set[int] = set()

    def lanes(self):
        return [self, self, self]

    def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None):
        self.beside.wait(60)
        self.threads.add(torch.get_num_threads())
        return super().lift(clip, prompt, seed, prefix, steps, progress)


@pytest.mark.parametrize("window", [1, 5])
def test_windows_that_stand_alone_are_lifted_side_by_side_in_order(window: int) -> None:
    lifter, threads, calls = Together(window), torch.get_num_threads(), list[tuple[int, int]]()
    lifted = lift_long(lifter, numbered(6 * window), total=6 * window, progress=lambda *call: calls.append(call))
    assert [int(frame[0, 0, 0]) for frame in lifted] == [n + 1 for n in range(6 * window)]
    assert calls == [(window * (done + 1), 6 * window) for done in range(6)]
    assert lifter.threads == {1} and torch.get_num_threads() == threads


def test_no_lane_goes_on_when_nobody_wants_the_pictures_or_one_failed() -> None:
    class Endless(Recorder):
        """Has the first frame at once, fails at the sixth, and lifts any other until it is told to stop."""

        ended = 0

        def lanes(self):
            return [self, self, self]

        def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None):
            if clip[0, 0, 0, 0] == 0:
                return clip
            if clip[0, 0, 0, 0] == 5:
                raise LiftError("five")
            try:
                while True:
                    progress(1, 2)
            finally:
                self.ended += 1

    lifter, threads = Endless(1, 0), torch.get_num_threads()
    lifted = lift_long(lifter, numbered(40))
    next(lifted)
    lifted.close()
    assert lifter.ended >= 2
    with pytest.raises(LiftError, match="five"):
        list(lift_long(Endless(1, 0), numbered(10)[5:]))
    assert torch.get_num_threads() == threads


def test_side_by_side_little_is_read_ahead() -> None:
    seen = []

    def source():
        for frame in numbered(100):
            seen.append(frame)
            yield frame

    lifter = Together(1)
    lifted = lift_long(lifter, source())
    for taken in range(1, 31):
        next(lifted)
        assert len(seen) <= taken + 6
    lifter.beside.abort()
    lifted.close()


@pytest.mark.parametrize(("window", "overlap"), [(8, 1), (9, 2), (9, 9), (1, 1), (0, 0)])
def test_rules_that_cannot_work_are_refused(window: int, overlap: int) -> None:
    with pytest.raises(LiftError):
        LiftRules(window=window, overlap=overlap, frame_step=4, size_multiple=32, max_side=320)
