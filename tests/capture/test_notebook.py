"""Takes in notebooks: the page's example runs as it stands, and takes and frames show themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from capture.frame import Channel, Descriptor
from capture.take import Take

from .export.scenes import damage
from .recordings import make_frame, record_take, start_take

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(example.strip().splitlines()) <= 22
    record_take(tmp_path / "drive", 12)
    code = example + "\nimport sys\nassert not {'torch', 'scipy'} & set(sys.modules)\n"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=PAGE.parents[1],
        env=os.environ | {"REALMASTER_TAKES": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Take('drive', 12 frames, closed)" in run.stdout and "(9, 24, 40, 3) float32" in run.stdout


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 3)
    damage(path, 1, "color")
    frame = Take(path)[1]
    assert np.isfinite(frame.depth).any() and Take(path)[0:3][1].normal.shape == (24, 40, 3)


def test_takes_and_frames_show_themselves(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t<1>", 6)
    damage(path, 0, "color")
    take = Take(path)
    html = take._repr_html_()
    assert html.count("<img") == 3 and "Take t&lt;1&gt;" in html and "6 frames" in html  # of four, one is damaged
    assert take[1]._repr_html_().count("<img") == 4
    with start_take(tmp_path / "odd", descriptors=[]) as writer:
        frame = make_frame(0)
        frame.channels = {"heat": Channel(Descriptor("heat", "float16", (4, 6, 2)), np.zeros((4, 6, 2), np.float16), 0)}
        writer.append(frame)
    odd = Take(tmp_path / "odd")
    assert odd._repr_html_().count("<img") == odd[0]._repr_html_().count("<img") == 1
    with start_take(tmp_path / "empty"):
        pass
    assert "0 frames" in Take(tmp_path / "empty")._repr_html_()
