"""Live pictures over a WebSocket: the newest of each view, and a slow browser slows nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from capture.frame import CANONICAL
from daemon.preview import Picture

if TYPE_CHECKING:
    from daemon.service import Service

UNACKNOWLEDGED = 3
"""Pictures on their way to one browser; a slow one sees fewer, never older ones."""

STREAM_VIEWS = (*CANONICAL, "source", "lifted", "edges")
PICTURE_HEADER = struct.Struct("<BBHIQd")
"""Before each JPEG: index in STREAM_VIEWS, zero, age when it was sent [ms; 0: not known], number to acknowledge,
serial, engine time [s]."""


def router(service: Service) -> APIRouter:
    api = APIRouter(tags=["stream"])

    @api.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        """Live pictures. The browser sends {"watch": [views], "session": id or null} and {"ack": number}; it gets
        PICTURE_HEADER + JPEG, the newest of each view, at most UNACKNOWLEDGED ahead of its acknowledgements."""
        await socket.accept()
        await _Viewer(service, socket).run()

    return api


class _Viewer:
    """One browser's live pictures: the newest of each view, sent as fast as it acknowledges them."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service, self._socket = service, socket
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._newest: dict[str, Picture] = {}
        self._session: str | None = None
        self._sent = self._acknowledged = 0

    async def run(self) -> None:
        sender = asyncio.create_task(self._send())
        try:
            while True:
                self._hear(json.loads(await self._socket.receive_text()))
        except (WebSocketDisconnect, ValueError, KeyError, TypeError):
            pass
        finally:
            self._service.watch(self, self._offer, ())
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has closed already
                await self._socket.close()

    def _hear(self, message: dict[str, Any]) -> None:
        if "ack" in message:
            self._acknowledged = max(self._acknowledged, min(int(message["ack"]), self._sent))
            self._changed.set()
        if "watch" in message:
            self._session = message.get("session")
            self._newest.clear()
            self._service.watch(self, self._offer, tuple(view for view in STREAM_VIEWS if view in message["watch"]))

    def _offer(self, picture: Picture) -> None:
        """Called from the service's threads."""
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: Picture) -> None:
        if picture.session == (self._session or self._service.newest_session()):
            self._newest.pop(picture.view, None)
            self._newest[picture.view] = picture
            self._changed.set()

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._newest and self._sent - self._acknowledged < UNACKNOWLEDGED:
                view = next(iter(self._newest))
                picture = self._newest.pop(view)
                self._sent += 1
                header = PICTURE_HEADER.pack(
                    STREAM_VIEWS.index(view), 0, _age(picture), self._sent, picture.serial, picture.time
                )
                await self._socket.send_bytes(header + picture.jpeg)


def _age(picture: Picture) -> int:
    """Milliseconds since the frame came, as it goes into a header."""
    if picture.arrived is None:
        return 0
    return min(max(1, round(1000 * (time.monotonic() - picture.arrived))), 65535)
