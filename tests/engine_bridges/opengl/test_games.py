"""Real games, unchanged, recorded by the command line under Xvfb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture.frame import Frame
from capture.health.diagnosis import color_lags
from capture.health.edges import LAGS
from capture.health.shots import Shot
from capture.take import Take
from tests.daemon.engines import until

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from tests.engine_bridges.opengl.conftest import needs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_display", "library")]

ARENA = (
    "openarena +set net_ip 127.0.0.1 +set sv_pure 0 +set s_initsound 0 +set r_fullscreen 0 +set r_mode -1 "
    "+set r_customwidth 640 +set r_customheight 360 +set g_doWarmup 0 "
    "+devmap oa_dm1 +addbot Grism 3 +addbot Sarge 3 +wait 30 +team spectator "
    "+wait 20 +follow 1 +wait 40 +follow 1 +wait 80 +follow 1"
)
"""Two bots play, the camera follows the first. `wait` counts frames, and a slow machine shows few of them."""


@pytest.fixture(autouse=True)
def a_players_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Games keep their settings in the user's home: here in the test's own folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ALSOFT_DRIVERS", "null")  # without a sound card Extreme Tux Racer crashes now and then
    (tmp_path / "home" / ".config").mkdir(parents=True)


class Recording:
    """`realmaster record opengl` on its way."""

    def __init__(self, takes: Path, game: str, *options: str) -> None:
        command = [sys.executable, "-m", "realmaster", "record", "opengl", *options, "--takes", str(takes), "--json"]
        self.takes = takes
        self._process = subprocess.Popen(
            [*command, "--", *game.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def has_begun(self) -> bool:
        return bool(list(self.takes.glob("*/take.json"))) or self._process.poll() is not None

    def result(self, timeout: float = 240) -> Take:
        """The take. Fails with what was said when there is none."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            raise
        assert self._process.returncode == 0, err
        report = json.loads(out.splitlines()[-1])
        assert report["depth"] is not None and report["depth"]["projection"] == "measured", report
        return Take(report["take"])


def deep(take: Take, every: int = 1) -> list[Frame]:
    return [frame for frame in take[::every] if "depth" in frame.channels]


def assert_a_scene(frames: list[Frame]) -> None:
    """Depth that no menu, no sky and no held item alone would have; deep, but where a player stands before a wall."""
    deep = []
    for frame in frames:
        seen = frame.depth[np.isfinite(frame.depth)]
        assert seen.size > 0.2 * frame.depth.size and np.unique(seen).size > 1000
        near, far = np.percentile(seen, (5, 95))
        deep.append(far > 1.5 * near)
    assert np.mean(deep) > 0.7


def assert_in_step(take: Take) -> None:
    """Steps of depth lie on edges of the picture of the same frame, more than on those of any other."""
    runs: list[list[Shot]] = []
    for start in np.linspace(0, max(0, len(take) - 40), 4).astype(int):
        run = [frame for frame in take[start : start + 40] if "depth" in frame.channels]
        runs.append([replace(Shot.of(frame), color=frame.canonical(picture(frame))) for frame in run])
    curve = color_lags(runs)
    assert curve.best == 0, curve
    assert int(np.nanargmax(curve.agreement)) == LAGS.index(0), curve


def picture(frame: Frame) -> str:
    """The colour that fits depth: the one without a HUD, where it was told apart."""
    return "color_hudless" if "color_hudless" in frame.channels else "color"


def floor_share(frame: Frame) -> float:
    """Share of the lower third of the picture whose normals point up (the camera neither rolls nor dives much)."""
    lower = frame.normal[frame.normal.shape[0] * 2 // 3 :]
    return float(np.mean(lower[..., 1] < -0.6))


def test_openarena(tmp_path: Path) -> None:
    needs("openarena")
    take = Recording(tmp_path / "takes", ARENA, "--seconds", "20").result()
    frames = deep(take, every=max(1, len(take) // 40))
    assert len(frames) > 10
    assert_a_scene(frames)
    assert_in_step(take)
    assert np.median([floor_share(frame) for frame in frames]) > 0.3
    camera = frames[-1].camera
    assert camera is not None and frames[-1].shape == (360, 640)
    # The game's own settings: cg_fov is 90 degrees across the picture (water makes it waver), r_znear is 4 units.
    assert camera.near == pytest.approx(4, rel=1e-3)
    assert camera.fx == pytest.approx(320, rel=0.1) and camera.fy == pytest.approx(320, rel=0.1)


def test_extreme_tux_racer(tmp_path: Path, display: str) -> None:
    needs("etr", "xdotool")
    recording = Recording(tmp_path / "takes", "etr", "--seconds", "8", "--patience", "120")
    raced = threading.Event()

    def press_return() -> None:
        """Every menu's first choice leads to the race."""
        while not raced.wait(1.0):
            subprocess.run(["xdotool", "key", "Return"], timeout=30, env={**os.environ, "DISPLAY": display})

    thumb = threading.Thread(target=press_return, daemon=True)
    thumb.start()
    try:
        until(lambda: recording.has_begun, timeout=150, what="the race")
    finally:
        raced.set()
        thumb.join()
    take = recording.result()
    frames = deep(take, every=max(1, len(take) // 20))
    assert len(frames) > 5
    assert_a_scene(frames)
    assert_in_step(take)
    assert np.median([floor_share(frame) for frame in frames]) > 0.3
