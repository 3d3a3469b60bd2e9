"""The header of a message: from msgpack bytes to plain values, each field checked.

Works on bytes and plain values; knows nothing of which messages there are (`capture.wire`). Nothing is allocated for
a header before its size is checked; `unpack` and `Header` raise nothing but ProtocolError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from capture.errors import ProtocolError

MODES = ("live", "lossless")

_PLAIN = (int, float, bool, type(None))


@dataclass(frozen=True)
class Limits:
    """What `decode` accepts. All are checked before anything is allocated."""

    header_bytes: int = 65536
    """Largest header."""
    depth: int = 8
    """Deepest nesting of maps and lists in a header."""
    parts: int = 32
    """Most array parts in one message."""
    frame_bytes: int = 256 * 1024 * 1024
    """Most bytes of all array parts of one message."""
    items: int = 2048
    """Longest list or map in a header."""
    text: int = 4096
    """Longest text in a header, in characters."""


def malformed(what: str) -> ProtocolError:
    """The error for a message that breaks the layout."""
    return ProtocolError("malformed", f"The message is malformed: {what}.")


def unpack(data: memoryview, limits: Limits) -> dict[str, Any]:
    """The map in `data`, of plain values within the limits; ProtocolError otherwise."""
    try:
        header = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,  # legends have integer keys; _unique allows no others
            object_pairs_hook=_unique,
            max_str_len=limits.text * 4,
            max_bin_len=0,
            max_ext_len=0,
            max_array_len=limits.items,
            max_map_len=limits.items,
        )
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises a wide family, of which StackError and ValueError are two
        raise malformed(f"the header is not valid msgpack ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise malformed("the header is not a map")
    _check_values(header, limits)
    if not all(isinstance(key, str) for key in header):
        raise malformed("the header has a field name that is not text")
    return header


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    for key, _ in pairs:
        if type(key) is not str and type(key) is not int:
            raise malformed("a map in the header has a key that is neither text nor an integer")
    values = dict(pairs)
    if len(values) != len(pairs):
        raise malformed("a map in the header has a key twice")
    return values


def _check_values(root: dict[Any, Any], limits: Limits) -> None:
    """Only plain values, no deeper and no longer than allowed; without recursion, as depth is what is checked. Of types
    as msgpack makes them: there is one of these for every frame."""
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        holder, depth = stack.pop()
        if depth > limits.depth:
            raise malformed(f"the header is nested deeper than {limits.depth} levels")
        for value in (*holder, *holder.values()) if type(holder) is dict else holder:
            kind = type(value)
            if kind is str:
                if len(value) > limits.text:
                    raise ProtocolError("too_large", f"A text in the header exceeds {limits.text} characters.")
            elif kind is dict or kind is list:
                stack.append((value, depth + 1))
            elif kind not in _PLAIN:
                raise malformed(f"the header holds a value of type {kind.__name__}")


class Header:
    """The fields of one header, each taken exactly once."""

    def __init__(self, kind: str, values: dict[str, Any]) -> None:
        self.kind = kind
        self.values = values

    def take(self, name: str, check: Callable[[Any], Any], length: Sequence[int] | None = None) -> Any:
        """The field, checked and converted; `length` bounds the length of a list."""
        try:
            value = self.values.pop(name)
        except KeyError:
            raise malformed(f"the {self.kind} lacks the field {name}") from None
        try:
            result = check(value)
        except ValueError as error:
            raise malformed(f"the field {name} of the {self.kind} {error}") from None
        if length is not None and not length[0] <= len(result) <= length[1]:
            raise malformed(f"the {self.kind} has {len(result)} {name}; {length[0]} to {length[1]} are allowed")
        return result

    def take_optional(self, name: str, check: Callable[[Any], Any]) -> Any:
        """As `take`, but None when the header has no such field."""
        return self.take(name, check) if name in self.values else None

    def finish(self) -> None:
        """ProtocolError unless every field was taken."""
        if self.values:
            raise malformed(f"the {self.kind} has an unknown field {str(min(self.values, key=str))[:40]!r}")


# -- checks of one field: the value, converted, or ValueError with the rest of a sentence


def as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text")
    return value


def as_word(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64 or not value.isprintable():
        raise ValueError("is not a name of 1 to 64 printable characters")
    return value


def as_session(value: object) -> str:
    if not isinstance(value, str) or len(value) != 32 or set(value) - set("0123456789abcdef"):
        raise ValueError("is not 32 lower-case hex digits")
    return value


def as_mode(value: object) -> str:
    if not isinstance(value, str) or value not in MODES:
        raise ValueError("is neither live nor lossless")
    return value


def as_count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("is not an integer from 0 to 2^63 - 1")
    return value


def as_number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError("is not a finite number")
    return float(value)  # type: ignore[arg-type]


def as_positive(value: object) -> float:
    result = as_number(value)
    if result <= 0:
        raise ValueError("is not positive")
    return result


def as_map(value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not a map")
    return value


def as_list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("is not a list")
    return value


def as_list_of(check: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(check(item) for item in as_list(value))


def as_optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def as_legend(value: object) -> dict[str, dict[int, str]]:
    for channel, names in as_map(value).items():
        if not isinstance(channel, str):
            raise ValueError("is keyed by something other than channel names")
        for number, name in as_map(names).items():
            as_count(number)
            as_text(name)
    return value  # type: ignore[return-value]


def as_plain_map(value: object) -> dict[str, Any]:
    """Free details that also fit into JSON and any language: text keys, finite numbers, integers of 64 bits."""
    stack: list[Any] = [as_map(value)]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            if not all(isinstance(key, str) for key in item):
                raise ValueError("has a key that is not text")
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("holds a number that is not finite")
        elif isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise ValueError("holds an integer beyond 64 bits")
    return value  # type: ignore[return-value]
