"""Work on many things at the same time, in order and with bounded memory.

Works on any function that spends its time outside the GIL, as codecs do; knows nothing of what it does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of `work` in the order of the items, as many made at the same time as there are processors; no more
    than one a thread waits for its turn. What `work` raises is raised here."""
    threads = max(2, os.cpu_count() or 2)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "work") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
