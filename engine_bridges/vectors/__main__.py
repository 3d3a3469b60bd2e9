"""Writes valid.json and invalid.json, the test vectors of PROTOCOL.md, beside this file.

    python -m engine_bridges.vectors

Knows `capture.wire` and nothing else. Run it after a change of the protocol; the tests fail until it has been run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from capture import wire
from capture.camera import OPENGL, UNITY, Camera, Conventions
from capture.errors import ProtocolError
from capture.frame import Descriptor, Entity

FOLDER = Path(__file__).parent
SESSION = "00112233445566778899aabbccddeeff"


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
        "event": wire.Event("marker", 10.5, {"label": "crossing", "n": 3}),
        "bye": wire.Bye(),
        "welcome": wire.Welcome(SESSION, ("color", "depth"), "live", 3, 268435456),
        "credit": wire.Credit(1, None),
        "credit_while_recording": wire.Credit(2, 300),
        "control": wire.Control("pause", {"on": True}),
        "error": wire.Error("no_credit", "Frame 303 came without a credit: wait for one."),
        "goodbye": wire.Goodbye(120, 118, 2, "2026-11-23T01-20-00_city"),
    }


def invalid() -> dict[str, list[bytes]]:
    """Messages that must be refused, by their name in invalid.json."""
    parts = [bytes(part) for part in wire.encode(valid()["frame"])]

    def header(**changes: Any) -> bytes:
        return msgpack.packb(msgpack.unpackb(parts[0]) | changes)

    first, second = msgpack.unpackb(parts[0])["parts"]
    camera = msgpack.unpackb(parts[0])["camera"]
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
        "nested_too_deep": [
            msgpack.packb({"v": 1, "type": "event", "name": "a", "time": 0.0, "data": {"x": [[[[[[[]]]]]]]}})
        ],
    }


def described(messages: dict[str, wire.Message]) -> list[dict[str, Any]]:
    """valid.json: the header as plain values, with infinity as the text "+inf", and all parts in hex."""
    vectors = []
    for name, message in messages.items():
        parts = [bytes(part) for part in wire.encode(message)]
        header = msgpack.unpackb(parts[0], strict_map_key=False)
        vectors.append({"name": name, "header": _json_safe(header), "parts": [part.hex() for part in parts]})
    return vectors


def refused(messages: dict[str, list[bytes]]) -> list[dict[str, Any]]:
    """invalid.json: the parts in hex and the code of the error that answers them."""
    vectors = []
    for name, parts in messages.items():
        try:
            wire.decode(parts, accept=wire.FROM_BRIDGE)
        except ProtocolError as error:
            vectors.append({"name": name, "code": error.code, "parts": [part.hex() for part in parts]})
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
    tables = {"valid.json": described(valid()), "invalid.json": refused(invalid())}
    return {name: json.dumps(table, indent=1, ensure_ascii=False) + "\n" for name, table in tables.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
