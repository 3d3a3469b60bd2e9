"""What libraries say, said our way: their errors in one sentence, their remarks and progress bars not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import HfHubHTTPError
from transformers.utils import logging as transformers_logging

from realmaster.lift.lifter import LiftError


def first_line(error: Exception) -> str:
    """What a library said, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def from_hub(what: str) -> Iterator[None]:
    """Fetching something; whatever goes wrong with net, hub or disk becomes a `LiftError` in one sentence."""
    try:
        yield
    except Exception as error:
        causes: list[BaseException] = [error]
        while (before := causes[-1].__cause__ or causes[-1].__context__) is not None and before not in causes:
            causes.append(before)
        if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes):
            sentence = "does not fit on this disk: make room where the hub's files are kept (HF_HOME)."
        elif refused := [cause for cause in causes if isinstance(cause, HfHubHTTPError)]:
            sentence = f"cannot be had from the hub ({first_line(refused[0])}): is its licence agreed to there?"
        else:
            sentence = "is not on this machine, and the hub cannot be reached: connect, or give what lies in a folder."
        raise LiftError(f"{what} {sentence}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and diffusers' remark that our codec is not the class it expected."""
    level = diffusers_logging.get_verbosity()
    barred = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)  # what fails is said in an error
    for library in barred:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        for library in barred:
            library.enable_progress_bar()
