"""Every way of drawing in the zoo, through the library and the daemon's own ingest into a take: depth against truth."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from capture.frame import Frame
from capture.take import Take
from tests.daemon.engines import until

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from daemon.ingest import Ingest
from engine_bridges.opengl.launch import SAYS, Game
from tests.engine_bridges.opengl.truth import Truth, shown, wrong

pytestmark = pytest.mark.usefixtures("on_display")

ALMOST_NONE = 0.03
"""Share of pixels that may be wrong: those along silhouettes and the horizon."""

ICON = (slice(0, 64), slice(-64, None))
"""Where the zoo draws its icon."""


@dataclass
class Recording:
    frames: list[Frame]
    truth: Truth
    printed: str
    """What the library said, a sentence a line."""


@pytest.fixture
def record(zoo: Path, library: Path, tmp_path: Path):  # noqa: ANN201
    """Record so many frames of a mode, lossless; the zoo must end well, which proves that its state was left alone."""

    def run(mode: str, frames: int = 12, *options: str, **settings: str) -> Recording:
        closed: list[dict] = []
        ingest = Ingest(
            "tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True, frames=frames, replay_seconds=0.0,
            previews=False, on_event=lambda event: closed.append(event) if event["event"] == "take_closed" else None,
        )  # fmt: skip
        truth = tmp_path / "truth.jsonl"
        with ingest:
            environment = {
                "REALMASTER_ENDPOINT": ingest.endpoint, "REALMASTER_TOKEN": ingest.token,
                "REALMASTER_GL_MODE": "lossless", "REALMASTER_GL_WAIT": "3", **settings,
            }  # fmt: skip
            command = [str(zoo), mode, "--truth", str(truth), *options]
            printed = ""
            with Game(command, library, environment) as game:

                def over() -> bool:
                    nonlocal printed
                    printed += game.news()
                    return bool(closed) or not game.running

                until(over, timeout=60, what=f"a take of {frames} frames")
            assert not game.failed, (game.ending(), printed)
        takes = [Take(path) for path in sorted((tmp_path / "takes").iterdir())]
        said = "\n".join(line.removeprefix(SAYS) for line in printed.splitlines() if line.startswith(SAYS))
        return Recording([frame for take in takes for frame in take], Truth.read(truth), said)

    return run


def assert_right(recording: Recording, but: tuple[slice, slice] | None = None, tolerance: float = 0.01) -> list[Frame]:
    """The depth is the scene's, of the frame that the colour shows; the frames that have one, a dozen of which are
    compared with the truth."""
    deep = [frame for frame in recording.frames if "depth" in frame.channels]
    assert deep, f"no frame has depth: {recording.printed}"
    for frame in {id(frame): frame for frame in (*deep[:: len(deep) // 12 + 1], deep[-1])}.values():
        number = shown(frame)
        depth, truths = frame.depth.copy(), [recording.truth.depth(n) for n in (number, number - 1) if n >= 0]
        if but is not None:
            for picture in (depth, *truths):
                picture[but] = np.inf
        errors = [wrong(depth, truth, tolerance) for truth in truths]
        assert errors[0] < ALMOST_NONE, f"frame {number}: {errors[0]:.1%} of the depth is wrong; {recording.printed}"
        assert errors[0] == min(errors), f"frame {number} has the depth of another frame"
    return deep


def assert_measured(recording: Recording, frames: list[Frame]) -> None:
    """The projection is said to be measured, and is the zoo's."""
    for frame in frames:
        camera, truth = frame.camera, recording.truth.frames[shown(frame)]
        assert frame.channels["depth"].descriptor.projection == "measured"
        assert camera is not None and "no_pose" in frame.flags
        width, height = truth["size"]
        assert camera.fy == pytest.approx(height / 2 / np.tan(truth["vfov"] / 2), rel=1e-3)
        assert camera.fx == pytest.approx(camera.fy, rel=1e-3)
        assert (camera.cx, camera.cy) == pytest.approx(((width - 1) / 2, (height - 1) / 2), abs=0.01)
        assert camera.near == pytest.approx(truth["near"], rel=1e-3)
        assert camera.far == pytest.approx(truth["far"], rel=1e-2)


MEASURED = (
    "fixed", "separate", "combined", "buffer", "infinite", "deferred", "blit", "renderbuffer", "msaa", "msaa_window",
    "shadow", "held", "held_target", "hud", "reversed", "reversed_infinite", "flipped_range", "egl", "pbuffer",
    "loader", "two_windows", "odd_state",
)  # fmt: skip


@pytest.mark.parametrize("mode", MEASURED)
def test_depth_and_projection(mode: str, record) -> None:  # noqa: ANN001
    recording = record(mode)
    # A sample of a multisampled pixel is not at its centre, which tells on a floor seen at a grazing angle.
    deep = assert_right(recording, tolerance=0.05 if "msaa" in mode else 0.01)
    assert_measured(recording, deep)
    assert len(deep) >= len(recording.frames) // 2, "the depth came too late"


@pytest.mark.parametrize("mode", ("icon", "icon_kept", "everything"))
def test_the_scene_around_a_model_in_the_corner(mode: str, record) -> None:  # noqa: ANN001
    recording = record(mode)
    assert_measured(recording, assert_right(recording, but=ICON))


def test_half_the_resolution_is_right_or_refused(record) -> None:  # noqa: ANN001
    recording = record("half")
    if not any("depth" in frame.channels for frame in recording.frames):
        assert "160x120" in recording.printed  # named
        return
    for frame in recording.frames:
        if "depth" in frame.channels:
            height, width = frame.depth.shape
            step = 240 // height
            truth = recording.truth.depth(shown(frame))[step // 2 :: step, step // 2 :: step]
            assert width == 320 // step and wrong(frame.depth, truth, 0.05) < 2 * ALMOST_NONE


def test_a_scene_without_perspective_is_not_called_measured(record) -> None:  # noqa: ANN001
    recording = record("ortho")
    deep = [frame for frame in recording.frames if "depth" in frame.channels]
    assert all(frame.channels["depth"].descriptor.projection != "measured" for frame in deep)


def test_a_menu_first_and_the_scene_later(record) -> None:  # noqa: ANN001
    recording = record("menu", 30)
    deep = assert_right(recording)
    assert_measured(recording, deep)
    assert min(map(shown, deep)) >= recording.truth.scene["menu_until"]


def test_depth_that_no_longer_changes_is_refused_by_name(record) -> None:  # noqa: ANN001
    recording = record("stale", 80, "--frames", "120")
    last = recording.truth.scene["stale_after"]
    deep = assert_right(recording)
    assert max(map(shown, deep)) < last
    assert max(map(shown, recording.frames)) > last, "the colour goes on"
    assert "without depth" in recording.printed


@pytest.mark.parametrize("mode", ("resize", "resize_target"))
def test_another_resolution_in_the_middle(mode: str, record) -> None:  # noqa: ANN001
    recording = record(mode, 80, "--frames", "80")
    deep = assert_right(recording)
    sizes = {frame.depth.shape for frame in deep}
    assert sizes == {(240, 320), (300, 240)}
    assert {shown(frame) for frame in recording.frames} >= set(range(45, 75)), "frames were lost"
    assert_measured(recording, deep)


def test_what_opengl_es_cannot_give_is_named(record) -> None:  # noqa: ANN001
    recording = record("es")
    if any("depth" in frame.channels for frame in recording.frames):
        assert_right(recording)
    else:
        assert "OpenGL ES" in recording.printed


def test_declared_values_are_said_to_be_declared(record) -> None:  # noqa: ANN001
    """Where the projection cannot be read, what the user declares is taken, and gives the right depth."""
    declared = {"REALMASTER_GL_VFOV": "60", "REALMASTER_GL_NEAR": "0.2", "REALMASTER_GL_FAR": "60"}
    for frame in record("ortho", **declared).frames:
        if "depth" in frame.channels:
            assert frame.channels["depth"].descriptor.projection == "declared"


def test_the_unit_is_known_only_when_declared(record) -> None:  # noqa: ANN001
    (*_, unknown) = record("fixed").frames
    assert unknown.channels["depth"].descriptor.scale == "unknown"


def test_a_declared_unit_gives_metres(record) -> None:  # noqa: ANN001
    recording = record("fixed", REALMASTER_GL_METRES_PER_UNIT="0.5")
    frame = recording.frames[-1]
    assert frame.channels["depth"].descriptor.in_metres
    assert wrong(frame.depth * 2, recording.truth.depth(shown(frame))) < ALMOST_NONE
