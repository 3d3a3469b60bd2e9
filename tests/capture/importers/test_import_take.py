"""An import is whole or not there at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from capture.camera import Conventions
from capture.errors import TakeError
from capture.importers import Declared, import_take, open_source
from capture.take import Take, list_takes
from tests.capture.importers.test_folder import write_folder

WORLD = Declared(normal_space="world")


def test_a_failed_import_leaves_nothing_and_a_second_one_starts_anew(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", Conventions(), 4)
    last = tmp_path / "in/depth/000003.npy"
    whole = last.read_bytes()
    last.write_bytes(whole[:200])
    seen = []
    with pytest.raises(Exception, match="000003"):
        import_take(open_source(tmp_path / "in", None, WORLD), tmp_path / "take", progress=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def interrupt(done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_take(open_source(tmp_path / "in", None, WORLD), tmp_path / "take", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    last.write_bytes(whole)
    import_take(open_source(tmp_path / "in", None, WORLD), tmp_path / "take")
    with Take(tmp_path / "take") as take:
        assert (take.state, len(take)) == ("closed", 4)
    with pytest.raises(TakeError, match="there is a take .* already"):
        import_take(open_source(tmp_path / "in", None, WORLD), tmp_path / "take")


@pytest.mark.skipif(os.name != "posix", reason="there is no kill -9 here")
def test_a_killed_import_is_no_take_and_does_not_stand_in_the_way(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", Conventions(), 3)
    program = (
        "import sys, time; from pathlib import Path; from capture.importers import *\n"
        "def stop(done, total):\n"
        "    print('written', flush=True); time.sleep(600)\n"
        "import_take(open_source(Path(sys.argv[1])), Path(sys.argv[2]), progress=stop)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "take")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    with pytest.raises(TakeError, match="is being made by another process"):
        import_take(open_source(tmp_path / "in"), tmp_path / "take")
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    assert not (tmp_path / "take").exists()
    assert list_takes(tmp_path) == []  # nor is the rest of it found as a take of another name
    import_take(open_source(tmp_path / "in"), tmp_path / "take")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "take"]
    with Take(tmp_path / "take") as take:
        assert np.isfinite(take[2].depth).any()
