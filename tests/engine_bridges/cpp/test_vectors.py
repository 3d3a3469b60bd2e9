"""The C++ sender and `capture.wire` write the same bytes and understand the same messages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import engine_bridges
from capture import wire

FOLDER = Path(engine_bridges.__file__).parent / "vectors"
VALID = {vector["name"]: vector for vector in json.loads((FOLDER / "valid.json").read_text(encoding="utf-8"))}
INVALID = {vector["name"]: vector for vector in json.loads((FOLDER / "invalid.json").read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def said(programs: Path) -> dict[str, dict[str, str]]:
    """What the C++ program says of each vector: {encoded, decoded or refused: {name: text}}."""
    files = [str(FOLDER / "valid.json"), str(FOLDER / "invalid.json")]
    done = subprocess.run(
        [programs / "realmaster_vectors", *files], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, str]] = {"encoded": {}, "decoded": {}, "refused": {}}
    for line in done.stdout.splitlines():
        kind, name, rest = line.split(" ", 2)
        result[kind][name] = rest
    return result


def of(direction: tuple[str, ...]) -> list[str]:
    """Names of the vectors; but for those about links, which only a bridge with the capability `probe` is asked of."""
    kinds = set(direction) - {"probe", "probed"}
    return [name for name, vector in VALID.items() if vector["header"]["type"] in kinds]


def test_every_vector_is_looked_at(said: dict[str, Any]) -> None:
    assert list(said["encoded"]) == of(wire.FROM_BRIDGE)
    assert list(said["decoded"]) == of(wire.FROM_DAEMON)
    assert list(said["refused"]) == list(INVALID)


@pytest.mark.parametrize("name", of(wire.FROM_BRIDGE))
def test_messages_to_the_daemon_are_the_same_byte_for_byte(said: dict[str, Any], name: str) -> None:
    assert said["encoded"][name].split() == VALID[name]["parts"]


@pytest.mark.parametrize("name", of(wire.FROM_DAEMON))
def test_messages_to_the_bridge_are_understood(said: dict[str, Any], name: str) -> None:
    header = {field: value for field, value in VALID[name]["header"].items() if field != "v"}
    assert json.dumps(json.loads(said["decoded"][name])) == json.dumps(header)  # as text: 1 is not 1.0 nor true


@pytest.mark.parametrize("name", INVALID)
def test_invalid_messages_are_refused(said: dict[str, Any], name: str) -> None:
    vector = INVALID[name]
    if vector["to"] == "bridge":
        assert said["refused"][name] == vector["code"]
    elif name != "message_of_the_other_direction":  # which is a good one here
        assert said["refused"][name] in ("version", "malformed", "unknown_type", "too_large")
