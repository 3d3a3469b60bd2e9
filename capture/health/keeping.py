"""The outcome of an examination in the take folder: health.json.

Works on take folders. Imports what examines only when it is asked to, so that a recorder starts in a moment.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.files import write_atomically
from capture.take_folder import plain

if TYPE_CHECKING:
    from capture.health.report import Health

HEALTH = "health.json"
"""Name of the file: `Health.to_dict()` as JSON."""

log = logging.getLogger("realmaster.health")


def keep_health(path: Path) -> bool:
    """Examine a closed take and write health.json into it; False (and a log line) when that fails, for nothing
    depends on it."""
    from capture.health.examination import examine_runs
    from capture.health.runs import take_runs
    from capture.take import Take

    try:
        with Take(path) as take:
            write_health(path, examine_runs(take_runs(take)).health)
        return True
    except Exception as error:
        log.warning("take %s could not be examined: %s", path.name, error)
        return False


def write_health(path: Path, health: Health) -> None:
    """Write health.json into a take folder; OSError where it cannot be written."""
    write_atomically(path / HEALTH, (json.dumps(plain(health.to_dict()), indent=1) + "\n").encode())


def read_health(path: Path) -> dict[str, Any] | None:
    """What was written: {verdict, line, mistakes, checks, ...}; None where there is none that can be read."""
    try:
        found = json.loads((path / HEALTH).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("line"), str) else None
