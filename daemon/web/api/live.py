"""Live lifting: the newest frames, lifted again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from daemon.service import Service


class LiveRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: bool
    prompt: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    steps: Annotated[int | None, Field(ge=1, le=200)] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/live", tags=["live"])

    @api.get("")
    def show() -> dict[str, Any]:
        """How live lifting goes."""
        return service.live.state()

    @api.post("")
    def switch(request: LiveRequest) -> dict[str, Any]:
        """Switch live lifting."""
        service.live.set(request.on, request.prompt, request.seed, request.steps)
        return service.live.state()

    return api
