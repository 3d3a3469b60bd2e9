"""The HTTP server in a thread of the daemon: takes the address, runs the app, stops.

Knows uvicorn; knows nothing of what is served.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from capture.errors import UserError
from daemon.access import split_http
from daemon.web.app import create_app
from daemon.web.connections import BoundedProtocol
from daemon.web.guard import Guard

if TYPE_CHECKING:
    from daemon.service import Service


class WebServer:
    """Takes the address at once, so that its port is known, and answers from `start` to `stop`.

    address: HOST:PORT, port 0 for a free one. Raises UserError when it is taken, malformed, or reaches beyond this
    machine without a token.
    """

    def __init__(self, service: Service, address: str, token: str | None = None) -> None:
        host, port = split_http(address, token)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name != "nt":  # on Windows this option would let two daemons share a port
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(64)
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"{address} is in use, perhaps by another daemon: stop that one or choose another with --http."
                ) from None
            raise UserError(f"The page cannot be served on {address}: {error.strerror}.") from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            Guard(create_app(service), token),
            http=BoundedProtocol,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
            ws_max_size=65536,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns when it does."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise UserError(f"The page could not be served on {self.url}; the daemon's log has the details.")
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
