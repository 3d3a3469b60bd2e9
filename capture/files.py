"""Replacing a file so that nobody ever sees a part of it.

Works on paths and bytes; knows nothing of what they mean.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def numbered(stem: str, suffix: str = "", *, bare: bool = True) -> Iterator[str]:
    """Names to choose a free one from, for ever: `stem`, `stem`-2, -3 ...; not `bare`: `stem`-1, -2 ..."""
    if bare:
        yield stem + suffix
    yield from (f"{stem}-{number}{suffix}" for number in itertools.count(2 if bare else 1))


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace a file so that a crash leaves the old or the new one, never a part.

    mode: permissions of the file, less what the process's umask takes away. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # a crash may have left it
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, with its suffix, to be written to; it takes its place when the block ends well and is
    gone when it does not. For results that can be made again: nothing waits for the disk. Raises OSError."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        _replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    for attempt in range(20):
        try:
            os.replace(temporary, path)
            break
        except PermissionError:  # Windows, while a reader has the old file open
            if attempt == 19:
                raise
            time.sleep(0.05)
