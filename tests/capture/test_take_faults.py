"""Takes that were killed, cut, flipped, swapped, robbed of files, or met a full disk: real files, real signals."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capture import append_file
from capture.errors import TakeDamagedError, TakeError, TakeNotFoundError
from capture.records import PADDING
from capture.take import Take, TakeWriter, WriterSettings, repair, verify

from .recordings import assert_same, make_frame, record_take, start_take

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from tests.capture.recordings import make_frame, start_take
from capture.take import WriterSettings
writer = start_take(Path(sys.argv[1]), settings=WriterSettings(segment_bytes=300_000))
frames = [make_frame(serial, 160, 90) for serial in range(20)]
for serial in range(10**9):
    frame = frames[serial % 20]
    frame.serial, frame.time = serial, serial / 24
    writer.append(frame)
    print(serial, flush=True)
"""


def flip(path: Path, at: int, count: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for i in range(at, at + count):
        data[i] ^= 0xFF
    path.write_bytes(data)


def spans(path: Path) -> dict[int, tuple[Path, int, int]]:
    """Where each frame of a take lies: (file, start, end)."""
    take = Take(path)
    return {index: (path / at.file, at.start, at.end) for index, at in take._frames.items()}


def assert_good(path: Path, serials: list[int], index_of: Callable[[int], int] = int) -> None:
    take = Take(path)
    for serial in serials:
        assert_same(take[index_of(serial)], make_frame(serial))


@pytest.fixture
def take_path(tmp_path: Path) -> Path:
    """A closed take of 12 frames, 3 or 4 in a file."""
    return record_take(tmp_path / "t", 12, settings=WriterSettings(segment_bytes=14_000))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, kills: int) -> None:
    for number in range(kills):
        kill_and_look(tmp_path / f"t{number}", random.randint(0, 40))


def kill_and_look(path: Path, point: int) -> None:
    """Kill a writer some moments after frame `point`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        for _ in range(1 + point):
            child.stdout.readline()
        time.sleep(random.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait(20)
    said = rest.split(b"\n")[-2] if rest.count(b"\n") else str(point).encode()
    acknowledged = int(said)
    report = verify(path)
    assert report.state == "open" and not report.problems, report.problems
    assert report.good == report.frames >= acknowledged + 1
    take = Take(path)
    assert take.state == "open" and not take.is_being_written and len(take) == report.frames
    for serial in range(len(take)):
        sent = make_frame(serial % 20, 160, 90)
        for name, channel in take[serial].channels.items():
            assert channel.data.tobytes() == sent.channels[name].data.tobytes()
        assert take[serial].serial == serial
    repaired = repair(path, preview=False)
    assert repaired.frames == len(take) and repaired.changed
    closed = verify(path)
    assert closed.ok and closed.state == "closed" and closed.good == len(take) and not closed.notes
    assert not repair(path, preview=False).changed


def test_an_open_take_cut_at_any_byte(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "whole")
    for serial in range(3):
        writer.append(make_frame(serial))
    whole = (tmp_path / "whole" / "frames-000.rmk").read_bytes()
    where = spans(tmp_path / "whole")
    first, ends = where[0][1], [end for _, _, end in where.values()]
    for number, cut in enumerate([*range(1, len(whole), 1501), *(end + d for end in ends for d in (-1, 0, 1))]):
        path = tmp_path / f"cut{number}"
        path.mkdir()
        for name in ("take.json", "events.jsonl"):
            shutil.copy(tmp_path / "whole" / name, path)
        (path / "frames-000.rmk").write_bytes(whole[:cut])
        readable = sum(end <= cut for end in ends)
        assert_good(path, list(range(readable)))
        report = verify(path)
        assert (report.good, report.problems) == (readable, [])
        unfinished = [note for note in report.notes if f"of frame {readable}, which was never committed" in note]
        torn = cut < first or any(whole[ends[readable - 1] if readable else first : cut])  # zeros stand for nothing
        assert len(unfinished) == torn
        assert repair(path, preview=False).frames == readable
        assert_good(path, list(range(readable)))
        assert verify(path).ok and not repair(path, preview=False).changed
        kept = b"".join(file.read_bytes() for file in sorted(path.glob("frames-000.rmk*")))
        assert kept == whole[: min(cut, ends[-1])]  # nothing was thrown away
    writer.close()


def test_a_closed_take_cut_short(take_path: Path) -> None:
    file, start, end = spans(take_path)[10]
    os.truncate(file, (start + end) // 2)
    report = verify(take_path)
    assert report.good == 10 and report.frames == 12 and report.state == "closed"
    text = "\n".join(report.problems)
    assert f"{file.name}: the file is cut" in text and f"{file.name}: frame 10 is damaged" in text
    assert f"{file.name}: frame 11 is missing." in text
    assert len(Take(take_path)) == 10
    assert_good(take_path, list(range(10)))
    repaired = repair(take_path, preview=False)
    assert any("2 after them are lost" in action for action in repaired.actions)
    assert verify(take_path).ok and Take(take_path).manifest["repairs"]
    assert_good(take_path, list(range(10)))
    assert not repair(take_path, preview=False).changed


@pytest.mark.parametrize("part", ["metadata header", "metadata", "channel header", "channel", "commit"])
def test_a_flipped_byte_costs_one_frame_and_is_named(take_path: Path, part: str) -> None:
    file, start, end = spans(take_path)[5]
    metadata = int.from_bytes(file.read_bytes()[start + 80 : start + 88], "little")
    channel = start + 104 + metadata
    place = {
        "metadata header": start + 9,
        "metadata": start + 104 + 12,
        "channel header": channel + 85,
        "channel": channel + 104 + 50,
        "commit": end - 60,
    }[part]
    before = file.read_bytes()
    flip(file, place)
    for without_index in (False, True):
        report = verify(take_path)
        assert report.good == 11 and report.frames == 12
        assert report.problems and all(f"{file.name}: frame 5" in problem for problem in report.problems)
        take = Take(take_path)
        assert len(take) == 12
        assert_good(take_path, [0, 4, 6, 11])
        with pytest.raises(TakeDamagedError, match="frame 5"):
            [channel.data for channel in take[5].channels.values()]
        if without_index:
            continue
        (take_path / "index").unlink()
    repair(take_path, preview=False)
    after = bytearray(file.read_bytes())
    after[place] ^= 0xFF
    assert bytes(after) == before  # repair left the frames alone
    assert not repair(take_path, preview=False).changed
    assert verify(take_path).good == 11


def test_repair_does_not_take_damage_at_the_end_for_an_unfinished_frame(take_path: Path) -> None:
    file, _, end = spans(take_path)[11]
    flip(file, end - 60)  # the last COMMIT of a take that has its full length
    damaged = file.read_bytes()
    repair(take_path, preview=False)
    assert file.read_bytes() == damaged and not list(take_path.glob("*.torn"))
    report = verify(take_path)
    assert report.good == 11 and any(f"{file.name}: frame 11 is damaged" in problem for problem in report.problems)
    assert not repair(take_path, preview=False).changed


def test_many_bytes_flipped_at_random(take_path: Path) -> None:
    rng = np.random.default_rng(7)
    files = sorted(take_path.glob("frames-*"))
    for _ in range(12):
        originals = {file: file.read_bytes() for file in files}
        where = spans(take_path)
        file = files[rng.integers(len(files))]
        at = int(rng.integers(0, len(originals[file]) - 64))
        flip(file, at, 64)
        hit = {i for i, (f, start, end) in where.items() if f == file and start < at + 64 and at < end}
        report = verify(take_path)
        assert not report.ok and report.good == 12 - len(hit)
        assert all(file.name in problem for problem in report.problems)
        assert_good(take_path, sorted(set(range(12)) - hit))
        file.write_bytes(originals[file])


def test_swapped_segments_are_named_readable_and_mended(take_path: Path) -> None:
    first, second = take_path / "frames-000.rmk", take_path / "frames-001.rmk"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    report = verify(take_path)
    assert report.good == 12 and not report.ok
    assert any("frames-000.rmk: holds segment 1" in problem for problem in report.problems)
    assert any("frames-001.rmk: holds segment 0" in problem for problem in report.problems)
    assert_good(take_path, list(range(12)))
    assert repair(take_path, preview=False).changed
    assert verify(take_path).ok and first.read_bytes() == one
    assert not repair(take_path, preview=False).changed


def test_a_segment_of_another_take(take_path: Path, tmp_path: Path) -> None:
    other = record_take(tmp_path / "other", 12, settings=WriterSettings(segment_bytes=14_000))
    where = spans(take_path)
    foreign = take_path / "frames-001.rmk"
    lost = [i for i, (file, _, _) in where.items() if file == foreign]
    shutil.copy(other / foreign.name, foreign)
    report = verify(take_path)
    assert any("frames-001.rmk: belongs to another take" in problem for problem in report.problems)
    assert report.good == 12 - len(lost)
    (take_path / "index").unlink()
    assert_good(take_path, [i for i in range(12) if i not in lost])
    with pytest.raises(TakeDamagedError, match=f"frame {lost[0]} is lost"):
        Take(take_path)[lost[0]]


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_missing_segment_is_named_with_its_frames(take_path: Path, number: int) -> None:
    where = spans(take_path)
    gone = sorted(take_path.glob("frames-*"))[number]
    lost = [i for i, (file, _, _) in where.items() if file == gone]
    gone.unlink()
    report = verify(take_path)
    assert report.good == 12 - len(lost) and report.frames == 12
    assert f"{gone.name}: the file is missing (frames {lost[0]}-{lost[-1]})." in report.problems
    rest = [i for i in range(12) if i not in lost]
    assert_good(take_path, rest)
    if number == -1:
        assert len(Take(take_path)) == len(rest)
    else:
        with pytest.raises(TakeDamagedError, match=f"frame {lost[0]} is lost"):
            Take(take_path)[lost[0]]
    manifest, seconds = Take(take_path).manifest, Take(take_path).manifest["seconds"]
    repaired = repair(take_path, preview=False)
    assert repaired.frames == len(rest)
    told = f"{gone.name} is missing: {len(lost)} frames of 12 cannot be brought back (frames {lost[0]}-{lost[-1]})."
    assert repaired.lost == [told]
    assert_good(take_path, rest)
    again = repair(take_path, preview=False)
    assert not again.changed and again.lost == [told]
    report = verify(take_path)  # what is lost stays known
    assert (report.good, report.frames) == (len(rest), 12)
    assert f"{gone.name}: the file is missing (frames {lost[0]}-{lost[-1]})." in report.problems
    after = Take(take_path)
    assert after.recorded == 12 and after.manifest["segments"] == manifest["segments"]
    assert after.manifest["seconds"] == seconds


def test_repair_of_a_take_without_its_only_file_remembers_the_frames(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 5)
    (path / "frames-000.rmk").unlink()
    repaired = repair(path, preview=False)
    assert repaired.frames == 0
    assert repaired.lost == ["frames-000.rmk is missing: 5 frames of 5 cannot be brought back (frames 0-4)."]
    report = verify(path)
    assert (report.good, report.frames) == (0, 5) and not report.ok
    assert Take(path).recorded == 5


def test_a_deleted_or_broken_manifest_is_made_again(take_path: Path) -> None:
    before = Take(take_path).manifest
    manifest = take_path / "take.json"
    for spoil in (manifest.unlink, lambda: manifest.write_text("{"), lambda: manifest.write_text("[]")):
        spoil()
        assert_good(take_path, [0, 11])
        assert verify(take_path).good == 12
        assert any("take.json" in problem for problem in verify(take_path).problems)
        repair(take_path, preview=False)
        after = Take(take_path).manifest
        for key in ("id", "engine", "fps", "conventions", "legend", "channels", "frames", "seconds", "bytes", "state"):
            assert after[key] == before[key], key
        assert verify(take_path).ok
    assert (take_path / "take.json.broken").read_text() == "{"


@pytest.mark.parametrize("spoil", ["missing", "empty", "noise", "flipped", "of another take", "stale", "lying"])
def test_the_index_is_only_a_cache(take_path: Path, tmp_path: Path, spoil: str) -> None:
    index = take_path / "index"
    if spoil == "missing":
        index.unlink()
    elif spoil == "flipped":
        flip(index, index.stat().st_size - 44)  # the last frame's number
    elif spoil == "of another take":
        shutil.copy(record_take(tmp_path / "o", 12, settings=WriterSettings(segment_bytes=14_000)) / "index", index)
    elif spoil == "stale":
        with open(take_path / "frames-000.rmk", "ab") as file:
            file.write(b"more")
    elif spoil == "lying":
        from capture.take_folder import FrameLocation, write_index

        lies = {i: FrameLocation("frames-000.rmk", i, i + 99, i, 0.0) for i in range(12)}
        write_index(take_path, Take(take_path).manifest["id"], lies)
    else:
        index.write_bytes(b"" if spoil == "empty" else np.random.default_rng(0).bytes(500))
    assert len(Take(take_path)) == 12
    assert_good(take_path, [0, 5, 11])
    assert verify(take_path).good == 12
    repair(take_path, preview=False)
    assert_good(take_path, [0, 5, 11])
    assert not repair(take_path, preview=False).changed


def test_events_that_were_cut_or_flipped(take_path: Path) -> None:
    events = take_path / "events.jsonl"
    events.write_bytes(b'{"name": "a", "time": 0, "frame": 0, "data": {}}\n{"na\xff\n[1]\n{"name": "b"')
    assert [event["name"] for event in Take(take_path).events] == ["a"]
    report = verify(take_path)
    assert report.problems == ["events.jsonl: line 2 is damaged."] and report.good == 12
    assert report.notes == ["events.jsonl: the last line was never finished."]


def test_nothing_left(take_path: Path) -> None:
    for file in take_path.glob("frames-*"):
        file.write_bytes(b"")
    assert len(Take(take_path)) == 0 and not verify(take_path).ok
    (take_path / "take.json").unlink()
    (take_path / "index").unlink()
    for use in (Take, repair):
        with pytest.raises(TakeDamagedError, match="no readable manifest and no readable frames"):
            use(take_path)
    for file in take_path.glob("frames-*"):
        file.unlink()
    for use in (Take, repair, verify):
        with pytest.raises(TakeNotFoundError, match="is not a take"):
            use(take_path)


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.capture.recordings import make_frame, start_take
from capture.errors import TakeError
writer = start_take(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    for serial in range(1000):
        writer.append(make_frame(serial))
        print(serial, flush=True)
except TakeError as error:
    print(error)
try:
    writer.append(make_frame(0))
except TakeError as error:
    print(error)
writer.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="no limits on file sizes")
def test_a_full_disk_stops_the_take_cleanly(tmp_path: Path) -> None:
    """The system really refuses to let the file grow, in the middle of a frame."""
    path = tmp_path / "t"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert child.returncode == 0, child.stderr
    *acknowledged, sentence, again = child.stdout.splitlines()
    count = len(acknowledged)
    assert count >= 3
    assert sentence == again
    assert sentence == (
        f"the disk is full: take t was stopped after {count} frames, which are all readable; "
        "free some space, or record elsewhere with --takes."
    )
    report = verify(path)
    assert report.ok and report.good == count and report.state == "closed" and not report.notes
    assert_good(path, list(range(count)))
    assert Take(path).manifest["stopped"] == sentence


def test_the_free_space_guard_stops_before_the_disk_is_full(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    writer = start_take(tmp_path / "t", settings=WriterSettings(reserve_bytes=free // 2))
    writer.append(make_frame(0))
    object.__setattr__(writer._settings, "reserve_bytes", 2**62)  # as if the disk had filled up meanwhile
    with pytest.raises(TakeError, match="the disk is full: take t was stopped after 1 frame, which is readable"):
        writer.append(make_frame(1))
    assert writer.closed and verify(tmp_path / "t").ok and Take(tmp_path / "t").state == "closed"


def test_a_take_that_was_killed_before_its_first_frame(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "whole")
    for files in (["take.json"], ["take.json", "frames-000.rmk"]):
        path = tmp_path / f"t{len(files)}"
        path.mkdir()
        for name in files:
            shutil.copy(tmp_path / "whole" / name, path)
        assert len(Take(path)) == 0 and verify(path).problems == []
        assert repair(path).frames == 0 and verify(path).ok and not repair(path).changed
    writer.close()


def test_an_interrupt_in_the_middle_of_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = start_take(tmp_path / "t")
    writer.append(make_frame(0))

    write = append_file._write_at

    def interrupted(fd: int, data: memoryview, at: int) -> int:
        write(fd, data[:PADDING], at)
        raise KeyboardInterrupt

    def late(writer: TakeWriter) -> None:
        raise KeyboardInterrupt

    for place, interrupt in (("append_file._write_at", interrupted), ("take.TakeWriter._sync_sometimes", late)):
        with monkeypatch.context() as patch:
            patch.setattr(f"capture.{place}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.append(make_frame(1))
        assert verify(tmp_path / "t").good == 1
    writer.append(make_frame(1))
    writer.close()
    assert verify(tmp_path / "t").ok
    assert_good(tmp_path / "t", [0, 1])


def test_a_sync_after_every_frame(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "t", settings=WriterSettings(sync_seconds=0))
    for serial in range(20):
        writer.append(make_frame(serial))
    writer.close()
    assert verify(tmp_path / "t").good == 20
