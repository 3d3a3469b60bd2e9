"""A disk that refuses: every export says so in one sentence, and nothing unfinished stands under a final name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from capture.export import FORMATS

from ..recordings import make_frame, start_take

ATTEMPTS = """
import json, resource, sys
from pathlib import Path
from capture.errors import UserError
from capture.export import FORMATS
from capture.take import Take
from capture.take_edit import trim

take, folder, said = Take(sys.argv[1]), Path(sys.argv[2]), {}
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
del FORMATS["rerun"]  # its library writes by itself and may wait forever; the export stops before the disk is full
for name, export in [*FORMATS.items(), ("trim", lambda take, out: trim(take, 0, 9, out))]:
    try:
        export(take, folder / name)
    except UserError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_refusing_disk_is_one_sentence(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial in range(9):
            writer.append(make_frame(serial, 160, 96))
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(tmp_path / "t"), str(out)],
        capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[3], stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    formats = set(FORMATS) - {"rerun"}
    assert set(said) == {*formats, "trim"}, run.stderr
    assert all("cannot be written" in said[name] for name in formats) and "could not be made" in said["trim"]
    for left in out.iterdir():  # folders may be gone on with
        assert (left / "unfinished.json").exists() and not list(left.rglob(".*.partial*"))
