"""Every depth kind, normal space and encoding, axis set, unit and row order, against a scene of known truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import conventions as cv
from capture.camera import BLENDER_WORLD, OPENCV, OPENGL, PANDA3D, UNITY, UNREAL, Camera, Conventions
from capture.errors import FrameError
from capture.frame import DEPTH_KINDS, Channel, Descriptor, Entity, Frame

from .analytic import ALL_AXES, CENTRE, GROUND, RADIUS, engine_camera, see, to_engine

PROPERTY = settings(max_examples=25, deadline=None)
AXES = st.sampled_from(ALL_AXES)
UNITS = st.sampled_from([1.0, 0.01, 0.3048, 7.5])
ROWS = st.sampled_from(["top", "bottom"])
ANGLE = st.floats(-0.3, 0.3)
DOWN = st.floats(-0.5, 0.1)  # pitch, so that the ground stays in view


def stored_depth(scene, kind, engine, descriptor):
    """The depth laws written from the distance in engine units, independently of the code under test."""
    unit = scene.camera.near / engine.near
    z, n, f = scene.depth / unit, engine.near, engine.far
    sky = np.isinf(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        v, limit = {
            "linear": (z, f),
            "ray": (scene.distance / unit, f),
            "ndc": ((1 / n - 1 / z) / (1 / n - 1 / f), 1.0),
            "ndc_reversed": ((1 / z - 1 / f) / (1 / n - 1 / f), 0.0),
            "log": (np.log2(z / n) / np.log2(f / n), 1.0),
            "disparity": (engine.fx * (descriptor.baseline or 0) / z, 0.0),
            "inverse": (1 / z, 0.0),
        }[kind]
    v = np.where(sky, limit, v) / descriptor.scale
    return v[::-1] if descriptor.rows == "bottom" else v


def test_depth_of_unknown_scale_is_right_up_to_one_factor():
    raw = np.array([[0.5, 2.0, np.inf]], np.float32)
    camera = Camera(np.eye(4), 1.0, 1.0, 0.0, 0.0, 0.1, 100.0)
    unknown = Descriptor("depth", "float32", raw.shape, scale="unknown")
    np.testing.assert_array_equal(cv.canonical_depth(raw, unknown, camera), raw)
    ndc = Descriptor("depth", "float32", raw.shape, kind="ndc", scale="unknown", projection="measured")
    known = replace(ndc, scale=1.0, projection=None)
    stored = cv.encode_depth(raw, ndc, camera)
    np.testing.assert_array_equal(cv.canonical_depth(stored, ndc, camera), cv.canonical_depth(stored, known, camera))


@pytest.mark.parametrize("kind", DEPTH_KINDS)
@PROPERTY
@given(unit=UNITS, rows=ROWS, pitch=DOWN, far=st.sampled_from([20.0, 80.0]), scale=st.sampled_from([1.0, 0.125]))
def test_depth_of_every_kind_is_the_distance_along_the_optical_axis(kind, unit, rows, pitch, far, scale):
    scene = see(pitch=pitch, far=far)
    conventions = Conventions(UNREAL, OPENGL, unit)
    camera = engine_camera(scene, conventions, rows)
    descriptor = Descriptor(
        "depth", "float32", scene.depth.shape, rows, kind=kind, scale=scale,
        baseline=0.06 if kind == "disparity" else None,
    )  # fmt: skip
    raw = stored_depth(scene, kind, camera, descriptor).astype(np.float32)
    depth = cv.canonical_depth(raw, descriptor, camera, unit)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(np.isinf(depth), np.isinf(scene.depth))
    solid = np.isfinite(scene.depth)
    # A float32 depth buffer of the ordinary kind is this coarse far away; all others keep nearly every digit.
    tolerance = 1e-3 if kind == "ndc" else 1e-5
    np.testing.assert_allclose(depth[solid], scene.depth[solid], rtol=tolerance)


@pytest.mark.parametrize("kind", ["ndc", "ndc_reversed", "disparity", "inverse", "linear", "ray"])
def test_depth_with_a_far_plane_at_infinity(kind):
    scene = see(far=500.0)
    camera = replace(scene.camera, far=math.inf)
    descriptor = Descriptor(
        "depth", "float32", scene.depth.shape, kind=kind, baseline=0.1 if kind == "disparity" else None
    )
    raw = stored_depth(scene, kind, camera, descriptor).astype(np.float32)
    depth = cv.canonical_depth(raw, descriptor, camera)
    assert np.isinf(depth).any()
    np.testing.assert_array_equal(np.isinf(depth), np.isinf(scene.depth))
    solid = np.isfinite(scene.depth)
    np.testing.assert_allclose(depth[solid], scene.depth[solid], rtol=1e-2 if kind == "ndc" else 1e-5)


@pytest.mark.parametrize("kind", DEPTH_KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint16", "uint32"])
def test_depth_survives_storing_in_every_dtype(kind, dtype):
    scene = see(far=30.0)
    largest = {"uint16": 65535, "uint32": 2**32 - 1}.get(dtype)
    top = {"linear": 40.0, "ray": 60.0, "disparity": 30.0, "inverse": 2.0}.get(kind, 1.0)
    descriptor = Descriptor(
        "depth", dtype, scene.depth.shape, kind=kind, scale=top / largest if largest else 1.0,
        baseline=0.5 if kind == "disparity" else None,
    )  # fmt: skip
    depth = scene.depth.astype(np.float32)
    raw = cv.encode_depth(depth, descriptor, scene.camera)
    assert raw.dtype == dtype
    back = cv.canonical_depth(raw, descriptor, scene.camera)
    if dtype == "float16" and kind == "ndc":
        return  # half precision rounds distant surfaces to 1, the far limit
    np.testing.assert_array_equal(np.isinf(back), np.isinf(depth))
    solid = np.isfinite(depth)
    coarse = {"float16": 0.05, "float32": 1e-3, "uint16": 0.05, "uint32": 1e-5}[dtype]
    np.testing.assert_allclose(back[solid], depth[solid], rtol=coarse)


def test_linear_metres_are_bit_exact():
    depth = np.float32([[0.1, 1 / 3], [79.999, np.nextafter(np.float32(80), np.float32(0))]])
    camera = Camera(np.eye(4), 1, 1, 0, 0, 0.1, 80.0)
    back = cv.canonical_depth(depth, Descriptor("depth", "float32", (2, 2)), camera)
    assert back.tobytes() == depth.tobytes()


def test_far_and_undefined_depth_is_sky():
    camera = Camera(np.eye(4), 1, 1, 0, 0, 0.1, 80.0)
    raw = np.float32([[80.0, 81.0, np.nan], [np.inf, -np.inf, 79.0]])
    depth = cv.canonical_depth(raw, Descriptor("depth", "float32", (2, 3)), camera)
    np.testing.assert_array_equal(depth, [[np.inf] * 3, [np.inf, np.inf, 79.0]])


def test_a_ray_longer_than_the_far_distance_may_still_hit_something():
    scene = see(far=20.0, shape=(60, 90))
    assert (scene.distance[np.isfinite(scene.depth)] > 20.0).any()
    descriptor = Descriptor("depth", "float32", scene.depth.shape, kind="ray")
    raw = np.where(np.isinf(scene.distance), 20.0, scene.distance).astype(np.float32)
    depth = cv.canonical_depth(raw, descriptor, scene.camera)
    np.testing.assert_array_equal(np.isinf(depth), np.isinf(scene.depth))


def test_a_saturated_integer_ray_is_sky():
    """A bridge that stores millimetres in 16 bits has no other number for the sky, near though f may be."""
    camera = Camera(np.eye(4), 1, 1, 0, 0, 0.1, 60.0)
    raw = np.uint16([[59000, 65534], [1000, 65535]])
    depth = cv.canonical_depth(raw, Descriptor("depth", "uint16", (2, 2), kind="ray", scale=0.001), camera)
    assert depth[0, 1] == pytest.approx(65.534 / np.sqrt(2), rel=1e-6)  # beyond f along the ray, not in depth
    assert np.isposinf(depth[1, 1]) and np.isinf(depth).sum() == 1


@pytest.mark.parametrize("kind", ["ray", "ndc", "ndc_reversed", "log", "disparity"])
def test_depth_kinds_that_need_a_camera_say_so(kind):
    descriptor = Descriptor("depth", "float32", (2, 2), kind=kind, baseline=1.0 if kind == "disparity" else None)
    with pytest.raises(FrameError, match="needs the camera"):
        cv.canonical_depth(np.ones((2, 2), np.float32), descriptor, None)


def test_log_depth_needs_a_finite_far():
    camera = Camera(np.eye(4), 1, 1, 0, 0)
    with pytest.raises(FrameError, match="finite far"):
        cv.canonical_depth(np.ones((2, 2), np.float32), Descriptor("depth", "float32", (2, 2), kind="log"), camera)


def octahedral(n):
    """Onto the octahedron, flattened; the lower half is reflected outwards: written as in the paper's prose."""
    p = n / np.abs(n).sum(axis=-1, keepdims=True)
    out = p[..., :2].copy()
    lower = p[..., 2] < 0
    mirrored = 1 - np.abs(p[..., [1, 0]])
    out[lower] = (mirrored * np.copysign(1, p[..., :2]))[lower]
    return out


@pytest.mark.parametrize("space", ["camera", "world"])
@pytest.mark.parametrize(
    ("encoding", "dtype", "degrees"),
    [
        ("snorm", "int8", 0.8), ("snorm", "int16", 0.004), ("unorm", "uint8", 0.5), ("unorm", "uint16", 0.002),
        ("float", "float16", 0.1), ("float", "float32", 0.001), ("octahedral", "float32", 0.001),
        ("octahedral", "float16", 0.1), ("octahedral", "int8", 1.2), ("octahedral", "int16", 0.006),
        ("octahedral", "uint8", 1.2), ("octahedral", "uint16", 0.006),
    ],
)  # fmt: skip
@settings(max_examples=8, deadline=None)
@given(world=AXES, camera_axes=AXES, rows=ROWS, yaw=ANGLE, roll=ANGLE)
def test_normals_reach_camera_space(space, encoding, dtype, degrees, world, camera_axes, rows, yaw, roll):
    scene = see(yaw=yaw, roll=roll, shape=(12, 16))
    conventions = Conventions(world, camera_axes, 0.01)
    camera = engine_camera(scene, conventions, rows)
    sky = np.isinf(scene.depth)
    vectors = to_engine(scene.normal, camera_axes) if space == "camera" else to_engine(scene.normal_world, world)
    if encoding == "octahedral":
        vectors = octahedral(np.where(sky[..., None], (0, 0, 1), vectors))
    if dtype.startswith("u"):
        vectors = vectors * 0.5 + 0.5
    if not dtype.startswith("float"):
        vectors = np.rint(vectors * np.iinfo(dtype).max)
    raw = vectors.astype(dtype)
    if rows == "bottom":
        raw = raw[::-1]
    descriptor = Descriptor("normal", dtype, raw.shape, rows, space=space, encoding=encoding)
    normal = cv.canonical_normal(raw, descriptor, camera, conventions)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(normal[~sky], axis=-1), 1, atol=1e-5)
    cosine = np.clip((normal * scene.normal).sum(axis=-1)[~sky], -1, 1)
    assert np.degrees(np.arccos(cosine)).max() < max(degrees, 0.06)
    if encoding != "octahedral":
        assert not normal[sky].any()
    assert (normal[scene.normal[..., 2] < -0.1][..., 2] < 0).all()
    if space == "world":
        with pytest.raises(FrameError, match="need the camera"):
            cv.canonical_normal(raw, descriptor, None, conventions)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("space", ["camera", "world"])
@pytest.mark.parametrize("components", [2, 3, 4])
def test_encode_normal_is_the_inverse(dtype, space, components):
    scene = see(yaw=0.3, roll=0.2)
    conventions = Conventions(UNREAL, UNITY, 0.01)
    camera = engine_camera(scene, conventions, "bottom")
    descriptor = Descriptor("normal", dtype, (*scene.depth.shape, components), "bottom", space=space)
    raw = cv.encode_normal(scene.normal.astype(np.float32), descriptor, camera, conventions)
    assert raw.dtype == dtype and raw.shape == descriptor.shape
    back = cv.canonical_normal(raw, descriptor, camera, conventions)
    solid = np.isfinite(scene.depth)
    assert (back * scene.normal).sum(axis=-1)[solid].min() > np.cos(np.radians(1.5))


def test_octahedral_known_values():
    for stored, vector in [
        ((0, 0), (0, 0, 1)), ((1, 0), (1, 0, 0)), ((0, -1), (0, -1, 0)), ((1, 1), (0, 0, -1)), ((-1, 1), (0, 0, -1)),
        ((0.5, 0.5), (0.70710678, 0.70710678, 0)), ((-0.25, 0.25), np.array([-0.25, 0.25, 0.5]) / math.sqrt(0.375)),
    ]:  # fmt: skip
        np.testing.assert_allclose(cv.octahedral_decode(np.float32(stored)), vector, atol=1e-6)


def test_the_lowest_signed_integer_means_minus_one():
    raw = np.int8([[[-128, 64, 0], [-127, 64, 0]]])
    normal = cv.canonical_normal(raw, Descriptor("normal", "int8", (1, 2, 3)), None, Conventions())
    np.testing.assert_array_equal(normal[0, 0], normal[0, 1])


@PROPERTY
@given(world=AXES, camera_axes=AXES, unit=UNITS, rows=ROWS, yaw=ANGLE, pitch=DOWN, roll=ANGLE)
def test_a_frame_in_any_engines_words_is_the_scene_in_metres(world, camera_axes, unit, rows, yaw, pitch, roll):
    """Depth, camera, axes, units and rows together: the pixels must lie on the sphere and the ground."""
    from capture.geometry import world_points

    scene = see(yaw, pitch, roll, at=(0.3, -0.2, 0.5), shape=(16, 24))
    conventions = Conventions(world, camera_axes, unit)
    raw_camera = engine_camera(scene, conventions, rows)
    descriptor = Descriptor("depth", "float32", scene.depth.shape, rows, kind="ray")
    raw = stored_depth(scene, "ray", raw_camera, descriptor).astype(np.float32)
    frame = Frame(0, 0, 0.0, raw_camera, {"depth": Channel(descriptor, raw, 0)}, conventions)
    camera = frame.camera
    np.testing.assert_allclose(camera.pose, scene.camera.pose, atol=1e-9)
    assert np.linalg.det(camera.pose[:3, :3]) == pytest.approx(1)
    assert (camera.fx, camera.fy, camera.cx) == (scene.camera.fx, scene.camera.fy, scene.camera.cx)
    assert (camera.cy, camera.near, camera.far) == pytest.approx((scene.camera.cy, 0.1, 80.0))
    points = world_points(frame.depth, camera)[np.isfinite(frame.depth)]
    off_ground = np.abs(points[:, 1] - GROUND)
    off_sphere = np.abs(np.linalg.norm(points - CENTRE, axis=-1) - RADIUS)
    assert len(points) and np.minimum(off_ground, off_sphere).max() < 1e-3
    assert cv.encode_camera(camera, conventions, frame.shape, rows).pose == pytest.approx(raw_camera.pose, abs=1e-9)


@pytest.mark.parametrize(
    ("axes", "right", "up", "forward", "handedness"),
    [
        (OPENCV, (1, 0, 0), (0, -1, 0), (0, 0, 1), 1), (OPENGL, (1, 0, 0), (0, 1, 0), (0, 0, -1), 1),
        (UNITY, (1, 0, 0), (0, 1, 0), (0, 0, 1), -1), (UNREAL, (0, 1, 0), (0, 0, 1), (1, 0, 0), -1),
        (PANDA3D, (1, 0, 0), (0, 0, 1), (0, 1, 0), 1), (BLENDER_WORLD, (1, 0, 0), (0, 0, 1), (0, 1, 0), 1),
    ],
)  # fmt: skip
def test_named_axes(axes, right, up, forward, handedness):
    np.testing.assert_array_equal(axes.basis @ right, (1, 0, 0))
    np.testing.assert_array_equal(axes.basis @ up, (0, -1, 0))
    np.testing.assert_array_equal(axes.basis @ forward, (0, 0, 1))
    assert np.linalg.det(axes.basis) == pytest.approx(handedness)


def test_a_mirroring_pose_is_refused():
    pose = np.diag([1.0, 1.0, -1.0, 1.0])
    camera = Camera(pose, 10, 10, 4, 3)
    with pytest.raises(FrameError, match="mirrors"):
        cv.canonical_camera(camera, Conventions(), (6, 8))
    # Under Unity's left-handed world and OpenGL camera matrices the very same pose is right.
    straight = cv.canonical_camera(camera, Conventions(UNITY, OPENGL), (6, 8))
    np.testing.assert_allclose(straight.pose, np.eye(4))


@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
@pytest.mark.parametrize("rows", ["top", "bottom"])
def test_color(order, rows):
    color = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    places = [{"r": 0, "g": 1, "b": 2}.get(letter) for letter in order]
    raw = np.stack([np.full((4, 5), 9, np.uint8) if i is None else color[..., i] for i in places], axis=-1)
    raw = raw if rows == "top" else raw[::-1]
    descriptor = Descriptor("color", "uint8", raw.shape, rows, order=order)
    np.testing.assert_array_equal(cv.canonical_color(raw, descriptor), color)
    np.testing.assert_array_equal(cv.canonical_color(cv.encode_color(color, descriptor), descriptor), color)


@pytest.mark.parametrize("rows", ["top", "bottom"])
@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1.0), ("float16", -1.0), ("int16", 1 / 16)])
def test_motion(rows, dtype, scale):
    motion = np.array([[[1.5, -2.0], [0.25, 3.0]], [[0, 0.5], [-4.0, 1.0]]], np.float32)
    sent = (motion if rows == "top" else motion[::-1] * (1, -1)) / scale
    descriptor = Descriptor("motion", dtype, (2, 2, 2), rows, scale=scale)
    np.testing.assert_array_equal(cv.canonical_motion(sent.astype(dtype), descriptor), motion)
    np.testing.assert_array_equal(cv.encode_motion(motion, descriptor), sent.astype(dtype))


def test_entities_follow_the_world():
    entity = Entity(7, "car", "taxi", np.array([[1.0, 0, 0, 100], [0, 1, 0, 200], [0, 0, 1, 50], [0, 0, 0, 1]]),
                    (4.0, 2.0, 1.0), (10.0, 0.0, 0.0))  # fmt: skip
    moved = cv.canonical_entity(entity, Conventions(UNREAL, UNREAL, 0.01))
    np.testing.assert_allclose(moved.pose[:3, 3], (2.0, -0.5, 1.0))  # right, down, forward in metres
    np.testing.assert_allclose(moved.velocity, (0, 0, 0.1))
    np.testing.assert_allclose(moved.size, (0.04, 0.02, 0.01))
