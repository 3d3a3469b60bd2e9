"""The bridge for Panda3D: any program that has a ShowBase, with a window or without a display.

    from engine_bridges.panda3d import attach
    capture = attach(base)

Knows Panda3D and `capture`, nothing else. Panda3D itself is imported when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine_bridges.panda3d.capture_target import PandaCapture, attach

__all__ = ["PandaCapture", "attach"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from engine_bridges.panda3d.program import require_panda3d

    require_panda3d()
    from engine_bridges.panda3d import capture_target

    return getattr(capture_target, name)
