"""FrameSender against a real ROUTER socket."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import zmq

from capture import sender as sender_module
from capture import wire
from capture.camera import Camera, Conventions
from capture.connection import (
    Connection,
    connection_file,
    endpoint_port,
    read_connection,
    remove_connection,
    write_connection,
)
from capture.errors import FrameError, SenderError, UserError
from capture.frame import Descriptor
from capture.reduction import CAPABILITIES
from capture.sender import FrameSender

from .small_daemon import TOKEN, SmallDaemon

CHANNELS = (Descriptor("color", "uint8", (4, 6, 3)), Descriptor("depth", "float32", (4, 6)))
CAMERA = Camera(np.eye(4), 5.0, 5.0, 2.5, 1.5)

pytestmark = pytest.mark.timeout(60)


def arrays(value: int = 0) -> dict[str, np.ndarray]:
    return {"color": np.full((4, 6, 3), value, np.uint8), "depth": np.full((4, 6), value + 1, np.float32)}


def connect(daemon: SmallDaemon, **options) -> FrameSender:
    return FrameSender(daemon.endpoint, **{"engine": "test", "channels": CHANNELS, "token": TOKEN} | options)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_lossless_delivers_every_frame_in_order_and_waits_for_credit():
    with SmallDaemon(credit=2) as daemon:
        with connect(daemon, mode="lossless", game="g", conventions=Conventions(metres_per_unit=0.5), fps=30.0) as s:
            for i in range(50):
                assert s.send(CAMERA, arrays(i), time=i / 24)
        hello = daemon.of(wire.Hello)[0]
        assert (hello.engine, hello.game, hello.fps, hello.channels) == ("test", "g", 30.0, CHANNELS)
        assert hello.conventions.metres_per_unit == 0.5
        assert [f.serial for f in daemon.frames] == list(range(50))
        assert all(f.dropped_before == 0 and f.camera == CAMERA for f in daemon.frames)
        np.testing.assert_array_equal(daemon.frames[7].parts[1].array, 8)
        assert isinstance(daemon.messages[-1], wire.Bye)
        assert s.goodbye == wire.Goodbye(50, 50, 0, None)
        assert (s.stats.sent, s.stats.dropped, s.stats.lost) == (50, 0, 0)
        assert s.stats.acknowledged is not None


def test_lossless_never_exceeds_its_credit():
    with SmallDaemon(credit=3, give_back=False) as daemon, connect(daemon, mode="lossless") as s:
        done = threading.Event()

        def engine():
            for i in range(5):
                s.send(None, arrays(), time=i)
            done.set()

        thread = threading.Thread(target=engine)
        thread.start()
        daemon.wait_for(wire.FrameMessage, 3)
        assert not done.wait(0.2) and len(daemon.frames) == 3
        daemon.say(wire.Credit(2, 1))
        assert done.wait(60)
        thread.join()
        assert len(daemon.wait_for(wire.FrameMessage, 5)) == 5 and s.stats.acknowledged == 1


def test_live_drops_without_credit_never_blocks_and_says_how_many():
    with SmallDaemon(credit=2, give_back=False) as daemon, connect(daemon) as s:
        start = time.monotonic()
        sent = [s.send(None, arrays(), time=i) for i in range(6)]
        assert time.monotonic() - start < sender_module.STALL_SECONDS / 10
        assert sent == [True, True, False, False, False, False]
        daemon.say(wire.Credit(1, None))
        until(lambda: s.connected and s.credit == 1)
        assert s.send(None, arrays(), time=6)
        last = daemon.wait_for(wire.FrameMessage, 3)[-1]
        assert (last.serial, last.dropped_before) == (6, 4)
        daemon.say(wire.Credit(1, None))
        until(lambda: s.connected and s.credit == 1)
        assert s.send(None, arrays(), time=7)
        assert daemon.wait_for(wire.FrameMessage, 4)[-1].dropped_before == 0
        assert (s.stats.sent, s.stats.dropped) == (4, 4)


def test_arrays_may_be_reused_at_once():
    channels = (Descriptor("color", "uint8", (500, 500, 3)),)
    with SmallDaemon() as daemon, connect(daemon, mode="lossless", channels=channels) as s:
        picture = np.zeros((500, 500, 3), np.uint8)
        for i in range(20):
            picture[:] = i
            s.send(None, {"color": picture}, time=i)
        for i, frame in enumerate(daemon.wait_for(wire.FrameMessage, 20)):
            assert (frame.parts[0].array == i).all()


def test_serials_of_the_engine_and_of_late_channels():
    with SmallDaemon() as daemon, connect(daemon, mode="lossless") as s:
        s.send(None, arrays(), time=0, serial=100)
        s.send(None, arrays(), time=1, serials={"depth": 100}, flags=("cut",))
        with pytest.raises(FrameError, match="greater than the one before, 101"):
            s.send(None, arrays(), time=2, serial=101)
        first, second = daemon.wait_for(wire.FrameMessage, 2)
        assert (first.serial, second.serial, second.flags) == (100, 101, ("cut",))
        assert [part.serial for part in second.parts] == [101, 100]


@pytest.mark.parametrize(
    ("camera", "given", "sentence"),
    [
        (None, {}, "at least one channel"),
        (None, {"normal": np.zeros((4, 6, 3), np.float32)}, "not announced"),
        (None, {"depth": np.zeros((4, 6))}, "dtype float64"),
        (None, {"depth": np.zeros((4, 6, 1), np.float32)}, "only H and W"),
        (Camera(np.diag([1.0, 1, -1, 1]), 5, 5, 2, 1), {"depth": np.zeros((4, 6), np.float32)}, "mirrors"),
    ],
)
def test_frames_that_do_not_fit_are_refused_here(camera, given, sentence):
    with SmallDaemon() as daemon, connect(daemon) as s:
        with pytest.raises(FrameError, match=sentence):
            s.send(camera, given, time=0)
        assert s.send(None, arrays(), time=0)


def test_a_time_that_is_none_is_refused_here():
    with SmallDaemon() as daemon, connect(daemon) as s:
        with pytest.raises(FrameError, match="finite number of seconds"):
            s.send(None, arrays(), time=float("nan"))
        assert s.send(None, arrays(), time=0)


def test_events_and_controls():
    with SmallDaemon() as daemon, connect(daemon, capabilities=("pause",)) as s:
        assert s.event("marker", time=2.5, label="here")
        assert daemon.wait_for(wire.Event) == [wire.Event("marker", 2.5, {"label": "here"})]
        assert daemon.of(wire.Hello)[0].capabilities == ("pause", wire.SHARED_MEMORY, *CAPABILITIES)
        daemon.say(wire.Control("pause", {"on": True}))
        got: list[wire.Control] = []
        until(lambda: got.extend(s.controls()) or got)
        assert got == [wire.Control("pause", {"on": True})] and s.controls() == []


def test_only_accepted_channels_are_sent_and_the_daemon_sets_the_mode():
    with SmallDaemon(channels=("depth",), mode="live", credit=1, give_back=False) as daemon:
        with connect(daemon, mode="lossless") as s:
            assert [s.send(None, arrays(), time=i) for i in range(2)] == [True, False]
            assert [part.channel for part in daemon.wait_for(wire.FrameMessage)[0].parts] == ["depth"]
            with pytest.raises(SenderError, match="takes none of the channels color, only depth"):
                daemon.say(wire.Credit(1, None))
                until(lambda: s.connected and s.credit)
                s.send(None, {"color": arrays()["color"]}, time=3)


def test_a_frame_larger_than_allowed():
    with SmallDaemon(max_frame_bytes=100) as daemon, connect(daemon) as s:
        with pytest.raises(SenderError, match="exceeds the 100"):
            s.send(None, arrays(), time=0)


def test_no_daemon():
    start = time.monotonic()
    with pytest.raises(SenderError, match="No daemon answers at tcp://127.0.0.1.*realmaster daemon"):
        FrameSender(f"tcp://127.0.0.1:{free_port()}", engine="t", channels=CHANNELS, token="t", connect_timeout=0.3)
    assert time.monotonic() - start < 9  # not the ten seconds that it waits by default


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:5790", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "ipc:///tmp/x", "tcp://*:1x"]
)
def test_an_endpoint_that_cannot_be(endpoint):
    with pytest.raises(UserError, match="tcp://HOST:PORT"):
        FrameSender(endpoint, engine="t", channels=CHANNELS, token="t")


def test_something_else_listens():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(SenderError, match="No daemon answers"):
            FrameSender(
                f"tcp://127.0.0.1:{listener.getsockname()[1]}", engine="t", channels=CHANNELS, token="t",
                connect_timeout=0.3,
            )  # fmt: skip
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    with pytest.raises(SenderError, match="does not answer as a realmaster daemon"):
        FrameSender(f"tcp://127.0.0.1:{port}", engine="t", channels=CHANNELS, token="t", connect_timeout=3)
    context.destroy(linger=0)


def test_a_wrong_token_is_final_and_named():
    with SmallDaemon() as daemon:
        with pytest.raises(SenderError, match="The token is wrong"):
            connect(daemon, token="guess")


def test_the_token_comes_from_the_connection_file_and_endpoint_from_the_environment(monkeypatch):
    with SmallDaemon() as daemon:
        path = write_connection(Connection(daemon.endpoint, TOKEN, 1, ""))
        monkeypatch.setenv("REALMASTER_ENDPOINT", daemon.endpoint)
        with FrameSender(engine="t", channels=CHANNELS) as s:
            assert s.send(None, arrays(), time=0)
        path.unlink()
        monkeypatch.setattr(sender_module, "_TOKEN_SECONDS", 0.3)
        with pytest.raises(SenderError, match="connection file"):
            FrameSender(engine="t", channels=CHANNELS, connect_timeout=60)
        monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
        FrameSender(engine="t", channels=CHANNELS).close()


def test_a_connection_file_that_is_still_the_old_one_is_read_again(monkeypatch):
    monkeypatch.setattr(sender_module, "_TOKEN_SECONDS", 60)
    with SmallDaemon() as daemon:
        write_connection(Connection(daemon.endpoint, "token of the daemon before", 1, ""))
        timer = threading.Timer(0.4, write_connection, [Connection(daemon.endpoint, TOKEN, 2, "")])
        timer.start()
        with FrameSender(daemon.endpoint, engine="t", channels=CHANNELS, connect_timeout=60) as s:
            assert s.connected
        timer.join()


def test_live_starts_without_a_daemon_and_finds_it_later():
    port = free_port()
    with FrameSender(f"tcp://127.0.0.1:{port}", engine="t", channels=CHANNELS, token=TOKEN, connect_timeout=0) as s:
        assert not s.send(None, arrays(), time=0) and not s.event("marker")
        with SmallDaemon(port) as daemon:
            until(lambda: s.connected)
            assert s.send(None, arrays(), time=1)
            assert daemon.wait_for(wire.FrameMessage)[0].dropped_before == 1


def test_the_daemon_comes_back():
    with SmallDaemon(credit=5, give_back=False) as first:
        s = connect(first, mode="lossless")
        for i in range(3):
            s.send(None, arrays(), time=i)
        first.wait_for(wire.FrameMessage, 3)
    with SmallDaemon(first.port) as second:
        assert s.send(None, arrays(), time=3)
        frame = second.wait_for(wire.FrameMessage)[0]
        hellos = first.of(wire.Hello) + second.of(wire.Hello)
        assert hellos[0].session != hellos[1].session
        assert isinstance(second.messages[0], wire.Hello)
        # The three frames whose credits never came back may be lost, and are reported.
        assert (frame.serial, frame.dropped_before, s.stats.lost) == (3, 3, 3)
        s.close()
        assert s.goodbye is not None


def test_while_recording_a_frame_is_lost_unless_it_was_acknowledged():
    with SmallDaemon(credit=8, give_back=False) as first:
        s = connect(first, mode="lossless")
        for i in range(3):
            s.send(None, arrays(), time=i)
        first.say(wire.Credit(3, None))  # released: these are gone, but not lost
        first.say(wire.Control("record_start"))
        until(s.controls)
        for i in range(3, 8):
            s.send(None, arrays(), time=i)
        first.say(wire.Credit(5, 5))  # there is room for more, but only frames up to 5 are on disk
        until(lambda: s.connected and s.stats.acknowledged == 5)
    with SmallDaemon(first.port) as second:
        until(lambda: s.connected and second.of(wire.Hello))  # connected alone may still mean the first
        s.send(None, arrays(), time=8)
        frame = second.wait_for(wire.FrameMessage)[0]
        s.close()
    assert (frame.serial, frame.dropped_before, s.stats.lost) == (8, 2, 2)


def test_what_a_daemon_that_stops_has_not_recorded_is_lost():
    with SmallDaemon(credit=8, give_back=False) as daemon:
        s = connect(daemon)
        daemon.say(wire.Control("record_start"))
        until(s.controls)
        for i in range(5):
            s.send(None, arrays(), time=i)
        daemon.say(wire.Credit(0, 2))
        daemon.say(wire.Goodbye(5, 3, 0, "take"))
        until(lambda: not s.connected)
        assert s.goodbye is not None and s.stats.lost == 2
        s.close()


def test_live_gives_up_only_when_told_to(monkeypatch):
    monkeypatch.setenv("REALMASTER_GIVE_UP_AFTER", "0.3")
    with SmallDaemon() as daemon:
        told, patient = connect(daemon), connect(daemon, give_up_after=math.inf)
        time.sleep(0.4)
        assert told.send(None, arrays(), time=0), "while the daemon is there nobody gives up"
    with pytest.raises(SenderError, match="is gone"):
        for _ in range(100):
            told.send(None, arrays(), time=0)
            time.sleep(0.05)
    assert not patient.send(None, arrays(), time=0)
    told.close()
    patient.close()
    monkeypatch.setenv("REALMASTER_GIVE_UP_AFTER", "soon")
    with pytest.raises(SenderError, match="REALMASTER_GIVE_UP_AFTER is 'soon'"):
        FrameSender("tcp://127.0.0.1:1", engine="t", channels=CHANNELS, token="t")


def test_frames_meant_for_a_daemon_that_died_do_not_reach_the_next():
    channels = (Descriptor("color", "uint8", (1500, 2000, 3)),)
    picture = {"color": np.zeros((1500, 2000, 3), np.uint8)}
    with SmallDaemon(credit=6) as first:
        s = connect(first, channels=channels)
        first.deaf.set()
        for i in range(6):  # 54 MB, more than fits into the buffers of the connection
            assert s.send(None, picture, time=i)
    with SmallDaemon(first.port) as second:
        until(lambda: s.connected and second.of(wire.Hello))  # connected alone may still mean the first
        assert s.send(None, picture, time=6)
        second.wait_for(wire.FrameMessage)
        assert [type(message) for message in second.messages] == [wire.Hello, wire.FrameMessage]
        assert second.frames[0].serial == 6 and second.refused == 0
        s.close()


def test_lossless_fails_when_the_daemon_stays_away():
    with SmallDaemon() as daemon:
        s = connect(daemon, mode="lossless")
        s.send(None, arrays(), time=0)
        daemon.wait_for(wire.FrameMessage)
    s._connect_timeout = 0.5  # from now on: the first connection may have taken its time
    with pytest.raises(SenderError, match="No daemon answers"):
        for i in range(1, 9):
            s.send(None, arrays(), time=i)
    s.close()


def test_lossless_fails_when_a_present_daemon_gives_no_credit(monkeypatch):
    monkeypatch.setattr(sender_module, "STALL_SECONDS", 0.3)
    with SmallDaemon(credit=0) as daemon, connect(daemon, mode="lossless") as s:
        with pytest.raises(SenderError, match="has taken no frame"):
            s.send(None, arrays(), time=0)


def test_a_daemon_that_forgot_the_session_is_greeted_again():
    with SmallDaemon(credit=2) as daemon, connect(daemon) as s:
        daemon.forget()
        s.send(None, arrays(), time=0)
        daemon.wait_for(wire.Hello, 1)
        until(lambda: s.connected and len(daemon.of(wire.Hello)) == 2)
        assert s.send(None, arrays(), time=1)
        assert daemon.wait_for(wire.FrameMessage)[0].dropped_before == 1


def test_a_fatal_error_reaches_the_caller_and_a_mild_one_does_not():
    with SmallDaemon() as daemon, connect(daemon) as s:
        daemon.say(wire.Error("command", "There is nothing to save yet: wait for a frame."))
        daemon.say(wire.Control("pause", {}))
        until(s.controls)
        daemon.say(wire.Error("recording", "The disk is full: free some space."))
        with pytest.raises(SenderError, match="The disk is full: free some space"):
            until(lambda: s.controls() and False)
        with pytest.raises(SenderError, match="disk is full"):
            s.send(None, arrays(), time=0)


def test_close_is_bounded_idempotent_and_final():
    with SmallDaemon() as daemon:
        s = connect(daemon)
        daemon.silent = True
        start = time.monotonic()
        s.close(timeout=0.3)
        s.close()
        assert 0.25 < time.monotonic() - start < sender_module.GOODBYE_SECONDS - 1 and s.goodbye is None
        with pytest.raises(SenderError, match="closed"):
            s.send(None, arrays(), time=0)


def test_a_wrong_announcement_is_found_before_connecting():
    with pytest.raises(SenderError, match="announces a channel twice"):
        FrameSender("tcp://127.0.0.1:1", engine="t", channels=[CHANNELS[0]] * 2, token="t")
    with pytest.raises(SenderError, match="fps"):
        FrameSender("tcp://127.0.0.1:1", engine="t", channels=CHANNELS, token="t", fps=0)
    with pytest.raises(SenderError, match="live or lossless"):
        FrameSender("tcp://127.0.0.1:1", engine="t", channels=CHANNELS, token="t", mode="fast")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process")
def test_interrupting_a_waiting_sender_says_bye():
    code = (
        "import sys, numpy as np\n"
        "from capture import FrameSender, Descriptor\n"
        "with FrameSender(sys.argv[1], engine='t', token=sys.argv[2], mode='lossless',\n"
        "                 channels=[Descriptor('depth', 'float32', (2, 2))]) as s:\n"
        "    while True: s.send(None, {'depth': np.ones((2, 2), np.float32)}, time=0)\n"
    )
    with SmallDaemon(credit=1, give_back=False) as daemon:
        process = subprocess.Popen([sys.executable, "-c", code, daemon.endpoint, TOKEN], stderr=subprocess.PIPE)
        daemon.wait_for(wire.FrameMessage, timeout=60)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert b"KeyboardInterrupt" in errors
        daemon.wait_for(wire.Bye)


def test_new_descriptors_go_ahead_of_the_frame_and_into_the_next_hello():
    depth = Descriptor("depth", "float32", (4, 6), scale="unknown", projection="measured")
    mask = Descriptor("mask", "uint8", (4, 6))
    with SmallDaemon(channels=("depth",)) as daemon, connect(daemon, mode="lossless") as s:
        s.describe([CHANNELS[0], CHANNELS[1]])  # nothing new: nothing is said
        s.send(CAMERA, arrays(0), time=0)
        s.describe([CHANNELS[0], depth, mask])
        s.send(CAMERA, arrays(1) | {"mask": np.zeros((4, 6), np.uint8)}, time=1)
        daemon.wait_for(wire.FrameMessage, 2)
        assert [m.type for m in daemon.messages[1:] if m.type != "attached"] == ["frame", "channels", "frame"]
        assert daemon.of(wire.Channels)[0].channels == (CHANNELS[0], depth, mask)
        # What the daemon did not accept stays so; a channel that is new is accepted.
        assert [part.channel for part in daemon.frames[1].parts] == ["depth", "mask"]
        daemon.forget()
        s.send(CAMERA, arrays(2), time=2)  # into the void
        until(lambda: s.connected and len(daemon.of(wire.Hello)) == 2)
        s.send(CAMERA, arrays(3), time=3)
        daemon.wait_for(wire.FrameMessage, 3)
        assert daemon.of(wire.Hello)[1].channels == (CHANNELS[0], depth, mask)
        assert len(daemon.of(wire.Channels)) == 1
        with pytest.raises(SenderError, match="twice"):
            s.describe([depth, depth])
        with pytest.raises(FrameError, match="was not announced"):
            s.send(CAMERA, {"normal": np.zeros((4, 6, 3), np.float32)}, time=4)


def test_connection_files():
    connection = Connection("tcp://127.0.0.1:5999", "abc", 42, "http://127.0.0.1:8765")
    path = write_connection(connection)
    assert path == connection_file(5999) and read_connection(connection.endpoint) == connection
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["daemon-5999.json"]
    remove_connection(connection.endpoint, "of another daemon")
    assert path.exists()
    remove_connection(connection.endpoint, "abc")
    assert not path.exists()
    for damage in ("", "[]", '{"endpoint": "x"}', '{"endpoint": "x", "token": "t", "pid": []}'):
        path.write_text(damage)
        with pytest.raises(SenderError, match="damaged"):
            read_connection(connection.endpoint)
    assert endpoint_port("tcp://[::1]:80") == 80


def test_a_runtime_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REALMASTER_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        write_connection(Connection("tcp://127.0.0.1:5999", "abc", 42, ""))
