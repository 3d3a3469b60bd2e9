"""Reading takes: one recording on disk as a sequence of frames.

Works on a take folder in any state: closed, being recorded by another process, killed, cut or damaged. Reading never
writes. Knows nothing of how it was recorded (`capture.take_writer`) and of checking (`capture.take_check`); both are
offered here as well, for `capture.take` is the door to all of it.

    take = Take("2026-11-23T01-20-00_city")
    take[120].depth                 (H, W) float32 metres; decoded when asked for
    for frame in take[24:48]: ...
    take.clip(0, 97).color          (97, H, W, 3) uint8
"""

from __future__ import annotations

import difflib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from capture.camera import Conventions
from capture.clip import Clip
from capture.errors import TakeDamagedError, TakeError, TakeNotFoundError
from capture.frame import Frame
from capture.records import RecordFile, scan
from capture.take_check import RepairReport, VerifyReport, repair, verify
from capture.take_folder import (
    EVENTS,
    MANIFEST,
    FrameLocation,
    check_folder,
    is_being_written,
    manifest_from_survey,
    ranges,
    read_index,
    read_manifest,
    segment_name,
    segment_paths,
    survey,
)
from capture.take_frames import EncodedFrame, StoredChannel, read_encoded, read_frame
from capture.take_writer import TakeWriter, WriterSettings
from capture.threads import in_threads

__all__ = [
    "Clip",
    "EncodedFrame",
    "RepairReport",
    "Take",
    "TakeInfo",
    "TakeView",
    "TakeWriter",
    "VerifyReport",
    "WriterSettings",
    "default_takes_dir",
    "is_take_name",
    "list_takes",
    "new_take_path",
    "repair",
    "take_folders",
    "take_path",
    "verify",
]

_Read = TypeVar("_Read")

_CACHED_FRAMES = 4
"""Decoded frames that a Take keeps: enough for code that reads a frame channel by channel, or compares neighbours."""


class Take(Sequence[Frame]):
    """One recording on disk, read-only. Safe to read from many threads.

    path: the take folder. A take that is being recorded shows the frames committed when it was opened; `refresh`
    shows the later ones. Frames that damage made unreadable keep their place: reading one raises TakeDamagedError
    with a sentence that names file and frame, all others stay readable.

    Raises TakeNotFoundError when there is no take, TakeDamagedError when nothing of it can be read, TakeError when
    it was written by a newer realmaster.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self._files: dict[str, RecordFile] = {}
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()
        try:
            manifest = read_manifest(self.path)
        except TakeDamagedError:
            manifest = None  # the segments repeat what matters of it
        indexed = read_index(self.path, manifest["id"]) if manifest else None
        self._frames: dict[int, FrameLocation]
        if manifest is not None and indexed is not None:
            self._frames = indexed
        else:
            found = survey(self.path, manifest["id"] if manifest else None)
            self._frames = found.frames
            manifest = manifest or manifest_from_survey(found)
        if manifest is None:
            raise TakeDamagedError(
                f"take {self.name} has no readable manifest and no readable frames: restore {self.path} from a copy."
            )
        self.manifest: dict[str, Any] = manifest
        """take.json as it stands."""
        self.conventions = Conventions.from_dict(manifest["conventions"])
        self._count = max(self._frames, default=-1) + 1

    @classmethod
    def find(cls, name_or_path: str | os.PathLike[str], takes_dir: str | os.PathLike[str] | None = None) -> Take:
        """Open a take by its path, or by its name inside `takes_dir` (by default `default_takes_dir()`).

        Raises TakeNotFoundError with up to five takes whose names are near.
        """
        folder = Path(takes_dir) if takes_dir is not None else default_takes_dir()
        text = os.fspath(name_or_path)
        if not _is_name(text) or (Path(text).is_dir() and not (folder / text).is_dir()):
            return cls(text)
        return cls(take_path(folder, text))

    def __repr__(self) -> str:
        return f"Take({self.name!r}, {len(self)} frames, {self.state})"

    def _repr_html_(self) -> str:
        from capture.notebook import take_html

        return take_html(self)

    @property
    def name(self) -> str:
        return self.path.name or str(self.path)

    @property
    def state(self) -> str:
        """ "open" while it is recorded and after a crash, "closed" once it was finished."""
        return self.manifest["state"]

    @property
    def is_being_written(self) -> bool:
        """Whether a living process records it now."""
        return is_being_written(self.path)

    @property
    def engine(self) -> str:
        return self.manifest["engine"]

    @property
    def game(self) -> str:
        return self.manifest["game"]

    @property
    def fps(self) -> float:
        """Frames per second that the session announced; `times` are what really happened."""
        return float(self.manifest["fps"])

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the manifest lists."""
        return tuple(channel["name"] for channel in self.manifest["channels"])

    @property
    def legend(self) -> dict[str, dict[int, str]]:
        """{channel: {id: name}}."""
        legend = self.manifest["legend"] or {}
        return {channel: {int(i): name for i, name in names.items()} for channel, names in legend.items()}

    @property
    def readable(self) -> list[int]:
        """Positions of the frames whose records are all there, in order."""
        return sorted(self._frames)

    @property
    def damaged(self) -> list[int]:
        """Positions of frames that are known to be lost (a damaged channel shows only when it is read)."""
        return [i for i in range(self._count) if i not in self._frames]

    @property
    def recorded(self) -> int:
        """Frames that once were there, as far as is known: a file that is gone from the end shortens the take, but
        not this number."""
        counted = self.manifest.get("frames") if self.state == "closed" else None
        return max(self._count, counted or 0)

    @property
    def times(self) -> NDArray[np.float64]:
        """(len,) engine seconds of every frame, without decoding; nan for lost ones."""
        return np.array([at.time if (at := self._frames.get(i)) else np.nan for i in range(self._count)], np.float64)

    @property
    def serials(self) -> list[int | None]:
        """The engine's frame numbers, without decoding; None for lost ones."""
        return [at.serial if (at := self._frames.get(i)) else None for i in range(self._count)]

    @property
    def elapsed(self) -> NDArray[np.float64]:
        """(len,) seconds from the first frame, as a video of the take plays them; nan for lost ones.

        Where the clock was set back, it goes on one frame later, at the pace of the new times.
        """
        times = self.times
        known = np.isfinite(times)
        steps = np.diff(times[known], prepend=times[known][:1])
        times[known] = np.cumsum(np.where(steps < 0, 1 / self.fps, steps))
        return times

    @property
    def seconds(self) -> float:
        """Engine time from the first frame to the end of the last one."""
        elapsed = self.elapsed[np.isfinite(self.elapsed)]
        return float(elapsed[-1] + 1 / self.fps) if elapsed.size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all frames on disk."""
        return sum(at.end - at.start for at in self._frames.values())

    @property
    def events(self) -> list[dict[str, Any]]:
        """Lines of events.jsonl: {name, time, frame, data}; `frame` is the frame that followed. Broken lines are
        left out (`verify` names them)."""
        events = []
        try:
            lines = (self.path / EVENTS).read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice) -> TakeView: ...
    def __getitem__(self, key: int | slice) -> Frame | TakeView:
        """Frame at a position, or a view of a slice. IndexError outside, TakeDamagedError for a damaged frame."""
        if isinstance(key, slice):
            return TakeView(self, range(self._count)[key])
        try:
            index = range(self._count)[key]
        except IndexError:
            raise IndexError(f"take {self.name} has {self._count} frames, there is no frame {key}.") from None
        with self._lock:
            frame = self._cache.get(index)
            if frame is not None:
                self._cache.move_to_end(index)
                return frame
        frame = self._read(index, partial(read_frame, conventions=self.conventions))
        with self._lock:
            self._cache[index] = frame
            while len(self._cache) > _CACHED_FRAMES:
                self._cache.popitem(last=False)
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return iter(self[:])

    def load(self, index: int) -> Frame:
        """Frame at a position with all its channels decoded, at the same time on several threads: the quickest way to a
        whole frame. IndexError outside, TakeDamagedError when any part of it is damaged."""
        frame = self[index]
        channels = sorted(frame.channels.values(), key=lambda channel: -cast(StoredChannel, channel).stored_bytes)
        for _ in in_threads(lambda channel: channel.data, channels):
            pass
        return frame

    def encoded(self, index: int) -> EncodedFrame:
        """The frame at a position, from 0, as its records hold it, to be appended to another take without decoding.
        TakeDamagedError when any part of it is damaged."""
        return self._read(index, read_encoded)

    def clip(self, first: int, last: int) -> Clip:
        """Frames [first, last) as a clip; negative numbers count from the end. Raises TakeError when out of range."""
        start, end = self.clip_range(first, last)
        return Clip(self[start:end])

    def clip_range(self, first: int | None, last: int | None) -> tuple[int, int]:
        """(first, last) with defaults and negative numbers resolved; TakeError unless 0 <= first < last <= len."""
        if not self._count:
            raise TakeError(f"take {self.name} has no frames that can be read.")
        start = 0 if first is None else first + self._count if first < 0 else first
        end = self._count if last is None else last + self._count if last < 0 else last
        if not 0 <= start < end <= self._count:
            raise TakeError(
                f"take {self.name} has {self._count} frames: frames {first}:{last} are not a part of it, "
                f"choose A:B with 0 <= A < B <= {self._count}."
            )
        return start, end

    def refresh(self) -> int:
        """Look for frames that were committed since; returns how many more there are."""
        before = self._count
        manifest = read_manifest(self.path)
        if manifest is not None:
            self.manifest = manifest
        last = self._frames.get(self._count - 1)
        found = survey(self.path, self.manifest["id"]).frames if last is None else self._after(last)
        self._frames = self._frames | found
        self._count = max(self._frames, default=-1) + 1
        return self._count - before

    def close(self) -> None:
        """Close the files; frames read before stay usable."""
        with self._lock:
            files, self._files = self._files, {}
            self._cache.clear()
        for file in files.values():
            file.close()

    def __enter__(self) -> Take:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after(self, last: FrameLocation) -> dict[int, FrameLocation]:
        """Frames behind the last known one: in its file and in younger ones."""
        found: dict[int, FrameLocation] = {}
        names = [path.name for path in segment_paths(self.path)]
        for name in names[names.index(last.file) if last.file in names else 0 :]:
            with RecordFile(self.path / name) as file:
                spans = scan(file, last.end if name == last.file else 0).frames
            found |= {s.frame: FrameLocation(name, s.start, s.end, s.serial, s.time) for s in spans}
        return found

    def _read(self, index: int, read: Callable[[RecordFile, int, int, int], _Read]) -> _Read:
        """What `read` makes of the bytes of a frame, given (file, start, end, index)."""
        at = self._frames.get(index)
        if at is not None:
            try:
                return read(self._file(at.file), at.start, at.end, index)
            except TakeDamagedError:
                # The index may be older than the files: look once at the files themselves.
                self._frames = survey(self.path, self.manifest["id"]).frames
                if self._frames.get(index) in (at, None):
                    raise
                at = self._frames[index]
                return read(self._file(at.file), at.start, at.end, index)
        raise TakeDamagedError(
            f"take {self.name}: frame {index} is lost ({ranges(self.damaged)} of {self._count}); "
            f"`realmaster takes verify {self.name}` says where."
        )

    def _file(self, name: str) -> RecordFile:
        with self._lock:
            if name not in self._files:
                try:
                    self._files[name] = RecordFile(self.path / name)
                except OSError as error:
                    raise TakeDamagedError(
                        f"take {self.name}: {name} cannot be read ({error.strerror}); "
                        f"`realmaster takes verify {self.name}` lists the frames that are lost."
                    ) from None
            return self._files[name]


class TakeView(Sequence[Frame]):
    """Some frames of a take, read when asked for."""

    def __init__(self, take: Take, positions: range) -> None:
        self.take = take
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice) -> TakeView: ...
    def __getitem__(self, key: int | slice) -> Frame | TakeView:
        if isinstance(key, slice):
            return TakeView(self.take, self.positions[key])
        return self.take[self.positions[key]]

    def __repr__(self) -> str:
        return f"TakeView({self.take.name!r}, {self.positions})"


@dataclass(frozen=True)
class TakeInfo:
    """A take as a list shows it, without decoding a frame."""

    name: str
    path: str
    state: str
    """ "open", "recording" (open, and its writer lives), "closed", or "unreadable"."""
    frames: int = 0
    seconds: float = 0.0
    bytes: int = 0
    engine: str = ""
    game: str = ""
    fps: float = 0.0
    size: tuple[int, int] | None = None
    """(width, height) of the colour channel."""
    channels: tuple[str, ...] = ()
    created: str = ""
    dropped: int = 0
    lifts: tuple[str, ...] = ()
    """Names of the folders under lifts/."""
    problem: str | None = None
    """Why it is unreadable."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> TakeInfo:
        """What a list shows of the take in a folder, unreadable or not."""
        try:
            with Take(path) as take:
                return cls.of(take)
        except (TakeError, OSError, KeyError, TypeError, IndexError) as error:
            return cls(path.name, str(path), "unreadable", problem=str(error))

    @classmethod
    def of(cls, take: Take) -> TakeInfo:
        """What a list shows of an open Take."""
        first = next(iter(take.manifest["channels"]), None)
        shown = next((c for c in take.manifest["channels"] if c["name"] == "color"), first)
        state = "recording" if take.state == "open" and take.is_being_written else take.state
        lifts = take.path / "lifts"
        return cls(
            name=take.name,
            path=str(take.path),
            state=state,
            frames=len(take),
            seconds=take.seconds,
            bytes=take.nbytes,
            engine=take.engine,
            game=take.game,
            fps=take.fps,
            size=None if shown is None else (shown["shape"][1], shown["shape"][0]),
            channels=take.channels,
            created=take.manifest["created"],
            dropped=take.manifest.get("dropped") or 0,
            lifts=tuple(sorted(p.name for p in lifts.glob("[!.]*") if p.is_dir())),  # a dot: still being lifted
        )


def default_takes_dir() -> Path:
    """Where takes go: the environment's REALMASTER_TAKES, else `takes` in the user's data folder."""
    if folder := os.environ.get("REALMASTER_TAKES"):
        return Path(folder)
    import platformdirs

    return Path(platformdirs.user_data_dir("realmaster", appauthor=False)) / "takes"


def take_folders(takes_dir: str | os.PathLike[str]) -> list[Path]:
    """Folders in `takes_dir` that hold a take in any state, by name; none without that folder."""
    try:
        # A dot: still being made from another take.
        inside = sorted(path for path in Path(takes_dir).iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        return []
    return [path for path in inside if (path / MANIFEST).exists() or (path / segment_name(0)).exists()]


def list_takes(takes_dir: str | os.PathLike[str]) -> list[TakeInfo]:
    """Every take in a folder, oldest name first; a damaged one is listed with its problem. Empty without folder."""
    return [TakeInfo.read(path) for path in take_folders(takes_dir)]


def take_path(takes_dir: str | os.PathLike[str], name: str) -> Path:
    """Folder of the take `name`, for names that came from outside: never leaves `takes_dir`.

    Raises TakeNotFoundError, naming up to five takes that are there.
    """
    folder = Path(takes_dir)
    if _is_name(name) and os.path.isdir(folder / name):  # Path.is_dir raises for a name that is too long
        return folder / name
    known = [path.name for path in take_folders(folder)]
    near = difflib.get_close_matches(name[:200], known, n=5, cutoff=0.4) or known[-5:][::-1]
    hint = f"perhaps you mean {' or '.join(near)}" if near else "record one with `realmaster record`"
    raise TakeNotFoundError(f"there is no take {name[:80]!r} in {folder}: {hint}.")


def is_take_name(text: str) -> bool:
    """Whether a take may be given this name: one that can be a folder's on any system, and nothing but a name."""
    device = re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", text, re.IGNORECASE)  # names that Windows keeps
    return not device and bool(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", text))


def new_take_path(takes_dir: str | os.PathLike[str], engine: str, now: datetime | None = None) -> Path:
    """A path for a new take, e.g. takes_dir/2026-11-23T01-20-00_city, with -2, -3 ... when that is taken."""
    slug = re.sub(r"[^a-z0-9]+", "-", engine.lower()).strip("-")[:32] or "engine"
    name = f"{(now or datetime.now()):%Y-%m-%dT%H-%M-%S}_{slug}"
    path, number = Path(takes_dir) / name, 1
    while path.exists():
        number += 1
        path = Path(takes_dir) / f"{name}-{number}"
    return path


def _is_name(text: str) -> bool:
    """Whether `text` is a plain folder name that cannot lead anywhere else."""
    return bool(text) and text not in (".", "..") and not any(c in "/\\:\0" for c in text)
