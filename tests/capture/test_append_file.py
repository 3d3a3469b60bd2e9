"""Files that grow by whole appends: what was appended is there, wherever blocks end and whatever the disk refuses."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from capture import append_file
from capture.append_file import AppendFile, new_buffer
from capture.records import PADDING

SIZES = [1, 104, PADDING - 105, PADDING, 3 * PADDING + 17, 0, 2**20, 2**20 - 1, 3 * 2**20 + 5, 7]

needs_direct = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no direct writing on this system")


def chunks() -> list[bytes]:
    return [np.random.default_rng(size).bytes(size) for size in SIZES]


@pytest.mark.parametrize("direct", [True, False])
def test_every_append_is_in_the_file_when_it_returns(tmp_path: Path, direct: bool) -> None:
    path, whole = tmp_path / "f", b""
    file = AppendFile(path, new_buffer(), direct)
    for chunk in chunks():
        file.append([chunk[:10], memoryview(chunk)[10:]])
        whole += chunk
        data = path.read_bytes()
        assert file.length == len(whole) and data[: len(whole)] == whole
        assert len(data) - len(whole) < PADDING and not any(data[len(whole) :])
        file.sync()
    file.close()
    file.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("direct", [True, False])
def test_an_append_is_taken_back(tmp_path: Path, direct: bool) -> None:
    file = AppendFile(tmp_path / "f", new_buffer(), direct)
    first, second, third = chunks()[4], chunks()[8], chunks()[2]
    file.append([first])
    for _ in range(2):
        file.append([second])
        file.cut(len(first))  # one that came to its end
        assert (tmp_path / "f").read_bytes() == first and file.length == len(first)
    with pytest.raises(TypeError):
        file.append([second, "no bytes"])  # type: ignore[list-item]
    file.cut(len(first))
    assert (tmp_path / "f").read_bytes() == first
    file.append([third])
    file.close()
    assert (tmp_path / "f").read_bytes() == first + third


def test_files_share_a_buffer_one_after_the_other(tmp_path: Path) -> None:
    buffer = new_buffer()
    for name, chunk in zip("abc", (chunks()[8], chunks()[0], chunks()[4]), strict=True):
        file = AppendFile(tmp_path / name, buffer)
        file.append([chunk])
        file.close()
        assert (tmp_path / name).read_bytes() == chunk


@needs_direct
def test_a_file_system_that_refuses_direct_writes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does whose blocks are larger than we know."""
    file, whole, write, calls = AppendFile(tmp_path / "f", new_buffer()), b"", append_file._write_at, 0
    if not file.direct:
        pytest.skip("no direct writing on this file system")

    def refuse(fd: int, data: memoryview, at: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 6 and file.direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return write(fd, data, at)

    monkeypatch.setattr(append_file, "_write_at", refuse)
    for chunk in chunks():
        file.append([chunk])
        whole += chunk
        assert (tmp_path / "f").read_bytes()[: len(whole)] == whole
    assert not file.direct
    file.close()
    assert (tmp_path / "f").read_bytes() == whole


@needs_direct
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm")
def test_what_is_written_directly_takes_no_memory(tmp_path: Path) -> None:
    """The system itself says how much of a file it holds; on a file system in memory nothing is written directly."""
    file = AppendFile(tmp_path / "f", new_buffer())
    for _ in range(8):
        file.append([bytes(2**20)])
    if file.direct:
        assert held(tmp_path / "f") == 0
    file.close()
    assert (tmp_path / "f").stat().st_size == 8 * 2**20


def held(path: Path) -> int:
    """Bytes of a file that are in the system's memory (mincore)."""
    import ctypes
    import mmap

    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        pages = -(-len(view) // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(view)), resident) == 0
        count = sum(page & 1 for page in resident)
    return count * mmap.PAGESIZE
