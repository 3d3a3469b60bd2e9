"""Numbers of each frame of a clip of any length, in one block of memory.

Small arrays that stay, one by one among the large ones that come and go, would keep the memory of those from being
given back, and cost several times their numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Rows:
    """Rows of one shape; grows as they come."""

    def __init__(self, dtype: str = "float64") -> None:
        self._dtype = dtype
        self._block: NDArray | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: ArrayLike) -> None:
        values = np.asarray(row, self._dtype)
        if self._block is None:
            self._block = np.empty((64, *values.shape), self._dtype)
        elif self._count == len(self._block):
            self._block = np.concatenate([self._block, np.empty_like(self._block)])
        self._block[self._count] = values
        self._count += 1

    @property
    def values(self) -> NDArray:
        """`[rows, *shape]`, a view."""
        return np.empty((0, 0), self._dtype) if self._block is None else self._block[: self._count]
