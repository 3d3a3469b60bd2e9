"""Render clips in, photoreal clips out.

`profiles` says how a model is set up, a file per model family runs it, `windows` carries it over clips of any length,
`takes` lifts a recording and scores what came out. Nothing here knows of sockets or pages.

Importing this package costs nothing, so that what only reads profiles starts at once: torch and the model libraries
are loaded by the first use of a name below that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realmaster.lift.lifter import Lifter, LiftError, LiftRules
    from realmaster.lift.loading import load_lifter
    from realmaster.lift.takes import lift_job, lift_take
    from realmaster.lift.windows import lift_long

_MODULES = {
    "LiftError": "lifter",
    "LiftRules": "lifter",
    "Lifter": "lifter",
    "lift_job": "takes",
    "lift_long": "windows",
    "lift_take": "takes",
    "load_lifter": "loading",
}

__all__ = ["LiftError", "LiftRules", "Lifter", "lift_job", "lift_long", "lift_take", "load_lifter"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
