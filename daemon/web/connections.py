"""HTTP connections that nobody can hold for nothing: a request must come within seconds, and they are counted.

Knows uvicorn's protocol class; knows nothing of what is asked for.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""A request must have come whole within this, its body too; a client that drips its headers is cut off."""

MOST_CONNECTIONS = 256
"""At the same time. One more takes the place of the one that has asked for nothing for the longest time."""


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with REQUEST_SECONDS and MOST_CONNECTIONS."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self.began = time.monotonic()
        self._arm()
        if len(self.connections) > MOST_CONNECTIONS:
            idle = [other for other in self.connections if isinstance(other, BoundedProtocol) and other.waits]
            longest = min(idle, key=lambda other: other.began, default=self)
            self.connections.discard(longest)  # at once: its end is told a moment later
            longest.transport.abort()

    @property
    def waits(self) -> bool:
        """Whether no whole request is being answered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # it has become a WebSocket, which has its own pings
            return
        if self.waits:
            self._arm()
        else:
            self._disarm()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._disarm()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.waits:
            self.transport.abort()
