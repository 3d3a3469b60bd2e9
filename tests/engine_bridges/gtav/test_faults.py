"""What goes wrong around the mod: the game never crashes, the log has a sentence, and what can go on goes on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from capture.wire import Control, Event
from tests.capture.small_daemon import TOKEN, SmallDaemon
from tests.daemon.engines import until
from tests.engine_bridges.gtav.game import Game, Recording
from tests.engine_bridges.gtav.test_take import assert_right
from tests.engine_bridges.gtav.truth import STEP_SECONDS, errors, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900, func_only=True)]

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
    recording = game.record(*options, least=10)
    assert recording.returncode == 0, recording.printed
    assert len(recording.frames) >= 10 and all("depth" not in frame.channels for frame in recording.frames)
    assert all(frame.camera is not None for frame in recording.frames)
    sentence = recording.notices[reason]
    assert sentence and "depth is left out" in sentence and sentence in recording.log


def test_a_resolution_that_changes(game: Game) -> None:
    recording = game.record(
        "--resize", "25:400x300", "--resize", "45:320x128", "--resize", "46:256x160", "--pace", "20", ticks=75, least=60
    )  # fmt: skip
    assert recording.returncode == 0, recording.printed + recording.log
    sizes = {frame.color.shape[1::-1] for frame in recording.frames if "depth" in frame.channels}
    assert {(320, 180), (400, 300), (256, 160)} <= sizes
    for frame in recording.frames[::5]:
        if "depth" in frame.channels:
            assert errors(frame, recording.truth, shown(frame)).depth < 1e-3


def test_a_storm_of_resolutions(game: Game) -> None:
    sizes = {10 + 2 * n: (140 + 67 * n % 560, 112 + 53 * n % 280) for n in range(20)}
    storm = [option for tick, (w, h) in sizes.items() for option in ("--resize", f"{tick}:{w}x{h}")]
    recording = game.record(*storm, "--pace", "10", ticks=70, least=60)
    assert_right(recording)
    for frame in recording.frames:
        if "depth" in frame.channels:
            found = errors(frame, recording.truth, shown(frame))
            assert found.depth < 1e-3 and found.camera < 1 and found.stencil == 0, (frame.depth.shape, found)
    assert len({frame.depth.shape for frame in recording.frames if "depth" in frame.channels}) >= 8


def test_a_device_that_is_lost(game: Game) -> None:
    recording = game.record("--lose", "25", least=60)
    assert_right(recording)
    assert "another device" in recording.log and max(shown(frame) for frame in recording.frames) > 40


@pytest.mark.parametrize(
    "options",
    [(), ("--lag", "2", "--passes", "3", "--clear-again", "--reuse-normals"), ("--lag", "0", "--decoy")],
    ids=["usual", "two frames behind, buffers used again", "in step, another depth"],
)
def test_a_window_that_is_hidden_for_a_while(game: Game, options: tuple[str, ...]) -> None:
    """What is drawn unseen is no part of the frame that is shown next."""
    at, hides = 15, []
    for length in (1, 2, 3, 4, 5, 10):
        hides.append(range(at, at + length))
        at += length + 12
    hidden = [option for hide in hides for option in ("--hidden", f"{hide.start}:{hide.stop}")]
    recording = game.record(*hidden, *options, "--pace", "30", ticks=at, least=20)
    assert_right(recording)
    frames = {shown(frame): frame for frame in recording.frames}
    assert not any(step in frames for hide in hides for step in hide)
    after = [hide.stop + later for hide in hides for later in range(3) if hide.stop + later in frames]
    assert sum(hide.stop in after for hide in hides) >= 3, (after, recording.log)  # a busy machine drops some
    for step in after:
        found = errors(frames[step], recording.truth, step)
        assert found.depth < 1e-3 and found.camera < 1 and found.stencil == 0 and found.normal < 1, (step, found)
        assert "normal" in frames[step].channels


def test_the_mod_is_loaded_anew(game: Game) -> None:
    """As ScriptHookV does at its reload key: everything is put back, unloaded, and begins again."""
    recording = game.record(
        "--reload", "25", "--reload", "26", "--reload", "50", "--pace", "20", ticks=70, least=20
    )  # fmt: skip
    assert recording.returncode == 0, recording.printed + recording.log
    assert "did not unload" not in recording.printed
    assert recording.log.count("begins.") == 4 and recording.log.count("ends.") == 4
    assert len(recording.takes) >= 2
    assert_right(recording)


def test_the_daemon_pauses_and_steps_the_game(game: Game) -> None:
    """And when it goes away, the game goes on."""
    game.settings()

    def stands(daemon: SmallDaemon) -> float | None:
        last = [frame.time for frame in daemon.frames[-8:]]
        return last[0] if len(last) == 8 and len(set(last)) == 1 else None

    daemon = SmallDaemon()
    place = {"REALMASTER_ENDPOINT": daemon.endpoint, "REALMASTER_TOKEN": TOKEN}
    process = game.start("--end", "end", "--pace", "10", environment=place)
    try:
        with daemon:
            until(lambda: daemon.frames and daemon.frames[-1].time > 0.1, timeout=300, what="a frame")
            daemon.say(Control("pause", {"on": True}))
            stood = until(lambda: stands(daemon), timeout=300, what="a pause")
            daemon.say(Control("step", {}))
            until(lambda: daemon.frames[-1].time > stood, timeout=300, what="a step")
            assert until(lambda: stands(daemon), timeout=300, what="a pause") == pytest.approx(stood + STEP_SECONDS)
        with SmallDaemon(daemon.port) as new:
            until(lambda: new.frames and new.frames[-1].time > stood + 1, timeout=300, what="a game that goes on")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(60)


def test_loaded_anew_while_the_game_stands_still(game: Game) -> None:
    game.settings(mode="lossless")
    recording = game.record("--reload", "60", "--pace", "10", ticks=150)
    assert recording.returncode == 0 and recording.log.count("begins.") == 2
    steps = [shown(frame) for frame in recording.takes[-1]]
    assert len(recording.takes) == 2 and len(steps) > 3 and steps == list(range(steps[0], steps[0] + len(steps)))


def test_online_it_switches_itself_off(game: Game) -> None:
    recording = game.record("--online", "30", ticks=60)
    assert recording.returncode == 0 and "single player only" in recording.log
    steps = [shown(frame) for frame in recording.frames]
    assert steps and max(steps) <= 30


def test_menus_and_cutscenes_are_marked(game: Game) -> None:
    recording = game.record("--menu", "20:40", "--cutscene", "45", "--pace", "20", least=50)
    assert {"menu", "cutscene"} <= {flag for frame in recording.frames for flag in frame.flags}
    for frame in recording.frames:
        step = shown(frame)
        assert ("menu" in frame.flags) == (20 <= step < 40) and ("cutscene" in frame.flags) == (step >= 45)


def test_keys(game: Game) -> None:
    """F9 begins and ends a take, F11 hides the HUD, F8 writes a frame with all its buffers."""
    game.settings(mode="take")
    f8, f9, f11 = 119, 120, 122

    recording = game.record(
        "--key", f"20:{f9}", "--key", f"50:{f11}", "--key", f"60:{f8}", "--key", f"90:{f9}", "--pace", "30",
        ticks=110, auto_record=False,
    )  # fmt: skip
    assert recording.returncode == 0, recording.printed + recording.log
    (take,) = recording.takes
    steps = [shown(frame) for frame in take]
    assert 20 <= min(steps) and max(steps) <= 95 and len(steps) > 20
    hud = {"hud" in frame.flags: frame.color[-50, 50].tolist() for frame in take}
    assert hud[True] == [230, 26, 230] and hud[False] != [230, 26, 230]
    assert_dump(recording)


def test_the_replay_key_saves_the_last_seconds(game: Game) -> None:
    game.settings(key_replay="R", key_hud="none")
    f10, f11, r = 121, 122, 82
    keys = ("--key", f"10:{f10}", "--key", f"15:{f11}", "--key", f"40:{r}")
    recording = game.record(*keys, "--pace", "30", ticks=60, auto_record=False, replay_seconds=30)
    assert recording.returncode == 0, recording.printed + recording.log
    (take,) = recording.takes
    steps = [shown(frame) for frame in take]
    assert len(steps) > 10 and max(steps) <= 45 and all("hud" in frame.flags for frame in take)
    assert_right(recording, least=10)


def test_keys_without_a_daemon(game: Game) -> None:
    printed = game.start("--ticks", "20", "--key", "5:120", "--key", "10:121").communicate(timeout=600)[0]
    log = (game.folder / "realmaster.log").read_text()
    assert "The take key was pressed, but no daemon is there." in log, printed
    assert "The replay key was pressed, but no daemon is there." in log


def test_a_program_that_has_hooked_direct3d_before(game: Game) -> None:
    """Depth is left out while it is there, by name, and comes when it goes."""
    recording = game.record("--overlay", "0:40", "--pace", "20", ticks=80, least=70)
    frames = {shown(frame): "depth" in frame.channels for frame in recording.frames}
    assert not any(deep for step, deep in frames.items() if step < 38) and min(frames) < 38
    (refusal, mended) = [note["sentence"] for note in recording.notes("notice") if note["reason"] == "foreign_hooks"]
    assert "overlay.dll has hooked Direct3D before this mod" in refusal and refusal in recording.log and mended is None
    assert recording.notices.keys() == {"foreign_hooks"}
    assert_right(recording)


@pytest.mark.parametrize(("setting", "when"), [("yes", "0:9999"), ("yes", "0:40"), ("no", "20:9999")])
def test_a_program_that_hooks_direct3d_as_well(game: Game, setting: str, when: str) -> None:
    """Both go on: where the settings allow it, and where it came later. A reload does not harm the game."""
    game.settings(foreign_hooks=setting)
    recording = game.record("--overlay", when, "--reload", "60", "--pace", "20", ticks=80, least=20)
    assert_right(recording)
    assert max(shown(frame) for frame in recording.frames) > 60 and not recording.notices


@pytest.mark.parametrize(("format_", "lossless"), [(24, False), (10, True)])
def test_a_picture_that_is_not_recorded_is_refused_by_name(game: Game, format_: int, lossless: bool) -> None:
    """HDR: ten bits, and halves of floats."""
    if lossless:
        game.settings(mode="lossless")
    recording = game.record("--format", str(format_), ticks=90)
    assert recording.returncode == 0 and not recording.frames
    assert json.loads(recording.printed.splitlines()[-1])["steps"] > 5, "the game stands still"
    assert f"The window's picture has the format {format_} of DXGI" in recording.log, recording.printed
    states = [event["state"] for event in recording.events if event["event"] == "state"]
    told = {notice for state in states for session in state["sessions"] for notice in session["notices"]}
    assert any("switch HDR and MSAA off" in sentence for sentence in told), told


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
    process = game.start("--ticks", "3")
    process.communicate(timeout=600)
    log = (game.folder / "realmaster.log").read_text()
    assert "mode must be live, take or lossless" in log and "there is no setting colour" in log
    assert "scale must be a whole number from 1 to 4" in log and "key_take must be" in log


def test_without_script_hook(game: Game) -> None:
    (game.folder / "ScriptHookV.dll").unlink()
    process = game.start("--ticks", "10", "--hook", "")
    printed, _ = process.communicate(timeout=600)
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
        process = game.start("--end", "end", "--pace", "15", *options, environment=place)
        try:
            daemon.wait_for(Event, 30, timeout=500)
            (game.folder / "end").touch()
            printed, _ = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait(60)
        assert process.returncode == 0, printed
        assert not daemon.frames
    events = daemon.of(Event)
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
    process = game.start("--end", "end", "--pace", "10", environment=place)
    try:
        for _ in range(2):
            with SmallDaemon(port) as daemon:
                until(lambda daemon=daemon: len(daemon.frames) > 5, timeout=300, what="frames")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(60)
    log = (game.folder / "realmaster.log").read_text()
    assert "is gone: frames wait or are dropped until it is back" in log
