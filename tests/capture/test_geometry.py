"""Geometry from depth and cameras, against the analytic scene."""

from __future__ import annotations

import numpy as np
import pytest

from capture import geometry as g
from capture.camera import Camera

from .analytic import CENTRE, GROUND, RADIUS, see

SHAPE = (54, 80)


@pytest.fixture(scope="module")
def scene():
    return see(yaw=0.05, pitch=0.12, roll=0.03, shape=SHAPE)


@pytest.fixture(scope="module")
def before():
    return see(yaw=0.02, pitch=0.1, roll=0.0, at=(-0.1, 0.05, -0.3), shape=SHAPE)


def silhouettes(scene, width=1):
    """Pixels within `width` of a change of surface, by the truth: sky, ground, or sphere."""
    surface = np.where(np.isinf(scene.depth), 0, np.where(np.abs(scene.normal_world[..., 1] + 1) < 1e-9, 1, 2))
    change = np.zeros(surface.shape, bool)
    for axis in (0, 1):
        differs = np.diff(surface, axis=axis) != 0
        change |= np.insert(differs, 0, False, axis=axis)
        change |= np.insert(differs, surface.shape[axis] - 1, False, axis=axis)
    for _ in range(width - 1):
        grown = change.copy()
        grown[1:] |= change[:-1]
        grown[:-1] |= change[1:]
        grown[:, 1:] |= change[:, :-1]
        grown[:, :-1] |= change[:, 1:]
        change = grown
    return change


def test_world_points_lie_on_the_surfaces_and_project_back(scene):
    points = g.world_points(scene.depth, scene.camera)
    solid = np.isfinite(scene.depth)
    np.testing.assert_allclose(points[solid], scene.points[solid], atol=1e-9)
    ground = solid & (np.abs(scene.normal_world[..., 1] + 1) < 1e-9)
    assert np.abs(points[ground][:, 1] - GROUND).max() < 1e-9
    sphere = solid & ~ground
    assert np.abs(np.linalg.norm(points[sphere] - CENTRE, axis=-1) - RADIUS).max() < 1e-9
    uv, z = g.project(points, scene.camera)
    np.testing.assert_allclose(uv[solid], g.pixel_grid(SHAPE)[solid], atol=1e-9)
    np.testing.assert_allclose(z[solid], scene.depth[solid])


def test_points_behind_the_camera_have_no_pixel():
    uv, z = g.project(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 2.0]]), Camera(np.eye(4), 10, 10, 4, 3))
    assert np.isnan(uv[0]).all() and z[0] == -1
    np.testing.assert_array_equal(uv[1], (4, 3))


def test_normals_from_depth(scene):
    normal = g.normals_from_depth(scene.depth.astype(np.float32), scene.camera)
    assert normal.dtype == np.float32 and not normal[np.isinf(scene.depth)].any()
    ground = np.abs(scene.normal_world[..., 1] + 1) < 1e-9
    error = np.degrees(np.arccos(np.clip((normal * scene.normal).sum(-1), -1, 1)))
    # Exact on the plane, right up to its edges: tangents do not cross silhouettes. Lone pixels have no normal.
    found = normal.any(axis=-1)
    assert found[ground].mean() > 0.97
    assert np.percentile(error[ground & found], 99.5) < 0.2  # but for a pixel with the sphere on three sides
    # On the sphere the rim is steeper than a pixel.
    sphere = np.isfinite(scene.depth) & ~ground & found & ~silhouettes(scene, 2)
    assert np.median(error[sphere]) < 0.5 and error[sphere].max() < 6


def test_normals_face_the_camera_whatever_the_depth():
    depth = np.random.default_rng(0).uniform(1, 50, (20, 30))
    camera = Camera(np.eye(4), 30, 30, 14.5, 9.5)
    normal = g.normals_from_depth(depth, camera)
    found = normal.any(axis=-1)
    assert found.mean() > 0.3
    assert ((normal * g.unproject(depth, camera)).sum(axis=-1)[found] < 0).all()


def test_motion_from_depth_is_where_the_point_was(scene, before):
    motion = g.motion_from_depth(scene.depth.astype(np.float32), scene.camera, before.camera)
    solid = np.isfinite(scene.depth)
    was, _ = g.project(scene.points, before.camera)
    np.testing.assert_allclose((g.pixel_grid(SHAPE) + motion)[solid], was[solid], atol=1e-4)
    assert np.abs(motion[solid]).max() > 1
    # Sky: a very distant point, whatever the translation.
    pose = scene.camera.pose
    far_away = pose[:3, 3] + 1e9 * (g.unproject(np.ones(SHAPE), scene.camera) @ pose[:3, :3].T)
    was, _ = g.project(far_away, before.camera)
    np.testing.assert_allclose((g.pixel_grid(SHAPE) + motion)[~solid], was[~solid], atol=1e-4)


def test_no_motion_without_movement(scene):
    assert np.abs(g.motion_from_depth(scene.depth, scene.camera, scene.camera)).max() < 1e-4


def test_warp_brings_the_previous_image_onto_this_one(scene, before):
    def paint(view):  # a smooth texture fixed to the world
        p = view.points
        return np.where(np.isfinite(view.depth), 128 + 60 * np.sin(p[..., 0]) * np.cos(0.5 * p[..., 2]), 30.0)

    motion = g.motion_from_depth(scene.depth, scene.camera, before.camera)
    warped = g.warp(paint(before), motion)
    fair = g.inside(motion) & ~silhouettes(scene, 4) & (scene.depth < 8)
    assert fair.mean() > 0.15
    assert np.abs(warped - paint(scene))[fair].mean() < 1
    assert np.abs(paint(before) - paint(scene))[fair].mean() > 5  # the texture did move


def test_warp_reads_the_image_at_p_plus_motion():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    motion = np.zeros((3, 4, 2), np.float32)
    motion[..., 0] = 1
    np.testing.assert_array_equal(g.warp(image, motion), image[:, [1, 2, 3, 3]])
    np.testing.assert_array_equal(g.inside(motion)[0], [True, True, True, False])
    half = np.full((3, 4, 2), (0.5, 0.5), np.float32)
    np.testing.assert_allclose(g.warp(image.astype(np.float32), half)[0, 0], (0 + 1 + 4 + 5) / 4)
    colour = np.repeat(image[..., None], 3, axis=-1)
    np.testing.assert_array_equal(g.warp(colour, motion)[..., 2], image[:, [1, 2, 3, 3]])


def test_geometric_edges_are_the_silhouettes_and_not_the_slopes(scene):
    edges = g.geometric_edges(scene.depth.astype(np.float32))
    assert edges.dtype == bool
    truth = silhouettes(scene)
    # The nearer side of each silhouette is marked, and little else. The far end of the ground meets the sky softly.
    near = truth & (scene.depth < 15)
    assert not (edges & ~silhouettes(scene, 3)).any()
    sphere = np.isfinite(scene.depth) & (np.abs(scene.normal_world[..., 1] + 1) > 1e-9)
    rim = near & sphere
    assert edges[rim].mean() > 0.8


def test_geometric_edges_with_normals_see_creases():
    camera = Camera(np.eye(4), 40, 40, 19.5, 14.5)
    rays = g.unproject(np.ones((30, 40)), camera)
    # Two walls that meet at x = 0 in a corner: z = 4 - |x|.
    depth = 4 / (1 + np.abs(rays[..., 0]))
    normal = np.zeros((30, 40, 3))
    normal[..., 0] = -np.sign(rays[..., 0]) / np.sqrt(2)
    normal[..., 2] = -1 / np.sqrt(2)
    edges = g.geometric_edges(depth, normal)
    assert edges[:, 19].all() and not edges[:, :18].any() and not edges[:, 22:].any()
    assert not g.geometric_edges(depth, np.zeros_like(normal))[:, :18].any()


def test_reprojection_error_is_small_for_true_depth_and_large_for_a_wrong_camera(scene, before):
    error = g.reprojection_error(scene.depth, scene.camera, before.depth, before.camera)
    asked = np.isfinite(error) & ~silhouettes(scene, 3)
    assert asked.mean() > 0.25
    assert np.median(error[asked]) < 0.05 and np.percentile(error[asked], 95) < 0.5
    assert np.isnan(error[np.isinf(scene.depth)]).all()
    pose = before.camera.pose.copy()
    pose[:3, 3] += (0.15, 0.05, 0)
    moved = Camera(pose, before.camera.fx, before.camera.fy, before.camera.cx, before.camera.cy)
    wrong = g.reprojection_error(scene.depth, scene.camera, before.depth, moved)
    near = asked & np.isfinite(wrong) & (scene.depth < 8)
    assert np.median(wrong[near]) > 3 * np.median(error[near])
