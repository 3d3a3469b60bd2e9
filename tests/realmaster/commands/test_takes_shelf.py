"""`realmaster takes rename`, `notes`, `delete` and `trash`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from realmaster.cli import main
from tests.capture.recordings import record_take


def run(capsys: pytest.CaptureFixture[str], takes: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """The JSON that `realmaster takes WORDS` ends with."""
    assert main(["takes", *words, "--takes", str(takes), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


def test_a_take_gets_a_name_and_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_take(tmp_path / "one", 2)
    assert run(capsys, tmp_path, "rename", "one", "drive")["before"] == "one"
    assert run(capsys, tmp_path, "notes", "drive", "rain [b]")["notes"] == "rain [b]\n"
    assert run(capsys, tmp_path, "notes", "drive")["notes"] == "rain [b]\n"
    assert run(capsys, tmp_path, "notes", "drive", "")["notes"] == ""
    assert run(capsys, tmp_path, "rename", "one", "two", code=1)["error"].endswith(".")


def test_what_is_deleted_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_take(tmp_path / "one", 2)
    (tmp_path / "one" / "lifts" / "embedded-1").mkdir(parents=True)
    lift = run(capsys, tmp_path, "delete", "one", "--lift", "embedded-1")
    take = run(capsys, tmp_path, "delete", "one")
    assert [entry["id"] for entry in run(capsys, tmp_path, "trash")["trash"]] == [take["id"], lift["id"]]
    run(capsys, tmp_path, "trash", "--restore", lift["id"], code=1)
    run(capsys, tmp_path, "trash", "--restore", take["id"])
    run(capsys, tmp_path, "trash", "--restore", lift["id"])
    assert (tmp_path / "one" / "lifts" / "embedded-1").is_dir()
    run(capsys, tmp_path, "delete", "one")
    assert run(capsys, tmp_path, "trash", "--empty")["bytes"] > 0
    assert run(capsys, tmp_path, "trash")["trash"] == []
