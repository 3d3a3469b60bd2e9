"""Exports of takes and lifts: a queue, and the files that came of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from capture.errors import UserError
from daemon.exporter import TRIM
from daemon.web.zipping import zipped

if TYPE_CHECKING:
    from daemon.service import Service


class ExportRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    take: Annotated[str, Field(max_length=128, description="name of the take")]
    to: Annotated[
        Literal["mp4", "exr", "frames", "comfyui", "webdataset", "rerun", "lift", "compare"],
        Field(description="a form of the take; or of a lift: its video, or render and lift beside each other"),
    ]
    frames: Annotated[
        tuple[Annotated[int, Field(ge=0)] | None, Annotated[int, Field(gt=0)] | None],
        Field(description="[a, b): first frame and the one after the last; null means from the first, to the end"),
    ] = (None, None)
    lift: Annotated[str | None, Field(max_length=128, description="name of the lift, for lift and compare")] = None
    channel: Annotated[
        str | None, Field(max_length=200, description="mp4: a channel, several with commas, edges or side_by_side")
    ] = None
    up: Annotated[Literal["y", "z"] | None, Field(description="exr: the world's axis that points up")] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/exports", tags=["exports"])
    queue = service.exports

    @api.get("")
    def exports() -> list[dict[str, Any]]:
        """Exports and trims, newest first."""
        return [asdict(job) for job in reversed(queue.jobs())]

    @api.post("", status_code=201)
    def export(request: ExportRequest) -> dict[str, Any]:
        """Queue an export. `path` says where it will lie on the daemon's machine."""
        asked = request.model_dump()
        first, end = request.frames
        if first is not None and end is not None and end <= first:
            raise UserError(f"The range of frames {first}:{end} is empty: its end must lie after its beginning.")
        return asdict(queue.submit(asked.pop("take"), asked.pop("to"), asked.pop("frames"), **asked))

    @api.delete("/{job}")
    def cancel(job: str) -> dict[str, Any]:
        """Cancel an export that is queued or running."""
        return asdict(queue.cancel(job))

    @api.get("/{job}/download", response_class=FileResponse)
    def download(job: str) -> Response:
        """The file of an export; of a folder a zip, made as it is sent."""
        found = queue.job(job)
        path = Path(found.path)
        if found.state != "done" or found.to == TRIM:
            raise UserError(f"Export {job} has no file to be downloaded: it is {found.state}.")
        if path.is_file():
            return FileResponse(path, filename=path.name)
        if not path.is_dir():
            raise UserError(f"The export is not at {path} any more: it was moved or deleted; export it again.")
        headers = {"Content-Disposition": f'attachment; filename="{path.name}.zip"'}
        return StreamingResponse(zipped(path), media_type="application/zip", headers=headers)

    return api
