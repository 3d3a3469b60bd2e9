"""trim and cat: new takes, every bit and every event as it was, the sources untouched."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture.camera import Conventions
from capture.errors import TakeError
from capture.frame import Frame
from capture.health.keeping import keep_health, read_health
from capture.take import Take, list_takes, verify
from capture.take_edit import MADE_FROM, cat, frames_between, trim
from capture.take_writer import WriterSettings

from .export.scenes import damage
from .recordings import assert_same, make_frame, record_take, start_take


def fingerprint(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


def payloads(take: Take, index: int) -> dict[str, tuple[str, bytes]]:
    return {descriptor.name: (codec, data) for descriptor, _, codec, data in take.encoded(index).channels}


def drive(path: Path) -> Path:
    """Twelve frames with a gap, markers, metadata, flags, and several frame files."""
    with start_take(
        path, metadata={"session": "s1"}, settings=WriterSettings(segment_bytes=20_000, codecs={"depth": "zstd"})
    ) as writer:
        writer.event("marker", 0.0, text="begin", time="noon")
        for number in range(12):
            serial = number if number < 6 else number + 3
            if number == 5:
                writer.event("marker", 0.2, text="here")
            writer.append(make_frame(serial, flags=("cut",) if number == 4 else (), dropped_before=3 * (number == 6)))
        writer.event("marker", 0.9, text="end")
    return path


def test_trim_repeats_every_bit(tmp_path: Path) -> None:
    source = drive(tmp_path / "drive")
    before, take = fingerprint(source), Take(source)
    report = trim(take, 4, 9, tmp_path / "part", preview=False)
    assert report.frames == 5 and report.skipped == [] and fingerprint(source) == before
    part = Take(tmp_path / "part")
    assert len(part) == 5 and part.state == "closed" and verify(part.path).ok
    for index in range(5):
        assert_same(part[index], take[index + 4])
        assert payloads(part, index) == payloads(take, index + 4) and part[index].index == index
    assert (part.fps, part.engine, part.legend) == (take.fps, take.engine, take.legend)
    assert part.conventions == take.conventions
    assert {entry["name"]: entry["codec"] for entry in part.manifest["channels"]}["depth"] == "zstd"
    assert part.manifest["id"] != take.manifest["id"] and part.manifest["dropped"] == 3
    assert part.manifest["metadata"]["session"] == "s1"
    assert part.manifest["metadata"][MADE_FROM] == [{"take": "drive", "id": take.manifest["id"], "first": 4, "end": 9}]


def test_events_come_along_with_their_frames(tmp_path: Path) -> None:
    take = Take(drive(tmp_path / "drive"))
    trim(take, 4, 9, tmp_path / "middle", preview=False)
    assert [(e["name"], e["frame"], e["data"]) for e in Take(tmp_path / "middle").events] == [
        ("marker", 1, {"text": "here"}),
        ("gap", 2, {"after": 5, "serial": 9}),
    ]
    trim(take, 9, None, tmp_path / "end", preview=False)
    assert [(e["name"], e["frame"]) for e in Take(tmp_path / "end").events] == [("marker", 3)]
    trim(take, None, None, tmp_path / "all", preview=False)
    assert Take(tmp_path / "all").events == take.events  # also the marker whose data has a time of its own


def test_parts_put_together_are_the_whole(tmp_path: Path) -> None:
    take = Take(drive(tmp_path / "drive"))
    trim(take, 0, 7, tmp_path / "a", preview=False)
    trim(take, 7, None, tmp_path / "b", preview=False)
    report = cat([Take(tmp_path / "a"), Take(tmp_path / "b")], tmp_path / "whole", preview=False)
    whole = Take(tmp_path / "whole")
    assert report.frames == 12 and whole.events == take.events  # no seam: nothing is between them
    for index in range(12):
        assert_same(whole[index], take[index])
    assert whole.manifest["metadata"][MADE_FROM] == [
        {"take": "drive", "id": take.manifest["id"], "first": 0, "end": 12}
    ]
    trim(whole, 2, 4, tmp_path / "again", preview=False)
    (origin,) = Take(tmp_path / "again").manifest["metadata"][MADE_FROM]
    assert (origin["take"], origin["first"], origin["end"]) == ("drive", 2, 4)


def test_cat_marks_where_a_take_begins(tmp_path: Path) -> None:
    one, two = Take(record_take(tmp_path / "one", 3)), tmp_path / "two"
    with start_take(two) as writer:
        for serial in range(2):
            writer.append(make_frame(serial, 24, 40))
    calls: list[tuple[int, int]] = []
    report = cat([one, Take(two), one], tmp_path / "out", preview=False, progress=lambda *done: calls.append(done))
    out = Take(tmp_path / "out")
    assert report.frames == 8 and calls == [(i, 8) for i in range(1, 9)] and verify(out.path).ok
    assert [frame.flags for frame in out] == [(), (), (), ("cut",), (), ("cut",), (), ()]
    assert [frame.shape for frame in out] == [(24, 40)] * 3 + [(40, 24)] * 2 + [(24, 40)] * 3
    assert np.array_equal(out[4].depth, Take(two)[1].depth) and np.array_equal(out[7].color, one[2].color)
    joined = [event for event in out.events if event["name"] == "joined"]
    assert [(event["frame"], event["data"]["take"]) for event in joined] == [(3, "two"), (5, "one")]
    names = {event["name"] for event in out.events}
    assert {"channels_changed", "serial_repeated", "clock_backwards"} <= names
    assert [run["take"] for run in out.manifest["metadata"][MADE_FROM]] == ["one", "two", "one"]
    assert out.seconds == pytest.approx(8 / 24)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "panda3d"}, "another engine"),
        ({"game": "other"}, "another game"),
        ({"conventions": Conventions(metres_per_unit=0.01)}, "another axes or units"),
        ({"legend": {"instance": {300: "baker"}}}, "instance 300 is 'baker' in take two and 'postman' in one"),
    ],
)
def test_takes_that_contradict_each_other_are_refused(tmp_path: Path, options: dict, sentence: str) -> None:
    one = Take(record_take(tmp_path / "one", 2))
    two = Take(record_take(tmp_path / "two", 2, **options))
    with pytest.raises(TakeError, match=sentence):
        cat([one, two], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_damaged_frames_are_left_out_and_named(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 6)
    damage(path, 2, "depth")
    report = trim(Take(path), 1, 5, tmp_path / "part", preview=False)
    part = Take(tmp_path / "part")
    assert report.frames == 3 and report.skipped == ["t frame 2"] and part.serials == [1, 3, 4]
    assert [event["name"] for event in part.events] == ["gap"]
    runs = part.manifest["metadata"][MADE_FROM]
    assert [(run["first"], run["end"]) for run in runs] == [(1, 2), (3, 5)]
    trim(part, 1, 3, tmp_path / "less", preview=False)
    (run,) = Take(tmp_path / "less").manifest["metadata"][MADE_FROM]
    assert (run["first"], run["end"]) == (3, 5)
    for index in range(6):
        if index != 2:
            damage(path, index, "color")
    with pytest.raises(TakeError, match="none of the frames"):
        trim(Take(path), None, None, tmp_path / "none", preview=False)
    assert not (tmp_path / "none").exists()


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 6))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trim(take, 0, 6, tmp_path / "part", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    with pytest.raises(TakeError, match="already something"):
        trim(take, 0, 6, tmp_path / "t")
    with pytest.raises(TakeError, match="6 frames"):
        trim(take, 3, 9, tmp_path / "part")
    # What a killed process left is no take, and in nobody's way.
    record_take(tmp_path / ".part.partial", 2)
    assert [info.name for info in list_takes(tmp_path)] == ["t"]
    assert trim(take, 0, 6, tmp_path / "part", preview=False).frames == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "t"]


def test_seconds_are_those_of_the_video(tmp_path: Path) -> None:
    def at(serial: int, time: float) -> Frame:
        return make_frame(serial, time=time)

    with start_take(tmp_path / "t") as writer:
        for serial, time in enumerate([5.0, 5.5, 6.0, 1.0, 1.5, 2.0]):
            writer.append(at(serial, time))
    take = Take(tmp_path / "t")  # played at 0, 0.5, 1, 1.04, 1.54, 2.04
    assert frames_between(take, 0.4, 1.2) == (1, 4)
    assert frames_between(take, 0, float("inf")) == (0, 6)
    with pytest.raises(TakeError, match="2.08 s long"):
        frames_between(take, 3, 4)


def test_encoded_frames_are_those_of_the_file(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 2))
    encoded = take.encoded(1)
    assert_same(replace(encoded).frame(take.conventions), take[1])
    assert encoded.metadata["serial"] == 1 and encoded.nbytes < take[1].nbytes


def test_health_is_examined_anew(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 6)
    trim(Take(path), 0, 4, tmp_path / "without")
    assert read_health(tmp_path / "without") is None
    assert keep_health(path)
    trim(Take(path), 0, 4, tmp_path / "with")
    health, before = read_health(tmp_path / "with"), read_health(path)
    assert health is not None and before is not None and health != before
