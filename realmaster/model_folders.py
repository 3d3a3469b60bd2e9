"""Models in transformers' layout: a folder, or a repository on the Hugging Face hub. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capture.errors import UserError


@contextmanager
def found(model: str, what: str, example: str, error: type[UserError]) -> Iterator[str]:
    """What `from_pretrained` takes for `model`, a folder or a hub id; within, whatever it complains of becomes `error`
    in one sentence. what: such as "depth model". example: a hub id.

    Raises `error` where `model` is written as a path and nothing is there.
    """
    folder = Path(model).expanduser()
    looks_local = Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") != 1
    if looks_local and not folder.is_dir():
        raise error(
            f"There is no {what} {model}: give a folder in transformers' layout, or a hub id such as {example}."
        )
    try:
        yield str(folder) if folder.is_dir() else model
    except (OSError, ValueError, KeyError, ImportError) as complaint:
        reason = " ".join(str(complaint).split())[:200].rstrip(".")
        raise error(f"The {what} {model} cannot be loaded: {reason}.") from None
