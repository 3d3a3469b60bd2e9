"""The state of a training on disk: written whole or not at all, the last few kept.

Works on plain values and tensors; knows neither model nor loop.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch

from capture.files import write_atomically
from realmaster.train.settings import TrainError


class Checkpoints:
    """States of one expert, by the number of updates done."""

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self._folder, self._name, self._keep = folder, name, keep

    def all(self) -> list[tuple[int, Path]]:
        """(updates, file), oldest first."""
        pattern = re.compile(rf"{re.escape(self._name)}-(\d+)\.pt")
        found = (pattern.fullmatch(path.name) for path in self._folder.glob("*.pt"))
        return sorted((int(match[1]), self._folder / match[0]) for match in found if match)

    def save(self, updates: int, state: dict[str, Any]) -> Path:
        """Write a state, then delete what is older than the last few. Raises `TrainError` when there is no room."""
        path = self._folder / f"{self._name}-{updates:06d}.pt"
        data = io.BytesIO()
        torch.save(state, data)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data.getvalue())
            for _, old in self.all()[: -self._keep]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise TrainError(
                f"The checkpoint {path} cannot be written ({error.strerror}): make room, then go on with --resume."
            ) from error
        return path

    def load(self) -> dict[str, Any] | None:
        """The latest state that can be read; None where there is none."""
        for _, path in reversed(self.all()):
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            except Exception as error:  # whatever a torn file makes torch raise: an older one will do
                last = error, path
        if self.all():
            raise TrainError(f"No checkpoint in {self._folder} can be read; the latest, {last[1].name}: {last[0]}.")
        return None
