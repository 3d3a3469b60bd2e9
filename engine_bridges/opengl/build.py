"""The library that is preloaded into a game: built from its sources on first use, kept in the user's cache folder.

Works on files, CMake and a compiler; knows nothing of games or of what the library does. A library belongs to the
sources that it was built from: another version of them is another library, in another folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from capture.errors import UserError

LIBRARY = "librealmaster_gl.so"

_SOURCES = Path(__file__).parent
_ALL_SOURCES = (_SOURCES, _SOURCES.parent / "cpp")
_SUFFIXES = {".c", ".cpp", ".h", ".hpp", ".in", ".cmake", ".map", ".txt"}

_HEADERS = {"zmq.h": "libzmq3-dev", "msgpack.hpp": "libmsgpack-cxx-dev"}
"""Headers that the sources include, and the Debian packages that have them."""


def library(progress: Callable[[float, str], None] = lambda share, what: None) -> Path:
    """Path of the library, built now if it never was.

    progress: called with the share of the build that is done, 0 to 1, and what is being done.
    Raises UserError: not 64-bit Linux, something is missing that the build needs, or the build failed.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        raise UserError(
            f"The OpenGL bridge is for games on 64-bit Linux, not for {platform.system()} {platform.machine()}: "
            "use `realmaster record screen` here."
        )
    packaged = _SOURCES / LIBRARY
    if packaged.is_file():
        return packaged
    folder = platformdirs.user_cache_path("realmaster", appauthor=False) / "opengl" / sources_hash()
    if not (folder / LIBRARY).is_file():
        _build(folder, progress)
    return folder / LIBRARY


def sources_hash() -> str:
    """16 hex digits that change with every change of the sources, and with the machine that they are built for."""
    digest = hashlib.sha256(platform.machine().encode())
    for path in _source_files():
        digest.update(f"{path.relative_to(_SOURCES.parent).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _source_files() -> Iterator[Path]:
    for folder in _ALL_SOURCES:
        yield from sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and "build" not in path.parts)


def _build(folder: Path, progress: Callable[[float, str], None]) -> None:
    """Build in a folder of our own, then move the library into `folder`: nobody ever sees half of one."""
    _check_tools()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
    except OSError as error:
        raise UserError(
            f"The OpenGL bridge cannot be built in {folder} ({error.strerror}): "
            "set XDG_CACHE_HOME to a folder that you may write to."
        ) from None
    log = room / "build.log"
    configure = ["cmake", "-S", str(_SOURCES), "-B", str(room), "-DCMAKE_BUILD_TYPE=Release"]
    build = ["cmake", "--build", str(room), "--target", "realmaster_gl", "--parallel", str(os.cpu_count() or 1)]
    try:
        progress(0.0, "configuring")
        blamed = _run(configure, log) or _run(build, log, lambda line: _tell(line, progress))
        if blamed is not None:
            os.replace(log, folder / log.name)
            raise UserError(f"The OpenGL bridge could not be built: {blamed} (the whole log: {folder / log.name}).")
        os.replace(room / LIBRARY, folder / LIBRARY)
        progress(1.0, "built")
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _tell(line: str, progress: Callable[[float, str], None]) -> None:
    """Progress from a line of make or ninja: `[ 40%] Building CXX object ...`, `[2/5] ...`."""
    if match := re.match(r"\[ *(\d+)(%|/(\d+))\] (.*)", line):
        whole = 100 if match[2] == "%" else int(match[3])
        progress(int(match[1]) / max(1, whole), Path(match[4].split()[-1]).name.removesuffix(".o"))


def _run(command: list[str], log: Path, on_line: Callable[[str], None] = lambda line: None) -> str | None:
    """One step of the build, its output appended to the log; what went wrong in its own words, None when it went well.

    The first error is the cause, and the last line the summary of a tool that does not say "error".
    """
    blamed, last = "", ""
    with open(log, "a", encoding="utf-8") as output, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                output.write(line)
                on_line(line)
                last = line.strip() or last
                if not blamed and re.search(r"\berror\b", line, re.IGNORECASE):
                    blamed = line.strip()
        except BaseException:
            process.terminate()
            raise
    if process.returncode == 0:
        return None
    return (blamed or last or f"{command[0]} ended with exit code {process.returncode}").rstrip(".: ")


def _check_tools() -> None:
    """UserError that names all that the build lacks, with the packages that have it."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    missing: dict[str, str] = {}
    if shutil.which("cmake") is None:
        missing["CMake"] = "cmake"
    if shutil.which("make") is None and shutil.which("ninja") is None:
        missing["make"] = "make"
    if compiler is None or shutil.which(compiler.split()[0]) is None:
        missing["a C++ compiler"] = "g++"
        headers = [header for header in _HEADERS if not (Path("/usr/include") / header).exists()]
    else:
        headers = _missing_headers(compiler.split())
    missing |= {f"<{header}>": _HEADERS[header] for header in headers}
    if missing:
        *others, last = missing
        what = f"{', '.join(others)} and {last}" if others else last
        packages = " ".join(dict.fromkeys(missing.values()))
        raise UserError(
            f"The OpenGL bridge is built on first use, and {what} {'are' if others else 'is'} missing here: "
            f"`sudo apt install {packages}` brings it (on Debian and Ubuntu)."
        )


def _missing_headers(compiler: list[str]) -> list[str]:
    """Headers that the compiler does not find, by its own preprocessor."""
    asked = "".join(f"#if !__has_include(<{name}>)\nmissing {name}\n#endif\n" for name in _HEADERS)
    try:
        run = subprocess.run(
            [*compiler, "-x", "c++", "-E", "-P", "-"], input=asked, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"The C++ compiler {compiler[0]} does not work ({error}): set CXX to one that does.") from None
    return [name for name in _HEADERS if f"missing {name}" in run.stdout.splitlines()]
