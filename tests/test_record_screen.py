"""`realmaster record screen`, from the command line to the take on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from capture.take import Take, verify
from realmaster.cli import main
from tests.capture import x11


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    if lacks := x11.missing():
        pytest.skip(lacks)
    with x11.virtual_display("320x240") as name:
        yield name


def record(display: str | None, takes: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if display is not None:
        environment["DISPLAY"] = display
    command = [sys.executable, "-m", "realmaster", "record", "screen", "--takes", str(takes), "--json", *options]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip


def test_a_window_becomes_a_take(display: str, tmp_path: Path) -> None:
    with x11.Program(display, "My game", 30, 20, 96, 64) as program:
        program.do("color 2080F0")
        run = record(display, tmp_path, "--window", "my ga", "--frames", "6", "--fps", "20", "--name", "game")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert (report["frames"], report["duplicates"], report["black"]) == (6, 5, 0)
    assert verify(tmp_path / "game").problems == []
    with Take(tmp_path / "game") as take:
        assert (take.engine, take.game) == ("screen", "My game")
        assert take.channels == ("color",)
        assert take[0].color.shape == (64, 96, 3)
        assert (take[5].color == (0x20, 0x80, 0xF0)).all()
        assert [frame.flags for frame in take] == [(), *[("duplicate",)] * 5]
        assert all(frame.camera is None for frame in take)
        assert (np.diff([frame.time for frame in take]) > 0).all()


def test_seconds_are_the_clocks(display: str, tmp_path: Path) -> None:
    """However slow the machine: the last picture is not beyond them, and gaps account for what is missing."""
    run = record(display, tmp_path, "--region", "0,0,64,48", "--seconds", "1", "--fps", "10", "--name", "corner")
    assert run.returncode == 0, run.stderr
    with Take(tmp_path / "corner") as take:
        assert max(frame.serial for frame in take) <= 9
        assert take[0].color.shape == (48, 64, 3)


def test_what_is_wrong_is_one_sentence(display: str, tmp_path: Path) -> None:
    run = record(display, tmp_path, "--window", "no such game")
    assert run.returncode == 1
    assert "no window called 'no such game'; these are open: none" in json.loads(run.stdout.splitlines()[-1])["error"]
    run = record(None, tmp_path, "--frames", "1")
    assert run.returncode == 1
    assert "There is no display to record" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--region", "1,2"), "is not a region such as"),
        (("--mode", "lossless"), "not with screen"),
        (("--monitor", "1", "--window", "x"), "not allowed with"),
    ],
)
def test_wrong_use(options: tuple[str, ...], words: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["record", "screen", *options])
    assert end.value.code == 2
    assert words in capsys.readouterr().err
