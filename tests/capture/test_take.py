"""Takes: what was appended is what is read; names, lists, slices, clips, events, versions."""

from __future__ import annotations

import json
import math
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from capture.camera import PANDA3D, Camera, Conventions
from capture.errors import TakeDamagedError, TakeError, TakeNotFoundError
from capture.frame import Channel, Descriptor, Frame
from capture.take import (
    Take,
    TakeWriter,
    WriterSettings,
    default_takes_dir,
    list_takes,
    new_take_path,
    repair,
    take_path,
    verify,
)
from capture.take_folder import VERSION

from .recordings import HEIGHT, WIDTH, assert_same, descriptors, make_frame, record_take, start_take


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    sent = [make_frame(serial) for serial in range(6)]
    sent[2].flags = ("cut", "desync")
    sent[3].dropped_before = 4
    sent[4].raw_camera = None
    sent[5].channels["depth"] = Channel(
        sent[5].channels["depth"].descriptor, np.full((HEIGHT, WIDTH), -0.0, np.float32), 4
    )
    conventions = Conventions(PANDA3D, PANDA3D, 0.5)
    with start_take(tmp_path / "t", conventions=conventions, game="rush", fps=30, metadata={"seed": 3}) as writer:
        for index, frame in enumerate(sent):
            assert writer.append(frame) == index
            assert writer.last_serial == frame.serial
    with Take(tmp_path / "t") as take:
        assert len(take) == 6 and take.state == "closed" and not take.is_being_written
        for read, frame in zip(take, sent, strict=True):
            assert_same(read, frame)
            assert read.conventions == conventions
        assert (take.engine, take.game, take.fps, take.manifest["metadata"]) == ("city", "rush", 30.0, {"seed": 3})
        assert take.legend == {"instance": {300: "postman"}}
        assert take.channels == ("color", "depth", "normal", "instance")
        assert take.manifest["dropped"] == 4 and take.manifest["desync"] == 1
        assert take.manifest["frames"] == 6 and take.manifest["seconds"] == pytest.approx(5 / 24 + 1 / 30)
        assert np.allclose(take.times, np.arange(6) / 24) and take.serials == [0, 1, 2, 3, 4, 5]
        assert take[0].color.shape == (HEIGHT, WIDTH, 3) and take[0].depth[0, 0] == math.inf
        assert not take[0].channels["color"].data.flags.writeable
    assert verify(tmp_path / "t").ok


def test_a_take_counts_its_own_frames(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial in (500, 501):
            writer.append(make_frame(serial))
    take = Take(tmp_path / "t")
    assert [(frame.index, frame.serial) for frame in take] == [(0, 500), (1, 501)]


def test_indexing_slicing_and_clips(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 10))
    assert take[-1].serial == 9
    assert [frame.serial for frame in take[2:8:3]] == [2, 5]
    assert [frame.serial for frame in take[::-1][:2]] == [9, 8]
    with pytest.raises(IndexError):
        take[10]
    clip = take.clip(3, 7)
    assert len(clip) == 4
    assert clip.color is not None and clip.depth is not None and clip.normal is not None
    assert clip.color.shape == (4, HEIGHT, WIDTH, 3) and clip.color.dtype == np.uint8
    assert clip.depth.shape == (4, HEIGHT, WIDTH) and clip.depth.dtype == np.float32
    assert clip.normal.shape == (4, HEIGHT, WIDTH, 3)
    assert clip.motion is None and clip.segmentation is None
    assert np.array_equal(clip.color[2], take[5].color) and np.array_equal(clip.depth[2], take[5].depth)
    assert clip.cameras[1] == take[4].camera
    assert np.allclose(clip.times, [3 / 24, 4 / 24, 5 / 24, 6 / 24])
    assert take.clip(-2, 10).frames[0].serial == 8
    for first, last in ((3, 3), (5, 2), (0, 11), (-11, 2)):
        with pytest.raises(TakeError, match="10 frames"):
            take.clip(first, last)


def test_a_take_without_frames_says_so(tmp_path: Path) -> None:
    path = record_take(tmp_path / "take", 1)
    (path / "frames-000.rmk").unlink()
    with pytest.raises(TakeError, match="has no frames"):
        Take(path).clip_range(None, None)


def test_colour_alone_decodes_nothing_else(tmp_path: Path) -> None:
    frame = Take(record_take(tmp_path / "t", 1))[0]
    frame.color  # noqa: B018
    assert "data" in vars(frame.channels["color"]) and "data" not in vars(frame.channels["depth"])


def test_a_loaded_frame_is_decoded_whole(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 3))
    frame = take.load(-1)
    assert all("data" in vars(channel) for channel in frame.channels.values())
    assert_same(frame, make_frame(2))
    with pytest.raises(IndexError, match="3 frames"):
        take.load(3)
    data = bytearray((tmp_path / "t" / "frames-000.rmk").read_bytes())
    data[take._frames[1].end - 110] ^= 0xFF  # in the last channel
    (tmp_path / "t" / "frames-000.rmk").write_bytes(data)
    with pytest.raises(TakeDamagedError, match="frame 1, channel instance"):
        Take(tmp_path / "t").load(1)


def test_a_take_of_no_frames(tmp_path: Path) -> None:
    record_take(tmp_path / "t", 0, preview=True)
    take = Take(tmp_path / "t")
    assert len(take) == 0 and list(take) == [] and take.seconds == 0
    assert verify(tmp_path / "t").ok and not repair(tmp_path / "t").changed


def test_segments_roll_and_frames_stay_whole(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 12, settings=WriterSettings(segment_bytes=10_000))
    files = sorted(file.name for file in path.glob("frames-*"))
    assert len(files) > 3 and files[:2] == ["frames-000.rmk", "frames-001.rmk"]
    for use_index in (True, False):
        if not use_index:
            (path / "index").unlink()
        take = Take(path)
        for serial in (11, 0, 5, 6):
            assert_same(take[serial], make_frame(serial))
    assert sum(entry["frames"] for entry in take.manifest["segments"]) == 12
    assert all((path / entry["file"]).stat().st_size == entry["bytes"] for entry in take.manifest["segments"])
    assert verify(path).good == 12


def test_resolution_change_and_late_channel(tmp_path: Path) -> None:
    wetness = Descriptor("wetness", "float32", (HEIGHT, WIDTH))
    late = make_frame(3)
    late.channels["wetness"] = Channel(wetness, np.ones((HEIGHT, WIDTH), np.float32), 3)
    sent = [make_frame(0), make_frame(1, 64, 48), make_frame(2), late]
    with start_take(tmp_path / "t") as writer:
        for frame in sent:
            writer.append(frame)
    take = Take(tmp_path / "t")
    for read, frame in zip(take, sent, strict=True):
        assert_same(read, frame)
    assert [event["frame"] for event in take.events if event["name"] == "channels_changed"] == [1, 2, 3]
    assert "wetness" in take.channels
    with pytest.raises(TakeError, match="40x24 to 64x48 at frame 1"):
        take.clip(0, 2).color  # noqa: B018
    assert take.clip(2, 4).color is not None
    assert verify(tmp_path / "t").ok


@pytest.mark.parametrize("frames_before", [0, 3])
def test_described_channels_begin_a_new_segment(tmp_path: Path, frames_before: int) -> None:
    path = tmp_path / "t"
    now = [Descriptor("depth", "float32", (HEIGHT, WIDTH), scale="unknown", projection="measured"),
           Descriptor("mask", "uint8", (HEIGHT, WIDTH))]  # fmt: skip
    with start_take(path) as writer:
        for serial in range(frames_before):
            writer.append(make_frame(serial))
        writer.describe(now)
        opened = Take(path)
        assert opened.channels == ("color", "depth", "normal", "instance", "mask")
        frame = make_frame(frames_before)
        frame.channels = {"depth": Channel(now[0], frame.channels["depth"].data, frame.serial)}
        writer.append(frame)
    take = Take(path)
    assert len(take) == frames_before + 1 and verify(path).ok
    segments = [segment["frames"] for segment in take.manifest["segments"]]
    assert segments == ([frames_before, 1] if frames_before else [1])
    assert [event["name"] for event in take.events] == ["channels_changed"] * (frames_before > 0)
    assert all(take[i].channels["depth"].descriptor.in_metres for i in range(frames_before))
    assert_same(take[frames_before], frame)
    listed = {channel["name"]: channel for channel in take.manifest["channels"]}
    assert listed["depth"]["projection"] == "measured" and listed["depth"]["scale"] == "unknown"
    (path / "take.json").unlink()
    assert repair(path, preview=False).changed and verify(path).ok
    assert {channel["name"]: channel for channel in Take(path).manifest["channels"]} == listed


def test_the_order_of_channels_is_no_change(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial in range(2):
            frame = make_frame(serial)
            if serial:
                frame.channels = dict(reversed(frame.channels.items()))
            writer.append(frame)
    assert Take(tmp_path / "t").events == []


def test_gaps_repeats_and_clocks_become_events(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        writer.append(make_frame(0))
        writer.event("marker", 0.01, text="here", odd={1: math.nan, "b": b"\xff"})
        writer.append(make_frame(4, dropped_before=3))
        writer.append(make_frame(4))
        writer.append(make_frame(5, time=0.0))
    take = Take(tmp_path / "t")
    assert [(event["name"], event["frame"]) for event in take.events] == [
        ("marker", 1), ("gap", 1), ("serial_repeated", 2), ("clock_backwards", 2), ("clock_backwards", 3)
    ]  # fmt: skip
    assert take.events[0]["data"] == {"text": "here", "odd": {"1": "nan", "b": "ff"}}
    assert take.events[1]["data"] == {"after": 0, "serial": 4}
    assert len(take) == 4 and take.manifest["events"] == 5 and take.manifest["dropped"] == 3


def test_frames_encoded_elsewhere(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        encoded = [writer.encode(make_frame(serial)) for serial in range(3)]
        for frame in encoded:
            writer.append(frame)
    for read, serial in zip(Take(tmp_path / "t"), range(3), strict=True):
        assert_same(read, make_frame(serial))
    assert encoded[0].nbytes > 0


def test_codecs_can_be_chosen(tmp_path: Path) -> None:
    record_take(tmp_path / "t", 2, settings=WriterSettings(codecs={"color": "raw"}))
    take = Take(tmp_path / "t")
    assert_same(take[1], make_frame(1))
    assert [channel["codec"] for channel in take.manifest["channels"]] == ["raw", "depth", "avi", "zstd"]
    with pytest.raises(TakeError, match="'gif' is unknown"):
        start_take(tmp_path / "u", settings=WriterSettings(codecs={"color": "gif"}))


@pytest.mark.parametrize("change", [{"serial": -1}, {"serial": 2**64}, {"time": math.nan}])
def test_numbers_that_cannot_be_written_cost_nothing(tmp_path: Path, change: dict) -> None:
    with start_take(tmp_path / "t") as writer:
        writer.append(make_frame(0))
        with pytest.raises(TakeError):
            frame = make_frame(1)
            vars(frame).update(change)
            writer.append(frame)
        writer.append(make_frame(1))
    assert len(Take(tmp_path / "t")) == 2 and verify(tmp_path / "t").ok


def test_reading_while_it_is_recorded(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "t")
    writer.append(make_frame(0))
    take = Take(tmp_path / "t")
    assert (len(take), take.state, take.is_being_written) == (1, "open", True)
    for serial in (1, 2):
        writer.append(make_frame(serial))
    assert len(take) == 1 and take.refresh() == 2 and take.refresh() == 0
    assert_same(take[2], make_frame(2))
    assert list_takes(tmp_path)[0].state == "recording" and verify(tmp_path / "t").state == "recording"
    with pytest.raises(TakeError, match="is being recorded"):
        repair(tmp_path / "t")
    writer.append(make_frame(3))
    writer.close()
    writer.close()
    assert take.refresh() == 1 and take.state == "closed" and not take.is_being_written
    assert sorted(file.name for file in take.path.iterdir()) == ["events.jsonl", "frames-000.rmk", "index", "take.json"]
    with pytest.raises(TakeError, match="closed"):
        writer.append(make_frame(4))
    with pytest.raises(TakeError, match="closed"):
        writer.event("late", 0)


def test_reading_never_writes(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 3)
    (path / "index").unlink()
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}
    take = Take(path)
    list(take), take.events, verify(path), list_takes(tmp_path)  # noqa: B018
    assert before == {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}


def test_many_threads_read_one_take(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 8))
    wrong: list[int] = []

    def work(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 8, 30).tolist():
            if take[index].channels["depth"].data.tobytes() != make_frame(index).channels["depth"].data.tobytes():
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_find_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "takes"
    path = record_take(folder / "2026-11-23T01-20-00_city", 1)
    assert Take.find(path).name == Take.find(str(path)).name == Take.find(path.name, folder).name == path.name
    monkeypatch.setenv("REALMASTER_TAKES", str(folder))
    assert default_takes_dir() == folder and Take.find(path.name).path == path
    monkeypatch.chdir(folder)
    assert Take.find(path.name, tmp_path / "elsewhere").name == path.name
    with pytest.raises(TakeNotFoundError, match="perhaps you mean 2026-11-23T01-20-00_city"):
        Take.find("2026-11-23T01-20-00_citi", folder)
    with pytest.raises(TakeNotFoundError, match="realmaster record"):
        Take.find("nothing", tmp_path / "elsewhere")
    with pytest.raises(TakeNotFoundError, match="does not exist"):
        Take.find(tmp_path / "no" / "take")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TakeNotFoundError, match="is not a take"):
        Take(tmp_path / "empty")


@pytest.mark.parametrize("name", ["", ".", "..", "../t", "a/b", "a\\b", "C:", "/etc", "a\0b"])
def test_names_never_become_paths(tmp_path: Path, name: str) -> None:
    record_take(tmp_path / "t", 1)
    (tmp_path / "takes").mkdir()
    with pytest.raises(TakeNotFoundError):
        take_path(tmp_path / "takes", name)
    assert take_path(tmp_path, "t") == tmp_path / "t"


def test_new_names_do_not_collide(tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, 1, 20)
    first = new_take_path(tmp_path, "city", now)
    assert first == tmp_path / "2026-11-23T01-20-00_city"
    first.mkdir()
    assert new_take_path(tmp_path, "city", now).name == "2026-11-23T01-20-00_city-2"
    assert new_take_path(tmp_path, "../GTA V!", now).name == "2026-11-23T01-20-00_gta-v"


def test_list_takes(tmp_path: Path) -> None:
    record_take(tmp_path / "b", 3, game="rush")
    record_take(tmp_path / "a", 2)
    (tmp_path / "b" / "lifts" / "first").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "take.json").write_text("{")
    takes = {info.name: info.to_dict() for info in list_takes(tmp_path)}
    assert list(takes) == ["a", "b", "c"]
    assert takes["b"]["frames"] == 3 and takes["b"]["size"] == (WIDTH, HEIGHT) and takes["b"]["game"] == "rush"
    assert takes["b"]["lifts"] == ("first",) and takes["b"]["problem"] is None
    assert takes["c"]["state"] == "unreadable" and "no readable" in takes["c"]["problem"]
    assert json.dumps(takes) and list_takes(tmp_path / "nowhere") == []


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    record_take(tmp_path / "t", 1)
    with pytest.raises(TakeError, match="not empty"):
        start_take(tmp_path / "t")
    (tmp_path / "file").write_text("")
    with pytest.raises(TakeError, match="choose another folder"):
        start_take(tmp_path / "file" / "t")
    with pytest.raises(TakeError, match="nearly full"):
        start_take(tmp_path / "u", settings=WriterSettings(reserve_bytes=2**62))
    assert not (tmp_path / "u").exists()
    with pytest.raises(TakeError, match="fps"):
        start_take(tmp_path / "v", fps=0)


def test_a_newer_format_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 1)
    manifest = json.loads((path / "take.json").read_text())
    (path / "take.json").write_text(json.dumps(manifest | {"version": VERSION + 1}))
    for use in (Take, verify, repair):
        with pytest.raises(TakeError, match=f"version {VERSION + 1}, but this realmaster reads up to {VERSION}"):
            use(path)


def test_preview_is_made_at_close_and_by_repair(tmp_path: Path) -> None:
    from capture.video import read_video

    path = record_take(tmp_path / "t", 6, preview=True)
    images, times = read_video(path / "preview.mp4")
    assert images.shape == (6, HEIGHT, WIDTH, 3) and np.allclose(times, np.arange(6) / 24, atol=1e-3)
    (path / "preview.mp4").unlink()
    assert repair(path).actions == ["preview.mp4 was made."]
    assert not repair(path).changed


def test_a_preview_that_fails_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start_take(tmp_path / "t", preview=True) as writer:
        writer.append(make_frame(0))
        (tmp_path / "t" / "preview.mp4").mkdir()  # nothing can be written under that name
    assert "no preview" in caplog.text and verify(tmp_path / "t").ok and Take(tmp_path / "t").state == "closed"


def test_frames_without_a_camera_or_with_one_pixel(tmp_path: Path) -> None:
    descriptor = Descriptor("color", "uint8", (1, 1, 3))
    frame = Frame(0, 0, 0.0, None, {"color": Channel(descriptor, np.array([[[1, 2, 3]]], np.uint8), 0)})
    with TakeWriter(
        tmp_path / "t", conventions=Conventions(), descriptors=[descriptor], engine="e", preview=False
    ) as w:
        w.append(frame)
        w.append(Frame(1, 1, 0.1, Camera(np.eye(4), 1, 1, 0, 0), {}))
    take = Take(tmp_path / "t")
    assert_same(take[0], frame)
    assert take[1].channels == {} and verify(tmp_path / "t").ok


def test_a_manifest_that_lies_about_its_types_is_named(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 2)
    good = json.loads((path / "take.json").read_text())
    wrong = {"fps": "fast", "channels": [{"name": 3}], "conventions": [], "segments": [{"file": "x"}], "state": "new"}
    for key, value in (wrong | {"conventions": {"world_axes": 1}}).items():
        (path / "take.json").write_text(json.dumps(good | {key: value}))
        report = verify(path)
        assert any("take.json" in problem for problem in report.problems), key
        assert report.good == 2
        try:
            assert len(Take(path)) == 2  # the segments repeat what the manifest says
        except TakeDamagedError as error:
            assert "take.json" in str(error)
        assert repair(path, preview=False).changed
        assert verify(path).ok, key
        assert descriptors()[0].to_dict().items() <= Take(path).manifest["channels"][0].items()
