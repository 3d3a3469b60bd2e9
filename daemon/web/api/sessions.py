"""The bridges that are connected, and whether what they send belongs together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from daemon.service import Service

EXAMINATION_SECONDS = 90.0
"""How long a request waits for an examination."""


class ControlRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[Literal["step", "pause", "hide_hud", "dump"], Field(description="what the engine is to do")]
    args: Annotated[dict[str, bool | int | float | str | None], Field(max_length=16)] = {}


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/sessions", tags=["sessions"])

    @api.get("")
    def list_sessions() -> list[dict[str, Any]]:
        """The bridges that are connected."""
        return service.state()["sessions"]

    @api.post("/{session}/control", status_code=202)
    def control(session: str, request: ControlRequest) -> dict[str, Any]:
        """Pass a control on to the bridge; what it does not know it ignores."""
        service.control(request.name, request.args, session)
        return {"session": session, "name": request.name}

    @api.get("/{session}/health")
    def health(session: str) -> dict[str, Any]:
        """Examine what a session sends just now: are its channels of one frame, and is everything as declared?"""
        return service.health.examine(session).result(EXAMINATION_SECONDS)

    @api.get("/{session}/health.png", response_class=Response)
    def health_picture(session: str) -> Response:
        """The last examination of a session as a picture."""
        picture = service.health.picture(session).result(EXAMINATION_SECONDS)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    return api
