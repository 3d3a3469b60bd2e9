"""SOLO datasets, written as Unity's Perception package 1.0 writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from capture.camera import UNITY, Conventions
from capture.importers import import_take, open_source
from capture.importers.source import ImportSourceError
from tests.capture.importers.test_folder import _quaternion
from tests.capture.importers.truth import (
    SHAPE,
    assert_truth,
    color_of,
    engine_normals,
    in_engine,
    read_back,
    scenes,
    write_exr,
    write_png,
)

SOLO = Conventions(UNITY, UNITY, 1.0)
PREFIX = "type.unity.com/unity.solo."


def write_solo(folder: Path, strategy: str = "Depth", sequences: int = 2) -> list:
    truth = scenes(sequences)
    for number, scene in enumerate(truth):
        place = folder / f"sequence.{number}"
        place.mkdir(parents=True)
        camera = in_engine(scene, SOLO)
        surface = np.isfinite(scene.depth)
        depth = np.where(surface, scene.distance if strategy == "Range" else scene.depth, 0).astype(np.float32)
        nothing = np.zeros(SHAPE, np.float32)
        write_exr(place / "step0.camera.Depth.exr", {"R": depth, "G": nothing, "B": nothing, "A": nothing + 1})
        normals = np.where(surface[..., None], engine_normals(scene, UNITY) / 2 + 0.5, 0).astype(np.float32)
        planes = {name: np.ascontiguousarray(normals[..., i]) for i, name in enumerate("RGB")}
        write_exr(place / "step0.camera.Normal.exr", planes | {"A": nothing + 1})
        write_png(place / "step0.camera.png", np.dstack([color_of(scene), np.full(SHAPE, 255, np.uint8)]))
        colors = np.where(surface[..., None], (149, 255, 0), (0, 0, 0)).astype(np.uint8)
        write_png(place / "step0.camera.semantic segmentation.png", colors)
        write_png(place / "step0.camera.instance segmentation.png", colors)
        w, x, y, z = _quaternion(camera.pose[:3, :3])
        about = {"sensorId": "camera", "imageFormat": "Exr", "dimension": [40.0, 27.0]}
        label = {"labelName": "Crate"}
        annotations = [
            {"@type": f"{PREFIX}BoundingBox2DAnnotation", "id": "bounding box", "values": []},
            {"@type": f"{PREFIX}DepthAnnotation", "filename": "step0.camera.Depth.exr",
             "measurementStrategy": strategy, **about},
            {"@type": f"{PREFIX}NormalAnnotation", "filename": "step0.camera.Normal.exr", **about},
            {"@type": f"{PREFIX}SemanticSegmentationAnnotation", "filename": "step0.camera.semantic segmentation.png",
             "instances": [{**label, "pixelValue": [149, 255, 0, 255]},
                           {"labelName": "Box", "pixelValue": [1, 2, 3, 255]}]},
            {"@type": f"{PREFIX}InstanceSegmentationAnnotation", "filename": "step0.camera.instance segmentation.png",
             "instances": [{**label, "instanceId": 70000 + number, "labelId": 1, "color": [149, 255, 0, 255]}]},
        ]  # fmt: skip
        capture = {
            "@type": f"{PREFIX}RGBCamera", "id": "camera", "filename": "step0.camera.png", "imageFormat": "Png",
            "position": camera.pose[:3, 3].tolist(), "rotation": [x, y, z, w], "dimension": [40.0, 27.0],
            "projection": "Perspective", "matrix": _matrix(camera), "annotations": annotations,
        }  # fmt: skip
        document = {"frame": 2, "sequence": number, "step": 0, "captures": [capture], "metrics": []}
        (place / "step0.frame_data.json").write_text(json.dumps(document, indent=2))
    return truth


def _matrix(camera) -> list[float]:
    """The upper left 3x3 of Unity's projection matrix."""
    height, width = SHAPE
    return [
        2 * camera.fx / width, 0, 1 - (camera.cx + 0.5) * 2 / width,
        0, 2 * camera.fy / height, (camera.cy + 0.5) * 2 / height - 1,
        0, 0, -1.0006,
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", ["Depth", "Range"])
def test_solo(tmp_path: Path, strategy: str) -> None:
    truth = write_solo(tmp_path / "solo", strategy)
    done = import_take(open_source(tmp_path / "solo", "unity-solo"), tmp_path / "take")
    assert (done.frames, done.no_camera) == (2, 0)
    frames = read_back(tmp_path / "take")
    for number, (frame, scene) in enumerate(zip(frames, truth, strict=True)):
        assert_truth(frame, scene, depth=1e-5, normal=1e-4)
        surface = np.isfinite(scene.depth)
        assert (frame.color == color_of(scene)).all()
        assert (frame.segmentation == np.where(surface, 2, 0)).all()  # Box, Crate
        assert (frame.instance == np.where(surface, 70000 + number, 0)).all()
    assert [frame.flags for frame in frames] == [(), ("cut",)]
    assert math.isclose(frames[1].time, 1 / 24)


def test_each_mistake_is_named_with_its_file(tmp_path: Path) -> None:
    write_solo(tmp_path / "solo")
    second = tmp_path / "solo/sequence.1/step0.frame_data.json"
    good = second.read_text()

    def refused(words: str) -> None:
        with pytest.raises(ImportSourceError, match=words):
            import_take(open_source(tmp_path / "solo", "unity-solo"), tmp_path / "take")
        assert [path.name for path in tmp_path.iterdir()] == ["solo"]

    second.write_text(good[:100])
    refused(r"sequence\.1/step0\.frame_data\.json cannot be read as SOLO's frame data")
    second.write_text(good.replace("Perspective", "Orthographic"))
    refused(r"step0\.frame_data\.json: the camera is Orthographic, only perspective")
    second.write_text(good.replace('"position"', '"place"'))
    refused(r"step0\.frame_data\.json: the camera has no position")
    second.write_text(good.replace("step0.camera.Depth.exr", "../../secret.exr"))
    refused(r"step0\.frame_data\.json names no image file beside it, but '\.\./\.\./secret\.exr'")
    second.write_text(good.replace("DepthAnnotation", "OtherAnnotation"))
    refused(r"step0\.frame_data\.json has no DepthAnnotation, but .*sequence\.0.* has one")
    second.write_text(good.replace("instanceId", "number"))
    refused(r"instance segmentation\.png: its colours are not explained as SOLO does")
    second.write_text(good)
    (second.parent / "step0.camera.Normal.exr").unlink()
    refused(r"step0\.camera\.Normal\.exr is missing, step0\.frame_data\.json names it")
    with pytest.raises(ImportSourceError, match="is no SOLO dataset"):
        open_source(tmp_path / "solo/sequence.0", "unity-solo")
