"""What the commands' options share: how a command is declared, and the types of their values.

Knows argparse and nothing of what the commands do.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError

if TYPE_CHECKING:
    from capture.codecs import Precision


class CommandError(UserError):
    """A command that failed after it found something out: `report` joins the error's sentence under `--json`."""

    def __init__(self, sentence: str, report: Mapping[str, Any]) -> None:
        super().__init__(sentence)
        self.report = dict(report)


class WrongUse(UserError):
    """A command line that argparse could not see to be wrong; exit code 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a command that put its work in order first: `report` says what there is."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__()
        self.report = dict(report)


def add_command(
    commands: Any, name: str, summary: str, *, run: Callable[..., Mapping[str, Any]], example: str, about: str = ""
) -> argparse.ArgumentParser:
    """Declare a command with `--help` (which ends in an example) and `--json`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=(about or summary[0].upper() + summary[1:] + "."),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    return parser


def add_take_command(
    actions: Any, name: str, summary: str, run: Callable[..., Mapping[str, Any]], example: str, about: str = ""
) -> argparse.ArgumentParser:
    """Declare `realmaster takes NAME TAKE` with `--takes`; the example is what follows the name."""
    parser = add_command(actions, name, summary, run=run, example=f"realmaster takes {name} {example}", about=about)
    parser.add_argument("take", metavar="TAKE", help="path or name of a take")
    add_takes_folder(parser)
    return parser


def add_takes_folder(parser: argparse.ArgumentParser) -> None:
    """`--takes DIR`: where takes live; by default REALMASTER_TAKES, else the user's data folder."""
    parser.add_argument(
        "--takes", type=Path, default=None, metavar="DIR", help="folder of takes (default: the user's data folder)"
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """`--depth` and `--normals`: what a recording keeps of the numbers."""
    parser.add_argument("--depth", choices=("exact", "log16"), default="exact", help="log16: float depth to 1/10000 of "
                        "its value, a third of the size (default: exact)")  # fmt: skip
    parser.add_argument("--normals", choices=("exact", "oct16"), default="exact", help="oct16: float normals to 0.01 "
                        "degrees, a third of the size (default: exact)")  # fmt: skip


def precision(args: argparse.Namespace) -> Precision:
    """What `add_precision` declared."""
    from capture.codecs import Precision

    return Precision(args.depth, args.normals)


def takes_folder(args: argparse.Namespace) -> Path:
    """The folder of takes that the command line names, else the default."""
    from capture.take import default_takes_dir

    return Path(args.takes) if args.takes is not None else default_takes_dir()


def writable_folder(path: Path, what: str) -> Path:
    """Make the folder if it is missing and prove, before any work is done, that files can be written in it."""
    probe = path / ".realmaster-writes"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot write {what} to {path} ({reason}): choose a folder that you may write to.") from None
    return path


def picture_size(text: str) -> tuple[int, int]:
    """`320x180` -> (320, 180), width and height in pixels."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or min(map(int, match.groups())) < 16 or max(map(int, match.groups())) > 8192:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 320x180 (16 to 8192 pixels a side)")
    return int(match[1]), int(match[2])


def frame_range(text: str) -> tuple[int, int | None]:
    """`A:B` -> (A, B): frames A up to but without B; `A:` runs to the end, `:B` begins at the first."""
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of frames such as 0:48")
    first, end = int(match[1] or 0), int(match[2]) if match[2] else None
    if end is not None and end <= first:
        raise argparse.ArgumentTypeError(f"the range of frames {text} is empty: its end must lie after its beginning")
    return first, end


def seconds_range(text: str) -> tuple[float, float]:
    """`A:B` -> (A, B) seconds; `A:` runs to the end, `:B` begins at 0."""
    first, colon, end = text.partition(":")
    try:
        begin, stop = float(first or 0), float(end or "inf")
    except ValueError:
        begin = stop = -1.0
    if not colon or not 0 <= begin < stop:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of seconds such as 1.5:4")
    return begin, stop


def folder_name(text: str) -> str:
    """A name that a take may be given."""
    from capture.take import is_take_name

    if not is_take_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a plain name: use letters, digits, and . _ - between them")
    return text


def positive(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return number


def count(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def natural(text: str) -> int:
    """A whole number, zero or above."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number (zero or above)")
    return int(text)
