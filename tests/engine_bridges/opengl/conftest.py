"""What the tests of the OpenGL bridge run on: a display, the zoo, and the library, each made once per test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine_bridges.opengl import programs


def needs(*names: str) -> None:
    """Skip the test where a program is missing, naming it."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/games"))
    missing = [name for name in names if shutil.which(name, path=places) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    needs("Xvfb")
    with programs.virtual_display(1280, 720) as name:
        yield name


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("c++")
    try:
        return programs.build_zoo(tmp_path_factory.mktemp("zoo"))
    except programs.CannotBuild as error:
        pytest.skip(f"the zoo cannot be built here: {error}")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for this test run: what was built by another run says nothing about these sources."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def library(cache: Path) -> Path:
    """The bridge's library, built by the command line's own code."""
    needs("cmake", "c++", "make")
    from engine_bridges.opengl import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        return build.library()


@pytest.fixture
def on_display(display: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs started by this test find the display and the library."""
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
