"""Version 1 of the HTTP API, one module per resource: what `/api/v1/...` answers.

Each module has a function `router(service)`, which works on `Service` and `Library` and knows nothing of ZeroMQ or
models. Refusals are raised as UserError and answered by `daemon.web.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from daemon.web.api import (
    datasets,
    exports,
    lifts,
    live,
    metrics,
    models,
    record,
    sessions,
    state,
    stream,
    takes,
    trash,
)
from daemon.web.errors import REFUSALS

if TYPE_CHECKING:
    from daemon.service import Service

PREFIX = "/api/v1"

_RESOURCES = (state, sessions, record, takes, trash, exports, lifts, live, models, metrics, stream)


def api(service: Service) -> APIRouter:
    """All of version 1, under PREFIX."""
    whole = APIRouter(prefix=PREFIX, responses=REFUSALS)
    for resource in _RESOURCES:
        whole.include_router(resource.router(service))
    whole.include_router(datasets.router(service.datasets))
    return whole
