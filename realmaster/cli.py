"""The command line: `realmaster COMMAND ...`.

The roof of the project: it may import everything, and does so late. Building the parser imports the command
modules, which hold their options and nothing heavy; what a command needs is imported when it runs.

Exit codes: 0 done, 1 failed with one sentence on stderr, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from capture.errors import UserError
from realmaster import __version__
from realmaster.commands import COMMANDS
from realmaster.commands.options import CommandError, Interrupted, WrongUse

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `argv` None takes the process's own arguments.

    REALMASTER_DEBUG=1 in the environment shows the traceback behind a failure's sentence, and what libraries say.
    """
    arguments, passed_on = _split(list(sys.argv[1:] if argv is None else argv))
    parser = build_parser()
    args = parser.parse_args(arguments)
    if passed_on is not None and "passed_on" not in args:
        parser.error(f"`realmaster {args.command}` takes no command after --")
    args.passed_on = passed_on or []

    from realmaster.progress import Screen

    if not os.environ.get("REALMASTER_DEBUG"):
        _hush_libraries()
    screen = Screen(as_json=args.json)
    with suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: takes closed, bridges ended
    try:
        screen.finish(args.run(args, screen))
        return DONE
    except KeyboardInterrupt as interrupt:
        screen.finish({"error": "interrupted", **(interrupt.report if isinstance(interrupt, Interrupted) else {})})
        print("realmaster: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except WrongUse as error:
        parser.error(str(error))
    except (UserError, OSError) as error:
        if os.environ.get("REALMASTER_DEBUG"):
            raise
        sentence = _sentence(error)
        screen.finish({"error": sentence, **(error.report if isinstance(error, CommandError) else {})})
        print(f"realmaster: {sentence}", file=sys.stderr)
        return FAILED


class _Parser(argparse.ArgumentParser):
    """A parser, and through it the parsers of the commands, that tells of wrong use under `--json` too."""

    _as_json = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._as_json = "--json" in (args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if self._as_json:
            print(json.dumps({"error": message}))
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Imports nothing heavy: `realmaster --help` answers at once."""
    parser = _Parser(
        prog="realmaster",
        description="Turns what a game engine renders into photorealistic video of the same geometry.",
        epilog="New here? `realmaster demo` shows the whole loop, `realmaster doctor` what this machine can run.",
    )
    parser.add_argument("--version", action="version", version=f"realmaster {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for command in COMMANDS:
        command.add(commands)
    return parser


def _hush_libraries() -> None:
    """What libraries tell each other and their own progress bars are not for users, in child processes neither."""
    warnings.simplefilter("ignore")
    quiet = {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in {**quiet, "DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}.items():
        os.environ.setdefault(name, value)


def _split(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """Our own arguments, and those after `--` (None without one), which belong to another program."""
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _sentence(error: Exception) -> str:
    """One line that says what is wrong."""
    if isinstance(error, OSError) and not isinstance(error, UserError) and error.strerror:
        subject = f"{error.filename}: " if error.filename else ""
        return f"{subject}{error.strerror[0].lower()}{error.strerror[1:]}."
    return " ".join(str(error).split())
