"""Pictures of channels: near is red, sky is dark, directions have their colours."""

from __future__ import annotations

import numpy as np

from capture.pictures import (
    depth_to_picture,
    letterbox,
    motion_to_picture,
    normal_to_picture,
    tile,
    turbo,
    values_to_picture,
)


def test_pictures() -> None:
    depth = np.array([[0.5, 5.0, 50.0, np.inf, np.nan]], np.float32)
    picture = depth_to_picture(depth, 0.5, 50.0).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] and picture[0, 2, 2] > picture[0, 2, 0]  # near red, far blue
    assert np.array_equal(picture[0, 1], turbo(np.array(0.54)))  # halfway by ratio
    assert np.array_equal(picture[0, 3], picture[0, 4]) and picture[0, 3].max() < 40
    normals = np.array([[[0, 0, -1], [1, 0, 0], [0, -1, 0], [0, 0, 0]]], np.float32)
    assert normal_to_picture(normals)[0, :3].tolist() == [[128, 128, 255], [255, 128, 128], [128, 255, 128]]
    motion = motion_to_picture(np.array([[[0, 0], [3, 0], [-3, 0]]], np.float32), 3.0)
    assert motion[0, 0].max() == 0 and motion[0, 1].tolist() == [255, 0, 0] and motion[0, 2].tolist() == [0, 255, 255]
    sheet = tile([np.full((4, 6, 3), 9, np.uint8), np.full((8, 12, 3), 99, np.uint8)], columns=1, gap=2)
    assert sheet.shape == (10, 6, 3) and (sheet[6:] == 99).all() and (sheet[:4] == 9).all()


def test_numbers_of_no_known_kind_have_a_picture_too() -> None:
    heat = np.array([[2.0, 4.0, np.nan, np.inf]], np.float16)
    assert values_to_picture(heat)[0].tolist() == [[0] * 3, [255] * 3, [0] * 3, [255] * 3]
    pairs = values_to_picture(np.arange(12, dtype=np.int16).reshape(2, 3, 2))
    assert pairs[1, 2].tolist() == [232, 255, 0] and not values_to_picture(np.full((2, 2), np.nan)).any()


def test_letterbox_keeps_proportions() -> None:
    picture = np.full((20, 60, 3), 200, np.uint8)
    boxed = letterbox(picture, (30, 30))
    assert boxed.shape == (30, 30, 3)
    assert (boxed[10:20] == 200).all() and not boxed[:10].any() and not boxed[20:].any()
