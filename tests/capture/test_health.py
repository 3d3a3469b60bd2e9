"""The doctor: every mistake, planted in healthy frames, is named; healthy frames raise no alarm, however odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture.errors import FrameError
from capture.frame import Channel, Frame
from capture.health import examine, keep_health, read_health
from capture.health.mistakes import MISTAKES, applies, plant, without_geometry
from capture.health.picture import draw
from capture.health.report import Health
from capture.health.runs import redeclared, small_frame
from capture.take import TakeWriter

from .health_scenes import city, game, record_panda3d

IN_CITY = [name for name in MISTAKES if name != "normal_world"]  # it sends them in camera space
UNTOLD = ("depth_near", "depth_far", "depth_scale", "color_early")
"""Mistakes that colour and depth alone cannot show: they leave planes planes, and the unit is unknown anyway; and of
two channels either may be the one that is late."""

IN_GAME = [n for n in MISTAKES if n.split("_")[0] in ("color", "picture", "depth") and n not in UNTOLD]

QUICK = ("depth_rows", "color_late", "depth_late", "pose_late", "depth_ray", "depth_reversed", "fov_wide",
         "normal_axes_swapped", "camera_axes_back", "depth_stale", "depth_8_bit")  # fmt: skip
"""Those that are tried in every quick run."""


@pytest.fixture(scope="module")
def panda(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    return record_panda3d(tmp_path_factory.mktemp("panda"))


def assert_names(frames: list[Frame], mistake: str) -> Health:
    health = examine(plant(frames, mistake)).health
    assert len(health.mistakes) == 1, (mistake, health.mistakes, health.line)
    assert mistake.startswith(health.mistakes[0]), (mistake, health.mistakes, health.line)
    assert all(check.sentence.endswith(".") for check in health.checks)
    return health


def assert_no_alarm(frames: list[Frame]) -> Health:
    health = examine(frames).health
    assert not health.problems, [(check.name, check.sentence, check.figure) for check in health.problems]
    assert not health.mistakes
    return health


@pytest.mark.parametrize("mistake", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in IN_CITY])
def test_city_mistake_is_named(mistake: str) -> None:
    assert_names(city(), mistake)


@pytest.mark.parametrize("mistake", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in IN_GAME])
def test_mistake_in_colour_and_depth_alone_is_named(mistake: str) -> None:
    assert_names(game(10_000_004), mistake)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_panda3d_mistakes_are_named(panda: list[Frame]) -> None:
    """A steady camera's late pose, and red for blue where little sky is seen, may be silent; never misnamed."""
    missed = []
    for mistake in MISTAKES:
        if applies(panda[0], mistake):
            silent = mistake in ("pose_late", "pose_early", "color_bgr")
            if silent and not examine(plant(panda, mistake)).health.mistakes:
                continue
            try:
                assert_names(panda, mistake)
            except AssertionError as error:
                missed.append(str(error).splitlines()[0])
    assert not missed


@pytest.mark.slow
def test_panda3d_is_healthy(panda: list[Frame]) -> None:
    health = assert_no_alarm(panda)
    assert health.line == "in sync"
    assert_no_alarm(without_geometry(panda))


@pytest.mark.parametrize("seed", [10_000_002, 10_000_005, 10_000_011])
def test_city_is_healthy(seed: int) -> None:
    health = assert_no_alarm(city(seed))
    assert health.line == "in sync"
    told = {check.name: check.verdict for check in health.checks}
    for name in ("in step", "rows", "depth law", "normals", "field of view", "camera", "up", "units"):
        assert told[name] == "good", name


def test_colour_and_depth_alone_are_healthy_and_say_what_cannot_be_told() -> None:
    health = assert_no_alarm(game())
    told = {check.name: check for check in health.checks}
    assert health.line == "in sync"
    assert told["depth law"].verdict == "good"  # planes prove it
    for name in ("normals", "camera", "up", "units"):
        assert told[name].verdict == "cannot tell", name


def only(frames: list[Frame], *names: str) -> list[Frame]:
    return [
        Frame(f.index, f.serial, f.time, f.raw_camera, {n: f.channels[n] for n in names}, f.conventions, f.flags)
        for f in frames
    ]


def recolored(frames: list[Frame], change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[Frame]:
    """Colours changed: f(colour as float [H, W, 3], depth) in 0..255."""
    changed = []
    for frame in frames:
        color = frame.channels["color"]
        data = np.clip(change(frame.color.astype(np.float64), frame.depth), 0, 255).astype(np.uint8)
        changed.append(redeclared(frame, {"color": Channel(color.descriptor, data, frame.serial)}))
    return changed


def test_colour_alone_says_nothing_wrong() -> None:
    health = assert_no_alarm(only(city(), "color"))
    assert health.line == "no fault found"


@pytest.mark.parametrize(("seed", "fps"), [(5, 8.0), (77, 6.0)])
def test_few_frames_a_second_are_no_alarm(seed: int, fps: float) -> None:
    """What lies between two frames that are compared is a time, not a number of frames."""
    assert_no_alarm(city(seed, fps=fps))


def test_a_sky_at_dusk_is_no_alarm() -> None:
    assert_no_alarm(city(41, size=(160, 90), layout="boulevard"))


def test_still_camera_cannot_prove_step() -> None:
    still = [replace_times(city()[0], i) for i in range(12)]
    health = assert_no_alarm(still)
    told = {check.name: check for check in health.checks}
    assert told["in step"].verdict == "cannot tell"
    assert told["camera"].verdict == "cannot tell"


def replace_times(frame: Frame, i: int) -> Frame:
    channels = {name: Channel(c.descriptor, c.data, i) for name, c in frame.channels.items()}
    return Frame(i, i, i / 24, frame.raw_camera, channels, frame.conventions)


@pytest.mark.parametrize(
    "weather",
    [
        lambda color, depth: color * 0.12,
        lambda color, depth: 200 - (200 - color) * np.exp(-np.nan_to_num(depth, posinf=1e4) / 25)[..., None],
        lambda color, depth: color * 0.05 + 120,
        lambda color, depth: color * (1.25, 0.85, 0.6) + (30, 10, 0),
        lambda color, depth: np.random.default_rng(3).normal(color, 12),
    ],
    ids=["night", "fog", "low contrast", "sunset", "noise"],
)
def test_odd_light_raises_no_alarm(weather: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    assert_no_alarm(recolored(city(10_000_007), weather))


def test_hud_raises_no_alarm_and_hides_no_lag() -> None:
    def hud(color: np.ndarray, depth: np.ndarray) -> np.ndarray:
        height, width = depth.shape
        color = color.copy()
        rows, columns = np.indices(depth.shape)
        letters = (rows > 5 * height / 6) & (columns < width / 3)
        color[letters] = np.where((rows + columns)[letters][:, None] % 7 < 3, 240, 20)
        color[height // 2 - 4 : height // 2 + 4, width // 2] = 255
        return color

    frames = without_geometry(recolored(city(10_000_007), hud))
    assert_no_alarm(frames)
    assert_names(frames, "color_late")


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_few_frames_raise_no_alarm(frames: int) -> None:
    health = assert_no_alarm(city()[:frames])
    assert health.frames == frames


def test_depth_of_half_the_size_is_examined() -> None:
    def half(frame: Frame) -> Frame:
        halved = {}
        for name in ("depth", "normal"):
            channel = frame.channels[name]
            data = np.ascontiguousarray(channel.data[::2, ::2])
            halved[name] = Channel(replace(channel.descriptor, shape=data.shape), data, frame.serial)
        return redeclared(frame, halved)

    frames = [half(frame) for frame in city()]
    assert_no_alarm(frames)
    assert_names(frames, "depth_late")


def test_two_frames_late_and_two_mistakes_at_once() -> None:
    frames = plant(plant(city(), "color_late"), "color_late")
    health = examine(frames).health
    assert health.mistakes == ("color_late",)
    assert "two" in health.line or "2 frames" in health.line
    health = examine(plant(plant(city(), "fov_wide"), "normal_axes_swapped")).health
    assert set(health.mistakes) == {"fov", "normal_axes"}


@pytest.mark.parametrize("mistake", ["color_late", "pose_late", "pose_early"])
def test_dropped_frames_hide_no_lag(mistake: str) -> None:
    """What is one frame late is then sometimes two or three of the recorded ones away."""
    kept: list[Frame] = []
    for i, frame in enumerate(plant(city(10_000_003, frames=45), mistake)):
        if i % 4 != 3 and i % 7 != 4:
            dropped = i - 1 - (kept[-1].index if kept else -1)
            kept.append(
                Frame(i, frame.serial, frame.time, frame.raw_camera, frame.channels, frame.conventions,
                      entities=frame.entities, dropped_before=dropped)
            )  # fmt: skip
    health = examine(kept).health
    assert health.mistakes == (mistake,), health.line
    assert f"one frame {mistake.split('_')[1]}" in health.line


def test_figures_say_what_fits() -> None:
    truth = examine(city()).health
    degrees = {check.name: check.figure for check in truth.checks}["field of view"].split("°")[0]
    planted = assert_names(city(), "fov_wide")
    figure = {check.name: check.figure for check in planted.checks}["field of view"]
    fits = float(figure.split("declared, ")[1].split("°")[0])
    assert fits == pytest.approx(float(degrees), abs=1.5)


def test_small_frames_keep_geometry() -> None:
    frame = city(size=(240, 134))[0]
    small = small_frame(frame, 90)
    assert small.shape == (45, 80)
    step = 3
    y0, x0 = (134 - 1) % step // 2, (240 - 1) % step // 2
    assert np.array_equal(small.depth, frame.depth[y0::step, x0::step])
    assert small.camera is not None and frame.camera is not None
    # The same ray through the same point: pixel (10, 20) of the small picture is (10 step + y0, 20 step + x0).
    here, there = small.camera, frame.camera
    assert (20 - here.cx) / here.fx == pytest.approx((20 * step + x0 - there.cx) / there.fx)
    assert (10 - here.cy) / here.fy == pytest.approx((10 * step + y0 - there.cy) / there.fy)


def test_plant_refuses_what_cannot_be() -> None:
    with pytest.raises(FrameError, match="no mistake 'nonsense'"):
        plant(city(), "nonsense")
    with pytest.raises(FrameError, match="lack what it is about"):
        plant(game(), "normal_axes_swapped")


def test_picture_can_be_drawn_of_anything() -> None:
    for frames in (city(), plant(city(), "depth_flat"), game(), only(city(), "color"), city()[:1], []):
        picture = draw(examine(frames), "a take")
        assert picture.width > 1000


def test_health_is_kept_in_the_take(tmp_path: Path) -> None:
    frames = plant(city(), "depth_late")
    descriptors = [channel.descriptor for channel in frames[0].channels.values()]
    options = {"conventions": frames[0].conventions, "descriptors": descriptors, "engine": "city", "preview": False}
    with TakeWriter(tmp_path / "take", **options) as writer:
        for frame in frames:
            writer.append(frame)
    assert read_health(tmp_path / "take") is None
    assert keep_health(tmp_path / "take")
    kept = read_health(tmp_path / "take")
    assert kept is not None
    assert kept["mistakes"] == ["depth_late"]
    assert kept["line"] == "the depth is one frame late"
    assert not keep_health(tmp_path / "nothing")
