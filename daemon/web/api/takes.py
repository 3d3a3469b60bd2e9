"""The take library: lists, pictures, notes, names, files of lifts, and the way to the trash."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from capture.errors import UserError
from capture.take_shelf import MOST_NOTES
from daemon.exporter import TRIM
from daemon.jpeg import View

if TYPE_CHECKING:
    from daemon.service import Service

_SHORT = {"Cache-Control": "private, max-age=60"}
_Name = Annotated[str, Field(min_length=1, max_length=100, description="letters, digits, and . _ - between them")]


class TakeChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: _Name | None = None
    notes: Annotated[str | None, Field(max_length=MOST_NOTES)] = None


class TrimRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    frames: Annotated[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]],
        Field(description="[a, b): first frame and the one after the last"),
    ]
    name: Annotated[_Name | None, Field(description="of the new take; by default the name of the old, a and b")] = None


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/takes", tags=["takes"])
    library = service.library

    @api.get("")
    def takes() -> list[dict[str, Any]]:
        """All takes, newest first."""
        return library.summaries()

    @api.get("/{name}")
    def take(name: str) -> dict[str, Any]:
        """One take: what lists show, the times of its frames, reports of its lifts, notes, and its proof of sync."""
        return library.details(name)

    @api.patch("/{name}")
    def change(name: str, request: TakeChange) -> dict[str, Any]:
        """Change the notes or the name of a take; what is null stays."""
        if request.notes is not None:
            library.write_notes(name, request.notes)
        if request.name is not None and request.name != name:
            service.check_unused(name)
            library.rename(name, request.name)
            name = request.name
        return library.details(name)

    @api.delete("/{name}")
    def trash(name: str) -> dict[str, Any]:
        """Move a take to the trash."""
        service.check_unused(name)
        return library.trash(name).to_dict()

    @api.post("/{name}/trim", status_code=201)
    def trim(name: str, request: TrimRequest) -> dict[str, Any]:
        """Queue the making of a new take of a part of this one, which stays as it is; the queue is that of exports."""
        first, end = request.frames
        if end <= first:
            raise UserError(f"The range of frames {first}:{end} is empty: its end must lie after its beginning.")
        return asdict(service.exports.submit(name, TRIM, (first, end), name=request.name))

    @api.get("/{name}/thumbnail.jpg", response_class=Response)
    def thumbnail(name: str) -> Response:
        """A small picture of the take, from its middle."""
        return Response(library.thumbnail(name), media_type="image/jpeg", headers=_SHORT)

    @api.get("/{name}/frame/{index}.jpg", response_class=Response)
    def frame(
        name: str, index: int, channel: View = "color", width: Annotated[int, Query(ge=16, le=4096)] = 960
    ) -> Response:
        """One frame as a JPEG no wider than `width`; index from 0, negative from the end."""
        return Response(library.jpeg(name, index, channel, width), media_type="image/jpeg", headers=_SHORT)

    @api.get("/{name}/lifts/{lift}/thumbnail.jpg", response_class=Response)
    def lift_thumbnail(name: str, lift: str) -> Response:
        """The same moment as the take's thumbnail, lifted; where that was not lifted, the lift's own middle."""
        return Response(library.thumbnail(name, lift), media_type="image/jpeg", headers=_SHORT)

    @api.delete("/{name}/lifts/{lift}")
    def trash_lift(name: str, lift: str) -> dict[str, Any]:
        """Move a lift to the trash."""
        service.check_unused(name)
        return library.trash(name, lift).to_dict()

    @api.get("/{name}/lifts/{lift}/{file}", response_class=FileResponse)
    def lift_file(name: str, lift: str, file: str) -> FileResponse:
        """A file of a lift: lifted.mp4 (byte ranges are understood), report.json, stills."""
        return FileResponse(library.lift_file(name, lift, file))

    return api
