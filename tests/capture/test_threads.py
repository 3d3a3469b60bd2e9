"""What helps working on many things at the same time."""

from __future__ import annotations

import threading
import time

import pytest

from capture.threads import cached_property, in_threads


class Slow:
    """Has a property that two objects must be asked for at the same time."""

    met = threading.Barrier(2)
    calls = 0

    @cached_property
    def value(self) -> int:
        """A number."""
        self.met.wait(30)
        self.calls += 1
        return 7


def test_two_objects_work_on_their_cached_properties_at_the_same_time() -> None:
    things = [Slow(), Slow()]
    assert list(in_threads(lambda thing: thing.value, things)) == [7, 7]
    assert [thing.value for thing in things] == [7, 7] and [thing.calls for thing in things] == [1, 1]
    assert Slow.value.__doc__ == "A number."


def test_results_come_in_order_and_errors_arrive() -> None:
    def late(index: int) -> int:
        time.sleep(0.01 * (index % 3))
        if index == 17:
            raise ValueError("seventeen")
        return index

    assert list(in_threads(late, range(12))) == list(range(12))
    with pytest.raises(ValueError, match="seventeen"):
        list(in_threads(late, range(30)))


def test_few_results_wait_for_their_turn() -> None:
    begun: list[int] = []
    results = in_threads(lambda index: begun.append(index) or index, iter(range(1000)))
    assert next(results) == 0
    time.sleep(0.2)
    assert len(begun) < 50
    results.close()
