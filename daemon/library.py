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
from capture.health.keeping import read_health
from capture.take import Take, TakeInfo, take_folders, take_path
from capture.take_folder import plain
from capture.take_shelf import (
    Trashed,
    empty_trash,
    read_notes,
    rename_take,
    restore,
    trash_lift,
    trash_take,
    trashed,
    write_notes,
)
from capture.video import read_image
from daemon.jpeg import frame_jpeg, jpeg

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")

RESCAN_SECONDS = 1.0
"""The list of takes is read anew at most this often."""

_OPEN_TAKES = 4
"""Readers kept open for scrubbing."""

THUMBNAIL_WIDTH = 400
_THUMBNAILS = 500
"""Kept in memory, about 15 kB each."""


class Library:
    """All takes in one folder. Thread-safe. Raises TakeNotFoundError for names that are none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._summaries: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self._listed: list[dict[str, Any]] = []
        self._scanned = 0.0
        self._open: OrderedDict[str, tuple[tuple[int, ...], Take]] = OrderedDict()
        self._thumbnails: OrderedDict[tuple[str, str | None, str], bytes] = OrderedDict()

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
        """`TakeInfo` as plain values, with lifts as [{name, frames, model, prompt, seed, seconds, edges_kept}]."""
        with self._lock:
            return self._summary(self.path(name))

    def details(self, name: str) -> dict[str, Any]:
        """`summary`, with all that a player needs: `times`, the engine time of every frame, seconds, and `elapsed`,
        the same as a video plays them (both None where the frame is lost); the lifts' whole `report`s; `notes`; and
        `health`, the proof of sync, where it was examined."""
        path = self.path(name)
        with self._lock:
            summary = self._summary(path)
            take = self._take(path)
            times, elapsed = take.times, take.elapsed
        lifts = [lift | {"report": _report(path / "lifts" / lift["name"])} for lift in summary["lifts"]]
        more = {"times": _finite(times), "elapsed": _finite(elapsed), "lifts": lifts}
        return summary | more | {"notes": read_notes(path), "health": read_health(path)}

    def jpeg(self, name: str, index: int, view: str, max_width: int) -> bytes:
        """Frame `index` (from 0, negative from the end) of a take as a JPEG. Raises TakeError, FrameError."""
        path = self.path(name)
        with self._lock:  # readers are not for several threads at once
            take = self._take(path)
            if not -len(take) <= index < len(take):
                raise TakeNotFoundError(f"Take {name!r} has {len(take)} frames, so there is no frame {index}.")
            return frame_jpeg(take[index], view, max_width)

    def thumbnail(self, name: str, lift: str | None = None) -> bytes:
        """A small picture of a take as a JPEG, from its middle; of a lift the same moment, or its own middle. Raises
        TakeError, FrameError, VideoError."""
        path = self.path(name)
        video = None if lift is None else self.lift_file(name, lift, "lifted.mp4")
        with self._lock:
            take = self._take(path)
            places = take.readable
            if not places:
                raise TakeNotFoundError(f"take {name} has no frames to be shown.")
            # While it is recorded the middle moves: the first frame stays.
            middle = places[len(places) // 2 if take.state == "closed" else 0]
            key = (name, lift, f"{take.manifest['id']} {middle}")
            kept = self._thumbnails.pop(key, None)
            if kept is None and lift is None:
                shown = "color" if "color" in take.channels else take.channels[0]
                kept = frame_jpeg(take[middle], shown, THUMBNAIL_WIDTH)
            elapsed = take.elapsed
        if kept is None:
            assert video is not None
            first, end = _range(_report(video.parent), len(elapsed))
            place = middle if first <= middle < end else (first + end) // 2
            seconds = float(elapsed[place] - elapsed[first])
            kept = jpeg(read_image(video, seconds if math.isfinite(seconds) else 0.0), THUMBNAIL_WIDTH)
        with self._lock:
            self._thumbnails[key] = kept
            while len(self._thumbnails) > _THUMBNAILS:
                self._thumbnails.popitem(last=False)
        return kept

    # -- order

    def rename(self, name: str, new: str) -> None:
        """Give a take another name. Raises TakeError."""
        self._leave(name)
        rename_take(self.path(name), new)
        self.refresh()

    def write_notes(self, name: str, text: str) -> None:
        """Keep notes with a take. Raises TakeError."""
        write_notes(self.path(name), text)
        self.refresh()

    def trash(self, name: str, lift: str | None = None) -> Trashed:
        """Move a take, or a lift of it, to the trash. Raises TakeError."""
        self._leave(name)
        entry = trash_take(self.path(name)) if lift is None else trash_lift(self.path(name), lift)
        self.refresh()
        return entry

    def trashed(self) -> list[Trashed]:
        """What is in the trash, the newest first."""
        return trashed(self.folder)

    def restore(self, entry: str) -> str:
        """Bring something back from the trash; returns the name of the take. Raises TakeError."""
        name = restore(self.folder, entry).name
        self.refresh()
        return name

    def empty_trash(self, entry: str | None = None) -> int:
        """Delete one thing in the trash, or all, for good; returns the bytes that were freed."""
        return empty_trash(self.folder, entry)

    def _leave(self, name: str) -> None:
        """Close the reader of a take, so that its folder can be moved on any system."""
        with self._lock:
            _, take = self._open.pop(name, (None, None))
            if take is not None:
                take.close()

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
    """What a list shows of a lift: how it was made, and the share of the render's depth edges that it keeps."""
    report = _report(folder)
    scores = report.get("scores")
    lifted = scores.get("lifted") if isinstance(scores, dict) else None
    about = {key: report.get(key) for key in ("frames", "model", "prompt", "seed", "seconds")}
    kept = lifted.get("depth_edges_to_render") if isinstance(lifted, dict) else None
    return {"name": folder.name, **about, "edges_kept": kept}


def _report(folder: Path) -> dict[str, Any]:
    """A lift's report.json; empty where there is none."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plain(report) if isinstance(report, dict) else {}


def _range(report: dict[str, Any], count: int) -> tuple[int, int]:
    """The frames [a, b) that a report names, of a take of so many; all where it names none of them."""
    match report.get("frames"):
        case [int(first), int(end)] if 0 <= first < end <= count:
            return first, end
    return 0, count


def _finite(times: Any) -> list[float | None]:
    return [float(time) if math.isfinite(time) else None for time in times]
