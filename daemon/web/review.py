"""The review of pairs without a daemon: the same page and the same API, of one dataset.

Knows where things are mounted; who may talk to it, and how it is served, is the caller's affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from daemon.web.api import PREFIX, datasets
from daemon.web.errors import answer_errors

if TYPE_CHECKING:
    from realmaster.pairs.review import Shelf


def create_review_app(shelf: Shelf) -> FastAPI:
    """The review of the datasets on a shelf."""
    app = FastAPI(title="realmaster pairs", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(datasets.router(shelf), prefix=PREFIX)
    answer_errors(app)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/review.html")

    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static"))
    return app
