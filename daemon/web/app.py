"""The web application: the API under its version, and the page. Everything the page does goes through the API.

Knows where things are mounted; what they do is said in `api` (one module per resource) and `errors`. The OpenAPI
description is at /api/v1/openapi.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from daemon.web.api import PREFIX, api, metrics
from daemon.web.errors import answer_errors

if TYPE_CHECKING:
    from daemon.service import Service


ABOUT = """Everything that the page and `realmaster daemon ...` do with a running daemon.

Refused requests are answered with `{"error": "one sentence"}`. Two WebSockets complete it: `/api/v1/events` sends the
state, as `GET /api/v1/state` does, whenever it has changed; `/api/v1/stream` sends live pictures (docs/daemon.md)."""


def create_app(service: Service) -> FastAPI:
    """The app of one daemon. It does not say who may use it: see `guard`."""
    app = FastAPI(
        title="realmaster daemon",
        version="1",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        description=ABOUT,
        generate_unique_id_function=lambda route: "_".join([*map(str, route.tags), route.name]),
    )
    app.include_router(api(service))
    app.include_router(metrics.figures(service))
    answer_errors(app)
    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))
    return app
