"""A child process under the daemon: how it ends."""

from __future__ import annotations

import logging
import threading
from multiprocessing.connection import Connection

import pytest

from daemon.child import Child


def until_told(conn: Connection) -> None:
    """A child that ends when it is asked to."""
    while conn.recv() is not None:
        pass


def for_ever(conn: Connection) -> None:
    """A child that hears nothing."""
    threading.Event().wait(60)


def start(target: object, ends: list[int | None]) -> Child:
    return Child("test child", target, (), lambda child, message: None, lambda child, code: ends.append(code))  # type: ignore[arg-type]


def test_an_orderly_end_is_told_as_one_whoever_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    """Several threads learn of the end at once: none may take a process that is gone for one that hangs."""
    for _ in range(5):
        ends: list[int | None] = []
        child, over = start(until_told, ends), threading.Event()

        def ask(child: Child = child, over: threading.Event = over) -> None:
            while not over.is_set():
                child.alive  # noqa: B018  reaps the process when it has ended

        watcher = threading.Thread(target=ask)
        watcher.start()
        child.stop(60)
        over.set()
        watcher.join(60)
        assert ends == [0] and not child.alive
    assert not caplog.records


def test_a_child_that_does_not_end_is_ended_by_force(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[int | None] = []
    child = start(for_ever, ends)
    with caplog.at_level(logging.WARNING):
        child.stop(0.2)
    assert not child.alive and len(ends) == 1 and ends != [0]
    assert "ended by force" in caplog.text
