"""The recorder commits in order, reports every frame, and ends cleanly when the disk does not take more."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.camera import Conventions
from capture.codecs import EXACT
from capture.frame import Channel, Frame
from capture.take import Take, TakeWriter
from daemon.encoding import Encoders, Encoding
from daemon.recorder import Recorder, TakeReport

from .engines import CAMERA, CHANNELS, arrays, assert_exact


def frame(serial: int) -> Frame:
    images = arrays(serial)
    channels = {d.name: Channel(d, images[d.name], serial) for d in CHANNELS}
    return Frame(serial, serial, serial / 24, CAMERA, channels)


class Recording:
    """A recorder and what it reported."""

    def __init__(self, path: Path, encoders: Encoders) -> None:
        self.done: list[tuple[int, bool]] = []
        self.reports: list[TakeReport] = []
        writer = TakeWriter(path, conventions=Conventions(), descriptors=CHANNELS, engine="test", preview=False)
        self.recorder = Recorder(
            writer,
            on_frame=lambda serial, committed: self.done.append((serial, committed)),
            on_close=self.reports.append,
        )

        self._encoders = encoders

    def put(self, frame: Frame) -> bool:
        return self.recorder.put(Encoding(frame, self._encoders, EXACT))

    def finish(self) -> TakeReport:
        self.recorder.close()
        assert self.recorder.join(60)
        (report,) = self.reports
        return report


@pytest.fixture
def encoders() -> Iterator[Encoders]:
    with Encoders(threads=3) as pool:
        yield pool


def test_commits_in_order_and_bit_exact(tmp_path: Path, encoders: Encoders) -> None:
    recording = Recording(tmp_path / "take", encoders)
    for serial in range(40):
        assert recording.put(frame(serial))
    report = recording.finish()
    assert report == TakeReport(tmp_path / "take", 40)
    assert recording.done == [(serial, True) for serial in range(40)]
    take = Take(tmp_path / "take")
    assert take.state == "closed"
    assert [f.serial for f in take] == list(range(40))
    for recorded in take:
        assert_exact(recorded)


def test_a_reported_frame_is_readable_at_once(tmp_path: Path, encoders: Encoders) -> None:
    recording = Recording(tmp_path / "take", encoders)
    seen: list[int] = []
    ready = threading.Event()

    def on_frame(serial: int, committed: bool) -> None:
        seen.append(len(Take(tmp_path / "take")))
        ready.set()

    recording.recorder._on_frame = on_frame
    recording.put(frame(0))
    assert ready.wait(60)
    recording.finish()
    assert seen == [1]


def test_events_stand_in_their_place(tmp_path: Path, encoders: Encoders) -> None:
    recording = Recording(tmp_path / "take", encoders)
    recording.put(frame(0))
    recording.recorder.event("marker", 0.01, {"name": "boss", "time": "noon", "self": 1})
    recording.put(frame(1))
    recording.finish()
    (event,) = Take(tmp_path / "take").events
    assert (event["name"], event["time"], event["frame"]) == ("marker", 0.01, 1)
    assert event["data"] == {"data": {"name": "boss", "time": "noon", "self": 1}}


def test_a_frame_takes_less_once_it_is_compressed(tmp_path: Path) -> None:
    gate = threading.Event()
    with Encoders(threads=1) as blocked:
        blocked.submit(gate.wait, 60)
        recording = Recording(tmp_path / "take", blocked)
        assert recording.recorder.bytes == 0
        recording.put(frame(0))
        recording.put(frame(1))
        assert recording.recorder.bytes == 2 * frame(0).nbytes
        gate.set()
        recording.finish()
    assert recording.recorder.bytes == 0


def test_takes_nothing_after_the_end(tmp_path: Path, encoders: Encoders) -> None:
    recording = Recording(tmp_path / "take", encoders)
    assert recording.put(frame(0))
    assert recording.finish().frames == 1
    assert not recording.put(frame(9)) and recording.done == [(0, True)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit, which Windows has not")
def test_a_full_disk_ends_the_take_with_all_frames_readable(tmp_path: Path, encoders: Encoders) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    recording = Recording(tmp_path / "take", encoders)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        for serial in range(30):
            recording.put(frame(serial))
        report = recording.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert report.problem is not None and "disk is full" in report.problem and report.problem.count("\n") == 0
    assert 0 < report.frames < 30
    committed = [serial for serial, good in recording.done if good]
    assert committed == list(range(report.frames))
    assert len(recording.done) == len({serial for serial, _ in recording.done})  # every frame is reported once
    take = Take(tmp_path / "take")
    assert len(take) == report.frames and take.state == "closed"
    for recorded in take:
        assert_exact(recorded)
