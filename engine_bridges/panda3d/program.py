"""Starts Panda3D programs to be captured: with or without a display, ours or a user's own.

Works on Panda3D's configuration and on the moment when a ShowBase is made. Knows nothing of frames.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from capture.errors import UserError


def require_panda3d() -> None:
    """Raises UserError when Panda3D is not installed."""
    if importlib.util.find_spec("panda3d.core") is None:
        raise UserError('Panda3D is not installed: pip install "realmaster[panda3d]".')


def configure(size: tuple[int, int] | None = None, offscreen: bool = False) -> None:
    """Sets Panda3D up for capture, before its window opens.

    Without a display on Linux everything is drawn offscreen through EGL; `offscreen` asks for that anyway.
    """
    require_panda3d()
    from panda3d.core import loadPrcFileData

    no_display = sys.platform == "linux" and not os.environ.get("DISPLAY")
    lines = ["threading-model", "notify-level-egldisplay error", "notify-level-util error"]
    if no_display:
        # Silence for what a machine without a display, sound card and joysticks cannot help.
        lines += ["load-display p3headlessgl", "audio-library-name null", "notify-level-device fatal"]
    if no_display or offscreen:
        lines.append("window-type offscreen")
    if size is not None:
        lines.append(f"win-size {size[0]} {size[1]}")
    loadPrcFileData("realmaster", "\n".join(lines) + "\n")


def open_base(make: Callable[[], Any]) -> Any:
    """What `make` (a ShowBase or its constructor) gives; a missing graphics driver becomes a UserError."""
    try:
        return make()
    except UserError:
        raise
    except Exception as error:
        if any(word in str(error).lower() for word in ("window", "pipe", "display")):
            raise UserError(
                "Panda3D found no OpenGL driver to draw with: on Debian without a display, "
                "apt-get install libegl1 libgl1-mesa-dri."
            ) from error
        raise


@contextmanager
def on_showbase(begin: Callable[[Any], None], prepare: Callable[[], None]) -> Iterator[None]:
    """Within this context, the first ShowBase made by anyone is prepared for and handed to `begin` once it stands."""
    from direct.showbase.ShowBase import ShowBase

    original = ShowBase.__init__
    seen: list[Any] = []

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        first = not seen
        seen.append(self)
        if not first:
            original(self, *args, **kwargs)
            return
        prepare()
        open_base(lambda: original(self, *args, **kwargs))
        begin(self)

    ShowBase.__init__ = __init__
    try:
        yield
    finally:
        ShowBase.__init__ = original


def run_script(script: Path, arguments: Sequence[str]) -> None:
    """Runs a user's program as `python script arguments` would, in this process."""
    if not script.is_file():
        raise UserError(f"there is no program {str(script)!r} to capture.")
    from panda3d.core import ExecutionEnvironment, Filename, getModelPath

    folder = script.resolve().parent
    main_dir = Filename.fromOsSpecific(str(folder))
    ExecutionEnvironment.setEnvironmentVariable("MAIN_DIR", main_dir.cStr())
    getModelPath().appendDirectory(main_dir)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(folder))
    runpy.run_path(str(script), run_name="__main__")
