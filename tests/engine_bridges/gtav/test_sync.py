"""A frame whose parts are not of one moment is named by the doctor; one whose parts are is not."""

from __future__ import annotations

import pytest

from capture.health import examine_take
from tests.engine_bridges.gtav.game import Game

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900, func_only=True)]

PLANTED = {"color": "color_late", "depth": "depth_late", "pose": "pose_late"}


@pytest.mark.parametrize(("late", "seed"), [(None, 1), ("color", 2), ("depth", 3), ("pose", 4)])
def test_what_is_late_is_named(game: Game, late: str | None, seed: int) -> None:
    game.settings(mode="lossless")
    options = ["--late", late] if late else []
    recording = game.record("--seed", str(seed), *options, least=60)
    (take,) = recording.takes
    assert len(take) >= 60, recording.log
    health = examine_take(take).health
    assert health.mistakes == ((PLANTED[late],) if late else ()), health.line
