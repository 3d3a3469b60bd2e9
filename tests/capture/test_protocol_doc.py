"""PROTOCOL.md, the vectors and the code say the same, and the document's example works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import engine_bridges
from capture import connection, reduction, wire
from capture.camera import BLENDER_WORLD, OPENCV, OPENGL, PANDA3D, UNITY, UNREAL, Axes, Camera
from capture.errors import ProtocolError
from capture.frame import DEPTH_KINDS, DTYPES, FLAGS, PROJECTIONS, Descriptor, Entity
from engine_bridges.vectors import __main__ as vectors

from .small_daemon import TOKEN, SmallDaemon

FOLDER = Path(engine_bridges.__file__).parent
TEXT = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
VALID = json.loads((FOLDER / "vectors" / "valid.json").read_text(encoding="utf-8"))
INVALID = json.loads((FOLDER / "vectors" / "invalid.json").read_text(encoding="utf-8"))


def rows(title: str, after: str = "") -> list[list[str]]:
    """Cells of the first table whose heading row begins with `title`, in the section that begins with `after`."""
    lines = TEXT[TEXT.index(after) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {title} |")) + 2
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def names(title: str, after: str = "") -> list[str]:
    return [row[0] for row in rows(title, after)]


def headers(kind: str) -> list[dict[str, Any]]:
    samples = [message for message in vectors.valid().values() if message.type == kind]
    return [msgpack.unpackb(wire.encode(message)[0], strict_map_key=False) for message in samples]


def header_fields(kind: str) -> list[str]:
    """Names of all fields that occur in messages of this type, in their order."""
    fields = {name: None for header in headers(kind) for name in header}
    return [name for name in fields if name not in ("v", "type")]


@pytest.mark.parametrize("kind", [kind for kind in wire.MESSAGES if kind != "bye"])
def test_the_tables_list_the_fields_that_are_sent(kind):
    assert sorted(names("field", f"\n### {kind}\n")) == sorted(header_fields(kind))


def test_every_message_has_a_section_and_the_classes_have_the_same_fields():
    sections = re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)
    assert set(wire.MESSAGES) <= set(sections)
    for kind, message in wire.MESSAGES.items():
        own = {field.name for field in fields(message)}
        sent = set(header_fields(kind))
        # The one difference: conventions travel as two fields.
        assert own - {"conventions"} == sent - {"axes", "metres_per_unit"}
        assert ("conventions" in own) == ("axes" in sent)


@pytest.mark.parametrize(
    ("title", "cls"),
    [("descriptor field", Descriptor), ("axes field", Axes), ("camera field", Camera), ("entity field", Entity)],
)
def test_the_tables_of_nested_maps_list_their_fields(title, cls):
    assert names(title) == [field.name for field in fields(cls)]


def test_part_table():
    parts = [part for header in headers("frame") for part in header["parts"]]
    assert names("part field") == list({name: None for part in parts for name in part})


def test_optional_fields_of_frames_are_those_of_shared_memory_and_of_slow_links():
    assert {row[0] for row in rows("field", "\n### frame\n") if "optional" in row[1]} == {"slot"}
    assert {row[0] for row in rows("part field") if "optional" in row[1]} == {"offset", "codec"}
    assert {row[0] for row in rows("field", "\n### welcome\n") if "optional" in row[1]} == {"reduction"}
    assert names("capability") == list(reduction.CAPABILITIES)
    assert f"`shrink` n, 1 to {reduction.MOST_SHRINK}" in TEXT
    for header in headers("frame"):
        assert all(("slot" in header) == ("offset" in part) for part in header["parts"])
    assert f'`"{wire.SHARED_MEMORY}"`' in TEXT and f"multiple of {wire.ALIGNMENT}" in TEXT


def test_what_the_tables_call_optional_is_optional():
    optional = {row[0] for row in rows("descriptor field") if "optional" in row[1]}
    assert optional == {field.name for field in fields(Descriptor)} - {"name", "dtype", "shape"}
    Descriptor.from_dict({"name": "depth", "dtype": "float32", "shape": [2, 2]})
    optional = {row[0] for row in rows("entity field") if "optional" in row[1]}
    assert optional == {field.name for field in fields(Entity)} - {"id", "cls"}
    Entity.from_dict({"id": 1, "cls": "car"})


def test_error_codes():
    table = {row[0]: (row[1], row[2]) for row in rows("code")}
    fatal = {code: ("yes", meaning) for code, meaning in wire.FATAL_CODES.items()}
    mild = {code: ("no", meaning) for code, meaning in wire.MILD_CODES.items()}
    assert table == fatal | mild


def test_limits_kinds_dtypes_axes_and_names():
    limits = wire.Limits()
    assert [int(row[1]) for row in rows("limit")] == [
        limits.header_bytes, limits.depth, limits.items, limits.text, limits.parts, limits.frame_bytes,
    ]  # fmt: skip
    assert names("kind") == list(DEPTH_KINDS)
    assert {row[0]: row[2] for row in rows("descriptor field")}["dtype"].strip("`").split() == list(DTYPES)
    table = [Axes(*row[1:4]) for row in rows("engine")]
    assert table == [OPENCV, OPENGL, UNITY, UNREAL, PANDA3D, BLENDER_WORLD]
    assert {row[0]: row[1] for row in rows("flag")} == FLAGS
    for name in (*wire.EVENTS, *wire.CONTROLS, *PROJECTIONS):
        assert f"`{name}`" in TEXT
    assert f"`{connection.DEFAULT_ENDPOINT}`" in TEXT and "`daemon-PORT.json`" in TEXT
    assert connection.connection_file(5790).name == "daemon-5790.json"


def test_the_vector_files_are_up_to_date():
    for name, text in vectors.texts().items():
        assert (FOLDER / "vectors" / name).read_text(encoding="utf-8") == text, "run python -m engine_bridges.vectors"


def slots_of(vector: dict[str, Any]) -> list[memoryview]:
    return [memoryview(bytes.fromhex(slot)) for slot in vector.get("slots", [])]


@pytest.mark.parametrize("vector", VALID, ids=lambda v: v["name"])
def test_valid_vectors_decode_and_encode_byte_for_byte(vector):
    parts = [bytes.fromhex(part) for part in vector["parts"]]
    message = wire.decode(parts, slots=slots_of(vector))
    assert [bytes(part) for part in wire.encode(message)] == parts
    assert message.type == vector["header"]["type"]
    for name, value in vector["header"].items():
        if isinstance(value, int | float | str) and hasattr(message, name):
            assert getattr(message, name) == value


def test_vectors_cover_every_type_and_the_frame_holds_what_it_says():
    assert {vector["header"]["type"] for vector in VALID} == set(wire.MESSAGES)
    vector = next(vector for vector in VALID if vector["name"] == "frame")
    frame = wire.decode([bytes.fromhex(part) for part in vector["parts"]])
    np.testing.assert_array_equal(frame.parts[0].array.ravel(), range(24))
    assert frame.parts[1].array[0, 1] == 0.5 and frame.camera.pose[0, 3] == 4 and frame.entities[0].id == 7
    wire.frame_of(frame, wire.decode([bytes.fromhex(VALID[0]["parts"][0])]), 0)
    (vector,) = [vector for vector in VALID if "slots" in vector]
    shared = wire.decode([bytes.fromhex(vector["parts"][0])], slots=slots_of(vector))
    for there, here in zip(shared.parts, frame.parts, strict=True):
        np.testing.assert_array_equal(there.array, here.array)


@pytest.mark.parametrize("vector", INVALID, ids=lambda v: v["name"])
def test_invalid_vectors_are_refused_with_their_code(vector):
    with pytest.raises(ProtocolError) as caught:
        parts = [bytes.fromhex(part) for part in vector["parts"]]
        slots = [memoryview(bytes(vectors.SLOT_BYTES))] * vectors.SLOTS
        wire.decode(parts, accept=wire.FROM_BRIDGE if vector["to"] == "daemon" else wire.FROM_DAEMON, slots=slots)
    assert caught.value.code == vector["code"]


def example(tmp_path: Path) -> Path:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "example.py"
    path.write_text(code, encoding="utf-8")
    return path


def run_example(tmp_path: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(example(tmp_path)), str(file)], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_example_of_the_document_works(tmp_path):
    with SmallDaemon(credit=3) as daemon:
        file = connection.write_connection(connection.Connection(daemon.endpoint, TOKEN, 1, ""))
        done = run_example(tmp_path, file)
        assert (done.returncode, done.stderr) == (0, "")
        hello = daemon.of(wire.Hello)[0]
        frames = [wire.frame_of(message, hello, i) for i, message in enumerate(daemon.frames)]
    assert [frame.serial for frame in frames] == list(range(48))
    assert all(frame.in_sync and not frame.dropped_before for frame in frames)
    # The wall stands still in the world: the camera comes nearer by as much as the depth shrinks.
    for frame in frames:
        assert frame.depth[45, 80] + frame.camera.pose[2, 3] == pytest.approx(4)
    assert isinstance(daemon.messages[-1], wire.Bye)


def test_the_example_of_the_document_tells_why_it_is_refused(tmp_path):
    with SmallDaemon() as daemon:
        file = connection.write_connection(connection.Connection(daemon.endpoint, "wrong", 1, ""))
        done = run_example(tmp_path, file)
        assert done.returncode == 1 and "The token is wrong" in done.stderr


def test_the_example_records_a_take_with_the_real_daemon(tmp_path):
    """The stranger's way: nothing of ours on the sending side."""
    from capture.take import Take
    from daemon.ingest import Ingest

    with Ingest("tcp://127.0.0.1:*", takes=tmp_path / "takes", auto_record=True) as ingest:
        file = connection.connection_file(connection.endpoint_port(ingest.endpoint))
        done = run_example(tmp_path, file)
        assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (tmp_path / "takes").iterdir()
    take = Take(folder)
    assert len(take) == 48 and take[47].depth[0, 0] == pytest.approx(4 - 47 / 24)
