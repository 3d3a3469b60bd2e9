"""The command line: what it offers, how it answers, how it fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from capture import Camera, Descriptor, FrameSender, SenderError, Take
from realmaster.cli import main
from realmaster.commands.bridge import GONE_SECONDS

COMMANDS = (
    ["demo"], ["daemon"], ["record"], ["takes", "list"], ["takes", "show"], ["takes", "verify"], ["takes", "repair"],
    ["takes", "export"], ["takes", "trim"], ["takes", "cat"], ["takes", "pack"], ["lift"], ["eval"], ["doctor"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` hushes libraries through the environment, which must not leak into other tests."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one take of the embedded engine, recorded by the command line: `drive`, 12 frames."""
    folder = tmp_path_factory.mktemp("takes")
    command = ["record", "city", "--frames", "12", "--size", "160x96", "--seed", "20260100", "--name", "drive"]
    run = realmaster(*command, "--takes", str(folder), "--json")
    assert run.returncode == 0, run.stderr
    assert last_object(run.stdout) == {
        "take": str(folder / "drive"), "frames": 12, "dropped": 0, "more_takes": [],
        "seconds": last_object(run.stdout)["seconds"], "health": last_object(run.stdout)["health"],
    }  # fmt: skip
    return folder


def realmaster(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "realmaster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def last_object(stdout: str) -> dict[str, Any]:
    return json.loads(stdout.splitlines()[-1])


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command fails."""
    assert main(list(arguments)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("realmaster: ")]
    assert len(lines) == 1 and "Traceback" not in printed.err
    return lines[0].removeprefix("realmaster: ")


# -- what it offers


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_json(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert ending.value.code == 0
    assert "example:\n  realmaster " + " ".join(command) in text
    assert "--json" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pairs", "take"],
        ["train", "set"],
        ["record", "opengl"],
        ["record", "city", "--frames", "0"],
        ["record", "city", "--frames", "3", "--seconds", "1"],
        ["record", "city", "--size", "320"],
        ["record", "city", "--listen", "tcp://127.0.0.1:5790"],
        ["record", "city", "--name", "../elsewhere"],
        ["record", "city", "--name", "con"],
        ["record", "city", "--", "game"],
        ["takes", "list", "--", "x"],
        ["takes", "export", "x", "--to", "fbx"],
        ["takes", "export", "x", "--to", "mp4", "--up", "z"],
        ["takes", "export", "x", "--to", "comfyui", "--channel", "depth"],
        ["takes", "trim", "x"],
        ["takes", "trim", "x", "1:2", "--seconds", "1:2"],
        ["takes", "trim", "x", "--seconds", "4:2"],
        ["takes", "cat", "x", "y"],
        ["lift", "x", "--frames", "9:3"],
        ["demo", "--seconds", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert "usage: realmaster" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["city", "--frames", "0"], ["city", "--listen", "tcp://127.0.0.1:5790"]])
def test_wrong_use_under_json_is_an_object_too(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["record", *wrong, "--json"])
    printed = capsys.readouterr()
    assert ending.value.code == 2 and last_object(printed.out)["error"] in printed.err


# -- how it fails


def test_unknown_take(takes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["show"], ["verify"], ["repair"], ["export", "--to", "mp4"], ["trim", "--seconds", "0:1"]):
        assert "driv" in fails(capsys, "takes", *command, "driv", "--takes", str(takes))
    assert "drive" in fails(capsys, "lift", "driv", "--takes", str(takes))


def test_failure_under_json_is_an_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["takes", "show", "none", "--takes", str(tmp_path), "--json"]) == 1
    printed = capsys.readouterr()
    assert "none" in last_object(printed.out)["error"]
    assert printed.err.startswith("realmaster: ")


def test_unknown_profile(takes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["lift", "drive"], ["daemon"]):
        sentence = fails(capsys, *command, "--takes", str(takes), "--model", "embeded")
        assert "embeded" in sentence and "did you mean embedded" in sentence


def test_unwritable_folder_is_found_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    within = str(tmp_path / "file" / "folder")
    started = time.monotonic()
    assert within in fails(capsys, "record", "city", "--takes", within)
    assert within in fails(capsys, "daemon", "--takes", within)
    assert within in fails(capsys, "demo", "--out", within)
    assert time.monotonic() - started < 5


def test_endpoints_that_do_not_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        endpoint = f"tcp://127.0.0.1:{port}"
        common = ["--takes", str(tmp_path)]
        assert "in use" in fails(capsys, "record", "listen", "--listen", endpoint, *common)
        assert "in use" in fails(
            capsys, "daemon", "--listen", "tcp://127.0.0.1:*", "--http", f"127.0.0.1:{port}", *common
        )
    assert "CURVE" in fails(capsys, "record", "listen", "--listen", "tcp://0.0.0.0:5999", *common)
    assert "nonsense" in fails(capsys, "record", "listen", "--listen", "nonsense", *common)


def test_missing_folder_of_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in fails(capsys, "takes", "list", "--takes", str(tmp_path / "nowhere"))


# -- takes


def test_list_and_show(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["takes", "list", "--takes", str(takes)]) == 0
    assert "drive" in capsys.readouterr().out
    assert main(["takes", "list", "--takes", str(takes), "--json"]) == 0
    (listed,) = last_object(capsys.readouterr().out)["takes"]
    assert (listed["name"], listed["frames"], listed["size"], listed["state"]) == ("drive", 12, [160, 96], "closed")

    sheet = tmp_path / "sheet.png"
    assert main(["takes", "show", "drive", "--takes", str(takes), "-o", str(sheet), "--json"]) == 0
    assert last_object(capsys.readouterr().out)["sheet"] == str(sheet)
    from PIL import Image

    picture = np.asarray(Image.open(sheet))
    assert picture.shape[0] > 3 * 96 and picture.shape[1] > 6 * 160 and picture.std() > 20


def test_verify_and_repair_a_cut_take(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    cut = tmp_path / "cut"
    shutil.copytree(takes / "drive", cut)
    assert main(["takes", "verify", str(cut)]) == 0
    assert "all 12 frames are good" in capsys.readouterr().out

    (segment,) = cut.glob("frames-*.rmk")
    with open(segment, "r+b") as file:
        file.truncate(segment.stat().st_size * 2 // 3)
    assert main(["takes", "verify", str(cut), "--json"]) == 1
    report = last_object(capsys.readouterr().out)
    assert 0 < report["good"] < 12 and report["problems"] and "good" in report["error"]

    assert f"{12 - report['good']} lost or damaged" in report["error"]
    assert main(["takes", "export", str(cut), "--to", "frames", "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = capsys.readouterr()
    exported = last_object(printed.out)
    assert (exported["exported"], exported["missing"]) == (report["good"], 12 - report["good"])
    assert f"{report['good']} of 12 frames were exported" in printed.err and printed.err.count("\n") == 1

    assert main(["takes", "repair", str(cut), "--json"]) == 0
    assert last_object(capsys.readouterr().out)["frames"] == report["good"]
    assert main(["takes", "verify", str(cut)]) == 0


def test_repair_of_a_missing_file_leaves_its_frames_known_as_lost(
    takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    robbed = tmp_path / "robbed"
    shutil.copytree(takes / "drive", robbed)
    (robbed / "frames-000.rmk").unlink()
    assert main(["takes", "repair", str(robbed)]) == 0
    assert "12 frames of 12 cannot be brought back" in capsys.readouterr().out
    assert "0 of 12 frames are good, 12 lost" in fails(capsys, "takes", "verify", str(robbed))
    assert main(["takes", "show", str(robbed)]) == 0
    assert "12, 0 dropped, 12 lost" in capsys.readouterr().out


def test_export(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from capture.video import iterate_video

    video, frames = tmp_path / "drive.mp4", tmp_path / "frames"
    assert main(["takes", "export", "drive", "--to", "mp4", "-o", str(video), "--takes", str(takes)]) == 0
    assert len(list(iterate_video(video))) == 12
    assert main(["takes", "export", "drive", "--to", "frames", "-o", str(frames), "--takes", str(takes), "--json"]) == 0
    assert last_object(capsys.readouterr().out)["frames"] == 12
    assert np.array_equal(np.load(frames / "depth" / "000003.npy"), Take(takes / "drive")[3].depth)


def test_export_formats_and_their_options(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from capture.export import FORMATS

    options = {
        "mp4": ["--channel", "side_by_side,edges", "--fit"],
        "exr": ["--channel", "color, depth", "--up", "z", "--frames", "2:4"],
        "frames": ["--channel", "normal"],
        "comfyui": ["--count", "4n+1", "--multiple", "16", "--size", "128x80", "--prompt", "dusk", "--frames", "1:"],
        "webdataset": ["--clip", "5", "--shard-mb", "1"],
        "rerun": ["--frames", ":3"],
    }
    exported = {"mp4": 12, "exr": 2, "frames": 12, "comfyui": 9, "webdataset": 10, "rerun": 3}
    assert set(options) == set(FORMATS)
    for to, chosen in options.items():
        out = tmp_path / to
        command = ["takes", "export", "drive", "--to", to, "-o", str(out), *chosen, "--takes", str(takes), "--json"]
        assert main(command) == 0
        report = last_object(capsys.readouterr().out)
        assert (report["to"], report["out"], report["frames"]) == (to, str(out), exported[to])
        assert out.exists() and report["missing"] == 0
    assert len(list((tmp_path / "exr").glob("drive.*.exr"))) == 2
    assert (tmp_path / "comfyui" / "prompt.txt").read_text() == "dusk\n"
    assert {path.name for path in (tmp_path / "frames").iterdir()} == {"normal", "cameras.json"}
    taken = tmp_path / "exr"
    sentence = fails(capsys, "takes", "export", "drive", "--to", "frames", "-o", str(taken), "--takes", str(takes))
    assert "not empty" in sentence
    assert "no channel 'heat'" in fails(
        capsys, "takes", "export", "drive", "--to", "exr", "--channel", "heat", "--takes", str(takes)
    )


def test_trim_and_cat(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.copytree(takes / "drive", tmp_path / "drive")
    folder = ["--takes", str(tmp_path)]
    assert main(["takes", "trim", "drive", "2:5", *folder, "--json"]) == 0
    assert last_object(capsys.readouterr().out)["frames"] == 3
    assert main(["takes", "trim", "drive", "--seconds", "0.2:0.4", "--name", "late", *folder]) == 0
    assert main(["takes", "cat", "drive-2-5", "late", "--name", "both", *folder, "--json"]) == 0
    capsys.readouterr()
    assert Take(tmp_path / "both").serials == [2, 3, 4, 5, 6, 7, 8, 9]
    assert main(["takes", "verify", "both", *folder]) == 0 and (tmp_path / "both" / "preview.mp4").exists()
    assert main(["takes", "show", "both", *folder, "--json"]) == 0
    (origin,) = last_object(capsys.readouterr().out.splitlines()[-1])["made_from"]
    assert (origin["take"], origin["first"], origin["end"]) == ("drive", 2, 10)
    assert "choose another name" in fails(capsys, "takes", "cat", "drive", "late", "--name", "both", *folder)
    assert "0.50 s long" in fails(capsys, "takes", "trim", "drive", "--seconds", "7:9", *folder)


@pytest.mark.skipif(os.name == "nt", reason="the system's viewer cannot be named there")
def test_show_opens_the_sheet(takes: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    viewer = tmp_path / "viewer"
    viewer.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    viewer.chmod(0o755)
    command = [sys.executable, "-m", "realmaster", "takes", "show", "drive", "--takes", str(takes), "--open"]
    sheet = tmp_path / "sheet.png"
    run = subprocess.run(
        [*command, "-o", str(sheet)], env=os.environ | {"BROWSER": str(viewer)}, capture_output=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 0 and opened.read_text().strip() == sheet.as_uri()


@pytest.mark.slow
def test_lift_writes_a_whole_lift_or_none(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from capture.video import iterate_video

    arguments = ["lift", "drive", "--takes", str(takes), "--frames", "2:7", "--steps", "1", "--json"]
    assert main(arguments) == 0
    report = last_object(capsys.readouterr().out)
    assert report["out"] == str(takes / "drive" / "lifts" / "embedded-1")
    assert report["frames"] == [2, 7] and len(list(iterate_video(Path(report["out"]) / "lifted.mp4"))) == 5
    assert set(report["scores"]) == {"lifted", "render"}

    (tmp_path / "mine.txt").write_text("precious")
    assert main([*arguments, "-o", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    broken = tmp_path / "adapter.safetensors"
    broken.write_bytes(b"not weights")
    assert main([*arguments, "-o", str(tmp_path / "out"), "--lora", str(broken)]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupted_lift_goes_on_when_asked_again(takes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lift", "drive", "--takes", str(takes), "--seed", "5", "--json"]
    lifts = takes / "drive" / "lifts"
    process = subprocess.Popen(
        [sys.executable, "-m", "realmaster", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(lifts.glob(".*.part/windows/*.zst")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (unfinished,) = lifts.glob(".*.part")
    assert last_object(out)["unfinished"] == str(unfinished)
    saved = len(list(unfinished.glob("windows/*.zst")))

    assert main(arguments) == 0
    report = last_object(capsys.readouterr().out)
    assert 1 <= saved == report["windows_resumed"] < report["windows"] == 12
    assert not list(lifts.glob(".*.part"))


def test_eval_scores_lift_beside_render(takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from capture.video import write_video
    from engine_bridges.city.bridge import city_from_take

    part = Take(takes / "drive")[4:8]
    city = city_from_take(part.take)
    references = [city.reference(frame.serial) for frame in part]
    truth, near, black = (tmp_path / f"{name}.mp4" for name in ("truth", "near", "black"))
    write_video(truth, references, fps=24)
    write_video(near, references, fps=24, crf=30)
    write_video(black, (np.zeros_like(picture) for picture in references), fps=24)

    def scores(lifted: Path) -> dict[str, Any]:
        report = str(tmp_path / "report.json")
        arguments = ["eval", "drive", str(lifted), "--reference", str(truth), "--frames", "4:8", "-o", report]
        assert main([*arguments, "--takes", str(takes), "--json"]) == 0
        written = json.loads(Path(report).read_text())
        assert len(written.pop("curves")["lifted"]["psnr"]) == 4
        assert written == last_object(capsys.readouterr().out)
        assert "<svg" in Path(written["files"]["html"]).read_text("utf-8")
        return written["scores"]

    good, bad = scores(near), scores(black)
    for each in (good, bad):
        each["render"].pop("seams")  # on the grid that the lift shows most
    assert good["render"] == bad["render"]
    assert good["lifted"]["psnr"] > good["render"]["psnr"] > bad["lifted"]["psnr"]


# -- recording


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`record listen` on a free port, and its endpoint."""
    endpoint = free_endpoint()
    command = [sys.executable, "-m", "realmaster", "record", "listen", "--listen", endpoint, "--json"]
    process = subprocess.Popen(
        [*command, "--takes", str(tmp_path), "--name", "mine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, endpoint
    process.kill()
    process.communicate()


def send_some(endpoint: str, frames: int, after: threading.Event | None = None) -> None:
    """A bridge that knows nothing but the connection file; it stays until `after` is set."""
    color = Descriptor("color", "uint8", (32, 48, 3))
    deadline = time.monotonic() + 30
    while True:  # the connection file appears when the daemon listens
        try:
            sender = FrameSender(endpoint, engine="test", channels=[color], mode="lossless")
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with contextlib.suppress(SenderError), sender:  # the recording may end before the bridge does
        for index in range(frames):
            camera = Camera.from_vertical_fov(np.eye(4), 1.0, 48, 32)
            sender.send(camera, {"color": np.full((32, 48, 3), index, np.uint8)}, time=index / 24)
        if after is not None:
            while sender.stats.acknowledged != frames - 1 and time.monotonic() < deadline:
                sender.controls()
                time.sleep(0.02)
            after.wait(60)


def test_listen_ends_with_the_bridge(listening: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, endpoint = listening
    send_some(endpoint, 7)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert last_object(out)["frames"] == 7
    take = Take(tmp_path / "mine")
    assert take.state == "closed" and [int(frame.color[0, 0, 0]) for frame in take] == list(range(7))


def test_a_second_bridge_that_leaves_does_not_end_the_first_ones_recording(
    listening: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, endpoint = listening
    other_left = threading.Event()
    first = threading.Thread(target=send_some, args=(endpoint, 5, other_left), daemon=True)
    first.start()
    while not list(tmp_path.glob("*/take.json")) and process.poll() is None:
        time.sleep(0.05)
    send_some(endpoint, 2)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    other_left.set()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = last_object(out)
    assert sorted([report["frames"], *(len(Take(path)) for path in report["more_takes"])]) == [2, 5]


def test_listen_takes_no_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["record", "listen", "--mode", "live", "--takes", str(tmp_path)])
    assert ending.value.code == 2 and "the bridge decides" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a file size limit, which Windows has not")
def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
    limited += "runpy.run_module('realmaster', run_name='__main__')"
    command = [sys.executable, "-c", limited, "record", "city", "--frames", "60", "--size", "160x96"]
    run = subprocess.run(
        [*command, "--takes", str(tmp_path)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 1, run.stderr
    assert run.stderr.count("disk is full") == 1, run.stderr
    assert "refused" not in run.stderr and "Traceback" not in run.stderr


def test_listen_ends_after_the_frames_asked_for(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    bridge = threading.Thread(target=send_some, args=(endpoint, 60), daemon=True)
    bridge.start()
    run = realmaster("record", "listen", "--listen", endpoint, "--frames", "20", "--takes", str(tmp_path), "--json")
    assert run.returncode == 0, run.stderr
    assert last_object(run.stdout)["frames"] == 20


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for another process")
def test_ctrl_c_closes_the_take(listening: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, endpoint = listening
    stay = threading.Event()
    bridge = threading.Thread(target=send_some, args=(endpoint, 5, stay))
    bridge.start()
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = [path for path in tmp_path.iterdir() if (path / "take.json").exists()]
            if found and len(Take(found[0])) == 5:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        stay.set()
        bridge.join()
    assert process.returncode == 130 and "Traceback" not in err
    assert last_object(out)["frames"] == 5
    assert Take(tmp_path / "mine").state == "closed"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["live", "lossless"])
def test_a_bridge_does_not_outlive_a_killed_recording(mode: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "realmaster", "record", "city", "--mode", mode, "--size", "32x32", "--fps", "5"]
    process = subprocess.Popen([*command, "--seconds", "900", "--takes", str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (list(tmp_path.glob("*/take.json")) and psutil.Process(process.pid).children()):
            assert time.monotonic() < deadline, "nothing is recorded"
            time.sleep(0.1)
        (bridge,) = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait(60)
    try:
        bridge.wait(GONE_SECONDS + 20)
    except psutil.NoSuchProcess:
        pass
    finally:
        if bridge.is_running():
            bridge.kill()
            pytest.fail("the bridge goes on without a daemon")


def test_a_bridge_that_fails_leaves_its_frames(tmp_path: Path) -> None:
    game = tmp_path / "game.py"
    game.write_text(
        "from direct.showbase.ShowBase import ShowBase\n"
        "base = ShowBase()\n"
        "for _ in range(6):\n    base.taskMgr.step()\n"
        "raise RuntimeError('the engine broke')\n"
    )
    takes = tmp_path / "takes"
    command = ["record", "panda3d", "--size", "64x48", "--takes", str(takes), "--name", "broken", "--json"]
    run = realmaster(*command, "--", "python", str(game))
    assert run.returncode == 1, run.stderr
    report = last_object(run.stdout)
    assert "the engine broke" in report["error"] and report["frames"] > 0
    assert len(Take(takes / "broken")) == report["frames"]


def test_nothing_recorded_is_a_failure(tmp_path: Path) -> None:
    run = realmaster("record", "panda3d", "--takes", str(tmp_path), "--", str(tmp_path / "missing.py"))
    assert run.returncode == 1
    assert "missing.py" in run.stderr and "Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())


# -- the daemon, the doctor


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for another process")
def test_daemon_serves_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    page = free_endpoint().removeprefix("tcp://")
    command = [sys.executable, "-m", "realmaster", "daemon", "--listen", "tcp://127.0.0.1:*", "--http", page, "--json"]
    command += ["--replay-seconds", "0", "--remote-mbit", "inf"]
    process = subprocess.Popen(
        [*command, "--takes", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                text = urllib.request.urlopen(f"http://{page}/", timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, process.communicate()
                time.sleep(0.2)
        assert "realmaster" in text
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "Traceback" not in err
    assert last_object(out)["page"] == f"http://{page}"


def test_doctor_tells_what_runs_here() -> None:
    run = realmaster("doctor", "--json")
    report = last_object(run.stdout)
    assert run.returncode == (1 if "error" in report else 0)
    found = {entry["name"]: entry for part in ("machine", "model", "recording") for entry in report[part]}
    assert found["torch"]["state"] == "ok" and found["ZeroMQ"]["state"] == "ok"
    assert [profile["name"] for profile in report["profiles"]][0] == "embedded"
    for entry in found.values():
        assert entry["state"] != "missing" or entry["remedy"], f"{entry['name']} is missing without a remedy"
