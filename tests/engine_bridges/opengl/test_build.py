"""Building the library on first use: once, whole or not at all, and a sentence where it cannot be built."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from capture.errors import UserError

if sys.platform != "linux":
    pytest.skip("the OpenGL bridge is for Linux", allow_module_level=True)

from engine_bridges.opengl import build
from tests.engine_bridges.opengl.conftest import needs


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small sources in place of the bridge's, and a cache of their own."""
    needs("cmake", "c++", "make")
    folder = tmp_path / "engine_bridges" / "opengl"
    folder.mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(small CXX)\nadd_library(realmaster_gl SHARED small.cpp)\n"
    )
    (folder / "small.cpp").write_text("int small() { return 1; }\n")
    monkeypatch.setattr(build, "_SOURCES", folder)
    monkeypatch.setattr(build, "_ALL_SOURCES", (folder,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def refusal() -> str:
    with pytest.raises(UserError) as error:
        build.library()
    return str(error.value)


def test_it_is_built_once_and_again_when_its_sources_change(sources: Path) -> None:
    told: list[float] = []
    first = build.library(lambda share, what: told.append(share))
    assert first.is_file() and first.read_bytes()[:4] == b"\x7fELF"
    assert told[0] == 0 and told[-1] == 1 and told == sorted(told)
    assert [path.name for path in first.parent.iterdir()] == [build.LIBRARY]

    told.clear()
    assert build.library(lambda share, what: told.append(share)) == first and told == []
    (sources / "small.cpp").write_text("int small() { return 2; }\n")
    assert build.library() != first and first.is_file()


def test_a_packaged_library_is_taken_as_it_is(sources: Path) -> None:
    (sources / build.LIBRARY).write_bytes(b"ready")
    assert build.library() == sources / build.LIBRARY


def test_a_failed_build_says_its_last_words_and_leaves_the_log(sources: Path) -> None:
    (sources / "small.cpp").write_text("int small() { return nonsense; }\n")
    sentence = refusal()
    assert "'nonsense' was not declared" in sentence.replace("‘", "'").replace("’", "'")
    log = Path(sentence.rsplit(": ", 1)[1].removesuffix(")."))
    assert "nonsense" in log.read_text() and [path.name for path in log.parent.iterdir()] == [log.name]


def test_missing_tools_are_named_with_their_packages(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "tools").mkdir()
    monkeypatch.setenv("PATH", str(sources / "tools"))
    monkeypatch.delenv("CXX", raising=False)
    sentence = refusal()
    assert "CMake" in sentence and "a C++ compiler" in sentence and "apt install cmake make g++" in sentence


def test_missing_headers_are_named_with_their_packages(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build._HEADERS, "no/such_header.h", "libsuch-dev")
    sentence = refusal()
    assert "<no/such_header.h> is missing" in sentence and "apt install libsuch-dev" in sentence


def test_a_cache_that_cannot_be_written(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "XDG_CACHE_HOME" in refusal()


def test_not_on_other_systems(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "record screen" in refusal()


def test_the_packaged_sources_are_all_there() -> None:
    """What pip installs must be enough to build from."""
    bridges = Path(build.__file__).parents[1]
    project = tomllib.loads((bridges.parent / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["engine_bridges"]
    packaged = {path for pattern in patterns for path in bridges.glob(pattern)}
    assert set(build._source_files()) <= packaged
