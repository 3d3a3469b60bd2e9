"""Work on many things at the same time, in order and with bounded memory; properties that do not hinder that.

Works on any function that spends its time outside the GIL, as codecs do; knows nothing of what it does.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:
        """As in functools, without the lock of Python 3.11, which lets one thread at a time work on all objects of a
        class together."""

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._function(instance)
            return value


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
