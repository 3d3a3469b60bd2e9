"""What there is to lift with, asked of a short-lived process, for the model libraries are large and the daemon is not.

Works on `realmaster.lift.choices`; knows nothing of sockets or pages.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from capture.errors import UserError
from daemon import logs
from daemon.child import Child, Outbox, begin, listen

log = logging.getLogger("realmaster.daemon")

KEPT_SECONDS = 60.0
"""An answer is given again for so long: what memory is free changes, but not for a menu."""


class ModelList:
    """Models and adapters on this machine, as plain values. Thread-safe; who asks meanwhile gets the same answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: Future[dict[str, Any]] | None = None
        self._asked = 0.0
        self._child: Child | None = None

    def ask(self) -> Future[dict[str, Any]]:
        """{device, models: [ModelChoice], adapters: [AdapterChoice], adapters_folder}."""
        with self._lock:
            answer, now = self._answer, time.monotonic()
            fresh = answer is not None and (not answer.done() or now - self._asked < KEPT_SECONDS)
            if answer is not None and fresh and not (answer.done() and answer.exception()):
                return answer
            answer = self._answer = Future()
            self._asked = now
            self._child = Child("models", models_main, (logs.settings(),), self._on_message, self._on_exit)
            return answer

    def close(self) -> None:
        with self._lock:
            child = self._child
        if child is not None:
            child.kill()
            child.stop(2)

    def _on_message(self, child: Child, message: dict[str, Any]) -> None:
        with self._lock:
            answer = self._answer if child is self._child else None
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(UserError(message["error"]))
            else:
                answer.set_result(message)
        child.send(None)

    def _on_exit(self, child: Child, code: int | None) -> None:
        with self._lock:
            answer = self._answer if child is self._child else None
            self._child = None if child is self._child else self._child
        if answer is not None and not answer.done():
            answer.set_exception(
                UserError("Which models fit could not be found out; the daemon's log has the details.")
            )


def models_main(conn: Connection, log_settings: logs.LogSettings) -> None:
    """Say what there is, then end."""
    begin(log_settings)
    outbox = Outbox(conn)
    over = threading.Event()
    listen(conn, lambda _: None, on_end=over.set)
    try:
        from realmaster.lift.choices import (
            adapter_choices,
            adapters_folder,
            device_here,
            device_name,
            model_choices,
        )

        outbox.post(
            {
                "device": device_name(device_here()),
                "models": [choice.to_dict() for choice in model_choices()],
                "adapters": [choice.to_dict() for choice in adapter_choices()],
                "adapters_folder": str(adapters_folder()),
            }
        )
    except Exception as error:
        log.exception("the models could not be listed")
        outbox.post({"error": f"Which models fit could not be found out ({type(error).__name__}: {error})."})
    over.wait(30)
    outbox.close()
