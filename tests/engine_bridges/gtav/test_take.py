"""A take of the fake game against its truth, by numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from capture.conventions import canonical_entity
from capture.frame import Frame
from tests.engine_bridges.gtav.game import Game, Recording
from tests.engine_bridges.gtav.truth import STEP_SECONDS, Errors, errors, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900, func_only=True)]


def assert_right(recording: Recording, *, least: int = 20, normals: bool = True) -> list[Frame]:
    """The game ended well, and frames of its take are right to the figures that the mod promises."""
    assert recording.returncode == 0, recording.printed + recording.log
    frames = recording.frames
    assert len(frames) >= least, recording.log
    deep = [frame for frame in frames if "depth" in frame.channels]
    assert len(deep) >= least, recording.log
    truth = recording.truth
    for frame in deep[:: max(1, len(deep) // 8)]:
        step = shown(frame)
        assert frame.time == pytest.approx(step * STEP_SECONDS), f"the colour is of step {step}"
        found = errors(frame, truth, step)
        assert found.depth < 1e-3 and found.sky == 0, (step, found)
        assert found.camera < 1, (step, found)
        assert found.stencil == 0, (step, found)
        if normals:
            assert "normal" in frame.channels or frame is deep[0], recording.log
            assert found.normal < 1, (step, found)
        before = errors(frame, truth, step - 1) if step else Errors(1, 0, 1, 10, 1)
        assert before.depth > found.depth and before.camera > found.camera, "the truth of another step fits as well"
    return deep


def residuals(frames: list[Frame]) -> list[tuple[float, float]]:
    """Millimetres and thousandths of a degree of each frame that was matched by matrices."""
    found = [re.match(r"sync matrices lag=-?\d+ mm=([\d.]+) mdeg=([\d.]+)", flag) for f in frames for flag in f.flags]
    return [(float(m[1]), float(m[2])) for m in found if m]


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ("640x360", ()),
        ("400x300", ("--seed", "2", "--lag", "2", "--passes", "3", "--decoy")),
        ("840x360", ("--seed", "3", "--lag", "0", "--reuse-normals", "--clear-again", "--format", "28")),
        ("417x233", ("--seed", "13", "--lag", "0", "--roll", "25")),
    ],
    ids=[
        "usual",
        "4:3, two frames behind, three passes, another depth",
        "21:9, in step, buffers used again",
        "odd, rolled",
    ],
)
def test_the_take_is_the_scene(game: Game, size: str, options: tuple[str, ...]) -> None:
    recording = game.record(*options, least=30, size=size)
    deep = assert_right(recording)
    proofs = residuals(deep)
    assert len(proofs) == len(deep) and max(mm for mm, _ in proofs) < 2 and max(mdeg for _, mdeg in proofs) < 20
    assert not recording.notices and "ends." in recording.log


def test_boxes_of_cars_and_people_are_those_of_the_frame(game: Game) -> None:
    recording = game.record(least=20)
    frame = assert_right(recording)[-1]
    told = {box["handle"]: box for box in recording.truth.steps[shown(frame)]["boxes"] if box["kind"] in (0, 1)}
    take = recording.takes[0]
    assert len(frame.entities) == len(told)
    for entity in frame.entities:
        box = told[entity.id]
        canonical = canonical_entity(entity, take.conventions)
        assert canonical.cls == ("player" if box["stencil"] == 129 else ("vehicle", "person")[box["kind"]])
        assert canonical.size == pytest.approx(2 * np.array(box["half"]), rel=1e-5)
        np.testing.assert_allclose(entity.pose[:3, 3], box["pose"][3], atol=2e-3)
        np.testing.assert_allclose(entity.pose[:3, :3], np.array(box["pose"][:3]).T, atol=1e-5)
        np.testing.assert_allclose(entity.velocity, box["velocity"], atol=1e-4)
    (world,) = recording.notes("world")[:1]
    assert world["clock"] == "14:30" and world["weather"] == "EXTRASUNNY"


def test_without_readable_matrices_the_camera_is_counted(game: Game) -> None:
    recording = game.record("--hide-matrices", least=20)
    assert all(any(flag.startswith("sync count") for flag in frame.flags) for frame in recording.frames)
    assert_right(recording)


def test_a_rolled_camera_of_the_other_sign_is_found_out(game: Game) -> None:
    """The natives' sign of roll is not documented for cameras: the matrices decide."""
    recording = game.record("--roll", "12", "--other-roll", least=30)
    frame = [frame for frame in recording.frames if "depth" in frame.channels][-1]
    found = errors(frame, recording.truth, shown(frame))
    assert found.camera < 1 and found.normal < 1, found


def test_lossless_records_every_step(game: Game) -> None:
    game.settings(mode="lossless")
    recording = game.record(least=60)
    frames = assert_right(recording, least=60)
    steps = [shown(frame) for frame in recording.frames]
    assert steps == list(range(steps[0], steps[0] + len(steps))) and frames[-1].dropped_before == 0


def test_scaled_down(game: Game) -> None:
    game.settings(scale=3)
    recording = game.record(least=20, size="640x360")
    frame = [frame for frame in recording.frames if "normal" in frame.channels][-1]
    assert frame.color.shape == (120, 213, 3)
    step = round(frame.time / STEP_SECONDS)
    found = errors_of_scaled(frame, recording, step)
    assert found < 1e-3


def errors_of_scaled(frame: Frame, recording: Recording, step: int) -> float:
    """Greatest error of depth, by the recorded camera itself: of an odd scale, pixels are in the middle of theirs."""
    x, y = np.meshgrid(np.arange(4.0, 213, 9), np.arange(4.0, 120, 7))
    seen = recording.truth.see(step, frame.camera, x.ravel(), y.ravel())
    solid = seen.inside & np.isfinite(seen.depth)
    recorded = frame.depth[seen.y.astype(int)[solid], seen.x.astype(int)[solid]]
    return float(np.max(np.abs(recorded - seen.depth[solid]) / seen.depth[solid]))


def test_the_thread_that_renders_is_hardly_kept(game: Game) -> None:
    """Measured inside the game, without what Direct3D itself takes for the orders to copy."""
    recording = game.record(least=31, ticks=1, size="1280x720")
    (line,) = [line for line in recording.log.splitlines() if "was kept for" in line][:1]
    told = re.search(r"was kept for ([\d.]+) ms .* a captured frame, and for ([\d.]+) ms", line)
    assert told and float(told[1]) < 1, line
