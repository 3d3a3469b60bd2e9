"""Segments between real processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from capture.shared_memory import Segment

SLOTS, SLOT_BYTES = 3, 5000
ATTACH = "from capture.shared_memory import Segment; s = Segment.attach({!r}, {!r}, {}, {}); "

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="no shared memory on this system")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of memfd and /proc")


def place(segment: Segment) -> tuple[str, str, int, int]:
    return segment.name, segment.key, len(segment.slots), segment.slot_bytes


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def segment() -> Segment:
    return Segment.create(SLOTS, SLOT_BYTES)


def test_what_one_process_writes_another_reads(segment: Segment) -> None:
    assert segment.slot_bytes >= SLOT_BYTES and segment.slot_bytes % 64 == 0
    python(
        ATTACH.format(*place(segment))
        + "assert len(s.slots) == 3 and all(len(slot) == s.slot_bytes for slot in s.slots)\n"
        + "for i, slot in enumerate(s.slots): slot[:] = bytes([i + 1]) * len(slot)"
    )
    for number, slot in enumerate(segment.slots):
        assert bytes(slot) == bytes([number + 1]) * segment.slot_bytes


def test_only_what_was_offered_is_attached(segment: Segment, tmp_path: Path) -> None:
    name, key, slots, slot_bytes = place(segment)
    (tmp_path / "file").write_bytes(key.encode() + bytes(4096 + slots * slot_bytes - 32))
    for wrong in (
        (name, "0" * 32, slots, slot_bytes),
        (str(tmp_path / "file"), key, slots, slot_bytes),
        ("Local\\realmaster-" + "0" * 32, key, slots, slot_bytes),
        ("/proc/self/fd/../../../etc/passwd", key, slots, slot_bytes),
        ("", key, slots, slot_bytes),
        (name, key, 0, slot_bytes),
        (name, key, 2**40, 2**40),
    ):
        with pytest.raises(OSError):
            Segment.attach(*wrong)
    Segment.attach(name, key, slots, slot_bytes)


@on_linux
def test_another_size_than_was_offered_is_not_attached(segment: Segment) -> None:
    name, key, slots, slot_bytes = place(segment)
    with pytest.raises(OSError, match="size"):
        Segment.attach(name, key, slots + 1, slot_bytes)


@on_linux
def test_what_is_hidden_cannot_be_found_and_lives_on_where_it_is_attached(segment: Segment) -> None:
    attached = Segment.attach(*place(segment))
    segment.hide()
    with pytest.raises(OSError):
        Segment.attach(*place(segment))
    attached.slots[2][:5] = b"still"
    assert bytes(segment.slots[2][:5]) == b"still"


@on_linux
def test_nobody_can_cut_it_under_a_reader_and_only_its_owner_may_open_it(segment: Segment) -> None:
    python(
        f"import os\nfd = os.open({segment.name!r}, os.O_RDWR)\n"
        "for size in (0, 2**30):\n"
        "    try: os.ftruncate(fd, size)\n"
        "    except PermissionError: pass\n"
        "    else: raise SystemExit('it was cut')"
    )
    assert os.stat(segment.name).st_mode & 0o777 == 0o600
    assert bytes(segment.slots[0][:4]) == bytes(4)


@on_linux
def test_a_killed_maker_leaves_nothing_behind() -> None:
    code = (
        "import os, signal\nfrom capture.shared_memory import Segment\ns = Segment.create(2, 100000)\n"
        "print(s.name, s.key, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    name, key = done.stdout.split()
    assert done.returncode < 0 and not Path(name).exists()
    assert not [name for name in os.listdir("/dev/shm") if "realmaster" in name or key in name]


@on_linux
def test_it_is_unmapped_when_nothing_looks_at_it_any_more() -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("/memfd:realmaster")

    files, maps = len(os.listdir("/proc/self/fd")), mapped()
    segment = Segment.create(SLOTS, SLOT_BYTES)
    attached = Segment.attach(*place(segment))
    assert mapped() == maps + 2
    view = attached.slots[1][10:20]
    del segment, attached
    gc.collect()
    assert mapped() == maps + 1
    view[:4] = b"safe"  # not a crash: a view keeps the memory
    del view
    gc.collect()
    assert mapped() == maps and len(os.listdir("/proc/self/fd")) == files
