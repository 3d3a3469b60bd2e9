"""Proving a take and closing one that was left open.

Works on a take folder. `verify` only reads; `repair` changes the manifest, the index and the unfinished bytes at the
end, never a committed frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from capture.camera import Conventions
from capture.errors import TakeDamagedError, TakeError
from capture.frame import Descriptor
from capture.records import RecordFile
from capture.take_folder import (
    EVENTS,
    INDEX,
    MANIFEST,
    PREVIEW,
    FrameLocation,
    Survey,
    WriteLock,
    check_folder,
    is_being_written,
    manifest_from_survey,
    ranges,
    read_index,
    read_manifest,
    segment_name,
    survey,
    write_index,
    write_manifest,
)
from capture.take_frames import StoredChannel, channel_entry, read_frame, read_metadata
from capture.threads import in_threads

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass
class VerifyReport:
    """What `verify` found."""

    path: str
    state: str = "unknown"
    """ "open", "recording" (open, and its writer lives), "closed", or "unknown" without a manifest."""
    frames: int = 0
    """Frames that there should be: those in the files, or what the manifest of a closed take counts."""
    good: int = 0
    """Frames that were read and decoded whole, every checksum right."""
    problems: list[str] = field(default_factory=list)
    """One sentence each, naming file and frames. Empty when nothing is lost or damaged."""
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{channel: {measured, most, unit}} of channels that were not kept to the bit: the largest error measured when they
    were encoded, and what the manifest allows."""
    notes: list[str] = field(default_factory=list)
    """What is unusual but loses nothing, e.g. an unfinished frame at the end of a take that was killed."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ok": self.ok}


@dataclass
class RepairReport:
    """What `repair` did."""

    path: str
    frames: int = 0
    """Readable frames."""
    actions: list[str] = field(default_factory=list)
    """One sentence each; empty when there was nothing to do."""
    lost: list[str] = field(default_factory=list)
    """One sentence for each file with frames that cannot be brought back."""

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"changed": self.changed}


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> VerifyReport:
    """Read and decode every frame of a take and compare files, checksums, counts and manifest. Never writes.

    A take that is being recorded is checked up to its last committed frame. Raises TakeNotFoundError when there is
    no take, TakeError when it was written by a newer realmaster.
    """
    folder = Path(path)
    check_folder(folder)
    report = VerifyReport(str(folder))
    manifest = _manifest(folder, report.problems)
    recording = is_being_written(folder)
    found = survey(folder, manifest["id"] if manifest else None)
    report.problems += found.problems
    if manifest is not None:
        report.state = "recording" if recording and manifest["state"] == "open" else manifest["state"]
        if report.state == "open":
            report.notes.append("The take was never closed; `realmaster takes repair` closes it.")
    session = manifest or manifest_from_survey(found)
    report.frames = max(found.frames, default=-1) + 1
    if manifest is not None and manifest["state"] == "closed":
        report.frames = max(report.frames, int(manifest.get("frames") or 0))
        _check_segments(folder, manifest, found, report)
    _check_structure(found, manifest, report)
    _check_frames(folder, session, found, report, progress)
    _check_events(folder, report)
    for name, error in report.errors.items():
        if report.ok:
            report.notes.append(
                f"Channel {name} is kept to {error['most']:g} ({error['unit']}); its largest error is "
                f"{error['measured']:.2g}."
            )
    if manifest is not None and manifest["state"] == "closed" and read_index(folder, manifest["id"]) is None:
        state = "damaged or stale" if (folder / INDEX).exists() else "missing"
        report.notes.append(f"The index is {state}; it is only a cache, and `realmaster takes repair` makes it again.")
    return report


def repair(path: str | os.PathLike[str], preview: bool = True) -> RepairReport:
    """Close a take that was left open, and make manifest, index and preview again where they are missing.

    No committed frame is touched. Bytes of an unfinished frame at the end move to `frames-NNN.rmk.torn`. A second
    call finds nothing to do. Raises TakeError while the take is being recorded, TakeNotFoundError without a take,
    TakeDamagedError when nothing is left to repair.
    """
    folder = Path(path)
    check_folder(folder)
    report = RepairReport(str(folder))
    try:
        lock = WriteLock(folder)
        try:
            _repair(folder, report)
        finally:
            lock.release()
    except OSError as error:
        raise TakeError(f"take {folder.name} cannot be repaired ({error.strerror}): make it writable.") from None
    if preview and report.frames and not (folder / PREVIEW).exists():
        from capture.take_writer import make_preview

        if make_preview(folder):
            report.actions.append(f"{PREVIEW} was made.")
    return report


def _repair(folder: Path, report: RepairReport) -> None:
    damage: list[str] = []
    manifest = _manifest(folder, damage)
    found = survey(folder, manifest["id"] if manifest else None)
    if _rename_swapped(folder, found, report):
        found = survey(folder, manifest["id"] if manifest else None)
    if manifest is None:
        manifest = manifest_from_survey(found)
        if manifest is None:
            raise TakeDamagedError(
                f"take {folder.name} has no readable manifest and no readable frames: restore it from a copy."
            )
        if (folder / MANIFEST).exists():
            os.replace(folder / MANIFEST, _free_name(folder / f"{MANIFEST}.broken"))
        report.actions.append(f"{MANIFEST} was made again from the frame files.")
    expected = {entry["file"]: entry["bytes"] for entry in manifest.get("segments") or []}
    last = next(reversed(found.scans), None)
    if last is not None:
        _cut_torn_tail(folder, last, found, expected.get(last), report)
    report.frames = len(found.frames)
    final = _finalised(folder, manifest, found)
    if any(final[key] != manifest.get(key) for key in final):
        lost = int(manifest.get("frames") or 0) - final["frames"]
        if manifest["state"] == "closed" and lost > 0:
            report.actions.append(f"The manifest now says {final['frames']} frames: the {lost} after them are lost.")
        else:
            report.actions.append(f"The manifest was finalised: {final['frames']} frames.")
        repairs = [*(manifest.get("repairs") or []), *report.actions]
        write_manifest(folder, manifest | final | {"repairs": repairs})
    if read_index(folder, manifest["id"]) != found.frames:
        write_index(folder, manifest["id"], found.frames)
        report.actions.append("The index was made again.")
    _tell_lost(folder, manifest | final, found, report)


def _tell_lost(folder: Path, manifest: dict[str, Any], found: Survey, report: RepairReport) -> None:
    """Say which of the frames that the manifest counts cannot be brought back."""
    for name, frames in _by_file(set(range(manifest["frames"])) - found.frames.keys(), manifest, found).items():
        why = "is damaged" if (folder / name).exists() else "is missing"
        many = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
        report.lost.append(f"{name} {why}: {many} of {manifest['frames']} cannot be brought back ({ranges(frames)}).")


def _rename_swapped(folder: Path, found: Survey, report: RepairReport) -> bool:
    """Give segment files the names that their first records say, where that overwrites nothing."""
    wrong = {name: right for name, head in found.heads.items() if (right := segment_name(head["segment"])) != name}
    taken = any(right not in wrong and (folder / right).exists() for right in wrong.values())
    if not wrong or taken or len(set(wrong.values())) < len(wrong):
        return False
    for name in wrong:
        os.replace(folder / name, folder / f"{name}.moving")
    for name, right in wrong.items():
        os.replace(folder / f"{name}.moving", folder / right)
        report.actions.append(f"{name} was renamed to {right}.")
    return True


def _cut_torn_tail(folder: Path, name: str, found: Survey, expected: int | None, report: RepairReport) -> None:
    """Move what follows the last committed frame of the last file aside.

    Bytes of a closed take that still has its full length are damaged, not torn: they stay for better tools.
    """
    scan, path = found.scans[name], folder / name
    torn = scan.size - scan.committed
    if torn and (expected is None or scan.size < expected):
        side = _free_name(path.with_name(f"{name}.torn"))
        with RecordFile(path) as file, open(side, "xb") as copy:
            copy.write(file.read(scan.committed, torn))
            copy.flush()
            os.fsync(copy.fileno())
        os.truncate(path, scan.committed)
        scan.size = scan.committed
        report.actions.append(f"{name}: {torn} bytes of an unfinished frame were moved to {side.name}.")
    elif not torn and path.stat().st_size > scan.size:
        os.truncate(path, scan.size)
        report.actions.append(f"{name}: the zeros at its end were taken off.")
    if not scan.size:
        path.unlink()
        del found.scans[name]
        report.actions.append(f"{name} was empty and is gone.")


def _finalised(folder: Path, manifest: dict[str, Any], found: Survey) -> dict[str, Any]:
    """What the manifest of the closed take has to say: what is really there, and the files that it listed and that
    are gone, so that their frames stay known as lost."""
    frames = [found.frames[i] for i in sorted(found.frames)]
    gone = {
        entry["file"]: entry
        for entry in manifest.get("segments") or []
        if entry["frames"] and entry["file"] not in found.scans
    }
    count = max([i + 1 for i in found.frames] + [e["first_frame"] + e["frames"] for e in gone.values()], default=0)
    own = {name: [i for i, at in found.frames.items() if at.file == name] for name in found.scans}
    first = {
        name: found.heads[name]["first_frame"] if name in found.heads else min(own[name], default=count)
        for name in found.scans
    } | {name: entry["first_frame"] for name, entry in gone.items()}
    size = {name: scan.size for name, scan in found.scans.items()} | {n: entry["bytes"] for n, entry in gone.items()}
    order = sorted(first, key=first.__getitem__)
    next_first = [*(first[name] for name in order), count][1:]
    channels_of = {name: entry["channels"] for name, entry in gone.items() if "channels" in entry} | {
        name: head["session"]["channels"] for name, head in found.heads.items() if "channels" in head["session"]
    }
    segments = [
        {"file": name, "first_frame": first[name], "frames": after - first[name], "bytes": size[name]}
        | ({"channels": channels_of[name]} if name in channels_of else {})
        for name, after in zip(order, next_first, strict=True)
    ]
    seconds = frames[-1].time - frames[0].time + 1 / float(manifest["fps"]) if frames else 0.0
    if gone:  # their frames' times went with them
        seconds = max(seconds, manifest.get("seconds") or 0.0)
    final: dict[str, Any] = {
        "state": "closed",
        "frames": count,
        "bytes": sum(segment["bytes"] for segment in segments),
        "seconds": seconds,
        "events": _count_lines(folder / EVENTS),
        "segments": segments,
    }
    if "dropped" in manifest and manifest["state"] == "closed":
        return final
    dropped = desync = 0
    channels = {channel["name"]: channel for channel in manifest["channels"]}
    for at in found.frames.values():
        with RecordFile(folder / at.file) as file, suppress(TakeDamagedError):
            metadata = read_metadata(file, at.start)
            dropped += metadata["dropped_before"]
            desync += "desync" in metadata["flags"]
            for descriptor in map(Descriptor.from_dict, metadata["channels"]):
                channels.setdefault(descriptor.name, channel_entry(descriptor))
    return final | {"dropped": dropped, "desync": desync, "channels": list(channels.values())}


def _manifest(folder: Path, problems: list[str]) -> dict[str, Any] | None:
    """The manifest, or None with a problem noted."""
    try:
        manifest = read_manifest(folder)
        if manifest is not None:
            return manifest
        problems.append(f"{MANIFEST} is missing; `realmaster takes repair {folder.name}` makes it again.")
    except TakeDamagedError as error:
        problems.append(str(error))
    return None


def _check_segments(folder: Path, manifest: dict[str, Any], found: Survey, report: VerifyReport) -> None:
    """Compare a closed take's list of files with the files."""
    listed = manifest.get("segments") or []
    for entry in listed:
        first, count, name = entry["first_frame"], entry["frames"], entry["file"]
        held = ranges(range(first, first + count)) if count else "no frames"
        if name not in found.scans:
            report.problems.append(f"{name}: the file is missing ({held}).")
        elif (size := found.scans[name].size) == entry.get("packed_bytes"):
            continue  # `takes pack` was killed when it had just put the packed file there
        elif size < entry["bytes"]:
            report.problems.append(
                f"{name}: the file is cut: {size} of {entry['bytes']} bytes are there (it held {held})."
            )
        elif size > entry["bytes"]:
            report.problems.append(
                f"{name}: the file has {size} bytes where the manifest says {entry['bytes']} ({held})."
            )
    unlisted = found.scans.keys() - {entry["file"] for entry in listed}
    report.problems += [f"{name}: the manifest does not list this file." for name in sorted(unlisted)]


def _check_structure(found: Survey, manifest: dict[str, Any] | None, report: VerifyReport) -> None:
    """Name damage between and in frames, and the frames that are not there."""
    closed = manifest is not None and manifest["state"] == "closed"
    last = next(reversed(found.scans), "")
    named: set[int] = set()
    for name, scan in found.scans.items():
        torn_from = scan.committed if name == last and not closed else scan.size + 1
        if name in found.headless and scan.size and torn_from > 0:
            report.problems.append(f"{name}: the first record is damaged.")
        covered: list[tuple[int, int]] = []
        for frame, start, end in scan.unfinished:
            covered.append((start, end))
            if start >= torn_from:
                continue
            if frame not in found.frames:
                named.add(frame)
                report.problems.append(f"{name}: frame {frame} is damaged (bytes {start} to {end}).")
        for damage in scan.damage:
            if damage.start >= torn_from or any(s <= damage.start and damage.end <= e for s, e in covered):
                continue
            if damage.start == 0 and name in found.headless:
                continue
            report.problems.append(f"{name}: bytes {damage.start} to {damage.end} are damaged.")
        if name == last and not closed and scan.size > scan.committed and report.state != "recording":
            frame = scan.unfinished[-1][0] if scan.unfinished else max(found.frames, default=-1) + 1
            report.notes.append(
                f"{name}: {scan.size - scan.committed} bytes of frame {frame}, which was never committed."
            )
    missing = [i for i in range(report.frames) if i not in found.frames and i not in named]
    for name, frames in _by_file(missing, manifest, found).items():
        report.problems.append(f"{name}: {ranges(frames)} {'is' if len(frames) == 1 else 'are'} missing.")


def _by_file(frames: Iterable[int], manifest: dict[str, Any] | None, found: Survey) -> dict[str, list[int]]:
    """Lost frames by the file that should hold them."""
    by_file: dict[str, list[int]] = {}
    for frame in sorted(frames):
        by_file.setdefault(_home_of(frame, manifest, found), []).append(frame)
    return by_file


def _home_of(frame: int, manifest: dict[str, Any] | None, found: Survey) -> str:
    """The file that should hold a frame: as the manifest says, else the one of the frame before it."""
    for entry in (manifest or {}).get("segments") or []:
        if entry["first_frame"] <= frame < entry["first_frame"] + entry["frames"]:
            return entry["file"]
    before = [i for i in found.frames if i < frame]
    return found.frames[max(before)].file if before else segment_name(0)


def _check_frames(
    folder: Path,
    session: dict[str, Any] | None,
    found: Survey,
    report: VerifyReport,
    progress: Progress | None,
) -> None:
    """Decode every channel of every committed frame."""
    conventions = Conventions() if session is None else Conventions.from_dict(session["conventions"])
    stated = {entry["name"]: entry.get("bound") for entry in (session or {}).get("channels", ())}
    done = 0
    for name in found.scans:
        frames = sorted((index, at) for index, at in found.frames.items() if at.file == name)
        with RecordFile(folder / name) as file:
            for problems, errors in in_threads(partial(_check_frame, file, conventions, stated), frames):
                report.good += not problems
                report.problems += problems
                for channel, error in errors.items():
                    known = report.errors.setdefault(channel, error)
                    known["measured"] = max(known["measured"], error["measured"])
                done += 1
                if progress is not None:
                    progress(done, len(found.frames))


_Stated = dict[str, dict[str, Any] | None]
"""What the manifest says of the bound of each channel."""


def _check_frame(
    file: RecordFile, conventions: Conventions, stated: _Stated, place: tuple[int, FrameLocation]
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Problems of a frame, and the errors of its channels that are not kept to the bit."""
    problems: list[str] = []
    errors: dict[str, dict[str, Any]] = {}
    index, at = place
    try:
        frame = read_frame(file, at.start, at.end, index, conventions)
    except TakeDamagedError as error:
        return [_bare(error)], errors
    for name, channel in frame.channels.items():
        try:
            channel.data  # noqa: B018 (reading it is the check)
            found = cast(StoredChannel, channel).error
        except TakeDamagedError as error:
            problems.append(_bare(error))
        except TakeError as error:
            problems.append(str(error))
        else:
            if found is not None:
                measured, bound = found
                allowed = stated.get(name) or {"most": None, "unit": None}
                errors[name] = {"measured": measured, "most": allowed["most"], "unit": bound.unit}
                where = f"{file.path.name}: frame {index}: channel {name}"
                if allowed["unit"] != bound.unit:
                    problems.append(f"{where} is quantised, which the manifest does not say.")
                elif not measured <= allowed["most"] <= bound.most:
                    problems.append(
                        f"{where} is wrong by up to {measured:g} ({bound.unit}), the manifest says {allowed['most']:g}."
                    )
    return problems, errors


def _check_events(folder: Path, report: VerifyReport) -> None:
    try:
        lines = (folder / EVENTS).read_bytes().split(b"\n")
    except FileNotFoundError:
        report.notes.append(f"{EVENTS} is missing.")
        return
    for number, line in enumerate(lines[:-1], 1):
        try:
            json.loads(line)
        except ValueError:
            report.problems.append(f"{EVENTS}: line {number} is damaged.")
    if lines[-1]:
        report.notes.append(f"{EVENTS}: the last line was never finished.")


def _bare(error: TakeDamagedError) -> str:
    """The sentence without the advice to run verify."""
    return str(error).split("; `realmaster takes verify`")[0] + "."


def _count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}{number}")
    return candidate
