"""The ruler, measured: each score moves the right way for a known fault."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from capture.frame import Camera, Channel, Conventions, Descriptor, Frame
from realmaster.measure import Scorer
from realmaster.measure.moment import LUMA, box_mean, gradient, steepness
from realmaster.measure.structure import dilate, picture_edges

HEIGHT, WIDTH = 48, 64


def scene(offset: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright box at 4 m before a dark wall at 10 m, `offset` pixels to the right: colour and depth."""
    color = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    color += (np.arange(WIDTH, dtype=np.uint8) // 4)[None, :, None]  # the wall is not quite flat
    depth = np.full((HEIGHT, WIDTH), 10.0, np.float32)
    box = (slice(12, 36), slice(16 + offset, 40 + offset))
    color[box] = 200
    depth[box] = 4.0
    return color, depth


def frame(offset: int) -> Frame:
    color, depth = scene(offset)
    motion = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    motion[depth == 4.0] = (-1, 0)  # the box came from one pixel to the left
    arrays = {"color": color, "depth": depth, "motion": motion}
    channels = {
        name: Channel(Descriptor(name, str(array.dtype), array.shape), array, offset) for name, array in arrays.items()
    }
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, WIDTH, HEIGHT)
    return Frame(
        index=offset, serial=offset, time=offset / 24, camera=camera, channels=channels, conventions=Conventions()
    )


def scores(change) -> dict:
    scorer = Scorer()
    for offset in range(6):
        color, _ = scene(offset)
        scorer.add(frame(offset), change(offset, color), reference=color)
    return scorer.result()


def test_a_copy_of_the_render_scores_as_the_render() -> None:
    result = scores(lambda _, color: color)
    assert result["lifted"] == result["render"]
    assert result["render"].depth_edge_alignment == pytest.approx(1.0)
    assert result["render"].flicker_ratio in (None, 1.0)
    assert result["lifted"].ssim == pytest.approx(1.0, abs=1e-4)


def test_another_look_of_the_same_geometry_keeps_structure() -> None:
    result = scores(lambda _, color: (255 - color // 2).astype(np.uint8))
    assert result["lifted"].depth_edge_alignment == pytest.approx(1.0)
    assert result["lifted"].psnr < 12


def test_moved_geometry_loses_structure() -> None:
    result = scores(lambda _, color: np.roll(color, 5, axis=1))
    assert result["lifted"].depth_edge_alignment < 0.7 * result["render"].depth_edge_alignment
    assert result["lifted"].edge_f1 < 0.8 * result["render"].edge_f1


def test_flicker_is_seen_and_motion_is_not_flicker() -> None:
    steady = scores(lambda _, color: color // 2)
    flickering = scores(lambda offset, color: (color // 2 + 20 * (offset % 2)).astype(np.uint8))
    assert steady["lifted"].warp_error < 0.01
    assert flickering["lifted"].warp_error > 0.05


def test_noise_lowers_likeness() -> None:
    rng = np.random.default_rng(0)
    noisy = scores(lambda _, c: np.clip(c.astype(int) + rng.integers(-20, 21, c.shape), 0, 255).astype(np.uint8))
    assert noisy["lifted"].psnr < 30 and noisy["lifted"].ssim < 0.9


def test_what_is_absent_is_not_scored() -> None:
    color, _ = scene(0)
    bare = Frame(
        index=0, serial=0, time=0.0, camera=None, conventions=Conventions(),
        channels={"color": Channel(Descriptor("color", "uint8", color.shape), color, 0)},
    )  # fmt: skip
    scorer = Scorer()
    scorer.add(bare, color)
    scorer.add(bare, color)
    scored = {name for name, value in scorer.result()["lifted"].to_dict().items() if value is not None}
    assert scored == {
        "color_jump", "novelty", "detail_to_render", "seams", "displacement", "displacement_x", "displacement_y",
    }  # fmt: skip


def test_contrast_does_not_matter_for_edges() -> None:
    color, _ = scene(0)
    faint = (100 + color.astype(float) / 4).astype(np.uint8)
    pictures = torch.from_numpy(np.stack([color, faint])).float() @ LUMA / 255
    crisp, soft = picture_edges(steepness(pictures))
    assert (crisp == soft).float().mean() > 0.94


def test_gradient_dilate_and_box_mean() -> None:
    ramp = torch.arange(5.0).repeat(4, 1)[None]
    assert torch.allclose(gradient(ramp)[0, :, 1:-1], torch.tensor(8.0))  # Sobel of a slope of one
    point = torch.zeros(1, 7, 9, dtype=torch.bool)
    point[0, 2, 2] = True
    assert int(dilate(point).sum()) == 9
    assert torch.allclose(box_mean(point.float(), 1)[0, 1:4, 1:4], torch.tensor(1 / 9), atol=1e-6)
    assert torch.allclose(box_mean(torch.full((1, 7, 9), 0.3), 2), torch.tensor(0.3), atol=1e-6)
