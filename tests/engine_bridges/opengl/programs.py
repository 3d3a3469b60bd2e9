"""What is tested with: the zoo, compiled by the machine's compiler, and a display that nobody sees.

Knows programs and processes, nothing of pytest; the benchmark uses it too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ZOO = Path(__file__).parent / "zoo.cpp"


class CannotBuild(Exception):
    """A header or a library that the zoo needs is missing; the compiler's own words."""


def build_zoo(folder: Path) -> Path:
    """The program of zoo.cpp, in `folder`. Raises CannotBuild, or OSError without a compiler."""
    program = folder / "zoo"
    command = ["c++", "-std=c++17", "-O1", str(ZOO), "-o", str(program), "-lGL", "-lEGL", "-lX11", "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "fatal error" in made.stderr or "cannot find -l" in made.stderr:
        raise CannotBuild(next(line for line in made.stderr.splitlines() if "error" in line or "cannot find" in line))
    assert made.returncode == 0, made.stderr
    return program


@contextmanager
def virtual_display(width: int, height: int) -> Iterator[str]:
    """A display as DISPLAY names it. Raises OSError where Xvfb is not installed."""
    told, tells = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24"]
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(tells), *screen, "-nolisten", "tcp", "-noreset"],
        pass_fds=[tells], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        os.close(tells)
        with os.fdopen(told) as numbers:
            number = numbers.readline().strip()
        assert number, "Xvfb did not start"
        try:
            yield f":{number}"
        finally:
            server.terminate()
