"""What a command shows: results on stdout, progress on stderr.

Knows terminals, tables and JSON; knows nothing of takes, daemons or models. With `--json` stdout carries one
JSON object, its last line, and nothing else; progress is then silent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text


class Step(Protocol):
    """A progress bar in motion: call it with what is done, and with the total once that is known."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None: ...


class Screen:
    """The two streams of one command.

    `as_json`: only the final object goes to stdout; tables and progress are silent.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = Console(quiet=as_json, highlight=False)
        self.err = Console(stderr=True, quiet=as_json, highlight=False)

    def mute(self) -> None:
        """Say nothing from here on: this is not the process that people look at."""
        self.as_json = False
        self.out.quiet = self.err.quiet = True

    def show(self, *renderables: RenderableType) -> None:
        """Print results for a person on stdout; nothing with `--json`."""
        self.out.print(*renderables, soft_wrap=all(isinstance(item, str) for item in renderables))

    def say(self, text: str) -> None:
        """Print one line about what is going on to stderr; nothing with `--json`."""
        self.err.print(text, soft_wrap=True)

    def finish(self, result: Mapping[str, Any]) -> None:
        """With `--json`, print the result as one line of JSON, the last of stdout.

        Numbers that JSON lacks (infinity, not-a-number) become null.
        """
        if self.as_json:
            print(json.dumps(_plain(result), allow_nan=False), flush=True)

    @contextmanager
    def step(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Step]:
        """A progress bar on stderr, for work that lasts longer than a second.

        `total` None shows a bar without an end until a total is known. Where stderr is no terminal, one line says
        what begins and one what came of it, so that a log can be followed too.
        """
        if self.as_json or not self.err.is_terminal:
            yield from self._step_in_log(label)
            return
        bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Count(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.err,
            refresh_per_second=8,
        )
        with bars:
            task = bars.add_task(label, total=total, unit=unit, note="")

            def advance(done: float, total: float | None = None, note: str = "") -> None:
                bars.update(task, completed=done, total=total, note=note)

            yield advance
            shown = bars.tasks[0]
            if shown.total is None:  # a bar without an end stops pulsing once its work is done
                bars.update(task, total=max(shown.completed, 1), completed=max(shown.completed, 1))

    def _step_in_log(self, label: str) -> Iterator[Step]:
        """Lines of text, for steps that last longer than a second."""
        begun, told, latest = time.monotonic(), False, ""

        def remember(done: float, total: float | None = None, note: str = "") -> None:
            nonlocal told, latest
            latest = note
            if not told and time.monotonic() - begun > 1:
                told = True
                self.say(f"{label} ...")

        yield remember
        spent = time.monotonic() - begun
        if spent > 1:
            self.say(f"{label}: {spent:.0f} s{', ' + latest if latest else ''}")


class _Count(ProgressColumn):
    """`12/96 frames`, or `12 frames` while the total is unknown."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "")
        if not unit:
            return Text("")
        of = f"/{task.total:.0f}" if task.total is not None else ""
        return Text(f"{task.completed:.0f}{of} {unit}", style="progress.download")


def facts(title: str, rows: Mapping[str, Any]) -> Table:
    """A two-column table of names and values, for summaries."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value if isinstance(value, Text) else str(value))
    return table


def readable_bytes(count: float) -> str:
    """A number of bytes for people, in the unit that reads best."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _plain(value: Any) -> Any:
    """The value in JSON's own types: mappings, lists, strings, finite numbers, null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    return str(value)
