"""Windows programs on this machine: built by mingw-w64, run by Wine.

Where either is missing, tests are skipped with the name of what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import pytest

import engine_bridges

TOOLCHAIN = Path(engine_bridges.__file__).parent / "gtav" / "mingw-w64.cmake"
_COMPILER = "x86_64-w64-mingw32-g++-posix"
_PLACES = ("/usr/bin/wine64", "/usr/lib/wine/wine64", "/opt/wine-stable/bin/wine64")
_PREFIX = platformdirs.user_cache_path("realmaster", appauthor=False) / "tests" / "wine"
"""Found before a test has a home of its own: making one takes Wine half a minute."""
_BUILD_SECONDS = 3600
_PREFIX_SECONDS = 900


def needs_mingw() -> None:
    """Skip where nothing can be built for Windows."""
    missing = [tool for tool in ("cmake", "make", _COMPILER) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)} (Debian: cmake make g++-mingw-w64-x86-64-posix)")


def build(source: Path, folder: Path, *options: str, target: str = "all") -> Path:
    """Build for Windows with CMake, warnings being errors; the build folder."""
    needs_mingw()
    for command in (
        ["cmake", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}",
         "-DCMAKE_EXE_LINKER_FLAGS=-static", *options],
        ["cmake", "--build", folder, "--parallel", "2", "--target", target],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert "warning:" not in done.stdout + done.stderr, done.stderr
    return folder


def wine() -> Path:
    """Wine's loader; skips where there is none."""
    found = next((Path(place) for place in _PLACES if Path(place).exists()), None) or shutil.which("wine64")
    if found is None:
        pytest.skip("not installed here: Wine (Debian: wine wine64)")
    return Path(found)


def environment() -> dict[str, str]:
    """What a program under Wine needs besides: a prefix that is made once and kept, and no chatter."""
    variables = {"WINEPREFIX": str(_PREFIX), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    if not (_PREFIX / "made").exists():
        _PREFIX.mkdir(parents=True, exist_ok=True)
        subprocess.run([wine(), "wineboot", "-i"], env={**os.environ, **variables, "DISPLAY": ""}, check=True,
                       capture_output=True, timeout=_PREFIX_SECONDS)  # fmt: skip
        (_PREFIX / "made").touch()
    return variables


def script(program: Path, path: Path, variables: Mapping[str, str]) -> Path:
    """A program of this system at `path` that runs the Windows one in its place."""
    settings = " ".join(f"{name}='{value}'" for name, value in variables.items())
    path.write_text(f'#!/bin/sh\nexec env {settings} {wine()} {program} "$@"\n')
    path.chmod(0o755)
    return path
