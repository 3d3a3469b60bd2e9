"""`realmaster record opengl`: the way a user takes, from the command line to the take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.take import Take
from realmaster.cli import main

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from tests.engine_bridges.opengl.truth import Truth, shown, wrong

pytestmark = pytest.mark.usefixtures("on_display")


def record(takes: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object of --json, and stderr."""
    options, _, game = " ".join(arguments).partition(" -- ")
    command = [sys.executable, "-m", "realmaster", "record", "opengl", *options.split(), "--takes", str(takes)]
    run = subprocess.run(
        [*command, "--json", "--", *game.split()], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    return run.returncode, json.loads(run.stdout.splitlines()[-1]), run.stderr


def test_so_many_frames_and_the_game_ends(zoo: Path, library: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    code, report, err = record(
        tmp_path / "takes", f"--frames 15 --mode lossless --name mine -- {zoo} deferred --truth {truth}"
    )
    assert code == 0, err
    assert report["frames"] == 15 and report["depth"] == {"projection": "measured", "metres": False}
    take, told = Take(tmp_path / "takes" / "mine"), Truth.read(truth)
    assert take.state == "closed" and take.game == "zoo"
    frame = take[14]
    assert wrong(frame.depth, told.depth(shown(frame))) < 0.03


def test_so_many_seconds_of_the_wall(zoo: Path, library: Path, tmp_path: Path) -> None:
    code, report, err = record(tmp_path, f"--seconds 2 --fps 10 -- {zoo} fixed --pause 5")
    assert code == 0, err
    take = Take(report["take"])
    assert 0.5 < take[len(take) - 1].time - take[0].time < 3
    assert 2 <= len(take) <= 30, "at most ten a second"


def test_it_ends_with_the_game(zoo: Path, library: Path, tmp_path: Path) -> None:
    code, report, err = record(tmp_path, f"--mode lossless -- {zoo} fixed --frames 30")
    assert code == 0, err
    assert 20 <= report["frames"] <= 30


@pytest.mark.parametrize(
    ("game", "words"),
    [
        ("exits", "exit code 5"),
        ("never_swaps", "no picture through OpenGL"),
    ],
)
def test_a_program_that_shows_nothing(game: str, words: str, zoo: Path, library: Path, tmp_path: Path) -> None:
    code, report, err = record(tmp_path, f"--patience 2 -- {zoo} {game}")
    assert code == 1 and words in report["error"] and err.count("\n") == 1, err


def test_a_game_that_fails_leaves_its_frames(zoo: Path, library: Path, tmp_path: Path) -> None:
    script = tmp_path / "game.sh"
    script.write_text(f'#!/bin/sh\n"{zoo}" fixed --frames 30\nkill -SEGV $$\n')
    script.chmod(0o755)
    code, report, _ = record(tmp_path / "takes", f"--mode lossless -- {script}")
    assert code == 1 and "SIGSEGV" in report["error"] and "frames are kept" in report["error"]
    assert len(Take(report["take"])) == report["frames"] > 0


def test_the_game_is_looked_for_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "opengl", "--takes", str(tmp_path), "--", "no-such-game"]) == 1
    assert "no-such-game" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["record", "opengl"],
        ["record", "opengl", "--near", "1", "--", "game"],
        ["record", "opengl", "--near", "2", "--far", "1", "--", "game"],
        ["record", "opengl", "--vfov", "180", "--", "game"],
        ["record", "opengl", "--size", "640x480", "--", "game"],
        ["record", "city", "--vfov", "60"],
    ],
    ids=" ".join,
)
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2 and "usage: realmaster" in capsys.readouterr().err
