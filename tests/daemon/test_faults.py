"""kill -9 in the middle of a recording: every acknowledged frame is there, bit for bit, and repair closes the take."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from capture.errors import SenderError
from capture.take import Take, repair, verify

from .engines import assert_exact, engine, send

DAEMON = """
import sys
from pathlib import Path
from daemon.ingest import Ingest
ingest = Ingest("tcp://127.0.0.1:*", takes=Path(sys.argv[1]), auto_record=True)
print(ingest.bind(), flush=True)
ingest.run()
"""


def test_kill_9_loses_no_acknowledged_frame(tmp_path: Path, kills: int) -> None:
    """The process that receives, compresses (its codec workers are its threads, and die with it) and writes."""
    for number in range(kills):
        kill_and_look(tmp_path / str(number), random.randint(1, 120))


def kill_and_look(takes: Path, after: int) -> None:
    """Kill the daemon when so many frames were acknowledged."""
    root = Path(__file__).parents[2]
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(takes)], stdout=subprocess.PIPE, text=True, cwd=root, env=dict(os.environ)
    )
    assert daemon.stdout is not None
    endpoint = daemon.stdout.readline().strip()
    sender = engine(endpoint, connect_timeout=3.0)
    killer = threading.Thread(target=lambda: kill_after(daemon, sender, after))
    killer.start()
    sent = 0
    try:
        with pytest.raises(SenderError):
            for sent in range(100_000):
                send(sender, 1, first=sent)
    finally:
        sender.close()
        killer.join(60)
        daemon.kill()
        daemon.wait(60)
    acknowledged = sender.stats.acknowledged
    assert acknowledged is not None and acknowledged + 1 >= after

    (path,) = takes.iterdir()
    before = verify(path)
    assert before.state == "open"
    take = Take(path)
    serials = [frame.serial for frame in take]
    assert serials == list(range(len(serials))) and len(serials) > acknowledged
    for frame in take:
        assert_exact(frame)
    repair(path)
    after_repair = verify(path)
    assert (after_repair.state, after_repair.problems) == ("closed", [])
    assert after_repair.frames == len(serials)


def kill_after(daemon: subprocess.Popen[str], sender: object, frames: int) -> None:
    """Kill the daemon, at some moment of its work, once so many frames were acknowledged."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        acknowledged = sender.stats.acknowledged  # type: ignore[attr-defined]
        if acknowledged is not None and acknowledged + 1 >= frames:
            break
        time.sleep(0.0005)
    daemon.kill()
