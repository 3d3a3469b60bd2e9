"""Cameras and axes: their checks and their plain forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capture.camera import Axes, Camera
from capture.errors import FrameError


def camera(**changes) -> Camera:
    return Camera(**({"pose": np.eye(4), "fx": 50.0, "fy": 50.0, "cx": 3.5, "cy": 2.5, "far": 100.0} | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pose": np.eye(3)}, "4x4"),
        ({"pose": "eye"}, "4x4 matrix of numbers"),
        ({"pose": np.full((4, 4), np.nan)}, "not finite"),
        ({"pose": np.diag([2.0, 2, 2, 1])}, "not orthonormal"),
        ({"pose": np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}, "not orthonormal"),
        ({"pose": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5.0, 6, 7, 1]])}, "column vectors"),
        ({"fx": 0.0}, "positive pixels"),
        ({"fy": -1.0}, "positive pixels"),
        ({"cx": math.nan}, "must be finite"),
        ({"fx": math.inf}, "must be finite"),
        ({"fx": True}, "must be a number"),
        ({"near": 0.0}, "0 < near < far"),
        ({"near": 5.0, "far": 5.0}, "0 < near < far"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(changes, sentence):
    with pytest.raises(FrameError, match=sentence):
        camera(**changes)


def test_camera_plain_form_and_equality():
    one = camera(far=math.inf)
    assert Camera.from_dict(one.to_dict()) == one and hash(Camera.from_dict(one.to_dict())) == hash(one)
    assert one != camera(far=10.0)
    with pytest.raises(FrameError, match="lacks the field fx"):
        Camera.from_dict({k: v for k, v in one.to_dict().items() if k != "fx"})
    with pytest.raises(FrameError, match="unknown field 'fov'"):
        Camera.from_dict(one.to_dict() | {"fov": 1.0})
    with pytest.raises(ValueError):
        one.pose[0, 0] = 2


def test_vertical_field_of_view_reaches_the_edges_of_the_image():
    c = Camera.from_vertical_fov(np.eye(4), 1.2, 320, 180)
    # The upper edge of the top row lies half a pixel above its centre.
    assert math.atan((c.cy + 0.5) / c.fy) == pytest.approx(0.6)
    assert math.atan((179.5 - c.cy) / c.fy) == pytest.approx(0.6)
    assert c.cx == 159.5 and c.fx == c.fy
    with pytest.raises(FrameError, match="radians"):
        Camera.from_vertical_fov(np.eye(4), 90.0, 320, 180)


def test_resized_and_flipped_cameras_see_the_same_points():
    c = camera(cx=10.0, cy=4.0)
    point = np.array([0.3, -0.1, 2.0])
    u, v = (c.K @ point / point[2])[:2]
    small = c.resized((20, 30), (10, 60))
    su, sv = (small.K @ point / point[2])[:2]
    assert ((su + 0.5) / 60, (sv + 0.5) / 10) == pytest.approx(((u + 0.5) / 30, (v + 0.5) / 20))
    assert c.flipped(20).cy == 15.0


@pytest.mark.parametrize("letters", [("+x", "+x", "+z"), ("+x", "-x", "+z"), ("x", "+y", "+z"), ("+x", "+y", 3)])
def test_axes_must_name_every_axis_once(letters):
    with pytest.raises(FrameError):
        Axes(*letters)
