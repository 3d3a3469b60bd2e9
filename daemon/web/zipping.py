"""A folder as a zip file that is made while it is sent: no second copy on the disk, no memory.

Works on files; knows nothing of exports or requests.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


class _Sink(io.RawIOBase):
    """What zipfile writes to: it cannot be sought in, and is emptied by `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # any buffer
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def zipped(folder: Path) -> Iterator[bytes]:
    """The bytes of a zip of a folder, stored without compression, for pictures and videos have theirs. Links are left
    out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_symlink() or not file.is_file():
                continue
            name = f"{folder.name}/{file.relative_to(folder).as_posix()}"
            about = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
            with file.open("rb") as source, archive.open(about, "w", force_zip64=True) as target:
                while data := source.read(_CHUNK):
                    target.write(data)
                    yield sink.take()
    yield sink.take()
