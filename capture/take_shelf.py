"""Order in a folder of takes: new names, notes, and a trash from which everything comes back.

Works on folders and small files; knows nothing of frames. Only `empty_trash` deletes anything.

    TAKES/.trash/ID/entry.json     what was deleted and when
    TAKES/.trash/ID/NAME           the take, or the lift, as it was
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capture.errors import TakeError, TakeNotFoundError
from capture.files import numbered, write_atomically
from capture.take import is_take_name, take_folders, take_path
from capture.take_folder import is_being_written, read_manifest

NOTES = "notes.txt"
"""In a take's folder: what a person wrote about it."""
TRASH = ".trash"
ENTRY = "entry.json"
MOST_NOTES = 20_000
"""Characters."""


@dataclass(frozen=True)
class Trashed:
    """Something in the trash."""

    id: str
    take: str
    """Name of the take, or of the take that the lift is of."""
    lift: str | None
    """Name of the lift; None for a whole take."""
    deleted: float
    """Seconds since 1970."""
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rename_take(path: Path, name: str) -> Path:
    """Give a take another name; returns its new folder. TakeError when the name is none, taken, or the take is being
    recorded."""
    if not is_take_name(name):
        raise TakeError(
            f"{name[:80]!r} cannot be the name of a take: use up to 100 letters, digits, and . _ - between them."
        )
    new = path.with_name(name)
    if new == path:
        return path
    if new.exists() and not new.samefile(path):  # the same but for upper case, on a disk that knows none
        raise TakeError(f"there is already something named {name}: choose another name.")
    _check_idle(path)
    _move(path, new)
    return new


def read_notes(path: Path) -> str:
    """What a person wrote about a take; empty where nothing was."""
    try:
        return (path / NOTES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def write_notes(path: Path, text: str) -> None:
    """Keep notes with a take; an empty text removes them. TakeError when they are too long or cannot be written."""
    if len(text) > MOST_NOTES:
        raise TakeError(f"the notes have {len(text)} characters, {MOST_NOTES} are the most: shorten them.")
    try:
        if text.strip():
            write_atomically(path / NOTES, (text.rstrip() + "\n").encode())
        else:
            (path / NOTES).unlink(missing_ok=True)
    except OSError as error:
        raise TakeError(f"the notes of take {path.name} cannot be written ({error.strerror}).") from None


def trash_take(path: Path) -> Trashed:
    """Move a take to the trash of its folder. TakeError while it is being recorded."""
    _check_idle(path)
    return _trash(path.parent, path, path.name, None)


def trash_lift(path: Path, lift: str) -> Trashed:
    """Move a lift of the take at `path` to the trash. TakeNotFoundError when there is none of that name."""
    folder = path / "lifts" / lift
    if not is_take_name(lift) or not folder.is_dir():
        raise TakeNotFoundError(f"take {path.name} has no lift {lift[:80]!r}.")
    return _trash(path.parent, folder, path.name, lift)


def trashed(takes_dir: Path) -> list[Trashed]:
    """What is in the trash, the newest first."""
    found = [entry for folder in _entries(takes_dir) if (entry := _read(folder)) is not None]
    return sorted(found, key=lambda entry: (entry.deleted, entry.id), reverse=True)


def restore(takes_dir: Path, entry_id: str) -> Path:
    """Bring something back from the trash; returns the folder of the take. A take whose name was given away gets
    -2, -3 ... Raises TakeNotFoundError for an unknown id, and for a lift whose take is not there."""
    folder, entry = _find(takes_dir, entry_id)
    if entry.lift is None:
        take = target = _free(takes_dir / entry.take)
    else:
        take = _take_of(takes_dir, folder, entry)
        (take / "lifts").mkdir(exist_ok=True)
        target = _free(take / "lifts" / entry.lift)
    _move(folder / (entry.lift or entry.take), target)
    shutil.rmtree(folder, ignore_errors=True)
    return take


def empty_trash(takes_dir: Path, entry_id: str | None = None) -> int:
    """Delete one thing in the trash, or everything, for good; returns the bytes that were freed."""
    doomed = [_find(takes_dir, entry_id)] if entry_id is not None else [
        (takes_dir / TRASH / entry.id, entry) for entry in trashed(takes_dir)
    ]  # fmt: skip
    for folder, _ in doomed:
        (folder / ENTRY).unlink(missing_ok=True)  # what is half deleted is not offered any more
        shutil.rmtree(folder, ignore_errors=True)
    return sum(entry.bytes for _, entry in doomed)


def _trash(takes_dir: Path, item: Path, take: str, lift: str | None) -> Trashed:
    now = time.time()
    name = f"{int(now)}-{take}" + (f"-{lift}" if lift else "")
    folder = _free(takes_dir / TRASH / name)
    entry = {"take": take, "lift": lift, "deleted": now, "id": _take_id(takes_dir / take)}
    try:
        folder.mkdir(parents=True)
        write_atomically(folder / ENTRY, json.dumps(entry).encode())
    except OSError as error:
        raise TakeError(f"{item.name} cannot be moved to the trash ({error.strerror}).") from None
    try:
        _move(item, folder / item.name)
    except TakeError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    found = _read(folder)
    assert found is not None
    return found


def _entries(takes_dir: Path) -> list[Path]:
    try:
        return [folder for folder in (takes_dir / TRASH).iterdir() if (folder / ENTRY).is_file()]
    except OSError:
        return []


def _read(folder: Path) -> Trashed | None:
    """None for what a crash left: an entry whose take never came."""
    try:
        entry = json.loads((folder / ENTRY).read_bytes())
        take, lift, deleted = str(entry["take"]), entry["lift"], float(entry["deleted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    item = folder / (lift or take)
    if not item.is_dir():
        return None
    size = sum(file.stat().st_size for file in item.rglob("*") if file.is_file())
    return Trashed(folder.name, take, lift, deleted, size)


def _find(takes_dir: Path, entry_id: str) -> tuple[Path, Trashed]:
    for folder in _entries(takes_dir):
        if folder.name == entry_id and (entry := _read(folder)) is not None:
            return folder, entry
    raise TakeNotFoundError(f"there is nothing named {entry_id[:80]!r} in the trash.")


def _take_of(takes_dir: Path, folder: Path, entry: Trashed) -> Path:
    """The take that a lift belongs to, also when it was renamed since."""
    wanted = json.loads((folder / ENTRY).read_bytes()).get("id")
    if (takes_dir / entry.take).is_dir():
        return take_path(takes_dir, entry.take)
    for path in take_folders(takes_dir):
        if wanted and _take_id(path) == wanted:
            return path
    raise TakeNotFoundError(f"take {entry.take}, whose lift this is, is not there: restore it first.")


def _take_id(path: Path) -> str | None:
    try:
        manifest = read_manifest(path)
    except TakeError:
        return None
    return manifest["id"] if manifest else None


def _check_idle(path: Path) -> None:
    if is_being_written(path):
        raise TakeError(f"take {path.name} is being recorded: stop the recording first.")


def _free(path: Path) -> Path:
    """The path, with -2, -3 ... when something is there."""
    return next(new for name in numbered(path.name) if not (new := path.with_name(name)).exists())


def _move(path: Path, new: Path) -> None:
    try:
        os.rename(path, new)
    except OSError as error:
        raise TakeError(
            f"{path.name} cannot be moved ({error.strerror}): is a program working on it, or may the folder not be "
            "written?"
        ) from None
