"""The lifting process: it owns the GPU, may crash or run out of memory, and is started again by `daemon.lifts`.

Works on takes by path and on live clips as arrays; knows nothing of queues, sessions or pages, and of models only
what `realmaster.lift` offers.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from capture.errors import UserError
from daemon import logs
from daemon.child import Outbox, begin, listen
from realmaster.lift.lifter import is_out_of_memory

if TYPE_CHECKING:
    from realmaster.lift import Lifter

OUT_OF_MEMORY = 77
"""Exit code by which the process gives all its memory back and says why."""

EXIT_SECONDS = 0.5
"""How long an idle process may take to exit by itself."""


class _Cancelled(Exception):
    pass


Tools = tuple["Lifter", Callable[..., Any]]
"""A lifter, and what lifts a take with it as `realmaster.lift.lift_take` does."""


def load(model: str, lora: str | None, memory: Literal["auto", "low"]) -> Tools:
    """The lifter of a profile; see `realmaster.load_lifter`."""
    from realmaster import load_lifter
    from realmaster.lift import lift_take

    return load_lifter(model, lora=lora, memory=memory), lift_take


def worker_main(
    conn: Connection,
    memory: Literal["auto", "low"],
    log_settings: logs.LogSettings,
    load: Callable[..., Tools] = load,
) -> None:
    """The lifting process: load a model when it is first needed, lift what the parent sends, end with the parent.
    `memory`: see `realmaster.lift.memory`."""
    begin(log_settings)
    outbox = Outbox(conn)
    orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    cancelled: set[str] = set()

    def on_message(message: dict[str, Any]) -> None:
        if message["do"] == "cancel":
            cancelled.add(message["id"])
        else:
            cancelled.discard(message.get("id", ""))  # it is tried again
            orders.put(message)

    def on_end() -> None:
        orders.put(None)  # when idle, a proper exit, so that libraries can tidy up
        time.sleep(EXIT_SECONDS)
        os._exit(0)  # a lift in progress is abandoned: its folder is not listed before it is whole

    listen(conn, on_message, on_end)

    lifter: Any = None
    loaded: tuple[str, str | None] | None = None
    while (order := orders.get()) is not None:
        wanted = order["model"], order["lora"]
        try:
            if loaded != wanted:
                lifter = loaded = None  # its memory must be free before the next one is loaded
                lifter, lift_take = load(order["model"], order["lora"], memory)
                loaded = wanted
                outbox.post(_model(order, _plain_rules(lifter.rules), lifter.cue))
            if order["do"] == "lift":
                _lift(order, lifter, lift_take, outbox, cancelled)
            elif order["do"] == "live":
                outbox.post({"event": "live", "clip": _lift_live(order, lifter), "sentence": ""})
        except _Cancelled:
            outbox.post({"event": "cancelled", "id": order["id"]})
        except Exception as error:
            if is_out_of_memory(error):
                os._exit(OUT_OF_MEMORY)
            if isinstance(error, UserError):
                sentence = str(error)
            else:
                logging.getLogger("realmaster.daemon").exception("the lift failed")
                sentence = f"The lift failed ({type(error).__name__}: {error}); the daemon's log has the details."
            if lifter is None:
                outbox.post(_model(order, None, "color", sentence))
            if order["do"] == "live":
                outbox.post({"event": "live", "clip": None, "sentence": sentence})
            elif order["do"] == "lift":
                outbox.post({"event": "failed", "id": order["id"], "sentence": sentence})


def _lift(order: dict[str, Any], lifter: Any, lift_take: Any, outbox: Outbox, cancelled: set[str]) -> None:
    from capture.pictures import overview
    from capture.take import Take
    from daemon.jpeg import jpeg

    def progress(done: int, total: int) -> None:
        if order["id"] in cancelled:
            raise _Cancelled
        outbox.post_latest("progress", {"event": "progress", "id": order["id"], "done": done, "total": total})

    def preview(_frame: int, pictures: np.ndarray) -> None:
        outbox.post_latest("preview", {"event": "preview", "id": order["id"], "jpeg": jpeg(overview(pictures))})

    # A preview costs a decoder that is made for it, and that of an only step would show what comes out a moment later.
    sampling = lifter.settings.get("sampling", {})
    steps = order["steps"] or len(sampling.get("sigmas") or ()) or sampling.get("steps", 1)
    progress(0, 0)
    take = Take(order["take"])
    first, end = order["frames"]
    lift_take(  # an earlier try that was cut off is gone on with
        take,
        Path(order["out"]),
        lifter,
        frames=(first, len(take) if end is None else min(end, len(take))),
        prompt=order["prompt"],
        seed=order["seed"],
        steps=order["steps"],
        progress=progress,
        preview=preview if steps > 1 else None,
    )
    outbox.post({"event": "done", "id": order["id"]})


def _lift_live(order: dict[str, Any], lifter: Any) -> np.ndarray:
    if lifter.cue != "color":
        raise UserError(
            f"The model {lifter.name} lifts from {lifter.cue}, which live lifting has not: choose one that takes the "
            "render."
        )
    lifted: np.ndarray = lifter.lift(
        order["clip"], prompt=order["prompt"], seed=order["seed"], prefix=order["prefix"], steps=order["steps"]
    )
    return lifted


def _model(
    order: dict[str, Any], rules: dict[str, int] | None, cue: str, sentence: str | None = None
) -> dict[str, Any]:
    """Tells what was loaded, or why it was not."""
    return {
        "event": "model",
        "model": order["model"],
        "lora": order["lora"],
        "rules": rules,
        "cue": cue,
        "sentence": sentence,
    }


def _plain_rules(rules: Any) -> dict[str, int]:
    return {name: value for name, value in asdict(rules).items() if isinstance(value, int)}
