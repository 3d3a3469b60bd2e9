"""What goes wrong around the mod: the game never crashes, the log has a sentence, and what can go on goes on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.capture.small_daemon import TOKEN, SmallDaemon
from tests.daemon.engines import until
from tests.engine_bridges.gtav.game import Game, Recording
from tests.engine_bridges.gtav.test_take import assert_right
from tests.engine_bridges.gtav.truth import errors, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300, func_only=True)]

SYSTEM = {
    "kernel32.dll", "msvcrt.dll", "ws2_32.dll", "advapi32.dll", "user32.dll", "d3d11.dll", "dxgi.dll", "ntdll.dll",
    "ucrtbase.dll",
}  # fmt: skip


def test_the_asi_needs_nothing_but_windows(windows_build: Path) -> None:
    told = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", windows_build / "realmaster.asi"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    needed = {name.lower() for name in re.findall(r"DLL Name: (\S+)", told)}
    assert needed and needed <= SYSTEM


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--samples", "4"), "msaa"),
        (("--scale", "1.5"), "frame_scaling"),
        (("--wrong-depth",), "depth_format"),
        (("--ambiguous",), "gbuffer_ambiguous"),
    ],
)
def test_depth_that_cannot_be_trusted_is_refused_by_name(game: Game, options: tuple[str, ...], reason: str) -> None:
    recording = game.record(*options, frames=40)
    assert recording.returncode == 0, recording.printed
    assert len(recording.frames) >= 10 and all("depth" not in frame.channels for frame in recording.frames)
    assert all(frame.camera is not None for frame in recording.frames)
    sentence = recording.notices[reason]
    assert sentence and "depth is left out" in sentence and sentence in recording.log


def test_a_resolution_that_changes(game: Game) -> None:
    recording = game.record("--resize", "25:400x300", "--resize", "45:320x128", "--resize", "46:256x160", frames=75)
    assert recording.returncode == 0, recording.printed + recording.log
    sizes = {frame.color.shape[1::-1] for frame in recording.frames if "depth" in frame.channels}
    assert {(320, 180), (400, 300), (256, 160)} <= sizes
    for frame in recording.frames[::5]:
        if "depth" in frame.channels:
            assert errors(frame, recording.truth, shown(frame)).depth < 1e-3


def test_a_device_that_is_lost(game: Game) -> None:
    recording = game.record("--lose", "25", frames=60)
    assert_right(recording)
    assert "another device" in recording.log and max(shown(frame) for frame in recording.frames) > 40


def test_a_window_that_is_hidden_for_a_while(game: Game) -> None:
    recording = game.record("--hidden", "20:40", frames=70)
    assert_right(recording)
    steps = [shown(frame) for frame in recording.frames]
    # The frame that is shown first is left out: its depth was copied when the game last drew unseen.
    assert not set(steps) & set(range(20, 41)) and max(steps) > 50


def test_the_mod_is_loaded_anew(game: Game) -> None:
    """As ScriptHookV does at its reload key: everything is put back, unloaded, and begins again."""
    recording = game.record("--reload", "25", "--reload", "26", "--reload", "50", "--pace", "20", frames=90)
    assert recording.returncode == 0, recording.printed + recording.log
    assert "did not unload" not in recording.printed
    assert recording.log.count("begins.") == 4 and recording.log.count("ends.") == 4
    assert len(recording.takes) >= 2
    assert_right(recording)


def test_online_it_switches_itself_off(game: Game) -> None:
    recording = game.record("--online", "30", frames=60)
    assert recording.returncode == 0 and "single player only" in recording.log
    steps = [shown(frame) for frame in recording.frames]
    assert steps and max(steps) <= 30


def test_menus_and_cutscenes_are_marked(game: Game) -> None:
    recording = game.record("--menu", "20:40", "--cutscene", "45", frames=60)
    for frame in recording.frames:
        step = shown(frame)
        assert ("menu" in frame.flags) == (20 <= step < 40) and ("cutscene" in frame.flags) == (step >= 45)


def test_keys(game: Game) -> None:
    """F9 begins and ends a take, F11 hides the HUD, F8 writes a frame with all its buffers."""
    game.settings(mode="take")
    f8, f9, f11 = 119, 120, 122

    recording = game.record(
        "--key", f"20:{f9}", "--key", f"50:{f11}", "--key", f"60:{f8}", "--key", f"90:{f9}", "--pace", "20",
        frames=110, auto_record=False,
    )  # fmt: skip
    assert recording.returncode == 0, recording.printed + recording.log
    (take,) = recording.takes
    steps = [shown(frame) for frame in take]
    assert 20 <= min(steps) and max(steps) <= 95 and len(steps) > 20
    hud = {"hud" in frame.flags: frame.color[-50, 50].tolist() for frame in take}
    assert hud[True] == [230, 26, 230] and hud[False] != [230, 26, 230]
    assert_dump(recording)


def assert_dump(recording: Recording) -> None:
    (folder,) = recording.folder.glob("realmaster-dump-*")
    frame = json.loads((folder / "frame.json").read_text())
    passes = [entry for entry in frame["frame"] if "pass" in entry]
    (gbuffer,) = [entry for entry in passes if len(entry["targets"]) == 4 and entry["depth"]["width"] == 320]
    assert gbuffer["depth"]["dxgi_format"] == 19 and len(gbuffer["constants"]) >= 2
    data = (folder / gbuffer["depth"]["file"]).read_bytes()
    assert data[:4] == b"DDS " and data[84:88] == b"DX10" and len(data) == 148 + 320 * 180 * 8
    pixels = np.frombuffer(data, np.uint8, offset=148).reshape(180, 320, 8)
    assert set(np.unique(pixels[..., 4])) <= {0, 1, 2, 3, 4, 7, 129, 130}
    assert (folder / frame["present"]["file"]).stat().st_size == 148 + 320 * 180 * 4


def test_settings_that_are_wrong_are_named(game: Game) -> None:
    game.settings(mode="fast", colour="yes", scale="9", key_take="F99")
    process = game.start("--frames", "3")
    process.communicate(timeout=120)
    log = (game.folder / "realmaster.log").read_text()
    assert "mode must be live, take or lossless" in log and "there is no setting colour" in log
    assert "scale must be a whole number from 1 to 4" in log and "key_take must be" in log


def test_without_script_hook(game: Game) -> None:
    (game.folder / "ScriptHookV.dll").unlink()
    process = game.start("--frames", "10", "--hook", "")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "There is no ScriptHookV.dll" in (game.folder / "realmaster.log").read_text()


@pytest.mark.parametrize(("old", "reason"), [(True, "old_script_hook"), (False, "enhanced")])
def test_camera_and_entities_without_pixels(game: Game, old: bool, reason: str) -> None:
    """An old ScriptHookV, and the Enhanced edition: no pixels, which is said, and no pretence of any."""
    if old:
        game.use_old_script_hook()
    with SmallDaemon() as daemon:
        place = {"REALMASTER_ENDPOINT": daemon.endpoint, "REALMASTER_TOKEN": TOKEN}
        options = [] if old else ["--enhanced"]
        process = game.start("--frames", "150", "--pace", "15", *options, environment=place)
        printed, _ = process.communicate(timeout=200)
        assert process.returncode == 0, printed
        events = [message for message in daemon.messages if message.type == "event"]
        assert not daemon.frames
    notices = {event.data["reason"] for event in events if event.name == "notice"}
    cameras = [event.data for event in events if event.name == "camera"]
    assert reason in notices and len(cameras) > 10
    assert (len(cameras[-1]["entities"]) == 0) == old and len(cameras[-1]["pose"]) == 16


def test_without_a_daemon_and_with_one_that_comes_back(game: Game) -> None:
    """The game does not wait; a new daemon gets what comes after."""
    with SmallDaemon() as first:
        port = first.port
        place = {"REALMASTER_ENDPOINT": first.endpoint, "REALMASTER_TOKEN": TOKEN}
    # Nobody is there at first.
    process = game.start("--frames", "1000000", "--pace", "10", environment=place)
    try:
        for _ in range(2):
            with SmallDaemon(port) as daemon:
                until(lambda daemon=daemon: len(daemon.frames) > 5, timeout=100, what="frames")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(10)
    log = (game.folder / "realmaster.log").read_text()
    assert "is gone: frames wait or are dropped until it is back" in log
