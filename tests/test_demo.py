"""`realmaster demo`, as a stranger runs it: the files it leaves, and what its report claims."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.health import read_health
from capture.take import Take, verify
from capture.video import iterate_video
from realmaster.cli import main
from realmaster.commands import demo

FRAMES = 17
"""Enough for people and cars to move; still seconds to lift."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a short demo, and the object it prints."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "realmaster", "demo", "--out", str(out), "--seconds", str(FRAMES / demo.FPS)]
    run = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=580, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 1, "with --json stdout holds one object and nothing else"
    assert "Traceback" not in run.stderr and "could not be" not in run.stderr
    return out, json.loads(run.stdout)


@pytest.mark.slow
def test_no_frame_is_lost_on_the_way(made: tuple[Path, dict[str, Any]]) -> None:
    out, report = made
    assert {key: report[key] for key in report if key.startswith("frames_")} == {
        "frames_sent": FRAMES, "frames_recorded": FRAMES, "frames_lifted": FRAMES, "frames_dropped": 0,
    }  # fmt: skip
    assert report["engine"]["reference_of_same_frames"]
    assert verify(out / "take").good == FRAMES
    assert json.loads((out / "report.json").read_text()) == report


@pytest.mark.slow
def test_the_files_are_what_they_say(made: tuple[Path, dict[str, Any]]) -> None:
    out, _ = made
    assert sorted(path.name for path in out.iterdir()) == sorted(demo.PRODUCTS)
    assert (out / "take" / "preview.mp4").exists() and read_health(out / "take") is not None
    lifted = [picture for _, picture in iterate_video(out / "lifted.mp4")]
    beside = [picture for _, picture in iterate_video(out / "side_by_side.mp4")]
    assert len(lifted) == len(beside) == FRAMES
    height, width = lifted[0].shape[:2]
    assert (width, height) == demo.SIZE
    for picture, frame, three in zip(lifted, Take(out / "take"), beside, strict=True):
        assert np.abs(three[30:height, :width].astype(int) - frame.color[30:]).mean() < 8, "the left is the render"
        assert np.abs(picture.astype(int) - frame.color).mean() > 3, "a lift that changes nothing is no lift"


@pytest.mark.slow
def test_the_lift_is_nearer_to_the_truth_and_keeps_the_geometry(made: tuple[Path, dict[str, Any]]) -> None:
    _, report = made
    lifted, render = report["scores"]["lifted"], report["scores"]["render"]
    assert lifted["psnr"] > render["psnr"]
    assert lifted["ssim"] > render["ssim"]
    assert lifted["depth_edge_alignment"] >= 0.9 * render["depth_edge_alignment"]


def test_a_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("mine.txt", "precious"), ("report.json", '{"made_by": "me"}')):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(text)
        assert main(["demo", "--out", str(folder)]) == 1
        assert "--out" in capsys.readouterr().err
        assert [path.read_text() for path in folder.iterdir()] == [text]


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "take").mkdir()
    (tmp_path / "take" / "take.json").write_text("{}")
    (tmp_path / "report.json").write_text('{"made_by": "realmaster demo"}')
    (tmp_path / "notes.txt").write_text("mine")
    demo._claim(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "report.json"]


def test_an_interrupted_demo_keeps_its_take(tmp_path: Path) -> None:
    (tmp_path / "2026-11-23T01-20-00_city").mkdir()
    (tmp_path / "2026-11-23T01-20-00_city" / "take.json").write_text("{}")
    demo._rename_take(tmp_path)
    assert (tmp_path / "take" / "take.json").exists()
