"""A display that nobody sees, and the fake game with the mod in its folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine_bridges.gtav.game import Game
from tests.engine_bridges.opengl.programs import virtual_display


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        pytest.skip("not installed here: Xvfb (Debian: xvfb)")
    with virtual_display(2048, 1152) as name:
        yield name


@pytest.fixture
def game(windows_build: Path, display: str, tmp_path: Path) -> Game:
    return Game(windows_build, tmp_path / "game", display)
