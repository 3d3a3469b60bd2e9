"""The wire: round trips, and refusing everything else with a ProtocolError and nothing but that."""

from __future__ import annotations

import math
import random
import tracemalloc
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import wire
from capture.camera import OPENGL, UNREAL, Camera, Conventions
from capture.errors import ProtocolError
from capture.frame import Descriptor, Entity

SESSION = "0123456789abcdef0123456789abcdef"
DESCRIPTORS = (
    Descriptor("color", "uint8", (4, 6, 3)),
    Descriptor("depth", "float32", (4, 6), "bottom", kind="ndc_reversed"),
    Descriptor("instance", "uint32", (4, 6)),
)


def hello() -> wire.Hello:
    return wire.Hello(
        SESSION, "secret", "panda3d", "sample", Conventions(UNREAL, UNREAL, 0.01), 24.0, "lossless", DESCRIPTORS,
        {"segmentation": {0: "none", 7: "car"}}, ("pause", "step"),
    )  # fmt: skip


def frame(serial: int = 5) -> wire.FrameMessage:
    rng = np.random.default_rng(serial)
    return wire.FrameMessage(
        serial=serial,
        time=serial / 24,
        camera=Camera(np.eye(4), 50.0, 50.0, 2.5, 1.5, 0.1, math.inf),
        parts=(
            wire.Part("color", serial, rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)),
            wire.Part("depth", serial, rng.random((4, 6), dtype=np.float32)),
            wire.Part("instance", serial, rng.integers(0, 9, (4, 6), dtype=np.uint32)),
        ),
        flags=("cut",),
        dropped_before=2,
        entities=(Entity(3, "person", "casual", np.eye(4), (0.5, 0.4, 1.8), (0.0, 0.0, 1.2)), Entity(4, "car")),
        capture_time=1.25,
    )


PLAIN = [
    hello(),
    wire.Event("marker", 1.5, {"text": "größer", "nested": [1, 2.5, None, True, {"a": []}]}),
    wire.Channels(DESCRIPTORS),
    wire.Attached(SESSION, None),
    wire.Attached(SESSION, "It lives on another machine."),
    wire.Probed(SESSION, 0),
    wire.Probed(SESSION, 70_000),
    wire.Probe(SESSION, 70_000),
    wire.Bye(),
    wire.Memory(SESSION, SESSION[::-1], "/proc/4711/fd/12", 6, 4096),
    wire.Welcome(SESSION, ("color", "depth"), "live", 3, 2**28),
    wire.Credit(2, None),
    wire.Credit(1, 2**62),
    wire.Control("step", {"frames": 1}),
    wire.Error("token", "The token is wrong."),
    wire.Goodbye(10, 9, 1, "2026-11-23T01-20-00_city"),
    wire.Goodbye(0, 0, 0, None),
]


def header_of(message: wire.Message) -> dict:
    return msgpack.unpackb(wire.encode(message)[0], strict_map_key=False)


def repacked(header: object, message: wire.Message | None = None) -> list:
    return [msgpack.packb(header), *(wire.encode(message)[1:] if message else [])]


@pytest.mark.parametrize("message", PLAIN, ids=lambda m: m.type)
def test_round_trip(message):
    assert wire.decode([bytes(part) for part in wire.encode(message)]) == message


def test_frame_round_trip_through_zmq_frames():
    message = frame()
    got = wire.decode([zmq.Frame(bytes(part)) for part in wire.encode(message)])
    assert got._header() == message._header() and got.camera == message.camera
    for mine, theirs in zip(message.parts, got.parts, strict=True):
        np.testing.assert_array_equal(mine.array, theirs.array)
        assert theirs.array.dtype == mine.array.dtype and not theirs.array.flags.writeable


def test_neither_side_copies_arrays():
    message = frame()
    parts = wire.encode(message)
    assert np.shares_memory(np.frombuffer(parts[1], np.uint8), message.parts[0].array)
    assert np.shares_memory(wire.decode(parts).parts[1].array, message.parts[1].array)


def test_strided_and_big_endian_arrays_are_sent_as_they_read():
    depth = np.arange(24, dtype=">f4").reshape(6, 4).T
    got = wire.decode(wire.encode(wire.FrameMessage(0, 0.0, None, (wire.Part("depth", 0, depth),))))
    np.testing.assert_array_equal(got.parts[0].array, depth)


def code_of(parts: list, **kwargs) -> str:
    with pytest.raises(ProtocolError) as caught:
        wire.decode(parts, **kwargs)
    assert caught.value.code in wire.ERROR_CODES and caught.value.sentence.endswith(".")
    return caught.value.code


@pytest.mark.parametrize(
    "change",
    [
        {"serial": -1}, {"serial": True}, {"serial": 1.0}, {"serial": 2**64 - 1}, {"serial": "1"}, {"serial": None},
        {"time": math.nan}, {"time": math.inf}, {"time": "now"}, {"time": True}, {"flags": "cut"}, {"flags": [1]},
        {"flags": ["x"] * 33}, {"dropped_before": -1}, {"entities": {}}, {"entities": [1]},
        {"entities": [{"id": -1, "cls": "a"}]}, {"entities": [{"id": 1, "cls": "a", "pose": [0.0] * 16}]},
        {"entities": [{"id": 1, "cls": "a", "size": {}}]}, {"capture_time": "soon"}, {"camera": []}, {"camera": {}},
        {"parts": []}, {"parts": None}, {"parts": [None] * 3}, {"surprise": 1},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_fields_of_a_frame_are_malformed(change):
    assert code_of(repacked(header_of(frame()) | change, frame())) == "malformed"


@pytest.mark.parametrize("name", ["serial", "time", "camera", "parts", "flags", "dropped_before", "entities"])
def test_every_field_is_required(name):
    header = header_of(frame())
    del header[name]
    with pytest.raises(ProtocolError, match=f"lacks the field {name}"):
        wire.decode(repacked(header, frame()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pose": [math.nan] * 16}, "not finite"), ({"pose": [2.0, *[0.0] * 15]}, "last row"),
        ({"pose": [float(i == j) * 2 if i < 3 else float(i == j) for i in range(4) for j in range(4)]}, "orthonormal"),
        ({"pose": [0.0] * 15}, "16 numbers"), ({"pose": ["1"] * 16}, "16 numbers"), ({"pose": [True] * 16}, "16"),
        ({"pose": {}}, "16 numbers"), ({"fx": 0}, "positive"), ({"fx": None}, "must be a number"),
        ({"far": -1.0}, "near < far"), ({"near": math.nan}, "finite"), ({"cx": math.inf}, "finite"),
    ],
)  # fmt: skip
def test_wrong_cameras_are_malformed(change, sentence):
    header = header_of(frame())
    header["camera"] |= change
    with pytest.raises(ProtocolError, match=sentence) as caught:
        wire.decode(repacked(header, frame()))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-4, -6, 3]}, {"shape": [4, 6]}, {"shape": [4.0, 6, 3]}, {"shape": [True, 24, 3]}, {"shape": 72},
        {"shape": [2**32, 2**32, 3]}, {"shape": [2**63, 6, 3]}, {"shape": [0, 6, 3]}, {"shape": [1] * 40},
        {"shape": [72]}, {"shape": [4, 3, 6]}, {"dtype": "object"}, {"dtype": "float64"}, {"dtype": "uint16"},
        {"dtype": "O"}, {"dtype": "<u1"}, {"dtype": 1}, {"channel": "depth"}, {"channel": ""}, {"channel": 3},
        {"serial": -2}, {"offset": 0}, {7: 1}, {7: 1, "x": 1},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_parts_are_malformed(change):
    header = header_of(frame())
    header["parts"][0] |= change
    assert code_of(repacked(header, frame())) == "malformed"


def test_parts_that_are_cut_missing_or_too_many_are_malformed():
    parts = wire.encode(frame())
    assert code_of(parts[:-1]) == "malformed"
    assert code_of([*parts, b""]) == "malformed"
    assert code_of([*parts[:-1], bytes(parts[-1])[:-1]]) == "malformed"
    assert code_of([*parts[:-1], bytes(parts[-1]) + b"\0"]) == "malformed"
    assert code_of([*wire.encode(wire.Bye()), b"data"]) == "malformed"
    assert code_of([]) == "malformed"
    assert code_of([b""]) == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"session": "x" * 32}, {"session": SESSION.upper()}, {"token": None}, {"token": b"secret"}, {"fps": 0},
        {"fps": math.inf}, {"mode": "fast"}, {"mode": []}, {"channels": []}, {"channels": [{}]},
        {"channels": [{"name": "color", "dtype": "uint8", "shape": [4, 4, 3]}] * 2}, {"axes": {}},
        {"channels": [{"name": "color", "dtype": "uint8", "shape": [4, 4, 3], "order": []}]},
        {"channels": [{"name": "color", "dtype": [], "shape": [4, 4, 3]}]},
        {"channels": [{"name": "depth", "dtype": "float32", "shape": [4, 4], "kind": {}}]},
        {"channels": [{"name": {}, "dtype": "float32", "shape": [4, 4]}]}, {"axes": {"world": 1, "camera": 2}},
        {"axes": {"world": {"right": [], "up": "+y", "forward": "+z"}, "camera": {}}}, {"metres_per_unit": -1.0},
        {"metres_per_unit": 2**63}, {"legend": []}, {"legend": {"segmentation": {"1": "road"}}}, {"legend": {1: {}}},
        {"legend": {"segmentation": {-1: "road"}}}, {"capabilities": [None]},
    ],
    ids=lambda c: str(c)[:60],
)  # fmt: skip
def test_wrong_hellos_are_malformed(change):
    if change == {"metres_per_unit": 2**63}:  # large, but a number
        assert wire.decode(repacked(header_of(hello()) | change)).conventions.metres_per_unit == 2**63
    else:
        assert code_of(repacked(header_of(hello()) | change)) == "malformed"


def test_version_and_type():
    assert code_of(repacked(header_of(wire.Bye()) | {"v": 2})) == "version"
    # The version is looked at before anything that another version may have changed.
    assert code_of(repacked({"v": 2, "type": "goodbye cruel world", "new": 1})) == "version"
    for wrong in (True, 1.0, "1", None):
        assert code_of(repacked({"v": wrong, "type": "bye"})) == "malformed"
    for wrong in ("Bye", "", None, 1, [], {}, "__init__"):
        assert code_of(repacked({"v": 1, "type": wrong})) == "unknown_type"
    assert code_of(wire.encode(wire.Credit(1)), accept=wire.FROM_BRIDGE) == "unknown_type"
    assert wire.decode(wire.encode(wire.Bye()), accept=wire.FROM_BRIDGE) == wire.Bye()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 10, b"\xc1", b"\x93\x01", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\x91" * 60000, b"\x81\xa1a" * 20000,
        b"\xdd\x00\x00\x0f\xff" * 10000, b"\x82\xa1v\x01\xa4type\xa2\xff\xfe", b"\x81\x90\x01", b"\x81\xc4\x01a\x01",
        msgpack.packb({"v": 1, "type": "bye", "x": msgpack.ExtType(5, b"abc")}),
        msgpack.packb({"v": 1, "type": "bye", "x": msgpack.Timestamp(5)}),
        msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {"x": b"bytes"}}),
        msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {"x": math.nan}}),
        msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {1: 2}}),
        msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {"x": [2**63]}}),
        msgpack.packb({"v": 1, "type": "event", "name": "a\n", "time": 0.0, "data": {}}),
        msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {"x": [[[[[[[1]]]]]]]}}),
        b"\x83\xa1v\x01\xa4type\xa3bye\xa1v\x01",  # a key twice
        b"\x82\xa1v\x01\xa4type\xa3bye\x00",  # one byte too many
        b"\x90", b"\xc0", b"\x01",
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_hostile_msgpack_is_malformed_and_costs_no_memory(data):
    tracemalloc.start()
    try:
        assert code_of([data]) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_limits():
    assert code_of([b"\xa0" * 65537]) == "too_large"
    assert code_of([*wire.encode(wire.Bye()), *[b"x"] * 33]) == "too_large"
    assert code_of(wire.encode(frame()), limits=wire.Limits(frame_bytes=100)) == "too_large"
    assert code_of(wire.encode(wire.Event("a", 0.0, {"text": "x" * 4097}))) == "too_large"
    with pytest.raises(ProtocolError) as caught:
        wire.encode(wire.Event("a", 0.0, {"text": ["x" * 4000] * 20}))
    assert caught.value.code == "too_large"
    with pytest.raises(ProtocolError):
        wire.encode(wire.Event("a", 0.0, {"text": object()}))
    with pytest.raises(ProtocolError, match="float64"):
        wire.encode(wire.FrameMessage(0, 0.0, None, (wire.Part("depth", 0, np.zeros((2, 2))),)))


def test_a_header_that_promises_much_allocates_nothing():
    header = header_of(frame())
    header["parts"][0]["shape"] = [16384, 16384, 4]
    tracemalloc.start()
    try:
        assert code_of(repacked(header, frame())) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def survives(parts: list) -> None:
    try:
        message = wire.decode(parts)
    except ProtocolError as error:
        assert error.code in wire.ERROR_CODES
        return
    wire.encode(message)  # what is accepted is whole


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_raise_only_protocol_errors(parts):
    survives(parts)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=8) | st.just(msgpack.ExtType(1, b"x")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([frame(), *PLAIN]), st.data())
def test_any_value_in_any_place_raises_only_protocol_errors(message, data):
    header = header_of(message)
    place = header
    while True:
        key = data.draw(st.sampled_from(sorted(place, key=str) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
        else:
            break
    place[key] = data.draw(VALUES)
    survives(repacked(header, message))


def test_mutated_messages_raise_only_protocol_errors():
    random.seed(7)
    originals = [[bytes(p) for p in wire.encode(m)] for m in [frame(), *PLAIN]]
    for _ in range(3000):
        parts = list(random.choice(originals))
        i = random.randrange(len(parts))
        part = bytearray(parts[i])
        for _ in range(random.choice([1, 1, 2, 8])):
            at = random.randrange(len(part) + 1)
            action = random.random()
            if action < 0.5 and at < len(part):
                part[at] = random.randrange(256)
            elif action < 0.75:
                del part[at : at + random.choice([1, 1, 4, 100])]
            else:
                part[at:at] = random.randbytes(random.choice([1, 1, 4, 100]))
        parts[i] = bytes(part)
        if random.random() < 0.1:
            random.shuffle(parts)
        survives(parts)


def test_a_frame_message_becomes_a_frame_of_its_session():
    got = wire.frame_of(frame(), hello(), 3)
    assert (got.index, got.serial, got.dropped_before, got.flags) == (3, 5, 2, ("cut",))
    assert got.conventions == Conventions(UNREAL, UNREAL, 0.01) and got.in_sync
    assert got.channels["depth"].descriptor == DESCRIPTORS[1]
    late = frame()
    late = wire.FrameMessage(late.serial, late.time, None, (late.parts[0], late.parts[1]._replace(serial=4)))
    got = wire.frame_of(late, hello(), 0)
    assert not got.in_sync and got.flags == ("desync",)


def test_a_frame_may_change_its_size_but_not_its_kind():
    def sent(name, array):
        return wire.FrameMessage(0, 0.0, None, (wire.Part(name, 0, array),))

    got = wire.frame_of(sent("color", np.zeros((8, 8, 3), np.uint8)), hello(), 0)
    assert got.channels["color"].descriptor.shape == (8, 8, 3)
    for name, array in (
        ("color", np.zeros((4, 6, 4), np.uint8)),
        ("depth", np.zeros((4, 6), np.float16)),
        ("normal", np.zeros((4, 6, 3), np.float32)),
    ):
        with pytest.raises(ProtocolError) as caught:
            wire.frame_of(sent(name, array), hello(), 0)
        assert caught.value.code == "channels"


def test_a_camera_that_mirrors_is_malformed_for_the_session():
    session = replace(hello(), conventions=Conventions(UNREAL, OPENGL))
    # UNREAL is left-handed and OPENGL is not: the identity mirrors.
    with pytest.raises(ProtocolError, match="mirrors") as caught:
        wire.frame_of(frame(), session, 0)
    assert caught.value.code == "malformed"


def test_error_codes_say_whether_the_session_is_over():
    assert wire.Error("token", "x").fatal and wire.Error("from the future", "x").fatal
    assert not wire.Error("no_credit", "x").fatal


# -- frames in shared memory


def in_slots(serial: int = 5, slot: int = 1, slots: int = 3) -> tuple[wire.FrameMessage, list[memoryview]]:
    """A frame whose pixels lie in one of several slots, and the slots."""
    memory = [bytearray(512) for _ in range(slots)]
    message = frame(serial)
    offsets, needed = wire.slot_layout(part.array.nbytes for part in message.parts)
    assert needed <= 512 and all(offset % wire.ALIGNMENT == 0 for offset in offsets)
    for part, offset in zip(message.parts, offsets, strict=True):
        memory[slot][offset : offset + part.array.nbytes] = part.array.tobytes()
    parts = tuple(part._replace(offset=offset) for part, offset in zip(message.parts, offsets, strict=True))
    return replace(message, parts=parts, slot=slot), [memoryview(content) for content in memory]


def test_a_frame_in_a_slot_travels_as_its_header_alone():
    message, slots = in_slots()
    sent = wire.encode(message)
    assert len(sent) == 1
    got = wire.decode([bytes(sent[0])], slots=slots)
    assert (got.slot, [part.offset for part in got.parts]) == (1, [0, 128, 256])
    for there, here in zip(got.parts, frame().parts, strict=True):
        assert there.channel == here.channel and not there.array.flags.writeable
        np.testing.assert_array_equal(there.array, here.array)
    with pytest.raises(ProtocolError, match="shared memory of this session has 0"):
        wire.decode(sent)


@settings(max_examples=300, deadline=None)
@given(
    offsets=st.tuples(*[st.integers(0, 10).map(lambda n: n * 64) | st.integers(0, 600) | st.integers()] * 3),
    heights=st.tuples(*[st.integers(1, 30)] * 3),
    slot=st.integers(-1, 4),
)
def test_whatever_a_header_says_nothing_outside_its_slot_is_looked_at(offsets, heights, slot):
    message, slots = in_slots()
    header = header_of(message) | {"slot": slot}
    for part, offset, height in zip(header["parts"], offsets, heights, strict=True):
        part["offset"], part["shape"][0] = offset, height
    try:
        packed = repacked(header)
    except OverflowError:  # msgpack itself has no such numbers
        return
    try:
        got = wire.decode(packed, slots=slots)
    except ProtocolError as error:
        assert error.code == "malformed"
        return
    begin = np.frombuffer(slots[slot], np.uint8).ctypes.data
    spans = sorted((part.array.ctypes.data - begin, part.array.nbytes) for part in got.parts)
    assert [start for start, _ in spans] == sorted(offsets) and spans[-1][0] + spans[-1][1] <= 512
    assert all(start + size <= after for (start, size), (after, _) in zip(spans, spans[1:], strict=False))
