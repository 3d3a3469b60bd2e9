"""Datasets of pairs: to look through, and to keep or drop pairs by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from realmaster.pairs.review import Shelf


class Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")
    decision: Literal["keep", "drop"] | None
    """None takes an earlier decision back."""


def router(shelf: Shelf) -> APIRouter:
    api = APIRouter(prefix="/datasets", tags=["pairs"])

    @api.get("")
    def datasets() -> list[dict[str, Any]]:
        """All datasets: {name, pairs, kept, decided}."""
        return shelf.datasets()

    @api.get("/{name}/pairs")
    def pairs(name: str) -> list[dict[str, Any]]:
        """Every clip of which a pair was made, with what the filters say and what was decided."""
        return shelf.review(name).pairs()

    @api.put("/{name}/pairs/{clip}/decision")
    def decide(name: str, clip: str, decision: Decision) -> dict[str, Any]:
        """Keep or drop a pair, or leave it to the filters. The dataset remembers it."""
        shelf.review(name).decide(clip, decision.decision)
        return {"id": clip, "decision": decision.decision}

    @api.post("/{name}/settle")
    def settle(name: str) -> dict[str, int]:
        """Bring pairs.jsonl, the ledger and the places of the files in line with what was decided."""
        return shelf.review(name).settle()

    @api.get("/{name}/pairs/{clip}/{kind}", response_class=FileResponse)
    def file(name: str, clip: str, kind: Literal["render", "target", "sheet"]) -> FileResponse:
        """A video or the picture sheet of a pair, wherever it lies."""
        return FileResponse(Path(shelf.review(name).file(clip, kind)))

    return api
