"""A virtual X11 display, and a program with one window on it that obeys.

`python x11.py X Y W H TITLE` is the program: it shows a window in plain colour and reads commands from stdin, one a
line: `color RRGGBB`, `move X Y W H`, `hide`, `show`, `close`. It prints `done` when the server has done it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing() -> str | None:
    """What this machine lacks for a virtual display, None when it has all."""
    if sys.platform != "linux":
        return "X11 is tested on Linux only"
    if shutil.which("Xvfb") is None:
        return "Xvfb is missing (apt install xvfb)"
    if ctypes.util.find_library("X11") is None:
        return "libX11 is missing (apt install libx11-6)"
    return None


@contextmanager
def virtual_display(size: str = "640x480") -> Iterator[str]:
    """A display of its own, e.g. ":5"; the server says itself which number was free, and when it is ready."""
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", f"{size}x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        yield f":{int(server.stdout.readline())}"
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


class Program:
    """A running program with one window; a context manager."""

    def __init__(self, display: str, title: str, x: int, y: int, width: int, height: int) -> None:
        command = [sys.executable, str(Path(__file__)), *map(str, (x, y, width, height)), title]
        environment = {**os.environ, "DISPLAY": display}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._heard()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def do(self, command: str) -> None:
        """Have a command done; returns when the server has done it."""
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        self._heard()

    def _heard(self) -> None:
        assert self._process.stdout.readline() == "done\n"


def _show(x: int, y: int, width: int, height: int, title: str) -> None:
    x11 = ctypes.CDLL(ctypes.util.find_library("X11"))
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XDefaultRootWindow.restype = x11.XCreateSimpleWindow.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    root = ctypes.c_ulong(x11.XDefaultRootWindow(display))
    black = ctypes.c_ulong(0)
    window = ctypes.c_ulong(x11.XCreateSimpleWindow(display, root, x, y, width, height, 0, black, black))
    x11.XStoreName(display, window, title.encode())
    x11.XMapWindow(display, window)
    while True:
        x11.XSync(display, 0)
        print("done", flush=True)
        name, *arguments = (sys.stdin.readline() or "end").split()
        if name == "color":
            x11.XSetWindowBackground(display, window, ctypes.c_ulong(int(arguments[0], 16)))
            x11.XClearWindow(display, window)
        elif name == "move":
            x11.XMoveResizeWindow(display, window, *map(int, arguments))
        elif name in ("hide", "show", "close"):
            {"hide": x11.XUnmapWindow, "show": x11.XMapWindow, "close": x11.XDestroyWindow}[name](display, window)
        else:
            return


if __name__ == "__main__":
    _show(*map(int, sys.argv[1:5]), sys.argv[5])
