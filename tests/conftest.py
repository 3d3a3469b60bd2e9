"""What all tests share: no test touches the user's own folders, and Ctrl-C is Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kills() -> int:
    """At how many random points each fault test kills; REALMASTER_KILL_POINTS=50 and --timeout=3600 when in doubt."""
    return int(os.environ.get("REALMASTER_KILL_POINTS", "3"))


def pytest_configure() -> None:
    """A shell starts its background jobs with SIGINT ignored, and children inherit that: the programs whose Ctrl-C is
    tested would never hear it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Connection files, takes and profiles go to a folder of this test; no daemon of the user's is found."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("REALMASTER_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("REALMASTER_TAKES", str(home / "takes"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    for name in ("REALMASTER_ENDPOINT", "REALMASTER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return home
