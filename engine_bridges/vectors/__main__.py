"""Writes valid.json and invalid.json, the test vectors of PROTOCOL.md, beside this file.

    python -m engine_bridges.vectors

Knows `capture.wire` and nothing else. Run it after a change of the protocol; the tests fail until it has been run.
The bytes are what our own senders write: fields in the order of PROTOCOL.md's tables, optional fields with their
defaults filled in, integers and texts in msgpack's shortest form, other numbers as 64-bit floats.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from capture import wire
from capture.camera import OPENGL, UNITY, UNREAL, Camera, Conventions
from capture.errors import ProtocolError
from capture.frame import DTYPES, Descriptor, Entity
from capture.reduction import Coded, Reduction

FOLDER = Path(__file__).parent
SESSION = "00112233445566778899aabbccddeeff"
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SLOTS, SLOT_BYTES = 2, 128
"""The shared memory in which the pixels of vectors lie that have `slots`."""


def valid() -> dict[str, wire.Message]:
    """A message of every type by its name in valid.json."""
    turned = np.array([[0.0, 0, -1, 4], [0, 1, 0, 1.5], [-1, 0, 0, -2], [0, 0, 0, 1]])
    color = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    depth = np.array([[1.0, 0.5, 0.25, 0.125], [0.0, 0.0, 2**-6, 2**-7]], np.float32)
    return {
        "hello": wire.Hello(
            SESSION,
            "token from the connection file",
            "unity",
            "Straße",
            Conventions(UNITY, OPENGL, 1.0),
            30.0,
            "live",
            (
                Descriptor("color", "uint8", (2, 4, 3), "bottom", order="rgb"),
                Descriptor("depth", "float32", (2, 4), "bottom", kind="ndc_reversed"),
                Descriptor("segmentation", "uint8", (2, 4), "bottom"),
            ),
            {"segmentation": {0: "none", 7: "car"}},
            ("pause", "hide_hud"),
        ),
        "hello_with_every_family": wire.Hello(
            SESSION,
            "token from the connection file",
            "",
            "",
            Conventions(UNREAL, UNREAL, 0.01),
            59.94,
            "lossless",
            (
                Descriptor("color", "uint8", (1080, 1920, 4), order="bgra"),
                Descriptor("color_hudless", "uint8", (1080, 1920, 4)),
                Descriptor("albedo", "uint8", (540, 960, 3), "bottom", order="bgr"),
                Descriptor("depth", "uint32", (1080, 1920), kind="ndc", scale=1 / 16777215),
                Descriptor("depth_ray", "float16", (1, 16384), kind="ray", scale="unknown", projection="default"),
                Descriptor("depth_stereo", "uint16", (2, 4), kind="disparity", scale=0.0625, baseline=6.5),
                Descriptor("depth_near", "float32", (2, 4), projection="declared"),
                Descriptor("depth_guessed", "float32", (2, 4), scale="unknown", estimated=True),
                Descriptor("normal", "int8", (2, 4, 3), space="world"),
                Descriptor("normal_flat", "uint16", (2, 4, 4), encoding="unorm"),
                Descriptor("normal_folded", "int16", (2, 4, 2)),
                Descriptor("normal_exact", "float32", (2, 4, 3)),
                Descriptor("motion", "int16", (2, 4, 2), "bottom", scale=-0.25),
                Descriptor("segmentation", "uint16", (2, 4)),
                Descriptor("instance", "uint32", (2, 4)),
                Descriptor("a23456789_123456789_123456789_12", "float16", (2, 4, 1)),
            ),
            {"segmentation": {65535: "sky", 128: "road", 0: ""}, "instance": {}},
        ),
        "channels": wire.Channels(
            (
                Descriptor("color", "uint8", (2, 4, 3), "bottom", order="rgb"),
                Descriptor("depth", "float32", (2, 4), "bottom", kind="ndc", scale="unknown", projection="measured"),
            )
        ),
        "frame": wire.FrameMessage(
            serial=300,
            time=10.0,
            camera=Camera(turned, 3.5, 3.5, 1.5, 0.5, 0.25, 1000.0),
            parts=(wire.Part("color", 300, color), wire.Part("depth", 300, depth)),
            flags=("cut",),
            dropped_before=2,
            entities=(Entity(7, "car", "sedan_red", np.eye(4), (2.0, 1.5, 4.5), (0.0, 0.0, 8.0)),),
            capture_time=81.5,
        ),
        "frame_without_camera": wire.FrameMessage(
            serial=0, time=0.0, camera=None, parts=(wire.Part("color", 0, color),)
        ),
        "frame_with_infinite_far_and_late_depth": wire.FrameMessage(
            serial=302,
            time=10.0625,
            camera=Camera(np.eye(4), 3.5, 3.5, 1.5, 0.5, 0.25, math.inf),
            parts=(wire.Part("color", 302, color), wire.Part("depth", 301, depth)),
        ),
        "frame_without_a_known_pose": wire.FrameMessage(
            serial=2**32,
            time=-0.5,
            camera=Camera(np.eye(4), 3.5, 3.5, 1.5, 0.5, 0.25, 1000.0),
            parts=(wire.Part("depth", 2**32, depth),),
            flags=("no_pose", "größer"),
        ),
        "frame_of_every_dtype": wire.FrameMessage(
            serial=2**63 - 1,
            time=1e9,
            camera=None,
            parts=tuple(
                wire.Part(f"x_{dtype}", serial, np.arange(6).astype(dtype).reshape(2, 3, 1))
                for dtype, serial in zip(DTYPES, (0, 127, 128, 255, 256, 65535, 65536), strict=True)
            ),
            entities=(
                Entity(0, "", size=(1.0, 2.0, 3.0)),
                Entity(2**32 - 1, "person", velocity=(-1.0, 0.0, 0.5)),
            ),
            capture_time=0.0,
        ),
        "frame_in_a_slot": wire.FrameMessage(
            serial=303,
            time=10.125,
            camera=None,
            parts=(wire.Part("color", 303, color, 64), wire.Part("depth", 303, depth, 0)),
            slot=1,
        ),
        "frame_of_packed_channels": wire.FrameMessage(
            serial=304,
            time=10.25,
            camera=None,
            parts=(
                wire.Part("color", 304, Coded("zstd", zstd_frame(color.tobytes()), color.dtype, color.shape)),
                wire.Part("depth", 303, depth),
            ),
        ),
        "attached": wire.Attached(KEY),
        "attached_not": wire.Attached(KEY, "The shared memory cannot be attached (Permission denied)."),
        "probed_of_nothing": wire.Probed(SESSION, 0),
        "probed": wire.Probed(SESSION, 5),
        "probe": wire.Probe(SESSION, 5),
        "probe_of_the_most": wire.Probe(SESSION, wire.MOST_PROBE_BYTES),
        "memory": wire.Memory(SESSION, KEY, "/proc/4711/fd/12", 6, 9216000),
        "memory_on_windows": wire.Memory(SESSION, KEY, f"Local\\realmaster-{KEY}", 1, 4096),
        "event": wire.Event("marker", 10.5, {"label": "crossing", "n": 3}),
        "event_with_every_kind_of_detail": wire.Event("größer", 0.0, _details()),
        "bye": wire.Bye(),
        "welcome": wire.Welcome(SESSION, ("color", "depth"), "live", 3, 268435456),
        "welcome_to_a_slow_link": wire.Welcome(
            SESSION, ("color", "depth"), "live", 3, 268435456, Reduction(2, {"color": "jpeg", "depth": "depth"})
        ),
        "welcome_to_another_mode": wire.Welcome(SESSION, (), "lossless", 0, 2**63 - 1),
        "credit": wire.Credit(1, None),
        "credit_of_nothing": wire.Credit(0, 0),
        "credit_while_recording": wire.Credit(2, 300),
        "control": wire.Control("pause", {"on": True}),
        "control_with_every_kind_of_detail": wire.Control("dump", _details()),
        "error": wire.Error("no_credit", "Frame 303 came without a credit: wait for one."),
        "error_of_a_later_version": wire.Error("tired", "Später — vielleicht 😴."),
        "goodbye": wire.Goodbye(120, 118, 2, "2026-11-23T01-20-00_city"),
        "goodbye_without_a_take": wire.Goodbye(0, 0, 65536, None),
    }


def zstd_frame(data: bytes) -> bytes:
    """A zstd frame that says its size and holds one block as it is, so that no encoder's version matters."""
    head = (len(data) << 3) | 1  # the last block, raw
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + head.to_bytes(3, "little") + data


def _details() -> dict[str, Any]:
    """What an event or control may carry, at the borders of msgpack's forms."""
    sizes = (0, 31, 32, 255, 256)
    return {
        "nothing": None,
        "truth": [True, False],
        "integers": [n for edge in (7, 8, 15, 16, 31, 32, 63) for n in (2**edge - 1, -(2**edge), -(2**edge) - 1)][:-1]
        + [2**8, 2**16, 2**32, -1, -32, -33],
        "numbers": [0.5, -0.0, 1e300, 5e-324, 1.0],
        "texts": {str(size): "x" * size for size in sizes},
        "letters": "é\u0000\n😴",
        "lists": [[], [0] * 15, [0] * 16, [[[[]]]]],
        "maps": [{}, {f"k{n}": n for n in range(15)}, {f"k{n}": n for n in range(16)}],
    }


def invalid() -> dict[str, list[bytes]]:
    """Messages to the daemon that it must refuse, by their name in invalid.json."""
    parts = [bytes(part) for part in wire.encode(valid()["frame"])]

    def header(**changes: Any) -> bytes:
        return msgpack.packb(msgpack.unpackb(parts[0]) | changes)

    first, second = msgpack.unpackb(parts[0])["parts"]
    camera = msgpack.unpackb(parts[0])["camera"]

    def hello(**changes: Any) -> list[bytes]:
        return [msgpack.packb(msgpack.unpackb(bytes(wire.encode(valid()["hello"])[0]), strict_map_key=False) | changes)]

    def in_slot(**changes: Any) -> list[bytes]:
        placed = [first | {"offset": 0}, second | {"offset": 64}]
        return [header(**{"slot": 0, "parts": placed} | changes)]

    def channels(*descriptors: dict[str, Any]) -> list[bytes]:
        return [msgpack.packb({"v": 1, "type": "channels", "channels": list(descriptors)})]

    def event(**changes: Any) -> list[bytes]:
        return [msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {}} | changes)]

    color = {"name": "color", "dtype": "uint8", "shape": [2, 4, 3]}
    depth = {"name": "depth", "dtype": "float32", "shape": [2, 4]}
    return {
        "another_version": [header(v=2), *parts[1:]],
        "unknown_type": [msgpack.packb({"v": 1, "type": "hullo"})],
        "header_not_msgpack": [b"\xc1"],
        "header_not_a_map": [msgpack.packb([1, "bye"])],
        "part_shorter_than_its_shape": [parts[0], parts[1][:-1], parts[2]],
        "part_missing": parts[:2],
        "part_too_many": [*parts, b"\0"],
        "channel_twice": [header(parts=[first, first]), parts[1], parts[1]],
        "dtype_not_allowed": [header(parts=[first | {"dtype": "float64"}, second]), *parts[1:]],
        "negative_shape": [header(parts=[first | {"shape": [-2, -4, 3]}, second]), *parts[1:]],
        "huge_shape": [header(parts=[first | {"shape": [2**31, 2**31, 3]}, second]), *parts[1:]],
        "nan_in_pose": [header(camera=camera | {"pose": [math.nan] * 16}), *parts[1:]],
        "scaled_rotation": [
            header(camera=camera | {"pose": [2.0, 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 1.0]}),
            *parts[1:],
        ],
        "boolean_serial": [header(serial=True), *parts[1:]],
        "unknown_field": [header(surprise=1), *parts[1:]],
        "nested_too_deep": event(data={"x": [[[[[[[]]]]]]]}),
        "message_of_the_other_direction": [msgpack.packb({"v": 1, "type": "credit", "n": 1, "recorded": None})],
        "slot_that_does_not_exist": in_slot(slot=SLOTS),
        "slot_negative": in_slot(slot=-1),
        "slot_and_parts": [*in_slot(), *parts[1:]],
        "slot_without_offsets": [header(slot=0)],
        "offset_without_a_slot": [header(parts=[first | {"offset": 0}, second]), *parts[1:]],
        "offset_beyond_the_slot": in_slot(parts=[first | {"offset": 0}, second | {"offset": SLOT_BYTES}]),
        "offset_so_large_that_sums_wrap": in_slot(parts=[first | {"offset": 2**63 - 64}, second | {"offset": 0}]),
        "offset_not_aligned": in_slot(parts=[first | {"offset": 0}, second | {"offset": 32}]),
        "part_that_leaves_the_slot": in_slot(
            parts=[first | {"offset": 64, "shape": [2, 11, 3]}, second | {"offset": 0}]
        ),
        "part_over_another": in_slot(parts=[first | {"offset": 64}, second | {"offset": 64}]),
        "key_in_capitals": [msgpack.packb({"v": 1, "type": "attached", "key": KEY.upper(), "problem": None})],
        "session_in_capitals": hello(session=SESSION.upper()),
        "mode_not_known": hello(mode="fast"),
        "fps_of_zero": hello(fps=0),
        "axes_that_repeat_a_letter": hello(
            axes={"world": {"right": "+x", "up": "-x", "forward": "+z"}, "camera": UNITY.to_dict()}
        ),
        "legend_keyed_by_text": hello(legend={"segmentation": {"1": "road"}}),
        "no_channels": hello(channels=[]),
        "channels_twice": channels(color, color),
        "channels_none": channels(),
        "channel_name_in_capitals": channels(color | {"name": "Color"}),
        "color_of_floats": channels(color | {"dtype": "float32"}),
        "order_on_depth": channels(depth | {"order": "rgb"}),
        "projection_not_known": channels(depth | {"projection": "guessed"}),
        "projection_on_color": channels(color | {"projection": "measured"}),
        "estimated_as_text": channels(depth | {"estimated": "yes"}),
        "scale_not_known": channels(depth | {"scale": "metres"}),
        "scale_of_zero": channels(depth | {"scale": 0}),
        "unknown_scale_of_integers": channels(depth | {"dtype": "uint16", "scale": "unknown"}),
        "unknown_scale_of_motion": channels(
            {"name": "motion", "dtype": "float32", "shape": [2, 4, 2], "scale": "unknown"}
        ),
        "codec_not_known": [header(parts=[first | {"codec": "webp"}, second]), *parts[1:]],
        "codec_in_a_slot": in_slot(parts=[first | {"offset": 0, "codec": "zstd"}, second | {"offset": 64}]),
        "unpacked_too_large": [
            header(parts=[first | {"codec": "jpeg", "shape": [16384, 16384, 3]}, second]),
            *parts[1:],
        ],
        "probed_without_its_bytes": [*wire.encode(valid()["probed"])][:1],
        "probed_of_more_than_it_says": [*wire.encode(valid()["probed_of_nothing"]), b"\0"],
        "event_without_a_name": event(name=""),
        "detail_not_finite": event(data={"x": math.inf}),
        "detail_beyond_64_bits": event(data={"x": 2**63}),
        "detail_keyed_by_a_number": event(data={"x": {1: 2}}),
        "text_too_long": event(data={"x": "x" * 4097}),
    }


def invalid_to_bridge() -> dict[str, list[bytes]]:
    """Messages to a bridge that it must refuse, by their name in invalid.json."""

    def changed(name: str, **changes: Any) -> list[bytes]:
        return [msgpack.packb(msgpack.unpackb(bytes(wire.encode(valid()[name])[0])) | changes)]

    def without(name: str, field: str) -> list[bytes]:
        header = msgpack.unpackb(bytes(wire.encode(valid()[name])[0]))
        del header[field]
        return [msgpack.packb(header)]

    credit = msgpack.packb({"v": 1, "type": "credit", "n": 1, "recorded": None})
    control = {"v": 1, "type": "control", "name": "a"}
    return {
        "to_bridge_another_version": changed("welcome", v=2),
        "to_bridge_version_of_a_float": changed("welcome", v=1.0),
        "to_bridge_unknown_type": changed("welcome", type="hullo"),
        "to_bridge_message_of_the_other_direction": [msgpack.packb({"v": 1, "type": "bye"})],
        "to_bridge_empty": [b""],
        "to_bridge_cut": [credit[:-1]],
        "to_bridge_byte_too_many": [credit + b"\0"],
        "to_bridge_array_part": [credit, b"\0"],
        "to_bridge_too_many_parts": [credit, *[b"\0"] * 33],
        "to_bridge_key_twice": [b"\x85" + credit[1:] + b"\xa1n\x01"],
        "to_bridge_key_not_text": [b"\x85" + credit[1:] + b"\xc0\x01"],
        "to_bridge_text_not_utf8": [changed("error", sentence="???")[0].replace(b"???", b"\xed\xa0\x80")],
        "to_bridge_binary_for_text": changed("error", sentence=b"busy"),
        "to_bridge_extension_type": changed("credit", n=msgpack.ExtType(5, b"1")),
        "to_bridge_session_too_short": changed("welcome", session="00"),
        "to_bridge_mode_not_known": changed("welcome", mode="fast"),
        "to_bridge_channels_of_numbers": changed("welcome", channels=[1]),
        "to_bridge_shrink_of_nothing": changed("welcome", reduction={"shrink": 0, "codecs": {}}),
        "to_bridge_codec_not_known": changed("welcome", reduction={"shrink": 1, "codecs": {"color": "webp"}}),
        "to_bridge_reduction_with_more": changed("welcome", reduction={"shrink": 1, "codecs": {}, "blur": 1}),
        "to_bridge_negative_credit": changed("credit", n=-1),
        "to_bridge_boolean_credit": changed("credit", n=True),
        "to_bridge_float_credit": changed("credit", n=1.0),
        "to_bridge_credit_beyond_63_bits": changed("credit", n=2**63),
        "to_bridge_no_credit_field": without("credit", "n"),
        "to_bridge_unknown_field": changed("goodbye", surprise=1),
        "to_bridge_take_not_text": changed("goodbye", take=1),
        "to_bridge_control_without_a_name": [msgpack.packb(control | {"name": "", "args": {}})],
        "to_bridge_control_name_of_two_lines": [msgpack.packb(control | {"name": "a\n", "args": {}})],
        "to_bridge_detail_not_finite": [msgpack.packb(control | {"args": {"x": [math.nan]}})],
        "to_bridge_detail_beyond_64_bits": [msgpack.packb(control | {"args": {"x": 2**63}})],
        "to_bridge_detail_keyed_by_a_number": [msgpack.packb(control | {"args": {"x": [{1: 2}]}})],
        "to_bridge_args_not_a_map": [msgpack.packb(control | {"args": []})],
        "to_bridge_nested_too_deep": [msgpack.packb(control | {"args": {"x": [[[[[[[]]]]]]]}})],
        "to_bridge_list_too_long": [msgpack.packb(control | {"args": {"x": [0] * 2049}})],
        "to_bridge_text_too_long": [msgpack.packb(control | {"args": {"x": "x" * 4097}})],
        "to_bridge_list_that_promises_more": [b"\x81\xa1v\xdd\xff\xff\xff\xff"],
    }


def described(messages: dict[str, wire.Message]) -> list[dict[str, Any]]:
    """valid.json: the header as plain values, with infinity as the text "+inf", and all parts in hex."""
    vectors = []
    for name, message in messages.items():
        parts = [bytes(part) for part in wire.encode(message)]
        header = msgpack.unpackb(parts[0], strict_map_key=False)
        vectors.append({"name": name, "header": _json_safe(header), "parts": [part.hex() for part in parts]})
        if isinstance(message, wire.FrameMessage) and message.slot is not None:
            vectors[-1]["slots"] = [bytes(slot).hex() for slot in _slots(message)]
    return vectors


def _slots(message: wire.FrameMessage) -> list[bytearray]:
    """The shared memory as the sender of `message` leaves it."""
    slots = [bytearray(SLOT_BYTES) for _ in range(SLOTS)]
    for part in message.parts:
        assert message.slot is not None and part.offset is not None
        slots[message.slot][part.offset : part.offset + part.array.nbytes] = part.plain.tobytes()
    return slots


def refused(messages: dict[str, list[bytes]], to: str) -> list[dict[str, Any]]:
    """invalid.json: the parts in hex, who must refuse them, and the code of the error that says so."""
    accept = wire.FROM_BRIDGE if to == "daemon" else wire.FROM_DAEMON
    vectors = []
    for name, parts in messages.items():
        try:
            wire.decode(parts, accept=accept, slots=[memoryview(bytes(SLOT_BYTES))] * SLOTS)
        except ProtocolError as error:
            vectors.append({"name": name, "to": to, "code": error.code, "parts": [part.hex() for part in parts]})
        else:
            raise AssertionError(f"{name} is not refused")
    return vectors


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_safe(item) for item in value]
    return "+inf" if value == math.inf else value


def texts() -> dict[str, str]:
    """What the files must contain, by file name."""
    no = refused(invalid(), "daemon") + refused(invalid_to_bridge(), "bridge")
    tables = {"valid.json": described(valid()), "invalid.json": no}
    return {name: json.dumps(table, indent=1, ensure_ascii=False) + "\n" for name, table in tables.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
