"""What the WebSockets of the API share. Knows Starlette; knows nothing of what is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import WebSocket, WebSocketDisconnect


@contextlib.asynccontextmanager
async def until_closed(socket: WebSocket) -> AsyncIterator[None]:
    """Ends the body, quietly, when the other side closes the socket."""
    body = asyncio.current_task()
    assert body is not None
    closed = False

    async def hear() -> None:
        nonlocal closed
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
            while True:
                await socket.receive_text()
        closed = True
        body.cancel()

    listener = asyncio.create_task(hear())
    try:
        yield
    except WebSocketDisconnect:
        pass
    except asyncio.CancelledError:
        if not closed:
            raise
        body.uncancel()
    finally:
        listener.cancel()
