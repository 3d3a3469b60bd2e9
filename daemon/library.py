"""The takes in the takes folder as the page and the API show them. A name never becomes a path unchecked.

Works on `capture.Take` and the folder; knows nothing of HTTP, sessions or lifting.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from capture.errors import TakeNotFoundError
from capture.take import Take, TakeInfo, take_folders, take_path
from daemon.jpeg import frame_jpeg

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")

RESCAN_SECONDS = 1.0
"""The list of takes is read anew at most this often."""

_OPEN_TAKES = 4
"""Readers kept open for scrubbing."""


class Library:
    """All takes in one folder. Thread-safe. Raises TakeNotFoundError for names that are none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._summaries: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self._listed: list[dict[str, Any]] = []
        self._scanned = 0.0
        self._open: OrderedDict[str, tuple[tuple[int, ...], Take]] = OrderedDict()

    def path(self, name: str) -> Path:
        """The folder of the take of that name."""
        return take_path(self.folder, name)

    def lift_file(self, name: str, lift: str, file: str) -> Path:
        """A file that a lift of a take has left."""
        folder = self.path(name) / "lifts" / lift
        if not (_NAME.fullmatch(lift) and _NAME.fullmatch(file) and (folder / file).is_file()):
            raise TakeNotFoundError(f"Take {name!r} has no lift {lift[:60]!r} with a file {file[:60]!r}.")
        if folder.is_symlink() or (folder / file).is_symlink():
            raise TakeNotFoundError(f"The lift {lift!r} of take {name!r} is a link, which is not followed.")
        return folder / file

    def refresh(self) -> None:
        """Read the folder anew at the next `summaries`."""
        self._scanned = 0.0

    def summaries(self) -> list[dict[str, Any]]:
        """All takes, newest first; see `summary`."""
        with self._lock:
            now = time.monotonic()
            if now - self._scanned >= RESCAN_SECONDS:
                self._scanned = now
                paths = take_folders(self.folder)
                self._listed = sorted(
                    map(self._summary, paths), key=lambda take: (take["created"], take["name"]), reverse=True
                )
                self._summaries = {path.name: self._summaries[path.name] for path in paths}
            return self._listed

    def summary(self, name: str) -> dict[str, Any]:
        """`TakeInfo` as plain values, with lifts as [{name, report}]."""
        with self._lock:
            return self._summary(self.path(name))

    def times(self, name: str) -> list[float | None]:
        """Engine time of every frame of a take, seconds; None where the frame is lost."""
        with self._lock:
            times = self._take(self.path(name)).times
        return [float(time) if math.isfinite(time) else None for time in times]

    def jpeg(self, name: str, index: int, view: str, max_width: int) -> bytes:
        """Frame `index` (from 0, negative from the end) of a take as a JPEG. Raises TakeError, FrameError."""
        path = self.path(name)
        with self._lock:  # readers are not for several threads at once
            take = self._take(path)
            if not -len(take) <= index < len(take):
                raise TakeNotFoundError(f"Take {name!r} has {len(take)} frames, so there is no frame {index}.")
            return frame_jpeg(take[index], view, max_width)

    def take(self, name: str) -> Take:
        """A reader of its own for long work, an export say."""
        return Take(self.path(name))

    def _take(self, path: Path) -> Take:
        stamp = _stamp(path)
        kept = self._open.pop(path.name, None)
        if kept is None or kept[0] != stamp:
            kept = (stamp, Take(path))
        self._open[path.name] = kept
        while len(self._open) > _OPEN_TAKES:
            self._open.popitem(last=False)
        return kept[1]

    def _summary(self, path: Path) -> dict[str, Any]:
        stamp = _stamp(path)
        kept = self._summaries.get(path.name)
        if kept is None or kept[0] != stamp:
            kept = (stamp, _summarise(path))
            self._summaries[path.name] = kept
        return kept[1]


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes whenever the take as shown could have changed."""
    stamps = []
    for part in (path / "take.json", path / "lifts", path):
        try:
            stamps.append(part.stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    last_segment = max(path.glob("frames-*.rmk"), default=None)
    stamps.append(last_segment.stat().st_size if last_segment is not None else 0)
    return tuple(stamps)


def _summarise(path: Path) -> dict[str, Any]:
    lifts = [_lift(folder) for folder in sorted((path / "lifts").glob("*")) if _is_lift(folder)]
    return TakeInfo.read(path).to_dict() | {"lifts": lifts}


def _is_lift(folder: Path) -> bool:
    return bool(_NAME.fullmatch(folder.name)) and (folder / "lifted.mp4").is_file() and not folder.is_symlink()


def _lift(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return {"name": folder.name, "report": report if isinstance(report, dict) else {}}
    except (OSError, ValueError):
        return {"name": folder.name, "report": {}}
