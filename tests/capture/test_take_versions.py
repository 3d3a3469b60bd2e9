"""Takes of every old version stay readable: `takes/version-N` were recorded by the code of that version."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from capture.pack import pack
from capture.take import Take, repair, verify
from capture.take_folder import VERSION

OLD = sorted((Path(__file__).parent / "takes").glob("version-*"))


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an old take."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def assert_as_recorded(path: Path) -> None:
    expected = json.loads((path / "expected.json").read_text())
    with Take(path) as take:
        assert take.serials == expected["serials"]
        for frame, sums in zip(take, expected["sha256"], strict=True):
            found = {n: hashlib.sha256(c.data.tobytes()).hexdigest()[:16] for n, c in frame.channels.items()}
            assert found == sums


def test_there_is_a_take_of_each_old_version() -> None:
    assert [path.name for path in OLD] == [f"version-{number}" for number in range(1, VERSION)]


def test_it_is_read_and_verified_as_it_is(old: Path) -> None:
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    assert_as_recorded(old)
    report = verify(old)
    assert report.ok and all("is kept to" in note for note in report.notes)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_it_is_repaired(old: Path) -> None:
    (old / "take.json").unlink()
    (old / "index").unlink()
    assert repair(old, preview=False).frames == 5
    assert verify(old).ok
    assert_as_recorded(old)


def test_it_is_packed_and_then_of_this_version(old: Path) -> None:
    report = pack(old)
    assert report.packed == 5 and report.bytes < report.bytes_before
    assert_as_recorded(old)
    assert verify(old).ok and Take(old).manifest["version"] == VERSION
