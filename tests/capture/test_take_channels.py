"""Channels that change, come late or go: each frame keeps what was sent, segments begin anew, events tell of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture import codecs
from capture.codecs import Precision
from capture.errors import TakeError
from capture.frame import Channel, Descriptor, Frame
from capture.take import Take, WriterSettings, repair, verify

from .recordings import assert_same, descriptors, make_frame, record_take, start_take


def changes(take: Take) -> list[tuple[int, list[str], list[str], list[str]]]:
    found = [(event["frame"], event["data"]) for event in take.events if event["name"] == "channels_changed"]
    return [(frame, data["appeared"], data["missing"], data["changed"]) for frame, data in found]


def segments(take: Take) -> list[tuple[int, int, dict[str, list[int]]]]:
    """(first frame, frames, {channel: shape}) of each segment, as the manifest says."""
    return [
        (entry["first_frame"], entry["frames"], {c["name"]: c["shape"] for c in entry["channels"]})
        for entry in take.manifest["segments"]
    ]


def shapes(width: int, height: int) -> dict[str, list[int]]:
    return {descriptor.name: list(descriptor.shape) for descriptor in descriptors(width, height)}


def test_a_new_resolution_begins_a_segment(tmp_path: Path) -> None:
    sent = [make_frame(serial, *(((40, 24), (64, 48), (40, 24))[serial // 3])) for serial in range(9)]
    with start_take(tmp_path / "t") as writer:
        for frame in sent:
            writer.append(frame)
    take = Take(tmp_path / "t")
    for read, frame in zip(take, sent, strict=True):
        assert_same(read, frame)
    assert segments(take) == [(0, 3, shapes(40, 24)), (3, 3, shapes(64, 48)), (6, 3, shapes(40, 24))]
    every = list(shapes(40, 24))
    assert changes(take) == [(3, [], [], every), (6, [], [], every)]
    assert verify(take.path).ok


def test_a_first_frame_unlike_what_was_announced_leaves_no_empty_segment(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        writer.append(make_frame(0, 64, 48))
    take = Take(tmp_path / "t")
    assert segments(take) == [(0, 1, shapes(64, 48))]
    assert [channel["shape"] for channel in take.manifest["channels"]] == list(shapes(64, 48).values())
    assert verify(take.path).ok and [path.name for path in take.path.glob("*.rmk")] == ["frames-000.rmk"]


def test_another_meaning_of_the_same_numbers_begins_a_segment(tmp_path: Path) -> None:
    sent = [make_frame(serial) for serial in range(4)]
    for frame in sent[2:]:
        depth = frame.channels["depth"]
        frame.channels["depth"] = Channel(replace(depth.descriptor, projection="measured"), depth.data, depth.serial)
    with start_take(tmp_path / "t") as writer:
        for frame in sent:
            writer.append(frame)
    take = Take(tmp_path / "t")
    assert [first for first, *_ in segments(take)] == [0, 2]
    assert changes(take) == [(2, [], [], ["depth"])]
    assert [frame.channels["depth"].descriptor.projection for frame in take] == [None, None, "measured", "measured"]


def without(frame: Frame, *names: str) -> Frame:
    for name in names:
        del frame.channels[name]
    return frame


def test_a_channel_that_comes_late_and_one_that_pauses(tmp_path: Path) -> None:
    sent = [without(make_frame(i), *(["normal"] * (i < 2)), *(["depth"] * (i in (3, 5)))) for i in range(7)]
    with start_take(tmp_path / "t", descriptors=[d for d in descriptors() if d.name != "normal"]) as writer:
        for frame in sent:
            writer.append(frame)
    take = Take(tmp_path / "t")
    for read, frame in zip(take, sent, strict=True):
        assert_same(read, frame)
    assert [(first, count, list(held)) for first, count, held in segments(take)] == [
        (0, 2, ["color", "depth", "instance"]), (2, 5, ["color", "depth", "instance", "normal"])
    ]  # fmt: skip
    assert changes(take) == [
        (2, ["normal"], [], []), (3, [], ["depth"], []), (4, ["depth"], [], []), (5, [], ["depth"], []),
        (6, ["depth"], [], []),
    ]  # fmt: skip


def test_repair_remembers_the_channels_of_each_segment(tmp_path: Path) -> None:
    sent = [make_frame(serial, *(((40, 24), (64, 48))[serial // 2])) for serial in range(4)]
    with start_take(tmp_path / "t") as writer:
        for frame in sent:
            writer.append(frame)
    closed = segments(Take(tmp_path / "t"))
    for name in ("take.json", "index"):
        (tmp_path / "t" / name).unlink()
    repair(tmp_path / "t", preview=False)
    assert segments(Take(tmp_path / "t")) == closed
    assert verify(tmp_path / "t").ok


# -- precision


def precise_take(path: Path, frames: int = 3, **options: Any) -> list[Frame]:
    """A take with quantised depth and float normals."""
    sent = []
    settings = WriterSettings(precision=Precision(depth="log16", normals="oct16"))
    for serial in range(frames):
        frame = make_frame(serial)
        normals = np.random.default_rng(serial).normal(size=(24, 40, 3))
        normals = (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)
        frame.channels["normal"] = Channel(Descriptor("normal", "float32", normals.shape), normals, serial)
        sent.append(frame)
    listed = [channel.descriptor for channel in sent[0].channels.values()]
    with start_take(path, descriptors=listed, settings=settings, **options) as writer:
        for frame in sent:
            writer.append(frame)
    return sent


def test_quantised_channels_keep_the_bound_of_the_manifest(tmp_path: Path) -> None:
    sent = precise_take(tmp_path / "t")
    take = Take(tmp_path / "t")
    entries = {entry["name"]: entry for entry in take.manifest["channels"]}
    assert entries["depth"]["bound"] == {"most": 1e-4, "unit": "relative"}
    assert entries["depth"]["error"] == "at most 0.0001 of the value"
    assert entries["normal"]["bound"] == {"most": 0.01, "unit": "degrees"}
    assert entries["color"]["error"] == "none: bit-exact" and "bound" not in entries["color"]
    for read, frame in zip(take, sent, strict=True):
        for name in ("color", "instance"):
            assert read.channels[name].data.tobytes() == frame.channels[name].data.tobytes()
        before, after = frame.channels["depth"].data, read.channels["depth"].data
        sky = np.isinf(before)
        assert np.array_equal(sky, np.isinf(after)) and sky.any()
        assert np.abs(after[~sky] / before[~sky] - 1).max() <= 1.01e-4  # float32 arithmetic of this very line
        chord = np.linalg.norm(read.channels["normal"].data - frame.channels["normal"].data, axis=2)
        assert np.degrees(2 * np.arcsin(chord.max() / 2)) <= 0.01
    report = verify(take.path)
    assert report.ok
    assert 0 < report.errors["depth"]["measured"] <= report.errors["depth"]["most"] == 1e-4
    assert 0 < report.errors["normal"]["measured"] <= report.errors["normal"]["most"] == 0.01
    assert any("depth is kept to 0.0001" in note for note in report.notes)


@pytest.mark.parametrize("stated", [1e-6, None])
def test_verify_proves_the_bound(tmp_path: Path, stated: float | None) -> None:
    precise_take(tmp_path / "t")
    manifest = (tmp_path / "t" / "take.json").read_text()
    if stated is None:
        changed = manifest.replace('"most": 0.0001', '"least": 0.0001').replace('"bound"', '"bond"')
    else:
        changed = manifest.replace('"most": 0.0001', f'"most": {stated}')
    (tmp_path / "t" / "take.json").write_text(changed)
    report = verify(tmp_path / "t")
    wanted = "which the manifest does not say" if stated is None else "is wrong by up to"
    assert [p for p in report.problems if "frames-000.rmk: frame 1: channel depth" in p and wanted in p]


def test_a_take_that_is_given_quantised_frames_says_so(tmp_path: Path) -> None:
    precise_take(tmp_path / "source")
    source = Take(tmp_path / "source")
    from capture.take_frames import read_encoded

    with start_take(tmp_path / "t", descriptors=[]) as writer:
        for index in range(len(source)):
            at = source._frames[index]
            writer.append(read_encoded(source._file(at.file), at.start, at.end, index))
    report = verify(tmp_path / "t")
    assert report.ok and report.errors.keys() == {"depth", "normal"}


def test_a_codec_of_the_future_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record_take(tmp_path / "t", 2)
    monkeypatch.setattr(codecs, "CODECS", tuple(name for name in codecs.CODECS if name != "zstd"))
    take = Take(path)
    assert take[0].color.shape == (24, 40, 3)
    with pytest.raises(TakeError, match="codec 'zstd', which this realmaster does not know: update it"):
        take[0].instance  # noqa: B018


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record_take(tmp_path / "t", 6)
    decoded: list[str] = []
    right = codecs.decode

    def counted(name: str, *args: Any) -> Any:
        decoded.append(name)
        return right(name, *args)

    monkeypatch.setattr(codecs, "decode", counted)
    take = Take(path)
    frames = [*take[1:5:2], take[-1]]
    assert [frame.serial for frame in frames] == [1, 3, 5] and decoded == []
    assert take[3].depth.shape == (24, 40) and take[3].depth is not None
    assert decoded == ["depth"]
    assert take.clip(0, 2).depth.shape == (2, 24, 40)
    assert decoded == ["depth"] * 3
