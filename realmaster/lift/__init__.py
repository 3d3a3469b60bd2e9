"""Render clips in, photoreal clips out.

`profiles` says how a model is set up, a file per model family runs it, `windows` carries it over clips of any length,
`takes` lifts a recording and scores what came out. Nothing here knows of sockets or pages.
"""

from realmaster.lift.lifter import Lifter, LiftError, LiftRules
from realmaster.lift.loading import load_lifter
from realmaster.lift.takes import lift_job, lift_take  # noqa: I001
from realmaster.lift.windows import lift_long

__all__ = ["LiftError", "LiftRules", "Lifter", "lift_job", "lift_long", "lift_take", "load_lifter"]
