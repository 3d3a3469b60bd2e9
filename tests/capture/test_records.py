"""Records: headers, and the forward reader over damaged files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from capture.errors import TakeDamagedError
from capture.records import (
    HEADER_BYTES,
    MAGIC,
    Damage,
    Kind,
    Record,
    RecordFile,
    RecordHeader,
    pack_map,
    payload,
    record,
    scan,
    unpack_map,
    walk,
)


def frame_bytes(index: int, size: int = 60) -> bytes:
    noise = np.random.default_rng(index).bytes(size)
    parts = record(Kind.METADATA, pack_map({"index": index}), frame=index, serial=index, codec="msgpack")
    parts += record(Kind.CHANNEL, noise, frame=index, serial=index, channel="color", codec="raw", raw_length=size)
    length = sum(map(len, parts))
    return b"".join(parts + record(Kind.COMMIT, frame=index, serial=index, raw_length=length))


def segment_bytes(frames: int = 6) -> tuple[bytes, list[int]]:
    """A segment file and the bytes at which its frames begin (and the last one ends)."""
    head = pack_map({"take": "t", "segment": 0, "first_frame": 0, "session": {}})
    data = b"".join(record(Kind.SEGMENT, head, codec="msgpack"))
    starts = []
    for index in range(frames):
        starts.append(len(data))
        data += frame_bytes(index)
    return data, [*starts, len(data)]


def scanned(path: Path, data: bytes):  # noqa: ANN201
    path.write_bytes(data)
    with RecordFile(path) as file:
        return scan(file)


def test_header_round_trip_and_layout() -> None:
    header = RecordHeader(Kind.CHANNEL, 5, 2**64 - 1, -1.5, "color_hudless", "image", 77, 88, 99)
    data = header.pack()
    assert len(data) == HEADER_BYTES == 104
    assert RecordHeader.unpack(data) == header
    assert data[:8] == MAGIC + bytes([1, 3, 0, 0])
    assert struct.unpack_from("<QQd", data, 8) == (5, 2**64 - 1, -1.5)
    assert data[32:64].rstrip(b"\0") == b"color_hudless"
    assert data[64:80].rstrip(b"\0") == b"image"
    assert struct.unpack_from("<QQII", data, 80) == (77, 88, 99, zlib.crc32(data[:100]))


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    data = RecordHeader(Kind.COMMIT, 5, 6, 7.0).pack()
    for byte in range(HEADER_BYTES):
        broken = bytearray(data)
        broken[byte] ^= 1 << byte % 8
        assert RecordHeader.unpack(broken) is None
    assert RecordHeader.unpack(data[:-1]) is None


def test_a_whole_segment(tmp_path: Path) -> None:
    data, starts = segment_bytes()
    found = scanned(tmp_path / "s", data)
    assert [(span.frame, span.start, span.end) for span in found.frames] == list(
        zip(range(6), starts[:-1], starts[1:], strict=True)
    )
    assert found.committed == found.size == len(data)
    assert found.head is not None and not found.damage and not found.unfinished


def test_cut_anywhere(tmp_path: Path) -> None:
    data, starts = segment_bytes(2)
    for cut in sorted({*range(0, len(data) + 1, 7), *(s + d for s in starts for d in (-1, 0, 1))} - {len(data) + 1}):
        found = scanned(tmp_path / "s", data[:cut])
        whole = sum(end <= cut for end in starts[1:])
        assert [span.frame for span in found.frames] == list(range(whole))
        if whole:
            assert found.committed == starts[whole]
            assert bool(found.damage or found.unfinished) == (cut > starts[whole])


def test_one_flipped_byte_anywhere_costs_at_most_its_own_frame(tmp_path: Path) -> None:
    data, starts = segment_bytes(4)
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        found = scanned(tmp_path / "s", bytes(broken))
        hit = sum(start <= at for start in starts) - 1
        lost = {0, 1, 2, 3} - {span.frame for span in found.frames}
        assert lost <= {hit}
        if lost:
            assert hit in {frame for frame, *_ in found.unfinished}


def test_resync_across_a_long_gap_and_a_false_magic(tmp_path: Path) -> None:
    data, starts = segment_bytes(3)
    gap = np.random.default_rng(1).bytes((1 << 20) - 2) + MAGIC + b"no header" * 20
    path = tmp_path / "s"
    path.write_bytes(data[: starts[1]] + gap + data[starts[1] :])
    with RecordFile(path) as file:
        damage = [found for found in walk(file) if isinstance(found, Damage)]
        assert [span.frame for span in scan(file).frames] == [0, 1, 2]
    assert damage == [Damage(starts[1], starts[1] + len(gap))]


def test_unknown_kinds_are_passed_over(tmp_path: Path) -> None:
    data, starts = segment_bytes(2)
    strange = b"".join([RecordHeader(77, length=3, payload_crc=0).pack(), b"abc"])
    found = scanned(tmp_path / "s", data[: starts[1]] + strange + data[starts[1] :])
    assert [span.frame for span in found.frames] == [0, 1]
    assert not found.damage


def test_a_commit_that_does_not_fit_is_no_commit(tmp_path: Path) -> None:
    data, starts = segment_bytes(2)
    channel = starts[0] + HEADER_BYTES + len(pack_map({"index": 0}))
    missing_channel = data[:channel] + data[starts[1] - HEADER_BYTES :]
    found = scanned(tmp_path / "s", missing_channel)
    assert [span.frame for span in found.frames] == [1]
    assert [frame for frame, *_ in found.unfinished] == [0]


def test_payload_checksum_names_file_and_frame(tmp_path: Path) -> None:
    data, starts = segment_bytes(2)
    broken = bytearray(data)
    broken[starts[2] - HEADER_BYTES - 5] ^= 1  # in the channel of frame 1
    path = tmp_path / "frames-000.rmk"
    path.write_bytes(broken)
    with RecordFile(path) as file:
        channels = [r for r in walk(file) if isinstance(r, Record) and r.header.kind == Kind.CHANNEL]
        assert len(payload(file, channels[0])) == 60
        with pytest.raises(TakeDamagedError, match=r"frames-000\.rmk: frame 1, channel color"):
            payload(file, channels[1])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa1", b"\x93\x01\x02\x03", b"\xdf\xff\xff\xff\xff"])
def test_broken_maps_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_map(data)
