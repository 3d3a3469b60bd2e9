"""`realmaster pairs --review`: the daemon's page of pairs for one dataset, on loopback, until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realmaster.pairs.dataset import Dataset
    from realmaster.pairs.settings import FilterSettings


def serve(dataset: Dataset, filters: FilterSettings, tell: Callable[[str], None]) -> int:
    """Serve the review until it is interrupted; returns how many decisions there are. `tell` is given the address."""
    import uvicorn

    from daemon.web.guard import Guard
    from daemon.web.review import create_review_app
    from realmaster.pairs.review import Review, Shelf

    app = create_review_app(Shelf(reviews={dataset.path.resolve().name: Review(dataset, filters)}))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who opens the address at once waits for the server rather than being refused
        tell(f"http://127.0.0.1:{listening.getsockname()[1]}")
        config = uvicorn.Config(
            Guard(app, None), log_level="warning", access_log=False, server_header=False,
            lifespan="off",
        )  # fmt: skip
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # the way to end it
    return len(dataset.decisions())
