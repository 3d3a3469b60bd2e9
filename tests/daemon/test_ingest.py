"""Sessions, credits, checks and takes, over real sockets."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture import wire
from capture.connection import connection_file, endpoint_port
from capture.errors import FrameError, SenderError, UserError
from capture.frame import Descriptor
from capture.take import Take, TakeWriter, verify
from daemon.ingest import Ingest
from daemon.session import Settings

from .engines import CAMERA, CHANNELS, Peer, arrays, assert_exact, engine, send, until

FREE = "tcp://127.0.0.1:*"
ONE_BY_ONE = Settings(record_bytes=1)
"""A recorded frame must be on disk before the next may come."""


class Running:
    """An Ingest in a thread, and what it told."""

    def __init__(self, takes: Path, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.takes = takes
        self.ingest = Ingest(FREE, takes=takes, on_event=self.events.append, previews=False, **options)
        self.endpoint = self.ingest.start()
        self.token = self.ingest.token

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def wait(self, kind: str, count: int = 1) -> dict[str, Any]:
        until(lambda: len(self.of(kind)) >= count, what=kind)
        return self.of(kind)[count - 1]

    def wait_for_frames(self, count: int) -> None:
        """Until the only session has received so many."""
        until(lambda: [s["frames"] for s in self.ingest.state["sessions"]] == [count], what=f"frame {count}")

    def take(self, name: str) -> Take:
        return Take(self.takes / name)

    def peer(self) -> Peer:
        return Peer(self.endpoint, self.token)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts an Ingest; stopped at the end of the test."""
    started: list[Running] = []

    def start(**options: Any) -> Running:
        started.append(Running(tmp_path / "takes", **options))
        return started[-1]

    yield start
    for running in started:
        running.ingest.stop()
        assert running.ingest._thread is not None and not running.ingest._thread.is_alive()


# -- recording


def test_lossless_session_is_recorded_whole_and_bit_exact(start: Any) -> None:
    running = start(auto_record=True)
    with engine(running.endpoint, game="Open Arena!") as sender:
        send(sender, 60)
    assert sender.goodbye is not None
    assert (sender.goodbye.received, sender.goodbye.recorded, sender.goodbye.dropped) == (60, 60, 0)
    assert sender.stats.acknowledged == 59
    assert sender.goodbye.take is not None and sender.goodbye.take.endswith("_open-arena")
    take = running.take(sender.goodbye.take)
    assert take.state == "closed" and [frame.serial for frame in take] == list(range(60))
    for frame in take:
        assert_exact(frame)
    closed = running.wait("take_closed")
    assert (closed["frames"], closed["dropped"], closed["problem"]) == (60, 0, None)


def test_nothing_is_recorded_unasked(start: Any) -> None:
    running = start()
    with engine(running.endpoint) as sender:
        send(sender, 5)
    assert sender.goodbye is not None and sender.goodbye.take is None and sender.goodbye.received == 5
    assert list(running.takes.iterdir()) == []


def test_recording_on_command(start: Any) -> None:
    running = start()
    with pytest.raises(UserError, match="No engine is connected"):
        running.ingest.command("record_start").result(30)
    with engine(running.endpoint) as sender:
        send(sender, 3)
        running.wait_for_frames(3)
        (name,) = running.ingest.command("record_start").result(30)
        send(sender, 5, first=3)
        until(lambda: sender.connected and sender.stats.acknowledged == 7)
        assert running.ingest.command("record_stop").result(30) == [name]
        send(sender, 2, first=8)
        controls = sender.controls()
        until(lambda: controls.extend(sender.controls()) or len(controls) >= 2, what="both controls")
        assert [control.name for control in controls] == ["record_start", "record_stop"]
        with pytest.raises(UserError, match="Nothing is being recorded"):
            running.ingest.command("record_stop").result(30)
    assert [frame.serial for frame in running.take(name)] == [3, 4, 5, 6, 7]


def test_a_take_ends_exactly_after_the_frames_asked_for(start: Any) -> None:
    running = start(auto_record=True, frames=5)
    with engine(running.endpoint) as sender:
        send(sender, 20)
    assert sender.goodbye is not None
    assert (sender.goodbye.received, sender.goodbye.recorded) == (20, 5)
    closed = running.wait("take_closed")
    assert [frame.serial for frame in running.take(closed["take"])] == [0, 1, 2, 3, 4]
    assert closed["problem"] is None and len(running.of("take_closed")) == 1


def test_recording_by_the_bridges_own_events(start: Any) -> None:
    running = start()
    with engine(running.endpoint) as sender:
        send(sender, 2)
        sender.event("record_toggle", time=0.1)
        send(sender, 2, first=2)
        sender.event("marker", time=0.15, text="here")
        sender.event("record_toggle", time=0.2)
        send(sender, 2, first=4)
    take = running.take(running.wait("take_closed")["take"])
    assert [frame.serial for frame in take] == [2, 3]
    assert [(event["name"], event["data"]) for event in take.events][0] == ("marker", {"text": "here"})
    assert running.of("marker")[0]["data"] == {"text": "here"}


def test_replay_keeps_what_was_not_recorded(start: Any) -> None:
    running = start(replay_seconds=1.0)
    with pytest.raises(UserError, match="No engine is connected"):
        running.ingest.command("replay_save").result(30)
    with engine(running.endpoint) as sender:
        with pytest.raises(UserError, match="nothing to save"):
            running.ingest.command("replay_save").result(30)
        send(sender, 49)
        running.wait_for_frames(49)
        (name,) = running.ingest.command("replay_save").result(30)
        assert running.wait("take_closed")["take"] == name
    take = running.take(name)
    assert [frame.serial for frame in take] == list(range(24, 49))
    for frame in take:
        assert_exact(frame)
    assert take.manifest["metadata"]["replay"] is True


def test_two_sessions_at_once_make_two_takes(start: Any) -> None:
    running = start(auto_record=True)
    with engine(running.endpoint, game="one") as one, engine(running.endpoint, game="two") as two:
        for serial in range(20):
            send(one, 1, first=serial)
            send(two, 1, first=100 + serial)
    assert one.goodbye and two.goodbye and one.goodbye.take != two.goodbye.take
    assert [frame.serial for frame in running.take(str(one.goodbye.take))] == list(range(20))
    assert [frame.serial for frame in running.take(str(two.goodbye.take))] == list(range(100, 120))


def test_stop_closes_takes_and_says_goodbye(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        peer.hello()
        peer.frame(0)
        peer.frame(1)
        running.wait_for_frames(2)
        running.ingest.stop()
        assert peer.hear_kind(wire.Goodbye).recorded == 2
    (path,) = running.takes.iterdir()
    assert Take(path).state == "closed" and len(Take(path)) == 2


def test_oddities_become_events_of_the_take(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        peer.hello()
        peer.frame(0)
        peer.frame(4, dropped_before=2)  # one more is missing than the bridge knows of
        peer.frame(5, time=0.01)
        message = peer.frame_message(6, time=0.02)
        stale = replace(message, parts=(message.parts[0], message.parts[1]._replace(serial=5), message.parts[2]))
        peer.say(stale)
        peer.say(wire.Bye())
        goodbye = peer.hear_kind(wire.Goodbye)
    assert (goodbye.received, goodbye.recorded, goodbye.dropped) == (4, 4, 3)
    take = running.take(goodbye.take)
    names = [event["name"] for event in take.events]
    assert names == ["gap", "clock_backwards", "desync"]
    assert take.events[-1]["data"]["channels"]["depth"] == 5
    assert ["desync" in frame.flags for frame in take] == [False, False, False, True]


def test_a_repeated_frame_is_refused_noted_and_its_credit_comes_back(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        credit = peer.hello().credit
        peer.frame(3)
        for _ in range(credit + 2):  # more than there would be credit for, had it not come back
            peer.frame(3)
            peer.hear_error("order")
        peer.frame(4)
        peer.say(wire.Bye())
        goodbye = peer.hear_kind(wire.Goodbye)
    take = running.take(goodbye.take)
    assert [frame.serial for frame in take] == [3, 4]
    assert [event["name"] for event in take.events] == ["serial_repeated"] * (credit + 2)


def test_resolution_may_change_in_a_session(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        peer.hello()
        peer.frame(0)
        parts = tuple(part._replace(array=part.array[::2, ::2].copy()) for part in peer.frame_message(1).parts)
        peer.frame(1, parts=parts)
        peer.say(wire.Bye())
        goodbye = peer.hear_kind(wire.Goodbye)
    assert [frame.shape for frame in running.take(goodbye.take)] == [(48, 64), (24, 32)]


def test_channels_may_be_described_anew_in_a_session(start: Any) -> None:
    running = start(auto_record=True)
    with engine(running.endpoint, token=running.token) as sender:
        send(sender, 2)
        depth = replace(CHANNELS[1], scale="unknown", projection="measured")
        mask = Descriptor("mask", "uint8", (4, 4))
        sender.describe([CHANNELS[0], depth, mask])
        both = {name: array for name, array in arrays(2).items() if name != "normal"}
        sender.send(CAMERA, both, time=2 / 24, serial=2)
        sender.send(CAMERA, both | {"mask": np.full((4, 4), 3, np.uint8)}, time=3 / 24, serial=3)
        with pytest.raises(FrameError, match="normal was not announced"):
            send(sender, 1, first=4)
    name = running.wait("take_closed")["take"]
    take = running.take(name)
    assert [segment["frames"] for segment in take.manifest["segments"]] == [2, 2]
    assert [frame.channels["depth"].descriptor.projection for frame in take] == [None, None, "measured", "measured"]
    assert [list(frame.channels) for frame in take][2:] == [["color", "depth"], ["color", "depth", "mask"]]
    assert [(event["name"], event["frame"]) for event in take.events] == [("channels_changed", n) for n in (2, 3)]
    assert_exact(take[0])
    assert take[3].canonical("mask")[0, 0] == 3 and not take[3].channels["depth"].descriptor.in_metres


def test_channels_that_come_and_go_are_recorded_with_an_event(start: Any) -> None:
    running = start(auto_record=True)
    with engine(running.endpoint, token=running.token) as sender:
        for serial, absent in enumerate(["depth", "", "normal", "normal", ""]):
            there = {name: array for name, array in arrays(serial).items() if name != absent}
            sender.send(CAMERA, there, time=serial / 24, serial=serial)
    assert sender.goodbye is not None and sender.goodbye.recorded == 5
    take = running.take(running.wait("take_closed")["take"])
    assert ["depth" in frame.channels for frame in take] == [False, True, True, True, True]
    assert ["normal" in frame.channels for frame in take] == [True, True, False, False, True]
    assert [event["frame"] for event in take.events if event["name"] == "channels_changed"] == [1, 2, 4]
    assert take.channels == ("color", "depth", "normal") and verify(take.path).ok
    assert_exact(take[1])


def test_channels_that_cannot_be_accepted_end_the_session(start: Any) -> None:
    running = start()
    with running.peer() as peer:
        peer.say(wire.Channels(CHANNELS))
        peer.hear_error("no_session")
        peer.hello()
        peer.say(wire.Channels(tuple(replace(CHANNELS[0], name=f"color_{n}", shape=(16384, 16384, 3)) for n in (0, 1))))
        peer.hear_error("too_large")
        peer.frame(0)
        peer.hear_error("no_session")


# -- ends that nobody wished for


def test_a_killed_engine_leaves_a_closed_take(start: Any) -> None:
    running = start(auto_record=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from tests.daemon.engines import engine, send\n"
        "sender = engine(sys.argv[1])\n"
        "send(sender, 10)\n"
        "import time\n"
        "while sender.stats.acknowledged != 9:\n"
        "    sender.controls()\n"
        "    time.sleep(0.01)\n"
        "print('sent', flush=True)\n"
        "time.sleep(60)\n"
    )
    root = str(Path(__file__).parents[2])
    bridge = subprocess.Popen([sys.executable, "-c", code, running.endpoint, root], stdout=subprocess.PIPE, text=True)
    assert bridge.stdout is not None and bridge.stdout.readline() == "sent\n"
    bridge.kill()
    bridge.wait(60)
    closed = running.wait("take_closed")
    assert closed["frames"] == 10
    take = running.take(closed["take"])
    assert take.state == "closed"
    assert take.events[-1]["name"] == "session_lost"
    until(lambda: running.ingest.state["sessions"] == [])


def test_a_bridge_that_only_pauses_keeps_its_session(start: Any) -> None:
    running = start(auto_record=True, settings=Settings(vanish_seconds=1.0))
    with engine(running.endpoint) as sender:
        send(sender, 2)
        time.sleep(3.5)  # several questions whether it is there
        send(sender, 2, first=2)
    assert sender.goodbye is not None and sender.goodbye.recorded == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit, which Windows has not")
def test_a_full_disk_stops_the_take_and_the_session_goes_on(start: Any) -> None:
    import resource

    running = start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running.peer() as peer:
        held = peer.hello().credit
        running.ingest.command("record_start").result(30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            for serial in range(40):
                while held == 0:
                    message = peer.hear()
                    assert not isinstance(message, wire.Error)
                    held += message.n if isinstance(message, wire.Credit) else 0
                peer.frame(serial)
                held -= 1
            closed = running.wait("take_closed")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "disk is full" in closed["problem"]
        running.wait_for_frames(40)
        (session,) = running.ingest.state["sessions"]
        assert session["recording"] is None and "disk is full" in session["problem"]
    take = running.take(closed["take"])
    assert take.state == "closed" and 0 < len(take) == closed["frames"] < 40
    for frame in take:
        assert_exact(frame)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit, which Windows has not")
def test_a_full_disk_ends_a_session_that_is_there_to_be_recorded(start: Any) -> None:
    import resource

    running = start(auto_record=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sender = engine(running.endpoint)
    send(sender, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SenderError, match="disk is full"):
            send(sender, 10_000, first=1)  # it hears of it when it has sent some more
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sender.close()


# -- credits


def test_a_frame_without_credit_is_refused_and_others_go_on(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append, gate = TakeWriter.append, threading.Event()

    def held(self: TakeWriter, frame: Any) -> int:
        gate.wait(60)
        return append(self, frame)

    monkeypatch.setattr(TakeWriter, "append", held)  # a disk that stands still, so that no credit comes back
    running = start(auto_record=True, settings=ONE_BY_ONE)
    with running.peer() as greedy, engine(running.endpoint) as good:
        credit = greedy.hello().credit
        for serial in range(credit + 3):
            greedy.frame(serial)
        for _ in range(3):
            assert "credit" in greedy.hear_error("no_credit").sentence
        gate.set()
        send(good, 10)
        greedy.say(wire.Bye())
        assert greedy.hear_kind(wire.Goodbye).recorded == credit
    assert good.goodbye is not None and good.goodbye.recorded == 10


def test_credit_while_recording_is_bounded_by_bytes(start: Any) -> None:
    frame_bytes = sum(array.nbytes for array in arrays(0).values())
    few = start(auto_record=True, settings=Settings(record_bytes=2 * frame_bytes + 1))
    with few.peer() as peer:
        assert peer.hello().credit == 2
    one = start(auto_record=True, settings=ONE_BY_ONE)
    with one.peer() as peer:
        assert peer.hello().credit == 1
    many = start(auto_record=True)
    with many.peer() as peer:
        assert peer.hello().credit == 6


def test_a_frame_that_waits_for_the_disk_counts_as_compressed(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append, gate = TakeWriter.append, threading.Event()

    def held(self: TakeWriter, frame: Any) -> int:
        assert gate.wait(60), "the engine waits for a disk that stands still, with memory left"
        return append(self, frame)

    monkeypatch.setattr(TakeWriter, "append", held)
    flat = {name: np.zeros_like(array) for name, array in arrays(0).items()}
    room = 8 * sum(array.nbytes for array in flat.values())
    running = start(auto_record=True, settings=Settings(record_bytes=room))
    with engine(running.endpoint) as sender:
        for serial in range(40):
            sender.send(CAMERA, flat, time=serial / 24)
        gate.set()
    assert sender.goodbye is not None and sender.goodbye.recorded == 40


def test_a_disk_that_stands_still_makes_a_live_bridge_drop_whole_frames(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, gate = TakeWriter.append, threading.Event()

    def held(self: TakeWriter, frame: Any) -> int:
        gate.wait(60)
        return append(self, frame)

    monkeypatch.setattr(TakeWriter, "append", held)
    running = start(auto_record=True, settings=ONE_BY_ONE)
    with engine(running.endpoint, mode="live") as sender:
        send(sender, 40)
        assert sender.stats.dropped > 30
        gate.set()
        serial, sent = 40, sender.stats.sent
        while sender.stats.sent == sent:  # the first that gets through tells of those that were dropped
            send(sender, 1, first=serial)
            serial += 1
            time.sleep(0.01)
    assert sender.goodbye is not None
    assert sender.goodbye.recorded == sender.stats.sent
    assert sender.goodbye.dropped == sender.stats.dropped
    take = running.take(str(sender.goodbye.take))
    assert len(take) == sender.stats.sent
    assert sum(frame.dropped_before for frame in take) == sender.stats.dropped
    for frame in take:
        assert_exact(frame)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    append = TakeWriter.append

    def slow(self: TakeWriter, frame: Any) -> int:
        time.sleep(0.03)
        return append(self, frame)

    monkeypatch.setattr(TakeWriter, "append", slow)


def test_a_slow_disk_makes_a_lossless_engine_wait(start: Any, slow_disk: None) -> None:
    running = start(auto_record=True, settings=ONE_BY_ONE)
    with engine(running.endpoint, mode="lossless") as sender:
        began = time.monotonic()
        send(sender, 20)
        assert time.monotonic() - began > 18 * 0.03, "at most one frame is under way: nearly all are waited for"
    assert sender.stats.dropped == 0
    assert sender.goodbye is not None and sender.goodbye.recorded == 20


def test_frames_that_grew_on_their_way_are_recorded(start: Any, slow_disk: None) -> None:
    small = arrays(0)
    large = {name: np.repeat(np.repeat(array, 4, axis=0), 4, axis=1) for name, array in small.items()}
    running = start(auto_record=True, settings=Settings(record_bytes=5 * sum(a.nbytes for a in small.values())))
    with engine(running.endpoint) as sender:
        for serial, images in enumerate([small, *[large] * 8]):  # credits were given for small ones
            sender.send(CAMERA, images, time=serial / 24)
    assert sender.goodbye is not None and sender.goodbye.recorded == 9
    assert len(running.take(str(sender.goodbye.take))) == 9


def test_an_acknowledged_frame_is_on_disk(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        peer.hello()
        peer.frame(7)
        while (credit := peer.hear_kind(wire.Credit)).recorded is None:
            pass
        assert credit.recorded == 7
        (path,) = running.takes.iterdir()
        assert [frame.serial for frame in Take(path)] == [7]


def test_a_recording_that_begins_gives_no_credit_for_a_frame_that_was_not_read(start: Any) -> None:
    """A bridge that keeps account of its shared memory would write over frames that are on their way."""
    running = start()
    with running.peer() as peer:
        first = peer.hello().credit
        running.ingest.command("record_start").result(30)
        peer.hear_kind(wire.Control)
        for serial in range(first + 3):
            peer.frame(serial)
            credits = [peer.hear_kind(wire.Credit)]
            while credits[-1].recorded != serial:
                credits.append(peer.hear_kind(wire.Credit))
            assert sum(credit.n for credit in credits) == 1


# -- checks


@pytest.mark.parametrize("token", ["", "0" * 64, "ünicode"])
def test_a_wrong_token_gets_no_session(start: Any, token: str) -> None:
    running = start(auto_record=True)
    with Peer(running.endpoint, token) as peer:
        peer.say(peer.hello_message())
        peer.hear_error("token")
        peer.frame(0)
        peer.hear_error("no_session")
    assert running.of("session_opened") == [] and list(running.takes.iterdir()) == []


def test_nothing_before_hello(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        for message in (peer.frame_message(0), wire.Event("marker", 0.0), wire.Bye()):
            peer.say(message)
            peer.hear_error("no_session")


def test_another_version_is_refused(start: Any) -> None:
    import msgpack

    running = start()
    with running.peer() as peer:
        header = msgpack.unpackb(wire.encode(peer.hello_message())[0]) | {"v": 2}
        peer.say_parts([msgpack.packb(header)])
        assert "version 2" in peer.hear_error("version").sentence


def test_a_malformed_message_ends_that_session_only_and_its_take_is_whole(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as bad, engine(running.endpoint) as good:
        bad.hello()
        bad.frame(0)
        short = wire.encode(bad.frame_message(1))
        short[1] = bytes(short[1])[:-1]
        bad.say_parts(short)
        bad.hear_error("malformed")
        send(good, 10)
        assert running.wait("take_closed")["frames"] == 1
    assert good.goodbye is not None and good.goodbye.recorded == 10


def test_nan_in_a_pose_is_refused(start: Any) -> None:
    import msgpack

    running = start()
    with running.peer() as peer:
        peer.hello()
        parts = wire.encode(peer.frame_message(0))
        header = msgpack.unpackb(parts[0])
        header["camera"]["pose"][3] = float("nan")
        peer.say_parts([msgpack.packb(header), *parts[1:]])
        peer.hear_error("malformed")


def test_a_channel_that_was_not_announced_is_refused(start: Any) -> None:
    running = start()
    with running.peer() as peer:
        peer.hello()
        extra = wire.Part("secret", 0, np.zeros((48, 64), np.uint8))
        peer.frame(0, parts=(*peer.frame_message(0).parts, extra))
        peer.hear_error("channels")


def test_too_many_sessions_are_refused(start: Any) -> None:
    running = start(settings=Settings(sessions=1))
    with running.peer() as first, running.peer() as second:
        assert isinstance(first.hello(), wire.Welcome)
        second.say(second.hello_message())
        second.hear_error("busy")


def test_a_second_hello_begins_a_new_session(start: Any) -> None:
    running = start(auto_record=True)
    with running.peer() as peer:
        peer.hello()
        peer.frame(5)
        welcome = peer.hello()
        assert welcome.credit == 6
        peer.frame(0)
        peer.say(wire.Bye())
        assert peer.hear_kind(wire.Goodbye).received == 1
    until(lambda: len(running.of("take_closed")) == 2)


def test_a_peer_that_errs_on_and_on_is_ignored_for_a_while(start: Any) -> None:
    running = start(settings=Settings(errors_allowed=5, error_seconds=1.0))
    with running.peer() as noisy, running.peer() as good:
        for _ in range(12):
            noisy.say_parts([b"noise"])
        for _ in range(5):
            noisy.hear_error("malformed")
        noisy.silence()
        assert isinstance(good.hello(), wire.Welcome)
        time.sleep(1.0)
        assert isinstance(noisy.hello(), wire.Welcome)
    assert running.ingest.refused == 12


# -- addresses and files


def test_the_port_of_another_daemon_is_refused_in_one_sentence(start: Any, tmp_path: Path) -> None:
    running = start()
    with pytest.raises(UserError, match="is in use"):
        Ingest(running.endpoint, takes=tmp_path).start()


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:*", "tcp://*:5790", "tcp://192.168.1.2:5790", "tcp://[::]:1"])
def test_only_this_machine_may_connect(listen: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CURVE"):
        Ingest(listen, takes=tmp_path).start()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose one that you may write to"):
        Ingest(FREE, takes=tmp_path / "file" / "takes").start()


def test_the_connection_file_is_private_and_goes_away(start: Any) -> None:
    running = start(http="http://127.0.0.1:1")
    path = connection_file(endpoint_port(running.endpoint))
    told = json.loads(path.read_text())
    assert told == {
        "endpoint": running.endpoint,
        "token": running.token,
        "pid": os.getpid(),
        "http": "http://127.0.0.1:1",
        "key": None,
    }
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    running.ingest.stop()
    assert not path.exists()


def test_the_state_tells_of_the_session(start: Any) -> None:
    running = start()
    with engine(running.endpoint, game="<b>x</b>") as sender:
        (session,) = until(lambda: running.ingest.state.get("sessions"))
        assert (session["game"], session["size"]) == ("<b>x</b>", [64, 48])
        assert session["channels"] == ["color", "depth", "normal"]
        send(sender, 12)
        (session,) = until(lambda: [s for s in running.ingest.state["sessions"] if s["frames"] == 12])
        assert session["fps"] > 0 and session["recording"] is None
        assert session["ring"]["frames"] == 12 and session["ring"]["bytes"] > 0
    told = [event["state"] for event in running.of("state")]
    assert all(json.dumps(state) for state in told)
    assert all(a != b for a, b in zip(told, told[1:], strict=False))


def test_ingest_starts_without_the_heavy_libraries() -> None:
    code = "import sys, daemon.ingest; print(*sorted({'torch', 'diffusers', 'av', 'fastapi'} & sys.modules.keys()))"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
    assert (run.stdout.split(), run.returncode) == ([], 0), run.stderr
