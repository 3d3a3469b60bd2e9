"""Layered EXR files, written as Blender and Unreal's Movie Render Queue write them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from capture.camera import BLENDER_WORLD, OPENGL, UNREAL, Conventions
from capture.export import export_exr
from capture.frame import Channel, Frame
from capture.geometry import motion_from_depth, normals_from_depth, world_points
from capture.importers import import_take, open_source
from capture.importers.source import ImportSourceError
from capture.take import Take, TakeWriter
from engine_bridges.city.bridge import channels, descriptors
from engine_bridges.city.scene import City
from tests.capture.importers.truth import (
    SHAPE,
    assert_truth,
    engine_normals,
    in_engine,
    read_back,
    scenes,
    square_pixels,
    write_exr,
    write_png,
)

BLENDER = Conventions(BLENDER_WORLD, OPENGL, 1.0)
MRQ = Conventions(UNREAL, UNREAL, 0.01)


def blender_layers(scene) -> dict[str, np.ndarray]:
    """What Blender 5.0 has in its parts: linear light, Z with 1e10 for nothing, normals of the world, pass indices."""
    depth = np.where(np.isfinite(scene.depth), scene.depth, 1e10).astype(np.float32)
    normals = engine_normals(scene, BLENDER_WORLD)
    light = np.full(SHAPE, 0.5, np.float32)
    layers = {f"ViewLayer.Combined.{name}": light * factor for name, factor in zip("RGBA", (1, 0.5, 4, 2), strict=True)}
    layers |= {"ViewLayer.Depth.Z": depth}
    layers |= {f"ViewLayer.Normal.{name}": np.ascontiguousarray(normals[..., i]) for i, name in enumerate("XYZ")}
    # Other layers of the same endings and components, which are not the ones that are meant.
    layers |= {f"ViewLayer.Denoising Normal.{name}": light for name in "XYZ"}
    layers |= {f"ViewLayer.Position.{name}": light for name in "XYZ"}
    return layers | {"ViewLayer.Object Index.X": np.isfinite(scene.depth).astype(np.float32) * 3}


def projection(camera, shape=SHAPE) -> list[list[float]]:
    """The OpenGL matrix that Blender's `calc_matrix_camera` gives."""
    height, width = shape
    return [
        [2 * camera.fx / width, 0, 1 - (camera.cx + 0.5) * 2 / width, 0],
        [0, 2 * camera.fy / height, (camera.cy + 0.5) * 2 / height - 1, 0],
        [0, 0, -1.0002, -0.2],
        [0, 0, -1, 0],
    ]


def write_blender(folder: Path, count: int = 2, parts: bool = True) -> list:
    folder.mkdir()
    frames = []
    for number, scene in enumerate(scenes(count), 1):
        path, layers = folder / f"{number:04d}.exr", blender_layers(scene)
        if parts:  # since 5.0 every pass is a part of its own, that carries the whole name
            names = sorted({name.rpartition(".")[0] for name in layers})
            made = [
                OpenEXR.Part({"name": name, "type": OpenEXR.scanlineimage},
                             {full: array for full, array in layers.items() if full.rpartition(".")[0] == name}, name)
                for name in names
            ]  # fmt: skip
            OpenEXR.File(made).write(str(path))
        else:
            write_exr(path, layers)
        camera = in_engine(scene, BLENDER)
        entry = {"frame": number, "pose": camera.pose.tolist(), "projection_matrix": projection(camera)}
        frames.append(entry | {"near": camera.near, "far": camera.far})
    document = {"fps": 12.0, "width": SHAPE[1], "height": SHAPE[0], "frames": frames}
    (folder / "cameras.json").write_text(json.dumps(document))
    return scenes(count)


@pytest.mark.parametrize("parts", [True, False])
def test_blender(tmp_path: Path, parts: bool) -> None:
    truth = write_blender(tmp_path / "render", parts=parts)
    done = import_take(open_source(tmp_path / "render", "blender"), tmp_path / "take")
    assert (done.frames, done.no_camera, done.no_pose) == (2, 0, 0)
    frames = read_back(tmp_path / "take")
    for index, (frame, scene) in enumerate(zip(frames, truth, strict=True)):
        assert_truth(frame, scene)
        assert (frame.serial, frame.time) == (index + 1, index / 12)
        assert frame.camera.far == pytest.approx(80)
        assert set(np.unique(frame.instance)) == {0, 3}
        # sRGB of 0.5, 0.25 and, clipped, 2.
        assert np.unique(frame.color.reshape(-1, 3), axis=0).tolist() == [[188, 137, 255]]
        assert frame.channels["normal"].descriptor.space == "world"  # as it was written, not converted
    assert any("brighter than white (100%" in note for note in done.notes)


def test_rendered_pictures_go_before_linear_light(tmp_path: Path) -> None:
    truth = write_blender(tmp_path / "render")
    for number in (1, 2):  # of half the size: the camera's pixels are those of the picture
        write_png(tmp_path / "render/color" / f"pretty_{number:04d}.png", np.full((54, 80, 3), 77, np.uint8))
    import_take(open_source(tmp_path / "render", "blender"), tmp_path / "take")
    for frame, scene in zip(read_back(tmp_path / "take"), truth, strict=True):
        assert (frame.color == 77).all()
        assert frame.camera.fx == pytest.approx(2 * scene.camera.fx)
        np.testing.assert_allclose(frame.depth, scene.depth, rtol=1e-5)
        np.testing.assert_allclose(frame.camera_of("depth").fx, scene.camera.fx)


def test_without_cameras_sky_is_sky_and_world_normals_are_left_out(tmp_path: Path) -> None:
    truth = write_blender(tmp_path / "render")
    (tmp_path / "render/cameras.json").unlink()
    done = import_take(open_source(tmp_path / "render", "blender"), tmp_path / "take")
    assert done.no_camera == 2
    assert any("normal is left out where there is no camera pose" in note for note in done.notes)
    for frame, scene in zip(read_back(tmp_path / "take"), truth, strict=True):
        assert frame.camera is None
        assert "normal" not in frame.channels
        np.testing.assert_allclose(frame.depth, scene.depth, rtol=1e-5)


def mrq_layers(scene, dtype) -> dict[str, np.ndarray]:
    """Movie Render Queue: the final image without a prefix, depth in centimetres, normals for display."""
    with np.errstate(over="ignore"):
        depth = (scene.depth * 100).astype(dtype)
    normals = engine_normals(scene, UNREAL) / 2 + 0.5
    light = np.full(SHAPE, 0.25, dtype)
    layers = dict.fromkeys("RGBA", light)
    layers |= {f"FinalImageMovieRenderQueue_WorldDepth.{name}": depth for name in "RGBA"}
    return layers | {
        f"FinalImageMovieRenderQueue_WorldNormal.{name}": np.ascontiguousarray(normals[..., i]).astype(dtype)
        for i, name in enumerate("RGB")
    }


def mrq_header(scene, start: str = "unreal/camera/") -> dict[str, str]:
    """The camera as Unreal says it, by the angles of a rotator."""
    camera = in_engine(scene, MRQ)
    forward, right = camera.pose[:3, 0], camera.pose[:3, 1]
    yaw, pitch = math.atan2(forward[1], forward[0]), math.asin(forward[2])
    level = np.array([-math.sin(yaw), math.cos(yaw), 0])  # to the right, with the horizon level
    roll = math.atan2(-right[2] / math.cos(pitch), right @ level)
    values = dict(zip(("curPos/x", "curPos/y", "curPos/z"), camera.pose[:3, 3], strict=True))
    values |= {"curRot/pitch": math.degrees(pitch), "curRot/yaw": math.degrees(yaw), "curRot/roll": math.degrees(roll)}
    header = {f"{start}{name}": str(value) for name, value in values.items()}
    return header | {f"{start}FinalImage/fov": str(math.degrees(2 * math.atan(SHAPE[1] / 2 / camera.fx)))}


@pytest.mark.parametrize(
    ("dtype", "tolerance", "start"),
    [("float16", 1e-3, "unreal/camera/"), ("float32", 1e-6, "unreal/layerData/rgba/")],
)
def test_movie_render_queue(tmp_path: Path, dtype: str, tolerance: float, start: str) -> None:
    (tmp_path / "render").mkdir()
    # Unreal knows square pixels and the middle as principal point.
    truth = [square_pixels(scene) for scene in scenes()]
    for number, scene in enumerate(truth):
        path = tmp_path / "render" / f"Shot.{number:04d}.exr"
        write_exr(path, mrq_layers(scene, dtype), mrq_header(scene, start))
    done = import_take(open_source(tmp_path / "render", "unreal-mrq"), tmp_path / "take")
    frames = read_back(tmp_path / "take")
    for frame, scene in zip(frames, truth, strict=True):
        assert_truth(frame, scene, depth=tolerance, normal=5 * tolerance)
        assert frame.channels["depth"].descriptor.dtype == dtype
        assert (frame.color == 137).all()
    assert any("n / 2 + 0.5" in note for note in done.notes)


def test_a_data_window_shifts_the_principal_point(tmp_path: Path) -> None:
    """Overscan and cropped renders: the stored pixels are not those that the lens speaks of."""
    (tmp_path / "render").mkdir()
    scene = square_pixels(scenes(1)[0])
    crop = np.s_[5:20, 8:30]
    layers = {name: np.ascontiguousarray(array[crop]) for name, array in mrq_layers(scene, "float32").items()}
    header = mrq_header(scene) | {
        "dataWindow": (np.array([8, 5], np.int32), np.array([29, 19], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([39, 26], np.int32)),
    }
    write_exr(tmp_path / "render/a.0001.exr", layers, header)
    import_take(open_source(tmp_path / "render", "unreal-mrq"), tmp_path / "take")
    (frame,) = read_back(tmp_path / "take")
    surface = np.isfinite(scene.depth[crop])
    points = world_points(frame.depth, frame.camera)
    np.testing.assert_allclose(points[surface], scene.points[crop][surface], atol=1e-4)


@pytest.mark.parametrize("up", ["y", "z"])
def test_an_exported_take_comes_back(tmp_path: Path, up: str) -> None:
    city = City(3, (64, 36))
    with TakeWriter(tmp_path / "city", conventions=Conventions(), descriptors=descriptors(city.size), engine="city",
                    preview=False) as writer:  # fmt: skip
        for index in range(2):
            seen = city.frame(index)
            arrays = channels(seen)
            stored = {each.name: Channel(each, arrays[each.name], index) for each in descriptors(city.size)}
            writer.append(Frame(0, index, seen.time, seen.camera, stored))
    with Take(tmp_path / "city") as take:
        export_exr(take, tmp_path / "exr", up=up)
    import_take(open_source(tmp_path / "exr"), tmp_path / "again")
    for one, other in zip(read_back(tmp_path / "city"), read_back(tmp_path / "again"), strict=True):
        assert (other.serial, other.time, other.camera) == (one.serial, one.time, one.camera)
        for name in ("depth", "motion", "segmentation", "instance"):
            np.testing.assert_array_equal(other.canonical(name), one.canonical(name), err_msg=name)
        np.testing.assert_allclose(other.color.astype(int), one.color, atol=1)  # half floats of light
        np.testing.assert_allclose(other.normal, one.normal, atol=2e-3)


def test_each_mistake_is_named_with_its_file(tmp_path: Path) -> None:
    write_blender(tmp_path / "render", 3)
    second = tmp_path / "render/0002.exr"
    whole = second.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(ImportSourceError, match=words):
            import_take(open_source(tmp_path / "render", "blender"), tmp_path / "take")
        assert list(tmp_path.glob("*take*")) == list(tmp_path.glob(".*take*")) == []

    second.write_bytes(whole[:1000])
    refused(r"0002\.exr cannot be read")
    second.write_bytes(b"not an image")
    refused(r"0002\.exr is no EXR file")
    second.unlink()
    write_exr(second, {name: array for name, array in blender_layers(scenes(1)[0]).items() if "Depth" not in name})
    refused(r"0002\.exr lacks ViewLayer\.Depth\.Z, which the files before it have")
    write_exr(second, {name: array[:20].copy() for name, array in blender_layers(scenes(1)[0]).items()})
    refused(r"0002\.exr is 40x20, but the color images before it are 40x27")
    write_exr(tmp_path / "render/0001.exr", {"Mist.M": np.zeros(SHAPE, np.float32)})
    refused(r"0001\.exr has no layer that is known as colour, depth or normals, only: Mist\.M")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportSourceError, match=r"empty holds no \.exr files"):
        open_source(tmp_path / "empty", "blender")


BPY_PYTHON = os.environ.get("REALMASTER_BPY_PYTHON") or (sys.executable if importlib.util.find_spec("bpy") else None)
"""A Python that has Blender as a module. It need not be the one of the tests: bpy binds numpy to a version."""


@pytest.mark.slow
@pytest.mark.skipif(BPY_PYTHON is None, reason="needs Blender's module, bpy (name its Python: REALMASTER_BPY_PYTHON)")
def test_blender_itself(tmp_path: Path) -> None:
    """Blender's own module renders; points land where the objects are, normals and motion agree with depth."""
    document = (Path(__file__).parents[3] / "docs/import.md").read_text("utf-8")
    cameras = tmp_path / "cameras.py"
    programs = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    cameras.write_text(next(program for program in programs if "bpy" in program))
    script = Path(__file__).with_name("blender_scene.py")
    run = subprocess.run(
        [str(BPY_PYTHON), str(script), str(tmp_path / "render"), str(cameras)],
        capture_output=True, text=True, timeout=250, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    import_take(open_source(tmp_path / "render", "blender"), tmp_path / "take")
    frames = read_back(tmp_path / "take")
    for frame in frames:
        surface = np.isfinite(frame.depth)
        depth = np.where(surface, frame.depth, 0)
        points = world_points(depth, frame.camera) @ BLENDER_WORLD.basis  # back in Blender's own axes
        ground = frame.instance == 1
        ball = frame.instance == 3
        assert 0.5 < surface.mean() < 0.95
        assert np.median(np.abs(points[ground][:, 2])) < 1e-3
        assert np.median(np.abs(np.linalg.norm(points[ball] - (2, 0.5, 1), axis=-1) - 1)) < 2e-3
        derived = normals_from_depth(frame.depth, frame.camera)
        assert np.median((derived * frame.normal).sum(axis=-1)[surface]) > 0.9999
    moved = motion_from_depth(frames[1].depth, frames[1].camera, frames[0].camera)
    assert np.median(np.abs(moved - frames[1].motion)[np.isfinite(frames[1].depth)]) < 0.01
