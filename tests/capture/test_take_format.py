"""docs/take-format.md: its reader reads what we write, and its numbers are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from capture import codecs
from capture.records import HEADER_BYTES, MAGIC, Kind
from capture.take import WriterSettings
from capture.take_folder import FORMAT, SESSION_KEYS, VERSION

from .recordings import make_frame, record_take, start_take

DOCUMENT = (Path(__file__).parents[2] / "docs" / "take-format.md").read_text(encoding="utf-8")


def reader() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    return code


def test_the_reader_needs_nothing_of_ours() -> None:
    imported = re.search(r"^import (.*)$", reader(), re.MULTILINE)
    assert imported is not None
    assert {word.split()[0] for word in imported[1].split(", ")} == {
        "pathlib",
        "struct",
        "msgpack",
        "numpy",
        "zstandard",
    }
    assert len(reader().strip().splitlines()) <= 35


@pytest.mark.parametrize("codec", [None, "raw", "zstd"])
def test_the_reader_reads_a_take(tmp_path: Path, codec: str | None) -> None:
    chosen = dict.fromkeys(("color", "depth", "normal", "instance"), codec) if codec else {}
    path = record_take(tmp_path / "t", 7, settings=WriterSettings(segment_bytes=14_000, codecs=chosen))
    names: dict = {}
    exec(reader(), names)
    read = list(names["frames"](path))
    assert len(read) == 7 and len(list(path.glob("frames-*"))) > 1
    for serial, (meta, arrays) in enumerate(read):
        sent = make_frame(serial)
        assert (meta["index"], meta["serial"], meta["time"]) == (serial, serial, sent.time)
        assert meta["camera"]["pose"] == sent.raw_camera.pose.ravel().tolist()
        assert arrays.keys() == sent.channels.keys()
        for name, channel in sent.channels.items():
            assert arrays[name].dtype == channel.data.dtype and arrays[name].shape == channel.data.shape
            assert arrays[name].tobytes() == channel.data.tobytes(), name


def test_the_reader_reads_every_codec_with_every_step() -> None:
    names: dict = {}
    exec(reader(), names)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:30, :40]
    noise = rng.integers(0, 256, (30, 40))
    fields = [np.repeat(noise[:1], 30, axis=0), np.repeat(noise[:, :1], 40, axis=1), x * 3 + y * 5, noise]
    steps = set()
    for field in fields:
        for components in (1, 2, 3, 4):
            image = np.repeat(field[..., None], components, axis=2).astype(np.uint8) + np.arange(
                components, dtype=np.uint8
            )
            data = codecs.encode("image", image)
            steps.add(data[0])
            assert np.array_equal(names["decode"]("image", data, "uint8", image.shape), image)
    assert {step & 3 for step in steps} == {1, 2, 3} and {step & 4 for step in steps} == {0, 4}
    for dtype in ("float32", "float16", "uint32", "int16"):
        for shape in ((30, 40), (30, 40, 2)):
            array = rng.integers(0, 256, np.prod(shape) * np.dtype(dtype).itemsize, dtype=np.uint8)
            array = array.view(dtype).reshape(shape)
            back = names["decode"]("depth", codecs.encode("depth", array), dtype, shape)
            assert back.dtype == array.dtype and back.tobytes() == array.tobytes()


def test_the_reader_reads_a_take_that_is_still_open(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "t")
    writer.append(make_frame(0))
    writer.append(make_frame(1))
    code = reader() + "\nimport sys\nprint([meta['serial'] for meta, _ in frames(sys.argv[1])])"
    child = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "t")], capture_output=True, text=True, timeout=60
    )
    assert child.stdout == "[0, 1]\n", child.stderr
    writer.close()


def test_the_document_says_what_the_code_says() -> None:
    assert f"A record is a header of {HEADER_BYTES} bytes" in DOCUMENT
    assert MAGIC.hex(" ").upper() in DOCUMENT
    assert ", ".join(f"{kind.value} {kind.name}" for kind in Kind) in DOCUMENT
    assert f'`"{FORMAT}"`, `{VERSION}`' in DOCUMENT
    for name in (*codecs.CODECS, *SESSION_KEYS):
        assert f"`{name}`" in DOCUMENT, name
