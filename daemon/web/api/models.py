"""What there is to lift with on this machine, and the daemon's choice of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from daemon.service import Service

ANSWER_SECONDS = 5.0
"""How long a request waits for the libraries to be loaded that know what fits."""
_PENDING = {"pending": True, "device": "", "models": [], "adapters": [], "adapters_folder": ""}


class ModelChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=120, description="name of a model profile")]
    lora: Annotated[str | None, Field(max_length=400, description="adapter; the profile's own when null")] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(tags=["models"])

    @api.get("/models")
    def list_models() -> dict[str, Any]:
        """Model profiles with whether each fits this machine, and the adapters at hand; `pending` while that is still
        being found out: ask again."""
        try:
            return service.models.ask().result(ANSWER_SECONDS) | {"pending": False}
        except TimeoutError:
            return _PENDING

    @api.put("/model")
    def choose(request: ModelChange) -> dict[str, Any]:
        """Choose the daemon's own model, for live lifting and for the lifts queued from now on that name none."""
        service.use_model(request.name, request.lora)
        return service.state()["model"]

    return api
