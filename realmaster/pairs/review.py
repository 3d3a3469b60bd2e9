"""A page to look through a dataset: picture sheets, videos, scores, and keep or drop, which the folder remembers.

The application only; who may talk to it, and how it is served, is the caller's affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.staticfiles import StaticFiles

from realmaster.pairs.dataset import Dataset, verdict
from realmaster.pairs.settings import FilterSettings, PairsError

PAGE = Path(__file__).with_name("page")


class Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    decision: Literal["keep", "drop"] | None
    """None takes an earlier decision back."""


def create_app(dataset: Dataset, filters: FilterSettings) -> FastAPI:
    """The review of one dataset."""
    app = FastAPI(title="realmaster pairs", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/pairs")
    def pairs() -> list[dict[str, Any]]:
        """Every clip of which a pair was made, with what the filters say and what was decided."""
        decisions = dataset.decisions()
        return [
            {
                "id": record["id"],
                "caption": record["caption"],
                "scores": record["scores"],
                "notes": record.get("notes", []),
                "reasons": verdict(record, filters),
                "decision": decisions.get(record["id"]),
            }
            for record in dataset.records()
            if record.get("target")
        ]

    @app.post("/decide")
    def decide(decision: Decision) -> Any:
        try:
            dataset.decide(decision.id, decision.decision)
        except PairsError as error:
            return JSONResponse({"error": str(error)}, 404)
        return {"ok": True}

    @app.get("/{kind}/{clip}", response_model=None)
    def file(kind: Literal["render", "target", "sheet"], clip: str) -> FileResponse | JSONResponse:
        """A video or the sheet of a clip, wherever it lies."""
        record = dataset.record(Path(clip).name)
        for folder in (dataset.path, dataset.path / "rejected"):
            if record is not None and record.get(kind) and (folder / record[kind]).is_file():
                return FileResponse(folder / record[kind])
        return JSONResponse({"error": f"There is no {kind} of {clip}."}, 404)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app
