"""The C++ example of PROTOCOL.md compiles as it stands and records a take."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

import engine_bridges
from capture.take import Take
from daemon.ingest import Ingest

FOLDER = Path(engine_bridges.__file__).parent


@pytest.fixture(scope="module")
def example(native: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    (code,) = re.findall(r"```cpp\n(.*?)```", (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8"), re.DOTALL)
    folder = tmp_path_factory.mktemp("example")
    (folder / "example.cpp").write_text(code, encoding="utf-8")
    zmq = subprocess.run(["pkg-config", "--libs", "libzmq"], capture_output=True, text=True, timeout=30, check=True)
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", FOLDER / "cpp" / "include", "example.cpp",
               native / "librealmaster_sender.a", *shlex.split(zmq.stdout), "-pthread", "-o", "example"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "example"


def test_it_records_a_take_with_the_real_daemon(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True, previews=False) as ingest:
        monkeypatch.setenv("REALMASTER_ENDPOINT", ingest.endpoint)
        done = subprocess.run([example], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (tmp_path / "takes").iterdir()
    take = Take(folder)
    assert len(take) == 48
    for frame in take:
        assert frame.camera is not None
        assert frame.depth[45, 80] + frame.camera.pose[2, 3] == pytest.approx(4)
        assert np.all(frame.color == 5 * frame.serial)


def test_it_says_that_it_is_refused(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", previews=False) as ingest:
        monkeypatch.setenv("REALMASTER_ENDPOINT", ingest.endpoint)
        monkeypatch.setenv("REALMASTER_TOKEN", "wrong")
        done = subprocess.run([example], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "The token is missing or wrong" in done.stderr
