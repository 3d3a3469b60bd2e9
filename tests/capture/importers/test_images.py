"""One image file -> one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.importers.images import ids, is_shifted, picture, read_image, unshifted
from capture.importers.source import ImportSourceError

HERE = Path("here.png")


def test_linear_light_gets_the_srgb_curve_and_nothing_else() -> None:
    # IEC 61966-2-1, worked out by hand: the straight part, its end, the curve, white, and beyond.
    light = np.array([[0, 0.001, 0.0031308, 0.2140411, 1.0, 7.0, np.nan, -1.0]], np.float32)
    image, bright = picture(np.stack([light] * 3, axis=-1), HERE)
    assert image[0, :, 0].tolist() == [0, 3, 10, 127, 255, 255, 0, 0]
    assert bright == pytest.approx(1 / 8)


def test_pictures_of_other_kinds() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (picture(grey, HERE)[0] == grey[..., None]).all()
    deep = np.full((2, 3, 4), 0xABCD, np.uint16)
    assert (picture(deep, HERE)[0] == 0xAB).all()
    with pytest.raises(ImportSourceError, match=r"here\.png has 2 components"):
        picture(np.zeros((2, 3, 2), np.uint8), HERE)
    with pytest.raises(ImportSourceError, match=r"here\.png holds int64"):
        picture(np.zeros((2, 3, 3), np.int64), HERE)


def test_normals_that_were_shifted_are_recognised() -> None:
    random = np.random.default_rng(2)
    vectors = random.normal(size=(20, 30, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    vectors[:5] = 0
    squeezed = vectors / 2 + 0.5
    squeezed[:2] = 0  # a cleared background, too, is no vector
    assert not is_shifted(vectors)
    assert is_shifted(squeezed)
    np.testing.assert_allclose(unshifted(squeezed), vectors, atol=1e-6)


def test_ids(tmp_path: Path) -> None:
    numbers = np.array([[0, 300], [70000, 2]])
    assert ids(numbers, HERE, "instance").dtype == np.uint32
    assert ids(numbers[:1], HERE, "instance").dtype == np.uint16
    assert ids(numbers[1:, 1:].astype(np.float32), HERE, "segmentation").dtype == np.uint8
    for wrong in (numbers, numbers - 5, numbers[:1] + 0.5):
        with pytest.raises(ImportSourceError, match=r"no segmentation ids"):
            ids(wrong, HERE, "segmentation")
    with pytest.raises(ImportSourceError, match="shows ids as colours"):
        ids(np.zeros((2, 2, 3), np.uint8), HERE, "segmentation")
    palette = Image.fromarray(np.array([[1, 0], [2, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[1, 0], [2, 1]]  # the numbers, not the colours shown for them


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(7))
    with pytest.raises(ImportSourceError, match=r"a\.npy holds float64 \[7\], which is no image"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{"code": "evil"}]), allow_pickle=True)
    with pytest.raises(ImportSourceError, match=r"b\.npy cannot be read"):
        read_image(tmp_path / "b.npy")
