"""New takes from parts of old ones: trim and cat.

Works on takes and a path. Frames are copied as their records hold them, so nothing is decoded and every bit stays;
the sources are never written to. Damaged frames are left out and counted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from capture.errors import TakeDamagedError, TakeError
from capture.frame import Descriptor
from capture.health.keeping import HEALTH, keep_health
from capture.take import Take
from capture.take_check import Progress
from capture.take_folder import is_being_written
from capture.take_writer import OWN_EVENTS, TakeWriter, WriterSettings

MADE_FROM = "made_from"
"""Key of a take's metadata that says where its frames come from: a list of {take, id, first, end}, in their order;
frames [first, end) of the take that was recorded, even when they went through other takes on the way."""

JOINED = "joined"
"""Event at the first frame of each take but the first that `cat` put together."""


@dataclass
class EditReport:
    """What `trim` or `cat` made."""

    path: str
    frames: int = 0
    skipped: list[str] = field(default_factory=list)
    """ "TAKE frame N" of each frame that was left out because it is damaged or lost."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def trim(
    take: Take,
    first: int | None,
    last: int | None,
    out: str | os.PathLike[str],
    *,
    preview: bool = True,
    progress: Progress | None = None,
) -> EditReport:
    """Frames [first, last) of a take, as in a slice, as a new take at `out`.

    Events come along with the frame that followed them. With `preview` it gets preview.mp4 and, where the source has
    one, a health.json of its own. Raises TakeError when the range is none, none of its frames
    can be read, or `out` exists.
    """
    start, end = take.clip_range(first, last)
    with _new_take(Path(out), [take], preview) as (writer, report):
        _copy(take, start, end, writer, report, progress)
    return report


def cat(
    takes: Sequence[Take],
    out: str | os.PathLike[str],
    *,
    preview: bool = True,
    progress: Progress | None = None,
) -> EditReport:
    """The frames of some takes, one after the other, as a new take at `out`.

    Channels and sizes may differ: every frame describes its own, and the change is an event. Times and serials stay
    as they were recorded, so they may begin anew; an event "joined" stands where a take begins, and its first frame
    has the flag "cut", except where it goes on where the one before was trimmed off.

    Raises TakeError when engine, game, axes, units or legend of the takes contradict each other, when none of the
    frames can be read, or `out` exists.
    """
    if not takes:
        raise TakeError("there are no takes to put together.")
    for take in takes[1:]:
        _check_alike(takes[0], take)
    total, done = sum(len(take) for take in takes), 0
    with _new_take(Path(out), takes, preview) as (writer, report):
        for number, take in enumerate(takes):
            if not len(take):
                continue

            def ahead(here: int, _: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + here, total)

            _copy(take, 0, len(take), writer, report, ahead, joins=number > 0)
            done += len(take)
    return report


def frames_between(take: Take, begin: float, end: float) -> tuple[int, int]:
    """[first, last) of the frames between two moments, in seconds from the first frame as a video plays them
    (`Take.elapsed`). TakeError when there are none."""
    elapsed = take.elapsed
    inside = np.flatnonzero((elapsed >= begin - 1e-9) & (elapsed < end - 1e-9))
    if not inside.size:
        raise TakeError(f"take {take.name} is {take.seconds:.2f} s long: nothing is there from {begin:g} to {end:g} s.")
    return int(inside[0]), int(inside[-1]) + 1


def _copy(
    take: Take,
    start: int,
    end: int,
    writer: TakeWriter,
    report: EditReport,
    progress: Progress | None,
    joins: bool = False,
) -> None:
    """Append frames [start, end) and their events; `joins` when another take's frames came before."""
    events = _events_by_frame(take, end)
    came_from: list[dict[str, Any]] = writer.metadata.setdefault(MADE_FROM, [])
    origin_of = _origins(take)
    for index in range(start, end):
        for event in events.get(index, ()):
            writer.event(event["name"], event["time"], **event["data"])
        try:
            encoded = take.encoded(index)
        except TakeDamagedError:
            report.skipped.append(f"{take.name} frame {index}")
            continue
        origin = origin_of(index)
        follows = bool(came_from) and _continues(came_from[-1], origin)
        if joins and not follows:
            writer.event(JOINED, encoded.time, take=take.name, id=take.manifest["id"])
            flags = list(dict.fromkeys([*encoded.metadata["flags"], "cut"]))
            encoded = replace(encoded, metadata=encoded.metadata | {"flags": flags})
        joins = False
        writer.append(encoded)
        report.frames += 1
        if follows:
            came_from[-1]["end"] += 1
        else:
            came_from.append(origin)
        if progress is not None:
            progress(index - start + 1, end - start)
    for event in events.get(end, ()):
        writer.event(event["name"], event["time"], **event["data"])


def _continues(before: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    return before["id"] == origin["id"] and before["end"] == origin["first"]


def _events_by_frame(take: Take, end: int) -> dict[int, list[dict[str, Any]]]:
    """A take's events by the frame that followed, without those that the writer notes by itself. Those behind the
    last frame of the take are listed under its length, and so kept only when `end` is that."""
    found: dict[int, list[dict[str, Any]]] = {}
    for event in take.events:
        whole = isinstance(event.get("name"), str) and isinstance(event.get("data"), dict)
        if not whole or not isinstance(event.get("time"), int | float) or not isinstance(event.get("frame"), int):
            continue  # verify names it
        if event["name"] not in OWN_EVENTS and (event["frame"] < end or end == len(take)):
            found.setdefault(min(event["frame"], len(take)), []).append(event)
    return found


def _origins(take: Take) -> Callable[[int], dict[str, Any]]:
    """For each frame of a take the frame that was recorded, as a run of one."""
    runs: list[dict[str, Any]] = take.manifest["metadata"].get(MADE_FROM) or []
    if not runs:
        return lambda index: {"take": take.name, "id": take.manifest["id"], "first": index, "end": index + 1}
    begins = np.cumsum([0, *(run["end"] - run["first"] for run in runs)])

    def origin(index: int) -> dict[str, Any]:
        number = int(np.searchsorted(begins, index, side="right")) - 1
        first = runs[number]["first"] + index - int(begins[number])
        return {**runs[number], "first": first, "end": first + 1}

    return origin


def _check_alike(one: Take, other: Take) -> None:
    """TakeError when a take's frames cannot stand in the same take as another's."""
    for key, what in (("engine", "engine"), ("game", "game"), ("conventions", "axes or units")):
        if one.manifest[key] != other.manifest[key]:
            raise TakeError(
                f"take {other.name} has another {what} than {one.name} ({_short(other.manifest[key])}, not "
                f"{_short(one.manifest[key])}): such takes cannot be put together."
            )
    for channel, names in other.legend.items():
        known = one.legend.get(channel, {})
        clash = next((i for i, name in names.items() if known.get(i, name) != name), None)
        if clash is not None:
            raise TakeError(
                f"{channel} {clash} is {names[clash]!r} in take {other.name} and {known[clash]!r} in {one.name}: such "
                "takes cannot be put together."
            )


@contextmanager
def _new_take(out: Path, takes: Sequence[Take], preview: bool) -> Iterator[tuple[TakeWriter, EditReport]]:
    """A take that gets its name when it is whole, and is gone when it is not."""
    if out.exists():
        raise TakeError(f"there is already something at {out}: choose another name.")
    partial, report = out.with_name(f".{out.name}.partial"), EditReport(str(out))
    if partial.exists() and is_being_written(partial):
        raise TakeError(f"take {out.name} is just being made: choose another name, or wait for it.")
    shutil.rmtree(partial, ignore_errors=True)  # a crash may have left it
    head = takes[0].manifest
    legend: dict[str, dict[int, str]] = {}
    channels: dict[str, dict[str, Any]] = {}
    for take in takes:
        for channel, names in take.legend.items():
            legend.setdefault(channel, {}).update(names)
        for entry in take.manifest["channels"]:
            if entry["name"] not in channels or "bound" in entry:  # the manifest names the looser of two codecs
                channels[entry["name"]] = entry
    known = {field_.name for field_ in fields(Descriptor)}
    try:
        writer = TakeWriter(
            partial,
            conventions=takes[0].conventions,
            descriptors=[Descriptor.from_dict({k: v for k, v in e.items() if k in known}) for e in channels.values()],
            engine=head["engine"],
            game=head["game"],
            fps=takes[0].fps,
            legend=legend,
            metadata={key: value for key, value in head["metadata"].items() if key != MADE_FROM},
            preview=preview,
            settings=WriterSettings(codecs={name: entry["codec"] for name, entry in channels.items()}),
        )
    except TakeError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _not_made(out, error.__context__) from None
    try:
        yield writer, report
        if not report.frames:
            raise TakeError(f"none of the frames of {', '.join(take.name for take in takes)} can be read.")
        writer.close()
        if preview and any((take.path / HEALTH).exists() for take in takes):
            keep_health(partial)  # what held for the sources need not hold for a part of them
        os.replace(partial, out)
    except BaseException as error:
        writer.abandon()
        shutil.rmtree(partial, ignore_errors=True)
        if writer.stopped or isinstance(error, OSError):
            raise _not_made(out, error) from None
        raise


def _not_made(out: Path, error: BaseException | None) -> TakeError:
    why = getattr(error, "strerror", None) or "the disk is full or refuses to write"
    return TakeError(f"take {out} could not be made ({why}): free some space or choose another place.")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return repr(text) if len(text) < 60 else "others"
