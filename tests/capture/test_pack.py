"""Packing makes takes smaller, never changes a bit, and can be interrupted anywhere."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from capture import codecs
from capture.codecs import Precision
from capture.errors import TakeDamagedError, TakeError
from capture.frame import Channel, Descriptor, Frame
from capture.pack import PackReport, pack
from capture.take import Take, WriterSettings, verify

from .recordings import assert_same, descriptors, make_frame, record_take, start_take

SIZE = (96, 64)
FRAMES = 12


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A take of four segments."""
    path = tmp_path_factory.mktemp("takes") / "t"
    with start_take(path, descriptors=descriptors(*SIZE), settings=WriterSettings(segment_bytes=65_000)) as writer:
        for serial in range(FRAMES):
            writer.append(make_frame(serial, *SIZE))
    assert len(list(path.glob("*.rmk"))) == 4
    return path


@pytest.fixture
def path(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "t"))


def assert_whole(path: Path) -> None:
    assert verify(path).problems == []
    with Take(path) as take:
        assert len(take) == FRAMES
        for serial, frame in enumerate(take):
            assert_same(frame, make_frame(serial, *SIZE))


def test_a_packed_take_is_smaller_and_the_same(path: Path) -> None:
    before = sum(file.stat().st_size for file in path.glob("*.rmk"))
    steps: list[tuple[int, int]] = []
    reader = Take(path)  # opened before, read after
    assert_same(reader[0], make_frame(0, *SIZE))
    report = pack(path, lambda done, total: steps.append((done, total)))
    after = sum(file.stat().st_size for file in path.glob("*.rmk"))
    assert report == PackReport(str(path), FRAMES, FRAMES, before, after) and after < 0.9 * before
    assert steps[0] == (0, FRAMES) and steps[-1] == (FRAMES, FRAMES) and steps == sorted(steps)
    assert_whole(path)
    assert_same(reader[11], make_frame(11, *SIZE))
    take = Take(path)
    assert [channel["codec"] for channel in take.manifest["channels"]] == ["webp", "depth", "webp", "zstd"]
    assert take.manifest["bytes"] == after and take.manifest["packed"]
    assert not list(path.glob("*.packing"))
    again = pack(path)
    assert (again.packed, again.bytes) == (0, after)


def test_what_was_quantised_stays_as_it_is(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 3, settings=WriterSettings(precision=Precision(depth="log16")))
    before = [frame.channels["depth"].data for frame in Take(path)]
    pack(path)
    assert verify(path).problems == []
    for frame, depth in zip(Take(path), before, strict=True):
        assert frame.channels["depth"].codec == "log16"  # type: ignore[attr-defined]
        assert frame.channels["depth"].data.tobytes() == depth.tobytes()


def test_an_open_take_is_not_packed(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        writer.append(make_frame(0))
        with pytest.raises(TakeError, match="is being recorded"):
            pack(tmp_path / "t")
    manifest = (tmp_path / "t" / "take.json").read_text()
    (tmp_path / "t" / "take.json").write_text(manifest.replace('"closed"', '"open"', 1))
    with pytest.raises(TakeError, match="never closed: run `realmaster takes repair"):
        pack(tmp_path / "t")


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_damaged_take_is_not_packed(path: Path, where: float) -> None:
    victim = path / "frames-002.rmk"
    data = bytearray(victim.read_bytes())
    data[int(len(data) * where)] ^= 0x10
    victim.write_bytes(data)
    with pytest.raises(TakeDamagedError):
        pack(path)
    assert victim.read_bytes() == data and not list(path.glob("*.packing"))


def test_a_codec_that_errs_costs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in path.glob("*.rmk")}
    right = codecs.codec("webp").encode
    monkeypatch.setattr(type(codecs.codec("webp")), "encode", lambda self, array, dense: right(array ^ 1, dense))
    with pytest.raises(TakeError, match="frame 0 is not the same when it is read back packed"):
        pack(path)
    assert {file.name: file.read_bytes() for file in path.glob("*.rmk*")} == before
    assert_whole(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit, which Windows has not")
def test_a_full_disk_leaves_the_take_as_it_was(path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TakeError, match="could not be packed .* it is whole as it was"):
            pack(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_whole(path)
    assert pack(path).packed == FRAMES
    assert_whole(path)


def test_killed_anywhere_the_take_is_whole_and_packing_goes_on(recorded: Path, tmp_path: Path, kills: int) -> None:
    code = "import sys; from capture.pack import pack; print('begin', flush=True); pack(sys.argv[1])"
    start = time.monotonic()
    whole = Path(shutil.copytree(recorded, tmp_path / "whole"))
    subprocess.run([sys.executable, "-c", code, str(whole)], check=True, timeout=120, cwd=Path(__file__).parents[2])
    longest = time.monotonic() - start
    packed = 0
    for number in range(kills):
        path = Path(shutil.copytree(recorded, tmp_path / f"t{number}"))
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None and child.stdout.readline() == b"begin\n"
        time.sleep(random.uniform(0, longest))
        child.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        child.wait(60)
        child.stdout.close()
        assert_whole(path)
        report = pack(path)
        packed += report.packed
        assert_whole(path)
        assert report.bytes == sum(file.stat().st_size for file in whole.glob("*.rmk"))
    assert packed <= kills * FRAMES


def test_killed_between_the_steps_of_a_swap(path: Path) -> None:
    """The two moments that random kills seldom meet: before and after the packed file takes its place."""
    for replaced in (False, True):
        shutil.rmtree(path)
        record_like = path.parent / f"source-{replaced}"
        with start_take(record_like, descriptors=descriptors(*SIZE)) as writer:
            for serial in range(FRAMES):
                writer.append(make_frame(serial, *SIZE))
        shutil.copytree(record_like, path)
        code = (
            "import os, sys, capture.pack as p\n"
            "real = os.replace\n"
            "def die(a, b):\n"
            "    if not str(b).endswith('.rmk'): return real(a, b)\n"
            f"    if {replaced}: real(a, b)\n"
            "    os._exit(9)\n"
            "p.os.replace = die\n"
            "p.pack(sys.argv[1])\n"
        )
        child = subprocess.run([sys.executable, "-c", code, str(path)], timeout=120, cwd=Path(__file__).parents[2])
        assert child.returncode == 9
        assert_whole(path)
        assert pack(path).packed == (0 if replaced else FRAMES)
        assert_whole(path)
        assert Take(path).manifest["packed"]


def test_channels_of_any_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = make_frame(0)
    for name, shape in (("color_hudless", (24, 40, 4)), ("mask", (24, 40)), ("flow", (24, 40, 2)), ("tiny", (1, 1, 3))):
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        frame.channels[name] = Channel(Descriptor(name, "uint8", shape), array, 0)
    with start_take(tmp_path / "t") as writer:
        writer.append(frame)
    pack(tmp_path / "t")
    (read,) = Take(tmp_path / "t")
    assert isinstance(read, Frame)
    assert_same(read, frame)
