"""Reads a dataset of pairs, and finds everything that is wrong with it before anything is computed.

A dataset is a folder: `pairs.jsonl` with a line for every pair (`id`, `render`, `target`, `cues`, `caption`, `scores`,
`provenance`), and the videos that it names, by paths relative to the folder. Render, target and cues of a pair have
the same number of frames and the same size. A caption is a string, or the path of a text file in the folder; a pair
without the field has the one beside its target (`target/ID.txt`, as other trainers have it), if that is there.
Works on files; knows no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from realmaster.lift.lifter import Cue
from realmaster.train.settings import TrainError


@dataclass(frozen=True)
class Video:
    """One video of a pair, as its file says."""

    path: Path
    frames: int
    width: int
    height: int
    sha256: str

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Pair:
    """A render clip, its photoreal target, and what else is known of them."""

    id: str
    target: Video
    shown: Mapping[Cue, Video]
    """The render (`color`), and those cues that were asked for."""
    caption: str
    scores: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def render(self) -> Video:
        return self.shown["color"]

    @property
    def frames(self) -> int:
        return self.target.frames


class DatasetError(TrainError):
    """A dataset with faults. `faults` has a sentence for each, all that were found."""

    def __init__(self, folder: Path, faults: Sequence[str]) -> None:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"The dataset {folder} has {count}: {'; '.join(faults)}.")
        self.faults = list(faults)


@dataclass(frozen=True)
class Dataset:
    folder: Path
    pairs: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over what is trained on: videos and captions, in their order."""
        total = hashlib.sha256()
        for pair in self.pairs:
            shown = {cue: video.sha256 for cue, video in pair.shown.items()}
            total.update(json.dumps([pair.id, pair.target.sha256, shown, pair.caption]).encode())
        return total.hexdigest()


def read_dataset(folder: Path, cues: Sequence[Cue] = (), caption: str | None = "") -> Dataset:
    """All pairs of a dataset: render, target and the videos of `cues`. Raises `DatasetError`.

    caption: for pairs without one; None: captions are not asked for.
    """
    try:
        lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainError(
            f"{folder} is not a dataset: its pairs.jsonl cannot be read ({error.strerror}); "
            "`realmaster pairs` makes datasets."
        ) from error
    except UnicodeDecodeError as error:
        raise TrainError(f"{folder / 'pairs.jsonl'} is not a text in UTF-8: {error.reason}.") from error
    faults: list[str] = []
    roles = list(dict.fromkeys(["target", "color", *cues]))
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    with ThreadPoolExecutor() as pool:  # reading and hashing files leaves the interpreter free
        results = pool.map(lambda row: _read_pair(folder, row[0], row[1], roles, caption), rows)
        pairs: list[Pair] = []
        for pair, wrong in results:
            faults += wrong
            if pair is not None:
                pairs.append(pair)
    ids = [pair.id for pair in pairs]
    faults += [f"pair {name}: its id stands twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
    if not rows:
        faults.append("pairs.jsonl has no pair")
    if faults:
        raise DatasetError(folder, faults)
    return Dataset(folder, tuple(pairs))


def _read_pair(
    folder: Path, number: int, line: str, roles: Sequence[str], caption: str | None
) -> tuple[Pair | None, list[str]]:
    """The pair of a line, and its faults."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("no JSON object")
        name = str(row["id"])
    except (ValueError, KeyError) as error:
        what = "it has no id" if isinstance(error, KeyError) else "it is not a JSON object"
        return None, [f"line {number} of pairs.jsonl: {what}"]
    faults: list[str] = []
    named = {"target": row.get("target"), "color": row.get("render")}
    named |= row["cues"] if isinstance(row.get("cues"), dict) else {}
    videos: dict[str, Video] = {}
    for role in roles:
        try:
            videos[role] = _probe(_inside(folder, named.get(role)))
        except _Fault as fault:
            faults.append(f"pair {name}: {'render' if role == 'color' else role} {fault}")
    if target := videos.get("target"):
        for role, video in videos.items():
            what = "render" if role == "color" else role
            if video.frames != target.frames:
                faults.append(f"pair {name}: {what} has {video.frames} frames, its target {target.frames}")
            if video.size != target.size:
                faults.append(f"pair {name}: {what} is {video.size}, its target {target.size}")
    try:
        words = _caption(folder, row.get("caption"), _beside(folder, row.get("target")), caption)
    except _Fault as fault:
        faults.append(f"pair {name}: caption {fault}")
    if faults:
        return None, faults
    target = videos.pop("target")
    scores = row["scores"] if isinstance(row.get("scores"), dict) else {}
    made = row["provenance"] if isinstance(row.get("provenance"), dict) else {}
    return Pair(name, target, cast(Mapping[Cue, Video], videos), words, scores, made), []


class _Fault(Exception):
    """What is wrong with one thing: the rest of a sentence that begins with its name."""


def _inside(folder: Path, named: Any) -> Path:
    """A file of the dataset by the path that stands in `pairs.jsonl`."""
    if not isinstance(named, str) or not named:
        raise _Fault("is not named")
    relative = PurePosixPath(named)
    if relative.is_absolute() or ".." in relative.parts:
        raise _Fault(f"{named} lies outside of the dataset")
    path = folder / relative
    if not path.is_file():
        raise _Fault(f"{named} is missing")
    return path


def _probe(path: Path) -> Video:
    """Size and number of frames without decoding any."""
    import av

    name = path.name
    try:
        with path.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise _Fault(f"{name} has no pictures")
            stream = container.streams.video[0]
            frames = sum(packet.size > 0 for packet in container.demux(stream))
            video = Video(path, frames, stream.width, stream.height, digest)
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise _Fault(f"{name} cannot be read as a video ({reason})") from None
    if not frames:
        raise _Fault(f"{name} has no pictures")
    return video


def _beside(folder: Path, target: Any) -> str | None:
    """The text file beside a target, if there is one."""
    if not isinstance(target, str):
        return None
    named = str(PurePosixPath(target).with_suffix(".txt"))
    return named if (folder / named).is_file() else None


def _caption(folder: Path, said: Any, beside: str | None, instead: str | None) -> str:
    """The words of a pair: what `pairs.jsonl` says, or what the text file says that it names or that is `beside`."""
    if said is not None and not isinstance(said, str):
        raise _Fault("is not a text")
    words = (said or "").strip()
    named = words if words.endswith(".txt") and not {" ", "\n"} & set(words) else beside
    if named is not None:
        try:
            written = _inside(folder, named).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise _Fault(f"{named} cannot be read") from None
        if not written:
            raise _Fault(f"{named} is empty")
        if named == words or not words:
            return written
    if words or instead is None:
        return words
    if not instead:
        raise _Fault("is empty (write one, or give one for all as `caption` in the settings)")
    return instead
