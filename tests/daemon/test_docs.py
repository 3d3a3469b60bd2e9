"""What docs/daemon.md prints works as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from capture.video import read_video
from daemon.lifts import LiftQueue
from daemon.service import DaemonConfig, Service

from . import lifters
from .engines import HEIGHT, WIDTH, playing, until

TEXT = (Path(__file__).parents[2] / "docs" / "daemon.md").read_text(encoding="utf-8")


@pytest.mark.timeout(240)
def test_the_client_records_lifts_and_fetches(tmp_path: Path) -> None:
    section = TEXT[TEXT.index("### A client") :]
    (program,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line for line in program.splitlines() if line]
    assert len(lines) <= 32
    (tmp_path / "client.py").write_text(program, encoding="utf-8")
    token = "a token of more than sixteen characters"
    config = DaemonConfig(tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0", http_token=token)
    service = Service(config)
    service.lifts = LiftQueue(config.takes, load=lifters.load, on_change=service.library.refresh)
    with service, playing(service.endpoint, token=service.token):
        until(lambda: [s for s in service.state()["sessions"] if s["frames"]], 60)
        done = subprocess.run(
            [sys.executable, "client.py", service.http_url],
            cwd=tmp_path, env={**os.environ, "REALMASTER_HTTP_TOKEN": token},
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("done 24 of 24"), done.stdout
        pictures, _ = read_video(tmp_path / "lifted.mp4")
        assert np.shape(pictures)[:3] == (24, HEIGHT, WIDTH)
        no_token = {name: value for name, value in os.environ.items() if name != "REALMASTER_HTTP_TOKEN"}
        refused = subprocess.run(
            [sys.executable, "client.py", service.http_url],
            cwd=tmp_path, env=no_token, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 1 and "token" in refused.stderr and "Traceback" not in refused.stderr
