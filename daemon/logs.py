"""What all processes of the daemon log, in one form: lines for people, or one JSON object a line for programs.

Works on the standard library's logging; knows nothing of what is told. A record may carry `extra={"fields": {...}}`:
what it is about, as plain values.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

RECENT_LINES = 200

LogForm = Literal["text", "json"]


@dataclass(frozen=True)
class LogSettings:
    """How a process logs; handed on to its children."""

    level: int = logging.INFO
    form: LogForm = "text"


class _Recent(logging.Handler):
    """The last lines, for support."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=RECENT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class _TextForm(logging.Formatter):
    """One line a record: names from outside cannot begin another."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().formatMessage(record))


class _JsonForm(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": multiprocessing.current_process().name,
            "message": record.getMessage(),
        }
        told |= getattr(record, "fields", {})
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


_settings = LogSettings(logging.WARNING)
_recent = _Recent()
_recent.setFormatter(_JsonForm())


def set_up(settings: LogSettings) -> None:
    """Log to stderr in that form from now on, in this process."""
    global _settings
    _settings = settings
    stream = logging.StreamHandler()
    stream.setFormatter(_JsonForm() if settings.form == "json" else _TextForm())
    logging.basicConfig(handlers=[stream], force=True)
    logger = logging.getLogger("realmaster")
    logger.setLevel(settings.level)
    if _recent not in logger.handlers:
        logger.addHandler(_recent)


def settings() -> LogSettings:
    """How this process logs, for its children."""
    return _settings


def recent() -> list[dict[str, Any]]:
    """The last lines of this process, oldest first."""
    return [json.loads(line) for line in list(_recent.lines)]
