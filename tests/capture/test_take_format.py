"""docs/take-format.md: its reader reads what we write, without us, and its numbers are those of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture import codecs
from capture.codecs.planes import GREEN, best_steps
from capture.frame import Channel, Descriptor, Frame
from capture.pack import pack
from capture.records import HEADER_BYTES, MAGIC, Kind
from capture.take import Take, WriterSettings
from capture.take_folder import FORMAT, SESSION_KEYS, VERSION

from .recordings import make_frame, record_take, start_take
from .test_codecs import texture

DOCUMENT = (Path(__file__).parents[2] / "docs" / "take-format.md").read_text(encoding="utf-8")

TELL = """
import hashlib, json, sys
for meta, arrays in frames(sys.argv[1]):
    sums = {name: [str(a.dtype), list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()] for name, a in arrays.items()}
    print(json.dumps([meta["index"], meta["serial"], meta["time"], meta["camera"] and meta["camera"]["pose"], sums]))
assert not {"capture", "realmaster", "daemon"} & set(sys.modules)
"""


def reader() -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL))


def read_without_us(take: Path, tmp_path: Path) -> list[Any]:
    """What the document's reader prints, in a process and a folder where there is nothing of ours."""
    script = tmp_path / "reader.py"
    script.write_text(reader() + TELL, encoding="utf-8")
    child = subprocess.run(
        [sys.executable, "-I", str(script), str(take)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def told(frame: Frame, index: int) -> list[Any]:
    import hashlib

    sums = {
        name: [str(c.data.dtype), list(c.data.shape), hashlib.sha256(c.data.tobytes()).hexdigest()]
        for name, c in frame.channels.items()
    }
    pose = None if frame.raw_camera is None else frame.raw_camera.pose.ravel().tolist()
    return [index, frame.serial, frame.time, pose, sums]


def rich_frame(serial: int) -> Frame:
    """A frame with something for every codec that live recording takes."""
    noise = np.random.default_rng(serial)
    picture = np.roll(texture(), serial, axis=1)
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    arrays = {
        "color": picture,
        "color_hudless": np.concatenate([picture, picture[..., :1]], axis=2),
        "albedo": noise.integers(0, 256, picture.shape, dtype=np.uint8),
        "normal": np.full(picture.shape, 128, np.uint8),
        "depth": np.where(y > 90, 30 / (y + 1 + x / 700), np.inf).astype(np.float32),
        "depth_far": (y * 70000 + x * 11).astype(np.uint32),
        "motion": np.stack([x / 100, y / 90], axis=2).astype(np.float16),
        "segmentation": (x // 50).astype(np.uint8),
        "roughness": (y * x).astype(np.uint16),
    }
    channels = {n: Channel(Descriptor(n, str(a.dtype), a.shape), a, serial) for n, a in arrays.items()}
    return Frame(serial, serial, serial / 30, None, channels)


def test_the_reader_is_as_long_as_we_say_and_needs_nothing_of_ours() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert [len([line for line in block.splitlines() if line.strip()]) for block in blocks] == [15, 16]
    assert not re.search(r"\b(capture|realmaster|daemon)\b", reader())


def test_the_reader_reads_a_take_in_a_process_without_us(tmp_path: Path) -> None:
    sent = [rich_frame(serial) for serial in range(4)]
    descriptors = [channel.descriptor for channel in sent[0].channels.values()]
    path = tmp_path / "t"
    with start_take(path, descriptors=descriptors, settings=WriterSettings(segment_bytes=2_000_000)) as writer:
        for frame in sent:
            writer.append(frame)
    used = {channel.codec for channel in Take(path)[1].channels.values()}  # type: ignore[attr-defined]
    assert used == {"ffvhuff", "image", "depth", "zstd"}
    assert len(list(path.glob("frames-*"))) > 1
    assert read_without_us(path, tmp_path) == [told(frame, i) for i, frame in enumerate(sent)]
    pack(path)
    assert "webp" in {channel.codec for channel in Take(path)[1].channels.values()}  # type: ignore[attr-defined]
    assert read_without_us(path, tmp_path) == [told(frame, i) for i, frame in enumerate(sent)]


@pytest.mark.parametrize("codec", [None, "raw", "zstd"])
def test_the_reader_reads_small_frames_and_every_dtype(tmp_path: Path, codec: str | None) -> None:
    chosen = dict.fromkeys(("color", "depth", "normal", "instance"), codec) if codec else {}
    path = record_take(tmp_path / "t", 7, settings=WriterSettings(segment_bytes=14_000, codecs=chosen))
    assert read_without_us(path, tmp_path) == [told(make_frame(serial), serial) for serial in range(7)]


def test_the_reader_undoes_every_step() -> None:
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
            assert data[0] == best_steps(np.moveaxis(image, 2, 0))[0]
            steps.add(data[0])
            assert np.array_equal(names["decode"]("image", data, "uint8", image.shape), image)
    assert {step & 3 for step in steps} == {1, 2, 3} and {step & GREEN for step in steps} == {0, GREEN}
    for dtype in ("float32", "float16", "uint32", "int16"):
        for shape in ((30, 40), (30, 40, 2)):
            array = rng.integers(0, 256, np.prod(shape) * np.dtype(dtype).itemsize, dtype=np.uint8)
            array = array.view(dtype).reshape(shape)
            back = names["decode"]("depth", codecs.encode("depth", array), dtype, shape)
            assert back.dtype == array.dtype and back.tobytes() == array.tobytes()


def test_quantised_codecs_are_what_the_document_says() -> None:
    names: dict = {}
    exec(reader(), names)
    depth = np.linspace(0.2, 900, 35 * 41).astype(np.float32).reshape(35, 41)
    depth[:2], depth[2], depth[3] = np.inf, 0, np.nan
    data = codecs.encode("log16", depth)
    offset = np.frombuffer(data, "<i4", 1, 4)[0]
    codes = names["decode"]("depth", data[8:], "uint16", depth.shape).astype(np.float64)
    values = np.exp((offset + codes - 1) * 0.000196)
    values[codes == 0], values[codes == 65535], values[codes == 65534] = 0, np.inf, np.nan
    back = codecs.decode("log16", data, "float32", depth.shape)
    assert np.allclose(back, values, rtol=1e-6, equal_nan=True)
    normals = np.random.default_rng(0).normal(size=(20, 30, 3))
    normals = (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)
    normals[4] = 0
    data = codecs.encode("oct16", normals)
    codes = names["decode"]("depth", data[4:], "uint16", (20, 30, 2)).astype(np.float64)
    u, v = np.moveaxis((codes - 1) * 2 / 65534 - 1, 2, 0)
    z = 1 - abs(u) - abs(v)
    t = np.maximum(-z, 0)
    vectors = np.stack([u - np.copysign(t, u), v - np.copysign(t, v), z], axis=2)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[(codes == 0).all(axis=2)] = 0
    assert np.allclose(codecs.decode("oct16", data, "float32", normals.shape), vectors, atol=1e-6)


def test_the_reader_reads_a_take_that_is_still_open(tmp_path: Path) -> None:
    writer = start_take(tmp_path / "t")
    writer.append(make_frame(0))
    writer.append(make_frame(1))
    assert [serial for _, serial, *_ in read_without_us(tmp_path / "t", tmp_path)] == [0, 1]
    writer.close()


def test_the_document_says_what_the_code_says() -> None:
    assert f"A record is a header of {HEADER_BYTES} bytes" in DOCUMENT
    assert MAGIC.hex(" ").upper() in DOCUMENT
    assert ", ".join(f"{kind.value} {kind.name}" for kind in Kind) in DOCUMENT
    assert f'`"{FORMAT}"`, `{VERSION}`' in DOCUMENT
    for name in (*codecs.CODECS, *SESSION_KEYS):
        assert f"`{name}`" in DOCUMENT, name
