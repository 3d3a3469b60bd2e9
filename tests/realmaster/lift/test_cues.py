"""Cues that models are shown: geometry and nothing else, and what stands in where there is none."""

from __future__ import annotations

import numpy as np

from capture.camera import Camera
from capture.frame import Channel, Descriptor, Frame
from engine_bridges.city.clips import cue as city_cue
from engine_bridges.city.scene import City
from realmaster.lift.cues import draw_cue, edges_of_color


def frame(**arrays: np.ndarray) -> Frame:
    channels = {name: Channel(Descriptor(name, str(data.dtype), data.shape), data, 0) for name, data in arrays.items()}
    return Frame(0, 0, 0.0, Camera.from_vertical_fov(np.eye(4), 1.0, 32, 24), channels)


def test_the_border_between_two_things_on_one_plane_is_an_edge() -> None:
    depth, ids = np.full((24, 32), 10.0, np.float32), np.zeros((24, 32), np.uint16)
    ids[6:18, 8:24] = 7
    color = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    plain = draw_cue(frame(color=color, depth=depth), "edges")
    drawn = draw_cue(frame(color=color, depth=depth, instance=ids), "edges")
    assert not plain.any()
    assert drawn[10, 7].all() and drawn[10, 23].all() and drawn[5, 16].all() and not drawn[10, 16].any()


def test_ids_of_another_size_than_the_depth_are_left_out() -> None:
    depth, ids = np.full((24, 32), 10.0, np.float32), np.arange(48, dtype=np.uint16).reshape(6, 8)
    assert not draw_cue(frame(depth=depth, instance=ids), "edges").any()


def test_geometry_is_what_the_embedded_base_was_trained_on() -> None:
    city = City(20260001, (64, 48)).frame(30)
    taken = frame(depth=city.depth, normal=city.normal)
    assert np.array_equal(draw_cue(taken, "geometry"), city_cue(city))
    sky = np.isinf(city.depth)
    assert sky.any() and not city_cue(city)[sky].any()


def test_edges_of_color_are_thin_lines_at_the_steepest_places() -> None:
    color = np.full((24, 32, 3), 40, np.uint8)
    color[:, 16:] = 200
    lines = edges_of_color(color)
    assert lines.shape == (24, 32, 3) and set(np.unique(lines)) == {0, 255}
    assert lines[12, 15:17].any() and lines[..., 0].any(axis=0).sum() <= 2
    assert not edges_of_color(np.full((24, 32, 3), 40, np.uint8)).any()
