"""The daemon in figures: `/metrics` for Prometheus, and `/api/v1/support` whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from daemon.metrics import exposition, support

if TYPE_CHECKING:
    from daemon.service import Service


def router(service: Service) -> APIRouter:
    api = APIRouter(tags=["support"])

    @api.get("/support")
    def state_json() -> dict[str, Any]:
        """Everything that somebody who helps wants to know: the state, versions, processes, the last lines of the log.
        No tokens."""
        return support(service)

    return api


def figures(service: Service) -> APIRouter:
    """Outside the API's version, where Prometheus looks."""
    api = APIRouter(tags=["support"])

    @api.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Figures in Prometheus' text form."""
        return Response(exposition(service), media_type=CONTENT_TYPE_LATEST)

    return api
