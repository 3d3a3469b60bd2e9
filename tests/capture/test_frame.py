"""Frames and descriptors: their checks, their plain forms, their canonical views."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import capture
from capture.camera import OPENGL, UNITY, UNREAL, Camera, Conventions
from capture.errors import FrameError
from capture.frame import Channel, Descriptor, Entity, Frame


def camera(**changes) -> Camera:
    return Camera(**({"pose": np.eye(4), "fx": 50.0, "fy": 50.0, "cx": 3.5, "cy": 2.5, "far": 100.0} | changes))


def channel(name: str, array: np.ndarray, serial: int = 0, **fields) -> Channel:
    return Channel(Descriptor(name, array.dtype.name, array.shape, **fields), array, serial)


def frame(*channels: Channel, camera: Camera | None = None, **fields) -> Frame:
    return Frame(0, 0, 0.0, camera, {c.descriptor.name: c for c in channels}, **fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (("Color", "uint8", (4, 4, 3)), "lower-case"),
        (("../x", "uint8", (4, 4, 3)), "lower-case"),
        (("color", "float64", (4, 4, 3)), "not one of"),
        (("color", "float32", (4, 4, 3)), "not one of"),
        (("color", "uint8", (4, 4)), "component order"),
        (("color", "uint8", (4, 4, 3), "top", "rgba"), "component order"),
        (("color", "uint8", (4, 0, 3)), "sides 1 to"),
        (("color", "uint8", (4, -4, 3)), "sides 1 to"),
        (("color", "uint8", (4, True, 3)), "integers"),
        (("color", "uint8", (4, 10**9, 3)), "sides 1 to"),
        (("mask", "uint8", (4, 4, 5)), "1 to 4"),
        (("color", "uint8", (4, 4, 3), "left"), "rows"),
        (("depth", "float32", (4, 4, 1)), r"\[H, W\]"),
        (("depth", "int16", (4, 4)), "not one of"),
        (("segmentation", "float32", (4, 4)), "not one of"),
        (("instance", "uint8", (4, 4)), "not one of"),
        (("motion", "float32", (4, 4, 3)), "2 components"),
        (("normal", "float32", (4, 4)), "components"),
    ],
)
def test_a_descriptor_that_cannot_be_is_refused(fields, sentence):
    with pytest.raises(FrameError, match=sentence):
        Descriptor(*fields)


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("depth", {"kind": "zbuffer"}, "kind"),
        ("depth", {"kind": "disparity"}, "baseline"),
        ("depth", {"baseline": 1.0}, "only to depth of kind disparity"),
        ("depth", {"scale": 0.0}, "positive"),
        ("depth", {"scale": math.nan}, "positive"),
        ("depth", {"space": "world"}, "does not belong"),
        ("mask", {"kind": "linear"}, "does not belong"),
    ],
)
def test_descriptor_fields_of_a_family(name, fields, sentence):
    with pytest.raises(FrameError, match=sentence):
        Descriptor(name, "float32", (4, 4), **fields)
    with pytest.raises(FrameError, match="encoding"):
        Descriptor("normal", "uint8", (4, 4, 3), encoding="snorm")


def test_descriptor_defaults_and_plain_form():
    assert Descriptor("color", "uint8", (4, 4, 4)).order == "rgba"
    assert Descriptor("albedo", "uint8", (4, 4, 3)).family == "color"
    assert Descriptor("color_hudless", "uint8", (4, 4, 3)).order == "rgb"
    assert Descriptor("normal", "int8", (4, 4, 3)).encoding == "snorm"
    assert Descriptor("normal", "uint16", (4, 4, 2)).encoding == "octahedral"
    depth = Descriptor("depth", "uint16", (4, 6), "bottom", kind="ray", scale=0.001)
    assert Descriptor.from_dict(depth.to_dict()) == depth and "order" not in depth.to_dict()
    assert depth.with_shape((8, 12)).nbytes == 8 * 12 * 2
    guess = Descriptor("depth", "float32", (4, 6), estimated=True)
    assert guess.to_dict()["estimated"] is True and Descriptor.from_dict(guess.to_dict()) == guess
    assert "estimated" not in Descriptor("depth", "float32", (4, 6), estimated=False).to_dict()
    with pytest.raises(FrameError, match="estimated is 'yes', but must be true or false"):
        Descriptor("depth", "float32", (4, 6), estimated="yes")
    with pytest.raises(FrameError, match="only H and W"):
        depth.with_shape((8, 12, 3))
    with pytest.raises(FrameError, match="unknown field"):
        Descriptor.from_dict(depth.to_dict() | {"unit": "m"})


def test_a_channel_must_be_what_its_descriptor_says():
    with pytest.raises(FrameError, match="its descriptor says"):
        Channel(Descriptor("depth", "float32", (4, 6)), np.zeros((4, 7), np.float32), 0)
    with pytest.raises(FrameError, match="its descriptor says"):
        Channel(Descriptor("depth", "float32", (4, 6)), np.zeros((4, 6), np.float64), 0)


def test_a_frame_hands_out_canonical_channels_once_and_keeps_the_raw():
    raw = np.arange(2 * 2 * 4, dtype=np.uint8).reshape(2, 2, 4)
    f = frame(channel("color", raw, rows="bottom", order="bgra"), channel("mask", np.eye(2, dtype=np.uint8)))
    np.testing.assert_array_equal(f.color[0, 0], (10, 9, 8))
    assert f.color is f.color and f.channels["color"].data is raw
    np.testing.assert_array_equal(f.canonical("mask"), np.eye(2))
    with pytest.raises(FrameError, match="no channel 'depth', only: color, mask"):
        _ = f.depth
    assert f.camera is None


def test_ids_keep_their_numbers_and_get_their_rows():
    ids = np.array([[1, 2], [3, 70000]], np.uint32)
    f = frame(channel("instance", ids, rows="bottom"), channel("segmentation", ids.astype(np.uint16)))
    np.testing.assert_array_equal(f.instance, ids[::-1])
    assert f.instance.dtype == np.uint32 and f.segmentation.dtype == np.uint16


def test_sync_is_the_agreement_of_serials():
    color, depth = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.float32)
    assert frame(channel("color", color), channel("depth", depth)).in_sync
    assert not frame(channel("color", color), channel("depth", depth, serial=-1)).in_sync


def test_normals_vanish_where_depth_is_sky():
    depth = np.float32([[1, np.inf]])
    normal = np.float32([[[0, 0, 1], [0, 0, 1]]])
    f = frame(channel("depth", depth), channel("normal", normal), conventions=Conventions(camera_axes=OPENGL))
    np.testing.assert_array_equal(f.normal, [[[0, 0, -1], [0, 0, 0]]])


def test_camera_pixels_belong_to_color_and_are_carried_to_other_channels():
    color = channel("color", np.zeros((40, 60, 3), np.uint8), rows="top")
    # Half the size, bottom row first, distances along the ray to a wall at z = 2.
    reference = camera(fx=55.0, cx=31.0, cy=12.0)
    half = reference.resized((40, 60), (20, 30))
    x = (np.arange(30) - half.cx) / half.fx
    y = (np.arange(20) - half.cy) / half.fy
    distance = 2 * np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
    depth = channel("depth", distance[::-1].astype(np.float32), rows="bottom", kind="ray")
    np.testing.assert_allclose(frame(depth, color, camera=reference).depth, 2, rtol=1e-6)


def test_the_camera_is_canonical_and_the_raw_one_stays():
    pose = np.eye(4)
    pose[:3, 3] = (300.0, 100.0, 50.0)  # Unreal: forward, right, up in centimetres
    raw = camera(pose=pose, near=10.0, far=1000.0, cy=0.0)
    f = frame(
        channel("color", np.zeros((6, 8, 3), np.uint8), rows="bottom"), camera=raw,
        conventions=Conventions(UNREAL, UNREAL, 0.01),
    )  # fmt: skip
    np.testing.assert_allclose(f.camera.pose[:3, 3], (1.0, -0.5, 3.0))
    np.testing.assert_allclose(f.camera.pose[:3, :3], np.eye(3))
    assert (f.camera.near, f.camera.far, f.camera.cy) == pytest.approx((0.1, 10.0, 5.0))
    assert f.raw_camera is raw


def test_conventions_and_entities_in_plain_form():
    conventions = Conventions(UNITY, OPENGL, 0.5)
    assert Conventions.from_dict(conventions.to_dict()) == conventions
    with pytest.raises(FrameError, match="metres_per_unit"):
        Conventions(metres_per_unit=0)
    entity = Entity(3, "person", "casual_1", np.eye(4), (0.5, 0.3, 1.8), (0, 0, 1.4))
    assert Entity.from_dict(entity.to_dict()) == entity
    for wrong in ({"id": -1}, {"cls": 5}, {"size": (1, 2)}, {"size": "abc"}, {"velocity": (1, 2, math.nan)},
                  {"pose": [0.0] * 16}, {"pose": [1, 2]}, {"id": True}):  # fmt: skip
        with pytest.raises(FrameError):
            Entity.from_dict(entity.to_dict() | wrong)


def test_depth_may_say_what_is_not_known():
    depth = Descriptor("depth", "float32", (2, 2), kind="ndc", scale="unknown", projection="default")
    assert (depth.factor, depth.in_metres) == (1.0, False)
    assert Descriptor.from_dict(depth.to_dict()) == depth
    assert depth.to_dict() | {"scale": "unknown", "projection": "default"} == depth.to_dict()
    known = Descriptor("depth", "float32", (2, 2), scale=0.5)
    assert (known.factor, known.in_metres) == (0.5, True) and "projection" not in known.to_dict()
    for wrong in (
        {"scale": "metres"}, {"scale": "unknown", "dtype": "uint16"}, {"projection": "guessed"}, {"projection": 1},
        {"name": "motion", "shape": (2, 2, 2), "scale": "unknown"}, {"name": "mask", "projection": "default"},
    ):  # fmt: skip
        with pytest.raises(FrameError):
            Descriptor(**({"name": "depth", "dtype": "float32", "shape": (2, 2)} | wrong))


def test_a_pose_may_be_unknown():
    color = channel("color", np.zeros((2, 2, 3), np.uint8))
    assert frame(color, camera=camera()).has_pose
    assert not frame(color, camera=camera(), flags=("cut", "no_pose")).has_pose
    assert not frame(color).has_pose


def test_import_is_quick_and_light():
    code = (
        "import sys, time; t = time.process_time(); import capture; s = time.process_time() - t; "
        "capture.FrameSender; heavy = {'torch', 'av', 'PIL', 'diffusers'} & set(sys.modules); print(s, *heavy)"
    )
    seconds, *heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert heavy == [] and float(seconds) < 0.3


def test_every_exported_name_exists():
    for name in capture.__all__:
        assert getattr(capture, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = capture.Nothing


def test_normals_are_derived_from_depth_where_none_are_sent():
    depth = np.full((20, 30), 4, np.float32)
    depth[:3] = np.inf
    descriptor = Descriptor("depth", "float32", (20, 30), rows="bottom")
    camera = Camera(np.eye(4), 25, 25, 14.5, 9.5)
    sent = {"depth": Channel(descriptor, np.ascontiguousarray(depth[::-1]), 0)}
    frame = Frame(0, 0, 0.0, camera, sent)
    assert frame.available == ("depth", "normal")
    assert "normal" not in frame.channels
    assert np.allclose(frame.normal[4:], (0, 0, -1), atol=1e-5)  # a wall that faces the camera
    assert not frame.normal[:3].any()
    without_camera = Frame(0, 0, 0.0, None, sent)
    assert without_camera.available == ("depth",)
    with pytest.raises(FrameError, match="has no channel 'normal'"):
        _ = without_camera.normal
