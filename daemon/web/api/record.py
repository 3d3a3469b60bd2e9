"""Recording and instant replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from daemon.service import Service


class SessionChoice(BaseModel):
    model_config = ConfigDict(extra="forbid")
    session: Annotated[str | None, Field(max_length=64, description="session id; all sessions when null")] = None


class ReplayChoice(SessionChoice):
    seconds: Annotated[float | None, Field(gt=0, le=86400, description="all that is kept when null")] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(tags=["recording"])

    @api.post("/record/start")
    def record_start(choice: SessionChoice | None = None) -> dict[str, list[str]]:
        """Begin a take of one session or of each."""
        return {"takes": service.record_start(choice.session if choice else None)}

    @api.post("/record/stop")
    def record_stop(choice: SessionChoice | None = None) -> dict[str, list[str]]:
        """End the takes of one session or of each."""
        return {"takes": service.record_stop(choice.session if choice else None)}

    @api.post("/replay/save")
    def replay_save(choice: ReplayChoice | None = None) -> dict[str, list[str]]:
        """Keep the last seconds as a take."""
        choice = choice or ReplayChoice()
        return {"takes": service.replay_save(choice.session, choice.seconds)}

    return api
