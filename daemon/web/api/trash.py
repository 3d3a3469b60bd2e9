"""The trash: what was deleted, back again or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

if TYPE_CHECKING:
    from daemon.service import Service


def router(service: Service) -> APIRouter:
    api = APIRouter(prefix="/trash", tags=["trash"])
    library = service.library

    @api.get("")
    def trash() -> list[dict[str, Any]]:
        """What is in the trash, the newest first."""
        return [entry.to_dict() for entry in library.trashed()]

    @api.post("/{entry}/restore")
    def restore(entry: str) -> dict[str, str]:
        """Bring something back; a take whose name was given away gets another."""
        return {"take": library.restore(entry)}

    @api.delete("/{entry}")
    def delete(entry: str) -> dict[str, int]:
        """Delete one thing for good."""
        return {"bytes": library.empty_trash(entry)}

    @api.delete("")
    def empty() -> dict[str, int]:
        """Delete everything in the trash for good."""
        return {"bytes": library.empty_trash()}

    return api
