"""A day of the daemon in a minute, and a lifting process killed again and again: nothing leaks, nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from capture.take import Take, verify
from daemon.lifts import LiftQueue
from daemon.metrics import processes
from daemon.service import DaemonConfig, Service

from . import lifters
from .engines import assert_exact, engine, send, until
from .test_lifts import needs_model

HOURS = 24
LONG = 300.0
"""Seconds that a lifting process may take to load the model libraries on a busy machine, and to lift a take."""
SETTLED = 8
"""After so many hours everything has been loaded and every pool is filled."""


def daemon(tmp_path: Path) -> Service:
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0", replay_seconds=1)
    return Service(config)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Service]:
    """A daemon whose lifting process starts at once."""
    service = daemon(tmp_path)
    service.lifts = LiftQueue(service.config.takes, load=lifters.load, on_change=service.library.refresh)
    with service:
        yield service


def usage(service: Service) -> dict[str, dict[str, Any]]:
    return {process["name"]: process for process in processes(service)}


def states(service: Service) -> dict[str, str]:
    return {take["name"]: take["state"] for take in service.state()["takes"]}


@pytest.mark.slow
def test_a_day_leaks_nothing(quick: Service) -> None:
    children = len(psutil.Process().children(recursive=True))
    settled: dict[str, dict[str, Any]] = {}
    names = []
    for hour in range(HOURS):
        with engine(quick.endpoint, token=quick.token, game=f"hour {hour}") as sender:
            names += quick.record_start()
            send(sender, 40)
            until(lambda: quick.state()["sessions"] and quick.state()["sessions"][-1]["recorded"] == 40)
            names += quick.replay_save()
        until(lambda name=names[-1]: states(quick).get(name) == "closed")
        job = quick.lift(names[-2], (0, 6))
        until(lambda job=job: next(j for j in quick.lifts.jobs() if j.id == job.id).state == "done")
        if hour == SETTLED:
            settled = usage(quick)
    until(lambda: quick._previews._work_queue.empty(), 120, "the preview videos")
    for name, now in usage(quick).items():
        if name == "health" and name not in settled:
            continue
        before = settled[name]
        assert now["memory"] <= 1.1 * before["memory"] + 24e6, (name, before, now)
        assert now["threads"] <= before["threads"] + 3, (name, before, now)
        assert now["files"] <= before["files"] + 5, (name, before, now)
        if sys.platform == "linux":
            links = [os.readlink(f.path) for f in os.scandir(f"/proc/{now['pid']}/fd") if os.path.islink(f.path)]
            assert not [link for link in links if "memfd" in link], "shared memory of sessions that are over"
    assert len(psutil.Process().children(recursive=True)) <= children + 2  # lifting and examining have started
    assert sorted(path.name for path in quick.config.takes.iterdir()) == sorted(names)
    assert not list(quick.config.takes.glob("*/lifts/.*"))
    assert all(Take(quick.config.takes / name).state == "closed" for name in names)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killing_the_lifting_process_costs_neither_frames_nor_lifts(quick: Service, kills: int) -> None:
    kill_and_look(quick, kills)


@needs_model
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killing_it_with_the_embedded_model_in_it_costs_neither(tmp_path: Path, kills: int) -> None:
    with daemon(tmp_path) as service:
        kill_and_look(service, kills, every=0.1)


def kill_and_look(service: Service, kills: int, every: float = 0.02) -> None:
    """Kill the lifting process so many times, each time when a lift has got on, while a session of a frame `every` so
    many seconds is recorded."""
    with engine(service.endpoint, token=service.token) as sender:
        (lifted,) = service.record_start()
        send(sender, 24)
    until(lambda: states(service).get(lifted) == "closed")
    until(lambda: not service.state()["sessions"])
    stop, sent = threading.Event(), 0

    def drive() -> None:
        nonlocal sent
        with engine(service.endpoint, token=service.token) as sender:
            while not stop.wait(every):
                send(sender, 1, first=sent)
                sent += 1

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        until(lambda: [session for session in service.state()["sessions"] if session["frames"]])
        (recorded,) = service.record_start()
        safe: dict[str, int] = {}

        def got_on() -> Any:
            if service.lifts.idle:
                service.lift(lifted, prompt="slow")
            return next((j for j in service.lifts.jobs() if j.state == "running" and j.done > safe.get(j.id, 0)), None)

        for _ in range(kills):
            job, ends = until(got_on, LONG), service.lifts.ends["crash"]
            safe[job.id] = job.done
            if (pid := service.lifts.pid) is not None:
                os.kill(pid, signal.SIGKILL)
                until(lambda ends=ends: service.lifts.ends["crash"] > ends)
        until(lambda: all(job.finished for job in service.lifts.jobs()), LONG)
        assert {job.state for job in service.lifts.jobs()} == {"done"}
    finally:
        stop.set()
        driver.join(60)
    until(lambda: states(service).get(recorded) == "closed")
    take = Take(service.config.takes / recorded)
    serials = [frame.serial for frame in take]
    assert serials == list(range(serials[0], sent)) and verify(take.path).problems == []
    for frame in take[:: max(1, len(take) // 20)]:
        assert_exact(frame)
