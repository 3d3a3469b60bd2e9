"""docs/take-format.md: its reader reads what we write, without us, and its numbers are those of the code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture import codecs
from capture.camera import Conventions
from capture.codecs.planes import GREEN, best_steps
from capture.frame import Channel, Descriptor, Frame
from capture.pack import pack
from capture.records import HEADER_BYTES, MAGIC, Kind
from capture.take import Take, WriterSettings
from capture.take_folder import FORMAT, SESSION_KEYS, VERSION
from engine_bridges.city.scene import City

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

SAVE = """
import sys
np.savez(sys.argv[2], **{f"{n}{meta['serial']}": a for meta, arrays in frames(sys.argv[1]) for n, a in arrays.items()})
assert not {"capture", "realmaster", "daemon"} & set(sys.modules)
"""


READER, OLDER = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def reader(older: bool = False) -> str:
    """The document's reader; with its lines for packed takes and those of older versions on request."""
    head, signature, rest = re.split(r"(def decode.*:\n)", READER)
    return "import PIL.Image\n" + head + signature + OLDER + rest if older else READER


def read_without_us(take: Path, tmp_path: Path, older: bool = False) -> list[Any]:
    """What the document's reader prints, in a process and a folder where there is nothing of ours."""
    script = tmp_path / "reader.py"
    script.write_text(reader(older) + TELL, encoding="utf-8")
    child = subprocess.run(
        [sys.executable, "-I", str(script), str(take)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert child.returncode == 0, child.stderr
    return [json.loads(line) for line in child.stdout.splitlines()]


def told(frame: Frame, index: int) -> list[Any]:
    """What the reader ought to print: arrays as they were sent, but for depth that it can give in metres."""
    arrays = {
        name: c.data * c.descriptor.factor if c.descriptor.kind == "linear" else c.data
        for name, c in frame.channels.items()
    }
    sums = {n: [str(a.dtype), list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()] for n, a in arrays.items()}
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


def test_the_reader_has_fifteen_lines_and_needs_nothing_of_ours() -> None:
    lines = [line for line in READER.splitlines() if line.strip()]
    assert len(lines) <= 15 and max(map(len, lines)) <= 120 and ";" not in READER
    assert not re.search(r"\b(capture|realmaster|daemon|engine_bridges)\b", READER + OLDER)
    imported = re.findall(r"^import (.*)", READER, re.MULTILINE)
    assert imported == ["io, pathlib, av, msgpack, numpy as np, zstandard"]


def test_the_reader_reads_a_take_in_a_process_without_us(tmp_path: Path) -> None:
    sent = [rich_frame(serial) for serial in range(4)]
    descriptors = [channel.descriptor for channel in sent[0].channels.values()]
    path = tmp_path / "t"
    with start_take(path, descriptors=descriptors, settings=WriterSettings(segment_bytes=2_000_000)) as writer:
        for frame in sent:
            writer.append(frame)
    used = {channel.codec for channel in Take(path)[1].channels.values()}  # type: ignore[attr-defined]
    assert used == {"avi", "depth", "zstd"}
    assert len(list(path.glob("frames-*"))) > 1
    assert read_without_us(path, tmp_path) == [told(frame, i) for i, frame in enumerate(sent)]
    pack(path)
    assert "webp" in {channel.codec for channel in Take(path)[1].channels.values()}  # type: ignore[attr-defined]
    assert read_without_us(path, tmp_path, older=True) == [told(frame, i) for i, frame in enumerate(sent)]


@pytest.mark.parametrize("codec", [None, "raw", "zstd"])
def test_the_reader_reads_small_frames_and_every_dtype(tmp_path: Path, codec: str | None) -> None:
    chosen = dict.fromkeys(("color", "depth", "normal", "instance"), codec) if codec else {}
    path = record_take(tmp_path / "t", 7, settings=WriterSettings(segment_bytes=14_000, codecs=chosen))
    assert read_without_us(path, tmp_path) == [told(make_frame(serial), serial) for serial in range(7)]


def test_the_reader_gives_what_the_engine_rendered_in_metres(tmp_path: Path) -> None:
    """Of engines that count in metres, in centimetres, and in millimetres of 16 bits; compared with what our own reader
    says, which is compared with the engine elsewhere."""
    city = City(3, (160, 96))
    kinds = {
        "metres": (Conventions(), lambda depth: depth, {}),
        "centimetres": (Conventions(metres_per_unit=0.01), lambda depth: depth * 100, {}),
        "millimetres": (Conventions(), lambda depth: np.where(depth < 60, depth * 1000, 65535), {"scale": 0.001}),
    }
    for name, (conventions, stored, more) in kinds.items():
        frames = []
        for serial in range(2):
            sent = city.frame(serial * 24)
            depth = stored(sent.depth).astype(np.uint16 if more else np.float32)
            arrays = {"color": sent.color, "depth": depth, "normal": np.rint(sent.normal * 127).astype(np.int8)}
            channels = {
                n: Channel(Descriptor(n, a.dtype.name, a.shape, **(more if n == "depth" else {})), a, serial)
                for n, a in arrays.items()
            }
            frames.append(Frame(serial, serial, serial / 24, None, channels, conventions=conventions))
        descriptors = [channel.descriptor for channel in frames[0].channels.values()]
        path = tmp_path / name
        with start_take(path, conventions=conventions, descriptors=descriptors) as writer:
            for frame in frames:
                writer.append(frame)
        script = tmp_path / f"{name}.py"
        script.write_text(READER + SAVE, encoding="utf-8")
        subprocess.run(
            [sys.executable, "-I", str(script), str(path), str(tmp_path / f"{name}.npz")],
            check=True, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        with np.load(tmp_path / f"{name}.npz") as read, Take(path) as take:
            for frame, ours in zip(frames, take, strict=True):
                for channel in ("color", "normal"):
                    assert np.array_equal(read[f"{channel}{frame.serial}"], frame.channels[channel].data)
                near = np.isfinite(ours.depth)
                assert 0.3 < near.mean() < 1
                assert np.allclose(read[f"depth{frame.serial}"][near], ours.depth[near], rtol=1e-6)
                assert np.allclose(ours.depth[near], city.frame(frame.serial * 24).depth[near], atol=1e-3)


def test_the_reader_undoes_every_step() -> None:
    names: dict = {}
    exec(reader(older=True), names)
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
    for dtype in ("float32", "float16", "uint32", "int16", "uint8", "int8"):
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


@pytest.mark.parametrize("missing", [1, 104, 1000, 2000])
def test_the_reader_reads_the_whole_frames_of_a_take_that_was_killed(tmp_path: Path, missing: int) -> None:
    path = record_take(tmp_path / "t", 3)
    (file,) = path.glob("frames-*")
    os.truncate(file, file.stat().st_size - missing)
    assert read_without_us(path, tmp_path) == [told(make_frame(serial), serial) for serial in range(2)]


def test_the_document_says_what_the_code_says() -> None:
    assert f"A record is a header of {HEADER_BYTES} bytes" in DOCUMENT
    assert MAGIC.hex(" ").upper() in DOCUMENT
    assert ", ".join(f"{kind.value} {kind.name}" for kind in Kind) in DOCUMENT
    assert f'`"{FORMAT}"`, `{VERSION}`' in DOCUMENT
    for name in (*codecs.CODECS, *SESSION_KEYS):
        assert f"`{name}`" in DOCUMENT, name
