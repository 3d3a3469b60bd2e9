"""`realmaster takes pack` and recordings to a bound, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from capture.take import Take

ROOT = Path(__file__).parents[3]


def realmaster(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "realmaster", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=ROOT, env=dict(os.environ))


def test_a_recording_to_a_bound_is_proven_and_packed(tmp_path: Path) -> None:
    options = ("--takes", tmp_path, "--json")
    done = realmaster(
        "record", "city", "--frames", 6, "--size", "96x54", "--name", "t", "--depth", "log16", "--normals", "oct16",
        *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    proven = realmaster("takes", "verify", "t", *options)
    assert proven.returncode == 0, proven.stderr
    report = json.loads(proven.stdout.splitlines()[-1])
    assert report["good"] == 6 and 0 < report["errors"]["depth"]["measured"] <= 1e-4
    assert "Channel depth is kept to 0.0001" in proven.stdout + proven.stderr
    frames = [frame.color.copy() for frame in Take(tmp_path / "t")]

    packed = realmaster("takes", "pack", "t", *options)
    assert packed.returncode == 0, packed.stderr
    report = json.loads(packed.stdout.splitlines()[-1])
    assert report["packed"] == report["frames"] == 6 and report["bytes"] < report["bytes_before"]
    for frame, color in zip(Take(tmp_path / "t"), frames, strict=True):
        assert (frame.color == color).all()
    again = realmaster("takes", "pack", "t", "--takes", tmp_path)
    assert again.returncode == 0 and "nothing left to pack" in again.stdout

    missing = realmaster("takes", "pack", "nowhere", "--takes", tmp_path)
    assert missing.returncode == 1 and "there is no take" in missing.stderr and "Traceback" not in missing.stderr
