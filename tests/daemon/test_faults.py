"""kill -9 in the middle of a recording: every acknowledged frame is there, bit for bit, and repair closes the take."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from capture.errors import SenderError
from capture.frame import Descriptor
from capture.sender import FrameSender
from capture.take import Take, repair, verify
from daemon.service import DaemonConfig, Service

from .engines import CAMERA, CHANNELS, arrays, assert_exact, engine, send, until
from .test_lifts import running

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process groups")

ALONE = """
import os, sys
from pathlib import Path
from daemon.ingest import Ingest
ingest = Ingest("tcp://127.0.0.1:*", takes=Path(sys.argv[1]), auto_record=True)
print(ingest.bind(), os.getpid(), flush=True)
ingest.run()
"""
"""The process that receives, compresses (its codec workers are its threads, and die with it) and writes, alone."""

WHOLE = """
import sys
from pathlib import Path
from daemon.service import DaemonConfig, Service
service = Service(DaemonConfig(takes=Path(sys.argv[1]), listen="tcp://127.0.0.1:*", http="127.0.0.1:0",
                               auto_record=True)).start()
print(service.endpoint, service.pids()["ingest"], flush=True)
service.run_forever()
"""
"""A daemon with all its processes."""


def kill_one(daemon: subprocess.Popen[str]) -> None:
    daemon.kill()


def kill_all(daemon: subprocess.Popen[str]) -> None:
    """Every process of the daemon in the same moment."""
    os.killpg(daemon.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "kill", "state"),
    [(ALONE, kill_one, "open"), (WHOLE, kill_all, "open"), (WHOLE, kill_one, "closed")],
    ids=["the ingest process alone", "all processes of a daemon", "the main process of a daemon"],
)
def test_kill_9_loses_no_acknowledged_frame(
    tmp_path: Path, kills: int, script: str, kill: Callable[[subprocess.Popen[str]], None], state: str
) -> None:
    """Where only the daemon's main process is killed, the one that records closes its take and ends."""
    for number in range(kills):
        kill_and_look(tmp_path / str(number), random.randint(1, 120), script, kill, state)


def kill_and_look(
    takes: Path, after: int, script: str, kill: Callable[[subprocess.Popen[str]], None], state: str
) -> None:
    """Kill the daemon when so many frames were acknowledged."""
    daemon = subprocess.Popen(
        [sys.executable, "-c", script, str(takes)], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        assert daemon.stdout is not None
        endpoint, ingest = daemon.stdout.readline().split()
        with engine(endpoint, connect_timeout=60) as sender:

            def end() -> None:
                wait_for_frames(sender, after)
                kill(daemon)

            killer = threading.Thread(target=end)
            killer.start()
            serial = 0
            while killer.is_alive():
                sender.controls()  # hears of credits
                if sender.credit:
                    with suppress(SenderError):  # it went this very moment
                        send(sender, 1, first=serial)
                    serial += 1
                else:
                    time.sleep(0.001)
            acknowledged = sender.stats.acknowledged
        daemon.wait(60)
        until(lambda: not running(int(ingest)), what="the end of the ingest process")
    finally:
        with suppress(ProcessLookupError):  # as it should be
            kill_all(daemon)
    assert acknowledged is not None and acknowledged + 1 >= after

    (path,) = takes.iterdir()
    assert verify(path).state == state
    take = Take(path)
    serials = [frame.serial for frame in take]
    assert serials == list(range(len(serials))) and len(serials) > acknowledged
    for frame in take:
        assert_exact(frame)
    if state == "open":
        repair(path)
    whole = verify(path)
    assert (whole.state, whole.problems, whole.frames) == ("closed", [], len(serials))


def wait_for_frames(sender: FrameSender, after: int) -> None:
    """Until so many frames were acknowledged, and to some moment of the work on those that follow."""

    def there() -> bool:
        acknowledged = sender.stats.acknowledged
        return acknowledged is not None and acknowledged + 1 >= after

    until(there, timeout=60, what=f"frame {after}")
    time.sleep(random.uniform(0, 0.02))


SCALE = 6
"""Frames of the codec's test are so much larger: most moments of the process are then moments of a codec."""

LARGE = tuple(
    Descriptor(d.name, d.dtype, (d.shape[0] * SCALE, d.shape[1] * SCALE, *d.shape[2:])) for d in CHANNELS
)


def large(serial: int) -> dict[str, np.ndarray]:
    return {name: np.repeat(np.repeat(array, SCALE, 0), SCALE, 1) for name, array in arrays(serial).items()}


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Service]:
    """A daemon that records whatever comes, and has nothing against its processes dying often."""
    config = DaemonConfig(tmp_path / "takes", "tcp://127.0.0.1:*", "127.0.0.1:0", replay_seconds=0, auto_record=True)
    with pytest.MonkeyPatch.context() as change:
        change.setattr("daemon.service.RESTARTS_PER_MINUTE", 1000)
        with Service(config) as service:
            yield service


def test_kill_9_of_the_process_with_the_codecs_loses_no_acknowledged_frame(recording: Service, kills: int) -> None:
    """It is killed again and again while an engine plays on, which waits for the next one each time; the daemon repairs
    the takes meanwhile."""
    acknowledged: set[int] = set()
    serial = 0

    def play(more: Callable[[], bool]) -> None:
        nonlocal serial
        while more():
            sender.send(CAMERA, large(serial), time=serial / 24, serial=serial)
            serial += 1
            if sender.stats.acknowledged is not None:
                acknowledged.add(sender.stats.acknowledged)

    def kill(after: int) -> None:
        wait_for_frames(sender, after)
        os.kill(recording.pids()["ingest"], signal.SIGKILL)

    with FrameSender(
        recording.endpoint, token=recording.token, engine="test", channels=LARGE, mode="lossless", connect_timeout=60
    ) as sender:
        for number in range(kills):
            killer = threading.Thread(target=kill, args=(serial + random.randint(1, 40),))
            killer.start()
            play(killer.is_alive)
            until(lambda ends=number: recording.restarts > ends, what="the end of the process")
        last = serial + 5
        play(lambda: serial < last)
        sender.close(60)
    takes = [recording.config.takes / name for name in sorted(os.listdir(recording.config.takes))]
    until(lambda: all(Take(path).state == "closed" for path in takes), 60, "the repair of all takes")
    kept: list[int] = []
    for path in takes:
        assert verify(path).problems == []
        take = Take(path)
        kept += [frame.serial for frame in take]
        assert kept[-len(take):] == list(range(kept[-len(take)], kept[-1] + 1)), "there are gaps within a take"
        for frame in take:
            for name, sent in large(frame.serial).items():
                assert frame.channels[name].data.tobytes() == sent.tobytes(), f"{name} of frame {frame.serial} differs"
    assert len(takes) == kills + 1 and kept == sorted(set(kept)) and kept[-1] == serial - 1
    assert acknowledged <= set(kept)
    assert serial - len(kept) <= sender.stats.lost, "more frames are missing than were under way"
