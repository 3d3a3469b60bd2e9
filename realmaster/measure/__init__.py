"""How good is a lift: against the engine's own geometry, over time, and against the truth where there is one.

Every score is reported for the untouched render too: a copy of the render wins every structure measure, so a structure
score alone says nothing of realism.
"""

from realmaster.measure.findings import COPY_CAVEAT, Finding, findings
from realmaster.measure.scores import MEASURES, Measure, Scorer, Scores, score_clip

__all__ = ["COPY_CAVEAT", "MEASURES", "Finding", "Measure", "Scorer", "Scores", "findings", "score_clip"]
