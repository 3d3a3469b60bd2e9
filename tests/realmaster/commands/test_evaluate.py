"""How scores are shown on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from realmaster.commands.evaluate import scores_table
from realmaster.measure import MEASURES


@pytest.mark.parametrize("width", [80, 140])
def test_every_number_is_there_however_narrow_the_terminal(width: int) -> None:
    scores = {video: dict.fromkeys(MEASURES, 1234.5) for video in ("lifted", "render", "reference")}
    shown = io.StringIO()
    Console(file=shown, width=width).print(scores_table(scores, "48 frames"))
    assert shown.getvalue().count("1234") == 3 * len(MEASURES)
    assert "…" not in shown.getvalue()
