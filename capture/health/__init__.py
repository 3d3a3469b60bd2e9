"""Is a recording what it says it is? Proof that its channels belong together, and the likely cause where they do not.

Works on frames of any engine: it knows their declarations and doubts every one of them. numpy only. Knows nothing of
sockets and daemons.

    examination = examine(frames)               a few dozen frames that follow each other
    examination.health.line                     "in sync", or "the depth is one frame late"
    examination.health.mistakes                 ("depth_late",): names of `capture.health.mistakes.MISTAKES`
    plant(frames, "depth_late")                 the same frames with one mistake in them

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capture.health.examination import Examination, examine, examine_runs, examine_take
    from capture.health.keeping import HEALTH, keep_health, read_health, write_health
    from capture.health.mistakes import MISTAKES, plant
    from capture.health.report import ChannelFacts, Check, Health

_HOME = {
    "ChannelFacts": "report",
    "Check": "report",
    "Examination": "examination",
    "HEALTH": "keeping",
    "Health": "report",
    "MISTAKES": "mistakes",
    "examine": "examination",
    "examine_runs": "examination",
    "examine_take": "examination",
    "keep_health": "keeping",
    "plant": "mistakes",
    "read_health": "keeping",
    "write_health": "keeping",
}

__all__ = [
    "HEALTH",
    "MISTAKES",
    "ChannelFacts",
    "Check",
    "Examination",
    "Health",
    "examine",
    "examine_runs",
    "examine_take",
    "keep_health",
    "plant",
    "read_health",
    "write_health",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'capture.health' has no attribute {name!r}")
    value = getattr(import_module(f"capture.health.{_HOME[name]}"), name)
    globals()[name] = value
    return value
