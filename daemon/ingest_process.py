"""The process that receives and records, under the service: `Ingest` with its events, commands and pictures on a pipe.

Works on messages of the pipe, plain dicts and pictures; knows nothing of sockets or takes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from capture.errors import UserError
from capture.frame import Frame
from capture.pictures import shrink
from daemon.child import Outbox, begin, listen
from daemon.health import LONGEST_SIDE, SAMPLE_FRAMES
from daemon.ingest import Ingest
from daemon.live import next_frames
from daemon.preview import Preview

log = logging.getLogger("realmaster.daemon")


def ingest_main(conn: Connection, options: dict[str, Any]) -> None:
    """Receive and record until the parent says so or is gone; then end, takes closed. options: those of `Ingest`,
    and log_settings."""
    begin(options.pop("log_settings"))
    outbox = Outbox(conn)

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "state":
            outbox.post_latest("state", event)
        else:
            outbox.post(event)

    preview = Preview(
        on_picture=lambda p: outbox.post_latest(f"{p.session} {p.view}", {"event": "picture", "picture": p}),
        ready=lambda session, view: not outbox.waiting(f"{session} {view}"),
    )
    ingest = Ingest(**options, on_event=tell, on_frame=preview.offer)
    clips = ThreadPoolExecutor(1, "live clip")
    samples = ThreadPoolExecutor(1, "health sample")

    def on_message(message: dict[str, Any]) -> None:
        if message["do"] == "watch":
            preview.watch(message["views"])
            return
        future: Future[Any]
        if message["do"] == "clip":
            future = clips.submit(_clip, ingest, *(message[key] for key in ("session", "after", "count", "width")))
        elif message["do"] == "sample":
            future = samples.submit(_sample, ingest, message["session"])
        else:
            future = ingest.command(message["do"], **message["args"])
        future.add_done_callback(functools.partial(reply, message["id"]))

    def reply(number: int, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, UserError):
            log.error("a command failed", exc_info=error)
        result = None if error is not None else future.result()
        outbox.post({"event": "reply", "id": number, "result": result, "error": str(error) if error else None})

    try:
        ingest.bind()
    except UserError as error:
        outbox.post({"event": "failed", "sentence": str(error)})
        outbox.close()
        return
    listen(conn, on_message, on_end=ingest.stop)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: ingest.stop())
    ingest.run()
    preview.close()
    clips.shutdown(wait=False, cancel_futures=True)
    samples.shutdown(wait=False, cancel_futures=True)
    outbox.close()


def _clip(ingest: Ingest, session: str | None, after: int | None, count: int, width: int) -> dict[str, Any] | None:
    """The next frames of a session for live lifting, see `daemon.live.next_frames`: {session, times [s], serials,
    color uint8 TxHxWx3, cut: whether they begin a new shot, skipped: frames left out before them, newest: time of the
    newest frame held}. None while there are not enough. What lies before a cut or a change of size is left out."""
    name, conventions, held = ingest.held(session)
    choice = next_frames([encoding.serial for encoding in held], after, count)
    if choice is None:
        return None
    frames = [encoding.result().frame(conventions) for encoding in held[choice.first : choice.end]]
    frames = [frame for frame in frames if "color" in frame.channels]
    if not frames:
        return None
    cuts = [place for place, frame in enumerate(frames) if "cut" in frame.flags or frame.shape != frames[-1].shape]
    begin = cuts[-1] + (frames[cuts[-1]].shape != frames[-1].shape) if cuts else 0
    return {
        "session": name,
        "times": [frame.time for frame in frames[begin:]],
        "serials": [frame.serial for frame in frames[begin:]],
        "color": np.stack([shrink(frame.color, width) for frame in frames[begin:]]),
        "cut": bool(cuts),
        "skipped": choice.skipped + begin,
        "newest": held[-1].time,
    }


def _sample(ingest: Ingest, session: str) -> list[Frame]:
    """The newest frames of a session, small, to be examined; none while the ring is empty."""
    from capture.health.runs import small_frame

    return [small_frame(frame, LONGEST_SIDE) for frame in ingest.newest(session, SAMPLE_FRAMES)[1]]
