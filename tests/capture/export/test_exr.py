"""OpenEXR: the numbers are exact, the matrices are those of the specification, and Blender agrees."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from capture.errors import TakeError
from capture.export import export_exr
from capture.export.exr import to_linear
from capture.frame import Channel, Descriptor

from ..analytic import see
from ..recordings import make_frame, record_take, start_take
from .scenes import redescribed, scene_frame, scene_take, without


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return dict(file.header()), {name: channel.pixels for name, channel in file.channels().items()}


def y_up(vectors: np.ndarray) -> np.ndarray:
    return vectors * (1, -1, -1)


def z_up(vectors: np.ndarray) -> np.ndarray:
    return np.stack([vectors[..., 0], vectors[..., 2], -vectors[..., 1]], axis=-1)


def test_layers_hold_the_exact_numbers(tmp_path: Path) -> None:
    take, scenes = scene_take(tmp_path / "a take.1")
    report = export_exr(take, tmp_path / "out")
    assert report.frames == 3 and report.missing == 0 and report.notes == []
    header, layers = read(tmp_path / "out" / "a_take_1.000001.exr")
    frame, scene = take[1], scenes[1]
    assert set(layers) == {
        "R",
        "G",
        "B",
        "Z",
        "N.X",
        "N.Y",
        "N.Z",
        "backward.u",
        "backward.v",
        "segmentation.id",
        "instance.id",
    }  # noqa: E501 fmt: skip
    assert layers["Z"].dtype == np.float32 and np.array_equal(layers["Z"], frame.depth) and np.isinf(layers["Z"]).any()
    linear = np.stack([layers[c] for c in "RGB"], axis=-1).astype(float)
    again = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.array_equal(np.rint(again * 255), frame.color)
    normal = np.stack([layers[f"N.{c}"] for c in "XYZ"], axis=-1)
    assert np.abs(normal - y_up(scene.normal_world)).max() < 6e-4  # a half has 11 bits
    assert not normal[np.isinf(frame.depth)].any()
    assert layers["backward.u"][0, 0] == 3.25 and layers["backward.v"][0, 0] == 7.5  # 7.5 rows up the picture
    assert layers["instance.id"].dtype == np.uint32 and np.array_equal(layers["instance.id"], frame.instance)
    assert np.allclose(header["chromaticities"][:6], (0.64, 0.33, 0.3, 0.6, 0.15, 0.06))
    assert header["framesPerSecond"] == 24 and len(header["capDate"]) == 19
    assert header["realmaster:depth"].startswith("metres") and header["realmaster:serial"] == "1"
    assert np.array_equal(header["realmaster:K"], frame.camera.K)


@pytest.mark.parametrize(("up", "turned"), [("y", y_up), ("z", z_up)])
def test_matrices_lead_from_the_world_to_the_pixels(tmp_path: Path, up: str, turned) -> None:
    take, scenes = scene_take(tmp_path / "t")
    export_exr(take, tmp_path / "out", frames=(1, 3), up=up)
    assert not (tmp_path / "out" / "t.000000.exr").exists()
    for index in (1, 2):
        header, layers = read(tmp_path / "out" / f"t.{index:06d}.exr")
        scene = scenes[index]
        rows, columns = np.nonzero(np.isfinite(scene.depth))
        points = np.c_[turned(scene.points[rows, columns]), np.ones(len(rows))]
        ndc = points @ header["worldToNDC"].astype(float)  # row vectors
        height, width = scene.depth.shape
        assert np.allclose(ndc[:, 0] / ndc[:, 3] * width, columns + 0.5, atol=1e-3)
        assert np.allclose(ndc[:, 1] / ndc[:, 3] * height, rows + 0.5, atol=1e-3)
        seen = points @ header["worldToCamera"].astype(float)
        assert np.allclose(seen[:, 2], scene.depth[rows, columns], rtol=1e-5)  # z forward
        height_seen = (scene.camera.cy - rows) / scene.camera.fy * scene.depth[rows, columns]
        assert np.allclose(seen[:, 1], height_seen, atol=1e-4)  # y up
        camera = header["realmaster:cameraToWorld"]
        assert np.allclose(camera[:3, 3], turned(scene.camera.pose[:3, 3]))
        assert np.allclose(-camera[:3, 2], turned(scene.camera.pose[:3, 2]))  # looks along -z
        normal = np.stack([layers[f"N.{c}"] for c in "XYZ"], axis=-1)
        assert np.abs(normal - turned(scene.normal_world)).max() < 6e-4
    with pytest.raises(TakeError, match="y or z"):
        export_exr(take, tmp_path / "other", up="x")


def test_unknown_units_poses_and_normals_are_said(tmp_path: Path) -> None:
    scene = see(at=(5, 6, 7))
    frame = redescribed(without(scene_frame(0, scene, flags=("no_pose",)), "normal"), "depth", scale="unknown")
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(frame)
    from capture.take import Take

    report = export_exr(Take(tmp_path / "t"), tmp_path / "out")
    assert len(report.notes) == 3
    header, layers = read(tmp_path / "out" / "t.000000.exr")
    assert header["realmaster:depth"].startswith("engine units") and "engine units" in header["realmaster:world"]
    assert "from depth" in header["realmaster:normals"] and header["realmaster:pose"].startswith("unknown")
    assert np.allclose(header["realmaster:cameraToWorld"], np.eye(4))
    normal = np.stack([layers[f"N.{c}"] for c in "XYZ"], axis=-1)
    inner = np.isfinite(scene.depth)[1:-1, 1:-1]
    wanted = (scene.normal * (1, -1, -1))[1:-1, 1:-1]  # the camera's axes are the world's
    assert np.median(np.abs(normal[1:-1, 1:-1] - wanted)[inner]) < 0.02
    document = json.loads((tmp_path / "out" / "cameras.json").read_text())
    assert document["lengths"].startswith("engine units")
    entry = document["frames"][0]
    assert entry["camera"]["pose"] is None and entry["normals"] == "derived from depth"


def test_channels_of_other_sizes_and_names(tmp_path: Path) -> None:
    from capture.take import Take

    frame = make_frame(0)
    small = frame.depth[::2, ::2].copy()
    frame.channels["depth"] = Channel(Descriptor("depth", "float32", small.shape), small, 0)
    rough = np.linspace(0, 1, 24 * 40, dtype=np.float16).reshape(24, 40)
    frame.channels["roughness"] = Channel(Descriptor("roughness", "float16", rough.shape), rough, 0)
    albedo = frame.color.copy()
    frame.channels["albedo"] = Channel(Descriptor("albedo", "uint8", albedo.shape), albedo, 0)
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(frame)
    export_exr(Take(tmp_path / "t"), tmp_path / "out")
    header, layers = read(tmp_path / "out" / "t.000000.exr")
    assert np.array_equal(layers["Z"], small.repeat(2, 0).repeat(2, 1))
    assert "depth from 20x12" in header["realmaster:resampled"]
    assert np.array_equal(layers["roughness.X"], rough)
    assert np.array_equal(layers["albedo.G"], to_linear(albedo)[..., 1])
    export_exr(Take(tmp_path / "t"), tmp_path / "two", channels=["color", "depth"])
    assert set(read(tmp_path / "two" / "t.000000.exr")[1]) == {"R", "G", "B", "Z"}


def test_an_interrupted_export_is_gone_on_with(tmp_path: Path) -> None:
    from capture.take import Take

    take, out = Take(record_take(tmp_path / "t", 6)), tmp_path / "out"

    def pull_the_plug(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_exr(take, out, progress=pull_the_plug)
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("*.exr")}
    assert len(first) in (3, 4) and (out / "unfinished.json").exists()
    (out / ".t.000004.partial.exr").write_bytes(b"half")  # what a killed process leaves
    with pytest.raises(TakeError, match="not empty"):
        export_exr(take, out, frames=(1, 5))
    report = export_exr(take, out)
    assert report.frames == 6
    names = sorted(path.name for path in out.iterdir())
    assert names == ["cameras.json", "import_to_blender.py", *(f"t.{i:06d}.exr" for i in range(6))]
    assert all((out / name).stat().st_mtime_ns == at for name, at in first.items())
    assert len(json.loads((out / "cameras.json").read_text())["frames"]) == 6
    with pytest.raises(TakeError, match="not empty"):
        export_exr(take, out)


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    from .scenes import damage

    path = record_take(tmp_path / "t", 2)
    for index in (0, 1):
        damage(path, index)
    from capture.take import Take

    with pytest.raises(TakeError, match="none of the frames"):
        export_exr(Take(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


BLENDER = os.environ.get("REALMASTER_BPY_PYTHON") or (sys.executable if importlib.util.find_spec("bpy") else None)
"""A Python that has Blender as a module. It need not be the one of the tests: bpy binds numpy to a version."""


@pytest.mark.slow
@pytest.mark.skipif(BLENDER is None, reason="needs a Python with Blender's module bpy: REALMASTER_BPY_PYTHON names it")
def test_blender_sees_the_same_depth_and_camera(tmp_path: Path) -> None:
    take, scenes = scene_take(tmp_path / "t", 4)
    export_exr(take, tmp_path / "out", frames=(1, 4))
    points = {
        index: np.nan_to_num(scenes[index].points, nan=0.0)[np.isfinite(scenes[index].depth)].tolist()
        for index in (1, 3)
    }
    (tmp_path / "points.json").write_text(json.dumps(points))
    script = Path(__file__).parent / "blender_check.py"
    run = subprocess.run(
        [str(BLENDER), str(script), str(tmp_path / "out"), str(tmp_path / "points.json"), str(tmp_path / "answer")],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (tmp_path / "answer.json").exists(), run.stdout + run.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["fps"] == 24 and answer["range"] == [1, 3] and answer["size"] == [40, 27]
    for index in (1, 3):
        rows, columns = np.nonzero(np.isfinite(scenes[index].depth))
        seen = np.array(answer["seen"][str(index)])
        assert np.allclose(seen[:, 0], columns, atol=0.01) and np.allclose(seen[:, 1], rows, atol=0.01)
        assert np.allclose(seen[:, 2], scenes[index].depth[rows, columns], rtol=1e-4)
    _, layers = read(tmp_path / "answer-depth.exr")
    depth = next(pixels for name, pixels in layers.items() if name.split(".")[-1] == "R")
    assert np.array_equal(depth, take[3].depth)  # through Blender's own reader, in metres
    assert {"Combined", "Depth", "N", "backward", "instance", "segmentation"} <= set(answer["passes"])
