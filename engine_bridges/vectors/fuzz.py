"""Throws damaged messages at the Python decoder: nothing but ProtocolError may come of them.

    python -m engine_bridges.vectors.fuzz --seconds 600
    python -m engine_bridges.vectors.fuzz --corpus DIR      (the same beginnings for the C++ fuzzer, see cpp/README.md)

Works on the vectors and `capture.wire`. Mutations are made on bytes (flipped, cut, doubled, spliced with those of
another message) and on values (a field replaced, dropped or repeated), so that both the msgpack and the checks behind
it are reached. A run is decided by its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgpack

from capture import wire
from capture.errors import ProtocolError

FOLDER = Path(__file__).parent
_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, float("nan"), float("inf"), 1e308,
    "", "x", "x" * 5000, "\0", "é", b"", b"\xff", [], [[]], [None] * 40, {}, {"": 1}, {1: 2}, {"v": {}},
    msgpack.ExtType(1, b"x"), msgpack.Timestamp(0), "uint8", "float32", "color", [2, 4, 3], [16384, 16384, 4],
)  # fmt: skip


def corpus() -> list[list[bytes]]:
    """The parts of every vector, valid and invalid."""
    vectors = [json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in ("valid.json", "invalid.json")]
    return [[bytes.fromhex(part) for part in vector["parts"]] for vector in sum(vectors, [])]


def write_corpus(folder: Path) -> int:
    """The headers as files for cpp/tests/fuzz.cpp, each behind a byte that says how many parts follow; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    messages = corpus()
    for number, parts in enumerate(messages):
        (folder / f"{number:03d}").write_bytes(bytes([min(len(parts) - 1, 3)]) + parts[0])
    return len(messages)


def fuzz(seconds: float, seed: int = 0, rounds: int | None = None) -> dict[str, int]:
    """Decode damaged messages for so long, or so many; how many were made, accepted, and refused by code.

    Raises AssertionError with the message in hex when the decoder raises anything but ProtocolError, gives a code
    that there is not, or accepts what it cannot encode again.
    """
    chance = random.Random(seed)
    messages = corpus()
    slots = [memoryview(bytes(128))] * 2
    counts: dict[str, int] = {"made": 0, "accepted": 0}
    deadline = time.monotonic() + seconds
    while counts["made"] != rounds and (counts["made"] % 256 or time.monotonic() < deadline):
        parts = _damaged(chance, messages)
        accept = chance.choice((None, wire.FROM_BRIDGE, wire.FROM_DAEMON))
        counts["made"] += 1
        try:
            message = wire.decode(parts, accept=accept, slots=slots)
        except ProtocolError as error:
            assert error.code in wire.ERROR_CODES and error.sentence, _told(parts)
            counts[error.code] = counts.get(error.code, 0) + 1
            continue
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error} in {_told(parts)}") from error
        counts["accepted"] += 1
        again = [bytes(part) for part in wire.encode(message)]
        decoded = wire.decode(again, slots=slots)
        assert [bytes(part) for part in wire.encode(decoded)] == again, _told(parts)
    return counts


def _told(parts: list[bytes]) -> str:
    return str([part.hex() for part in parts])


def _damaged(chance: random.Random, messages: list[list[bytes]]) -> list[bytes]:
    parts = list(chance.choice(messages))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if chance.random() < 0.5:
            _damage_values(chance, parts)
        else:
            at = chance.randrange(len(parts))
            parts[at] = _damaged_bytes(chance, parts[at], chance.choice(chance.choice(messages)))
        if chance.random() < 0.05:
            chance.shuffle(parts)
        if chance.random() < 0.05:
            parts.append(chance.randbytes(chance.randrange(4)))
    return parts


def _damaged_bytes(chance: random.Random, data: bytes, other: bytes) -> bytes:
    at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 32))
    match chance.randrange(6):
        case 0:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + chance.randbytes(length) + data[at:]
        case 3:
            return data[:at] + data[at : at + length] * chance.choice((2, 3, 100)) + data[at + length :]
        case 4:
            return data[:at] + other[chance.randrange(len(other) + 1) :]
        case _:
            return data[:at]


def _damage_values(chance: random.Random, parts: list[bytes]) -> None:
    """Replaces, drops or repeats one value somewhere in the header, where that is still msgpack."""
    try:
        header = msgpack.unpackb(parts[0], strict_map_key=False)
    except Exception:  # damaged before
        return
    place = header
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        match chance.randrange(4):
            case 0:
                del place[key]
            case 1 if isinstance(place, list):
                place.extend(place[: chance.choice((1, 40))])
            case 2 if isinstance(place, dict):
                place[chance.choice(("v", "type", "surprise", 7))] = place[key]
            case _:
                place[key] = chance.choice(_ODD)
        break
    try:
        parts[0] = msgpack.packb(header)
    except (ValueError, OverflowError):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fuzz the Python decoder of the wire protocol.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="write the corpus for the C++ fuzzer, and end")
    options = parser.parse_args()
    if options.corpus is not None:
        print(f"{write_corpus(options.corpus)} messages in {options.corpus}")
        sys.exit()
    print(f"seed {options.seed}: {fuzz(options.seconds, options.seed)}")
