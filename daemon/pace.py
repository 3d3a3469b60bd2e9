"""How long something still takes, by how it went so far. Works on counts and a clock; knows nothing of what is done."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable


class Pace:
    """Feed it counts as they come; `left` is an estimate once something was done since the first of them, so that
    what comes before the work (loading a model, say) is not taken for its pace. recent: of the counts, those of the
    last so many seconds tell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, recent: float = math.inf) -> None:
        self._clock, self._recent = clock, recent
        self._counts: deque[tuple[float, int]] = deque()

    def left(self, done: int, total: int) -> float | None:
        """Seconds until `done` is `total`; None while nothing is known."""
        now = self._clock()
        if self._counts and done < self._counts[0][1]:
            self._counts.clear()
        self._counts.append((now, done))
        while now - self._counts[0][0] > self._recent and len(self._counts) > 2:
            self._counts.popleft()
        began, before = self._counts[0]
        if done <= before or total <= 0:
            return None
        return max(0.0, (total - done) * (now - began) / (done - before))
