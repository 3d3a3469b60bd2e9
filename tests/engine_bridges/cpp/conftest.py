"""The programs of engine_bridges/cpp, built once for all tests of this folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import engine_bridges
from tests.engine_bridges import wine

SOURCE = Path(engine_bridges.__file__).parent / "cpp"


def build(folder: Path, *options: str, source: Path = SOURCE, target: str = "all") -> Path:
    """Configure and build; the folder with the programs. Skips where there is no cmake or no compiler."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here; the C++ sender is not tested")
    for command in (
        ["cmake", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Debug", *options],
        ["cmake", "--build", folder, "--parallel", "2", "--target", target],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert "warning:" not in done.stdout + done.stderr, done.stderr
    return folder


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with realmaster_vectors, realmaster_stream and librealmaster_sender.a, for this system."""
    return build(tmp_path_factory.mktemp("cpp"), "-DREALMASTER_TESTS=ON")


@pytest.fixture(scope="session")
def windows(windows_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with realmaster_vectors and realmaster_stream, which are built for Windows and run by Wine."""
    folder = tmp_path_factory.mktemp("windows_programs")
    variables = wine.environment()
    for name in ("realmaster_vectors", "realmaster_stream"):
        wine.script(windows_build / "cpp" / f"{name}.exe", folder / name, variables)
    return folder


@pytest.fixture(scope="session", params=["native", "windows"])
def programs(request: pytest.FixtureRequest) -> Path:
    """Folder with realmaster_vectors and realmaster_stream."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def build_cpp() -> Callable[..., Path]:
    return build
