"""The folder for video workflows: lengths, sizes, and a depth whose law is written beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.errors import TakeError
from capture.export import export_comfyui
from capture.export.comfyui import COUNTS, PROMPT
from capture.take import Take
from capture.video import read_video

from ..analytic import see
from ..recordings import make_frame, record_take, start_take
from .scenes import damage, redescribed, scene_frame, without


def metadata(out: Path) -> dict:
    return json.loads((out / "metadata.json").read_text())


@pytest.mark.parametrize(("count", "frames"), [("8n+1", 17), ("4n+1", 21), ("any", 22)])
def test_lengths_that_models_take(tmp_path: Path, count: str, frames: int) -> None:
    path = record_take(tmp_path / "t", 23)
    damage(path, 5, "normal")
    report = export_comfyui(Take(path), tmp_path / "out", count=count, multiple=8, prompt="rain at night")
    assert report.frames == frames and report.skipped[:1] == [5]
    for kind in ("reference", "depth", "normal", "edges"):
        images, times = read_video(tmp_path / "out" / f"{kind}.mp4")
        assert images.shape == (frames, 24, 40, 3)
        assert np.allclose(times, np.arange(frames) / 24, atol=1e-3)
    about = metadata(tmp_path / "out")
    assert (about["frame_count"], about["count_rule"], about["left_out"]) == (frames, count, [5])
    assert [entry["frame"] for entry in about["frames"]][4:6] == [4, 6] and len(about["frames"]) == frames
    assert (tmp_path / "out" / "prompt.txt").read_text() == "rain at night\n"
    assert (frames - 1) % COUNTS[count] == 0 and not (tmp_path / "out" / "unfinished.json").exists()


def test_depth_and_normals_can_be_read_back(tmp_path: Path) -> None:
    scenes = [see(at=(0, 0, 0.5 * i), shape=(96, 128), far=40.0) for i in range(3)]
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        for index, scene in enumerate(scenes):
            writer.append(scene_frame(index, scene))
    export_comfyui(Take(tmp_path / "t"), tmp_path / "out", count="any")
    about = metadata(tmp_path / "out")
    near, far = about["depth"]["near"], about["depth"]["far"]
    assert about["depth"]["unit"] == "metres"
    images, _ = read_video(tmp_path / "out" / "depth.mp4")
    normals, _ = read_video(tmp_path / "out" / "normal.mp4")
    for image, normal, scene in zip(images, normals, scenes, strict=True):
        inverse = image.mean(axis=-1) / 255 * (1 / near - 1 / far) + 1 / far  # the law of metadata.json
        sure = (scene.depth > near * 1.05) & (scene.depth < far * 0.95)
        assert sure.mean() > 0.3
        assert np.median(np.abs(inverse - 1 / scene.depth)[sure]) < 0.01 * (1 / near - 1 / far)
        assert image[np.isinf(scene.depth)].mean() < 12  # sky is black
        vectors = (normal / 255.0 * 2 - 1) * (1, -1, -1)
        assert np.median(np.abs(vectors - scene.normal)[np.isfinite(scene.depth)]) < 0.03
        assert np.abs(normal[:4][np.isinf(scene.depth[:4])].mean(axis=0) - (128, 128, 255)).max() < 6
    first = np.asarray(Image.open(tmp_path / "out" / "first.png"))
    assert np.array_equal(first, Take(tmp_path / "t")[0].color)
    assert (tmp_path / "out" / "prompt.txt").read_text().strip() == PROMPT


def test_sizes_are_multiples_and_the_camera_follows(tmp_path: Path) -> None:
    scene = see(shape=(70, 100))
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(scene_frame(0, scene))
    take = Take(tmp_path / "t")
    export_comfyui(take, tmp_path / "cut", count="any", multiple=32)
    about = metadata(tmp_path / "cut")
    assert (about["width"], about["height"], about["cut_off"]) == (96, 64, {"left": 2, "top": 3})
    still = np.asarray(Image.open(tmp_path / "cut" / "last.png"))
    assert np.array_equal(still, take[0].color[3:67, 2:98])
    camera = about["frames"][0]["camera"]
    assert camera["cx"] == pytest.approx(scene.camera.cx - 2) and camera["cy"] == pytest.approx(scene.camera.cy - 3)

    export_comfyui(take, tmp_path / "big", count="any", multiple=16, size=(200, 100))
    about = metadata(tmp_path / "big")
    assert (about["width"], about["height"]) == (192, 96) and about["scaled_by"] == pytest.approx(1.92)
    camera = about["frames"][0]["camera"]
    assert camera["fx"] == pytest.approx(scene.camera.fx * 1.92)
    assert camera["cx"] == pytest.approx((scene.camera.cx + 0.5) * 1.92 - 0.5 - about["cut_off"]["left"])
    with pytest.raises(TakeError, match="smaller than the multiple"):
        export_comfyui(take, tmp_path / "none", multiple=128)
    assert not (tmp_path / "none").exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(without(make_frame(0), "depth", "normal", "instance"))
    report = export_comfyui(Take(tmp_path / "t"), tmp_path / "out", multiple=8)
    assert {path.name for path in (tmp_path / "out").glob("*.mp4")} == {"reference.mp4"}
    assert any("no depth.mp4 and no normal.mp4 and no edges.mp4" in note for note in report.notes)
    with start_take(tmp_path / "u", descriptors=[]) as writer:
        writer.append(redescribed(without(make_frame(0), "normal"), "depth", scale="unknown"))
    export_comfyui(Take(tmp_path / "u"), tmp_path / "out2", multiple=8)
    about = metadata(tmp_path / "out2")
    assert about["depth"]["unit"] == "engine units" and about["frames"][0]["normals"] == "derived from depth"
    with start_take(tmp_path / "v", descriptors=[]) as writer:
        writer.append(without(make_frame(0), "color"))
    with pytest.raises(TakeError, match="no colour"):
        export_comfyui(Take(tmp_path / "v"), tmp_path / "out3")


def test_a_change_of_size_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial, size in enumerate([(40, 24)] * 2 + [(24, 40)] * 2):
            writer.append(make_frame(serial, *size))
    take = Take(tmp_path / "t")
    with pytest.raises(TakeError, match="changes its size at frame 2"):
        export_comfyui(take, tmp_path / "out", count="any", multiple=8)
    assert not (tmp_path / "out").exists()
    assert export_comfyui(take, tmp_path / "out", count="any", multiple=8, frames=(2, None)).frames == 2
