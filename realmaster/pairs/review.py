"""Looking through datasets: what a person is shown of each pair, and keep or drop, which the folder remembers.

Works on dataset folders; knows no page and no requests (`daemon.web.api.datasets` serves this).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realmaster.pairs.dataset import KEEP, Dataset, verdict
from realmaster.pairs.settings import FilterSettings, PairsError

KINDS = ("render", "target", "sheet")
"""The files of a pair that are shown: two videos and a sheet of pictures."""


class Review:
    """One dataset under one set of thresholds; without `filters` those that it was last judged by."""

    def __init__(self, dataset: Dataset, filters: FilterSettings | None = None) -> None:
        self.dataset = dataset
        self._filters = filters or dataset.filters()

    def pairs(self) -> list[dict[str, Any]]:
        """Every clip of which a pair was made, with what the filters say and what was decided."""
        decisions = self.dataset.decisions()
        return [
            {
                "id": record["id"],
                "caption": record["caption"],
                "scores": record["scores"],
                "notes": record.get("notes", []),
                "reasons": (reasons := verdict(record, self._filters)),
                "decision": (decision := decisions.get(record["id"])),
                "kept": decision == KEEP or (decision is None and not reasons),
            }
            for record in self.dataset.records()
            if record.get("target")
        ]

    def decide(self, clip: str, decision: str | None) -> None:
        """Remember keep or drop; None leaves the pair to the filters. Raises `PairsError`."""
        try:
            self.dataset.decide(clip, decision)
        except OSError as error:
            raise PairsError(f"The decision cannot be kept in {self.dataset.path} ({error.strerror}).") from None

    def settle(self) -> dict[str, int]:
        """Bring pairs.jsonl and the places of the files in line: {pairs, rejected}. Raises `PairsError`."""
        try:
            return self.dataset.settle(self._filters)
        except OSError as error:
            raise PairsError(f"{self.dataset.path} cannot be written ({error.strerror}).") from None

    def file(self, clip: str, kind: str) -> Path:
        """One of KINDS of a pair, wherever it lies. Raises `PairsError`."""
        record = self.dataset.record(Path(clip).name) if kind in KINDS else None
        for folder in (self.dataset.path, self.dataset.path / "rejected"):
            if record is not None and record.get(kind) and (folder / record[kind]).is_file():
                return folder / record[kind]
        raise PairsError(f"There is no {kind} of {clip[:80]}.")


class Shelf:
    """Datasets by name: all that lie in a folder, and those that are named."""

    def __init__(self, folder: Path | None = None, reviews: Mapping[str, Review] | None = None) -> None:
        self.folder = folder
        self._reviews = dict(reviews or {})

    def datasets(self) -> list[dict[str, Any]]:
        """{name, path, pairs, kept, decided} of each."""
        return [self._entry(name) for name in [*self._reviews, *self._names()]]

    def review(self, name: str) -> Review:
        """Raises `PairsError` for a name that is none."""
        if name in self._reviews:
            return self._reviews[name]
        if self.folder is None or name not in self._names():
            raise PairsError(f"There is no dataset {name[:80]!r} here.")
        return Review(Dataset.find(self.folder / name))

    def _names(self) -> list[str]:
        try:
            inside = sorted(path for path in (self.folder or Path()).iterdir()) if self.folder else []
        except OSError:
            return []
        return [path.name for path in inside if (path / "dataset.json").is_file()]

    def _entry(self, name: str) -> dict[str, Any]:
        review = self.review(name)
        pairs = review.pairs()
        return {
            "name": name,
            "path": str(review.dataset.path),
            "pairs": len(pairs),
            "kept": sum(pair["kept"] for pair in pairs),
            "decided": sum(pair["decision"] is not None for pair in pairs),
        }
