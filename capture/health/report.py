"""What an examination says: one verdict per check, in words for people.

Plain values; knows nothing of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Verdict = Literal["good", "cannot tell", "suspicious", "wrong"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
"""From best to worst."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    """E.g. "in step", "rows", "depth"."""
    verdict: Verdict
    sentence: str
    """What was found, with its likely cause; or why it cannot be told."""
    figure: str = ""
    """The number behind it, short."""
    mistakes: tuple[str, ...] = ()
    """Names of what is wrong, as in `capture.health.mistakes.MISTAKES` (or how some of them begin)."""
    summary: str = ""
    """A few words for a line that is always in view, where the verdict is not good: "depth is one frame late"."""


@dataclass(frozen=True)
class ChannelFacts:
    """What a channel's numbers look like over the frames examined, canonical."""

    name: str
    low: float
    """Smallest finite number."""
    high: float
    mean: float
    variance: float
    finite: float
    """Share of numbers that are finite; of depth the rest is sky."""
    repeated: int
    """Frames that are bit by bit the one before."""
    compared: int
    """Frames that were compared with the one before."""


@dataclass(frozen=True)
class Health:
    """The outcome of one examination."""

    checks: tuple[Check, ...]
    channels: tuple[ChannelFacts, ...]
    frames: int
    """Frames examined."""
    lags: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Agreement by lag in frames, of color, normal and pose against the depth; higher is better."""

    @property
    def verdict(self) -> Verdict:
        """The worst of all checks; "cannot tell" only when there is nothing better."""
        verdicts = {check.verdict for check in self.checks}
        told: tuple[Verdict, ...] = ("wrong", "suspicious", "good")
        return next((worst for worst in told if worst in verdicts), "cannot tell")

    @property
    def mistakes(self) -> tuple[str, ...]:
        """Everything found, by name."""
        return tuple(name for check in self.checks for name in check.mistakes)

    @property
    def problems(self) -> tuple[Check, ...]:
        """Checks that are not well, the worst first."""
        bad = [check for check in self.checks if check.verdict in ("suspicious", "wrong")]
        return tuple(sorted(bad, key=lambda check: -VERDICTS.index(check.verdict)))

    @property
    def line(self) -> str:
        """One line for people: "in sync", "depth is one frame late", "nothing can be told yet"."""
        if self.problems:
            return "; ".join(check.summary or check.sentence for check in self.problems)
        verdicts = {check.name: check.verdict for check in self.checks}
        if verdicts.get("in step") == "good":
            return "in sync"
        return "no fault found" if self.verdict == "good" else "nothing can be told yet"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "line": self.line,
            "mistakes": list(self.mistakes),
            "frames": self.frames,
            "checks": [asdict(check) | {"mistakes": list(check.mistakes)} for check in self.checks],
            "channels": [asdict(channel) for channel in self.channels],
            "lags": {name: {str(lag): value for lag, value in curve.items()} for name, curve in self.lags.items()},
        }
