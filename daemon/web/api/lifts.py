"""The lift queue."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from capture.errors import UserError

if TYPE_CHECKING:
    from daemon.service import Service


class LiftRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    take: Annotated[str, Field(max_length=128, description="name of the take")]
    frames: Annotated[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)] | None],
        Field(description="[a, b): first frame and the one after the last; b null means to the end"),
    ] = (0, None)
    prompt: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    steps: Annotated[int | None, Field(ge=1, le=200, description="sampling steps; the model's own when null")] = None
    model: Annotated[
        str | None, Field(max_length=120, description="name of a model profile; the daemon's own when null")
    ] = None
    lora: Annotated[
        str | None, Field(max_length=400, description="adapter in place of the profile's own; none for none")
    ] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/lifts", tags=["lifts"])

    @api.get("")
    def list_lifts() -> list[dict[str, Any]]:
        """The lift queue, newest first."""
        return [asdict(job) for job in reversed(service.lifts.jobs())]

    @api.post("", status_code=201)
    def queue(request: LiftRequest) -> dict[str, Any]:
        """Queue a lift; the answer is the job."""
        first, end = request.frames
        if end is not None and end <= first:
            raise UserError(f"The range of frames {first}:{end} is empty: its end must lie after its beginning.")
        job = service.lift(
            request.take,
            (first, end),
            request.prompt,
            request.seed,
            request.steps,
            model=request.model,
            lora=request.lora,
        )
        return asdict(job)

    @api.delete("/{job}")
    def cancel(job: str) -> dict[str, Any]:
        """Cancel a lift that is queued or running; the answer is the job."""
        return asdict(service.lifts.cancel(job))

    @api.post("/{job}/retry")
    def retry(job: str) -> dict[str, Any]:
        """Queue a lift again that failed, was cancelled or set aside; the answer is the job."""
        return asdict(service.lifts.retry(job))

    @api.get("/{job}/preview.jpg", response_class=Response)
    def preview(job: str) -> Response:
        """What the model expects of the window that it is sampling, a JPEG: another one whenever the job's `previews`
        has changed."""
        return Response(service.lifts.preview(job), media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    return api
