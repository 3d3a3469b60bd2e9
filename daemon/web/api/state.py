"""What is going on: once when asked, and pushed whenever it changed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, WebSocket

from daemon.web.sockets import until_closed

if TYPE_CHECKING:
    from daemon.service import Service

STATE_SECONDS = 0.2
"""A changed state is pushed at most this often."""


def router(service: Service) -> APIRouter:
    api = APIRouter(tags=["state"])

    @api.get("/state")
    def state() -> dict[str, Any]:
        """Sessions, recordings, lifts, takes: what the page shows."""
        return service.state()

    @api.websocket("/events")
    async def events(socket: WebSocket) -> None:
        """Pushes the whole state whenever it changed."""
        await socket.accept()
        async with until_closed(socket):
            last = None
            while True:
                state = await asyncio.to_thread(service.state)
                if state != last:
                    await socket.send_text(json.dumps(state))
                    last = state
                await asyncio.sleep(STATE_SECONDS)

    return api
