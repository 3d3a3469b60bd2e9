"""Live lifting: which frames come next, when they are shown, and that windows are chained without a seam."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from capture.errors import UserError
from daemon.lifts import LiftQueue
from daemon.live import Choice, Player, _prefix_length, _Window, next_frames
from daemon.preview import Picture
from daemon.service import DaemonConfig, Service

from . import lifters
from .engines import playing, settled, until


@pytest.mark.parametrize(
    ("held", "after", "count", "choice"),
    [
        ([], None, 1, None),
        ([5, 6, 7], None, 1, Choice(2, 3, 0)),  # at first the newest one
        ([5, 6, 7], 7, 1, None),
        ([5, 6, 7, 8], 5, 4, None),
        ([5, 6, 7, 8], 5, 3, Choice(1, 4, 0)),  # as long as it keeps up, what follows at once
        ([5, 6, 7, 8, 9], 5, 3, Choice(1, 4, 0)),
        ([5, 6, 7, 8, 9, 10, 11], 5, 3, Choice(4, 7, 3)),  # a whole window behind: the newest
        ([20, 21, 22], 5, 3, Choice(0, 3, 0)),
        ([5, 6, 9, 12], 7, 2, Choice(2, 4, 0)),  # dropped frames leave gaps in the serials
        ([0, 1, 2], 400, 1, None),
    ],
)
def test_which_frames_come_next(held: list[int], after: int | None, count: int, choice: Choice | None) -> None:
    assert next_frames(held, after, count) == choice


def test_a_prefix_is_of_a_length_that_the_model_takes() -> None:
    rules = {"window": 25, "overlap": 9, "frame_step": 8}
    assert [_prefix_length(frames, rules) for frames in (1, 8, 9, 25)] == [1, 1, 9, 9]
    assert _prefix_length(1, {"window": 1, "overlap": 0, "frame_step": 1}) == 0


def window(times: list[float], session: str = "a") -> _Window:
    pixels = np.zeros((len(times), 16, 16, 3), np.uint8)
    return _Window(session, list(range(len(times))), times, pixels, pixels, 0.0)


def test_frames_are_shown_at_their_distances_and_the_delay_shrinks_slowly() -> None:
    player = Player(lambda picture: None)
    assert player.due(window([10.0, 10.5]), 100.0) == [100.0, 100.5]  # at once
    assert player.due(window([11.0, 11.5]), 102.0) == [102.0, 102.5]  # too late: from now on later
    assert player.due(window([12.0, 12.5]), 102.2) == [102.8, 103.3]  # early: a quarter of it is taken back
    assert player.due(window([20.0]), 105.0) == [105.0]  # the clock has jumped
    assert player.due(window([3.0]), 106.0) == [106.0]  # backwards too
    assert player.due(window([3.1], "b"), 107.0) == [107.0]  # another session
    player.close()


@pytest.fixture
def chained(tmp_path: Path) -> Iterator[Service]:
    """A daemon whose model lifts windows of 9 frames that begin with 3 of the window before."""
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    service = Service(config)
    service.lifts = LiftQueue(config.takes, load=lifters.load_chained)
    with service:
        yield service


def test_windows_are_chained_and_every_frame_is_shown_with_its_source(chained: Service) -> None:
    seen: list[Picture] = []
    chained.watch("test", seen.append, ("lifted", "source"))
    chained.live.set(True, prompt="street")
    until(lambda: chained.lifts.rules, 120, "the model")
    with playing(chained.endpoint, every=0.04):
        until(lambda: len(seen) >= 80, what="lifted windows")
        state = chained.live.state()
        assert state["on"] and state["lag"] is not None and state["fps"] > 0 and state["every"] >= 1
        assert state["problem"] is None
        shown = seen[:80]
        assert [picture.view for picture in shown] == ["source", "lifted"] * 40
        serials = [picture.serial for picture in shown[::2]]
        assert serials == [picture.serial for picture in shown[1::2]] == sorted(set(serials))
        chained.live.set(False)
        settled(lambda: len(seen))  # the engine goes on, and nothing of it is lifted or shown
        assert chained.live.state()["what"] == "off"


def test_a_model_that_fails_again_and_again_is_switched_off(chained: Service) -> None:
    chained.live.set(True, prompt="fail")
    with playing(chained.endpoint):
        until(lambda: not chained.live.state()["on"], 150, "the end of live lifting")
        assert chained.live.state()["problem"].endswith("after 3 failures. It failed as it was asked to.")


def test_where_nothing_is_kept_there_is_nothing_to_lift_live(tmp_path: Path) -> None:
    config = DaemonConfig(tmp_path / "takes", "tcp://127.0.0.1:*", "127.0.0.1:0", replay_seconds=0)
    with Service(config) as service:
        with pytest.raises(UserError, match="--replay-seconds above 0"):
            service.live.set(True)
        assert service.live.state()["on"] is False
        service.live.set(False)
