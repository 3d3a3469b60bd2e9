"""Order in a folder of takes: whatever is renamed or deleted is all there afterwards, somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.errors import TakeError, TakeNotFoundError
from capture.take import Take, is_take_name, list_takes
from capture.take_shelf import (
    MOST_NOTES,
    TRASH,
    empty_trash,
    read_notes,
    rename_take,
    restore,
    trash_lift,
    trash_take,
    trashed,
    write_notes,
)

from .recordings import record_take, start_take

NAMES = ["", "..", "a/b", "a\\b", ".hidden", "con", "NUL.txt", "a" * 101, "naïve", "a b", "a."]


def test_a_take_is_renamed_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = record_take(tmp_path / "old", 3)
    new = rename_take(path, "new.1")
    assert not path.exists() and len(Take(new)) == 3
    assert [take.name for take in list_takes(tmp_path)] == ["new.1"]
    assert rename_take(new, "new.1") == new


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    path = record_take(tmp_path / "old", 3)
    assert not is_take_name(name)
    with pytest.raises(TakeError, match="cannot be the name of a take"):
        rename_take(path, name)
    assert path.is_dir()


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    path, other = record_take(tmp_path / "one", 3), record_take(tmp_path / "two", 3)
    with pytest.raises(TakeError, match="already something named two"):
        rename_take(path, "two")
    assert path.is_dir() and other.is_dir()


def test_a_take_that_is_being_recorded_stays_where_it_is(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "one")
    try:
        for change in (lambda: rename_take(tmp_path / "one", "two"), lambda: trash_take(tmp_path / "one")):
            with pytest.raises(TakeError, match="is being recorded"):
                change()
    finally:
        writer.abandon()
    assert trashed(tmp_path) == []


def test_notes_are_kept_and_removed(tmp_path: Path) -> None:
    path = record_take(tmp_path / "one", 3)
    assert read_notes(path) == ""
    write_notes(path, "rain,\n<b>dusk</b>")
    assert read_notes(path) == "rain,\n<b>dusk</b>\n"
    write_notes(path, "  ")
    assert read_notes(path) == "" and not (path / "notes.txt").exists()
    with pytest.raises(TakeError, match="shorten them"):
        write_notes(path, "x" * (MOST_NOTES + 1))


def test_a_deleted_take_comes_back_even_when_its_name_was_given_away(tmp_path: Path) -> None:
    path = record_take(tmp_path / "one", 3)
    entry = trash_take(path)
    assert list_takes(tmp_path) == [] and trashed(tmp_path) == [entry] and entry.bytes > 0
    record_take(tmp_path / "one", frames=1)
    back = restore(tmp_path, entry.id)
    assert back.name == "one-2" and len(Take(back)) == 3
    assert trashed(tmp_path) == []
    with pytest.raises(TakeNotFoundError):
        restore(tmp_path, entry.id)


def test_a_deleted_lift_finds_its_take_again(tmp_path: Path) -> None:
    path = record_take(tmp_path / "one", 3)
    (path / "lifts" / "embedded-1").mkdir(parents=True)
    (path / "lifts" / "embedded-1" / "lifted.mp4").write_bytes(b"video")
    entry = trash_lift(path, "embedded-1")
    assert (entry.take, entry.lift) == ("one", "embedded-1") and not (path / "lifts" / "embedded-1").exists()
    take = trash_take(path)
    with pytest.raises(TakeNotFoundError, match="restore it first"):
        restore(tmp_path, entry.id)
    rename_take(restore(tmp_path, take.id), "renamed")
    assert restore(tmp_path, entry.id) == tmp_path / "renamed"
    assert (tmp_path / "renamed" / "lifts" / "embedded-1" / "lifted.mp4").read_bytes() == b"video"


@pytest.mark.parametrize("lift", ["", "..", "../..", "embedded-1", ".embedded-1.part"])
def test_lifts_that_are_none(tmp_path: Path, lift: str) -> None:
    path = record_take(tmp_path / "one", 3)
    (path / "lifts" / ".embedded-1.part").mkdir(parents=True)
    with pytest.raises(TakeNotFoundError):
        trash_lift(path, lift)


@pytest.mark.parametrize("entry", ["", "..", "../one", "nothing"])
def test_entries_that_are_none(tmp_path: Path, entry: str) -> None:
    record_take(tmp_path / "one", 3)
    trash_take(record_take(tmp_path / "two", 3))
    for ask in (restore, empty_trash):
        with pytest.raises(TakeNotFoundError):
            ask(tmp_path, entry)
    assert (tmp_path / "one").is_dir() and len(trashed(tmp_path)) == 1


def test_only_emptying_deletes(tmp_path: Path) -> None:
    first, second = trash_take(record_take(tmp_path / "one", 3)), trash_take(record_take(tmp_path / "two", 3))
    (tmp_path / TRASH / "left-by-a-crash").mkdir()
    assert empty_trash(tmp_path, first.id) == first.bytes
    assert [entry.id for entry in trashed(tmp_path)] == [second.id]
    assert empty_trash(tmp_path) == second.bytes
    assert trashed(tmp_path) == []
