"""What is built for Windows, once for the tests of all bridges."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import engine_bridges
from tests.engine_bridges import wine


@pytest.fixture(scope="session")
def windows_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with realmaster.asi, the fake game and the fake ScriptHookV; in cpp/, the programs of the C++ sender.

    Built once for a test run, or where REALMASTER_WINDOWS_BUILD says, which spares most of a build.
    """
    wine.wine()
    source = Path(engine_bridges.__file__).parent / "gtav"
    kept = os.environ.get("REALMASTER_WINDOWS_BUILD")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("windows")
    return wine.build(source, folder, "-DREALMASTER_TESTS=ON")
