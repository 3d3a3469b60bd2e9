"""Small checks of values that came from outside, as the dataclasses of a frame need them.

Works on plain values; knows nothing of what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from capture.errors import FrameError


def is_number(value: object) -> bool:
    """Whether it is a number, Python's or numpy's, finite or not; True and False are none."""
    kind = type(value)
    return kind is float or (kind is not bool and isinstance(value, int | float | np.integer | np.floating))


def is_finite(value: object) -> bool:
    """Whether it is a finite number."""
    return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]


def is_integer(value: object) -> bool:
    """Whether it is an integer; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_keys(values: object, required: set[str], allowed: set[str], what: str) -> None:
    """FrameError unless `values` is a map with all `required` keys and none but the `allowed`."""
    if not isinstance(values, Mapping):
        raise FrameError(f"{what} must be a map.")
    missing = required - values.keys()
    if missing:
        raise FrameError(f"{what} lacks the field {sorted(missing)[0]}.")
    unknown = values.keys() - allowed
    if unknown:
        raise FrameError(f"{what} has an unknown field {str(min(unknown, key=str))[:40]!r}.")
