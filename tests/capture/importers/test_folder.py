"""Folders of images by channel: any convention, the camera file's forms, and what a take exports."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.camera import OPENCV, UNITY, UNREAL, Axes, Camera, Conventions
from capture.export import export_frames
from capture.frame import Channel, Descriptor, Frame
from capture.importers import Declared, import_take, open_source
from capture.importers.source import ImportSourceError
from capture.take import Take, TakeWriter
from engine_bridges.city.bridge import channels as city_channels
from engine_bridges.city.bridge import descriptors as city_descriptors
from engine_bridges.city.scene import LEGEND, City
from tests.capture.importers.truth import (
    SHAPE,
    assert_truth,
    color_of,
    engine_normals,
    in_engine,
    read_back,
    scenes,
    square_pixels,
    write_exr,
    write_png,
)


def write_folder(folder: Path, conventions: Conventions, count: int = 2, ray: bool = False) -> list:
    """Colour PNG, depth NPY, world normals NPY and cameras.json by poses."""
    frames = []
    for number, scene in enumerate(scenes(count)):
        write_png(folder / "color" / f"{number:06d}.png", color_of(scene))
        for name in ("depth", "normal"):
            (folder / name).mkdir(exist_ok=True)
        depth = (scene.distance if ray else scene.depth) / conventions.metres_per_unit
        np.save(folder / "depth" / f"{number:06d}.npy", depth.astype(np.float32))
        np.save(folder / "normal" / f"{number:06d}.npy", engine_normals(scene, conventions.world_axes))
        camera = in_engine(scene, conventions)
        lens = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "near", "far")}
        frames.append({"file": f"{number:06d}.png", "camera": {"pose": camera.pose.tolist(), **lens}})
    (folder / "cameras.json").write_text(json.dumps({"fps": 10, "frames": frames}))
    return scenes(count)


@pytest.mark.parametrize(
    ("world", "camera", "metres", "ray"),
    [
        (OPENCV, OPENCV, 1.0, False),
        (UNITY, UNITY, 1.0, True),
        (UNREAL, UNREAL, 0.01, False),
        (UNITY, Axes("+x", "+y", "-z"), 0.5, True),  # a left-handed world and right-handed cameras
    ],
)
def test_declared_conventions(tmp_path: Path, world: Axes, camera: Axes, metres: float, ray: bool) -> None:
    truth = write_folder(tmp_path / "in", Conventions(world, camera, metres), ray=ray)
    declared = Declared(
        world_axes=world, camera_axes=camera, metres_per_unit=metres, normal_space="world",
        depth_kind="ray" if ray else None,
    )  # fmt: skip
    done = import_take(open_source(tmp_path / "in", None, declared), tmp_path / "take")
    assert done.channels == ["color", "depth", "normal"]
    for index, (frame, scene) in enumerate(zip(read_back(tmp_path / "take"), truth, strict=True)):
        assert_truth(frame, scene)
        assert (frame.color == color_of(scene)).all()
        assert (frame.serial, frame.time) == (index, index / 10)
        raw = (scene.distance if ray else scene.depth) / metres
        np.testing.assert_array_equal(frame.channels["depth"].data, raw.astype(np.float32))  # as it was written


def test_rows_from_the_bottom(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "in", Conventions())
    for path in (tmp_path / "in").glob("*/*.npy"):
        np.save(path, np.load(path)[::-1])
    for path in (tmp_path / "in/color").iterdir():
        write_png(path, np.asarray(Image.open(path))[::-1])
    declared = Declared(rows="bottom", normal_space="world")
    import_take(open_source(tmp_path / "in", None, declared), tmp_path / "take")
    for frame, scene in zip(read_back(tmp_path / "take"), truth, strict=True):
        assert_truth(frame, scene)
        assert (frame.color == color_of(scene)).all()


def test_depth_as_png_and_exr_and_normals_of_16_bits(tmp_path: Path) -> None:
    (scene,) = scenes(1)
    near = np.where(scene.depth < 60, scene.depth, np.inf)
    millimetres = np.where(np.isfinite(near), np.rint(near * 1000), 65535).astype(np.uint16)
    write_png(tmp_path / "mm/depth/7.png", millimetres)
    (frame,) = _import(tmp_path / "mm")
    np.testing.assert_allclose(frame.depth, near, atol=0.0006)

    write_png(tmp_path / "cm/depth/7.png", np.clip(millimetres // 10, 0, 65535).astype(np.uint16))
    (frame,) = _import(tmp_path / "cm", Declared(depth_scale=0.01))
    surface = np.isfinite(near)
    np.testing.assert_allclose(frame.depth[surface], near[surface], atol=0.011)

    (tmp_path / "exr/depth").mkdir(parents=True)
    depth = scene.depth.astype(np.float32)
    write_exr(tmp_path / "exr/depth/0001.exr", {"R": depth, "G": np.zeros_like(depth), "B": np.zeros_like(depth)})
    (frame,) = _import(tmp_path / "exr")
    np.testing.assert_array_equal(frame.depth, depth)
    assert (frame.serial, frame.camera) == (1, None)

    packed = np.rint((scene.normal / 2 + 0.5) * 65535).astype(np.uint16)
    (tmp_path / "n/normal").mkdir(parents=True)
    _write_png16(tmp_path / "n/normal/1.png", packed)
    (frame,) = _import(tmp_path / "n")
    np.testing.assert_allclose(frame.normal[surface], scene.normal[surface], atol=3e-5)


def _write_png16(path: Path, image: np.ndarray) -> None:
    """Colour PNG of 16 bits, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _import(folder: Path, declared: Declared | None = None, preset: str | None = None) -> list[Frame]:
    import_take(open_source(folder, preset, declared), folder.with_name(f"{folder.name}-take"))
    return read_back(folder.with_name(f"{folder.name}-take"))


def test_cameras_by_csv(tmp_path: Path) -> None:
    """As matrices, and as position with quaternion and a field of view in degrees."""
    truth = [square_pixels(scene) for scene in scenes()]
    folder = tmp_path / "in"
    (folder / "depth").mkdir(parents=True)
    rows, turns = [], []
    for number, scene in enumerate(truth):
        np.save(folder / "depth" / f"{number}.npy", scene.depth.astype(np.float32))
        camera = scene.camera
        rows.append([number, *camera.pose[:3].ravel(), camera.fx, camera.far])
        fov = 2 * math.degrees(math.atan(SHAPE[0] / 2 / camera.fy))
        turns.append([number, *camera.pose[:3, 3], *_quaternion(camera.pose[:3, :3]), fov, camera.far])
    matrix = ["frame", *(f"m{row}{column}" for row in range(3) for column in range(4)), "fx", "far"]
    for names, values in ((matrix, rows), (["id", *"xyz", "qw", "qx", "qy", "qz", "vfov_degrees", "far"], turns)):
        lines = [",".join(names), *(",".join(f"{value:.15g}" for value in row) for row in values)]
        (folder / "cameras.csv").write_text("\n".join(lines) + "\n")
        for frame, scene in zip(_import(folder), truth, strict=True):
            np.testing.assert_allclose(frame.camera.pose, scene.camera.pose, atol=1e-9)
            np.testing.assert_allclose(frame.camera.K, scene.camera.K, rtol=1e-9)
            np.testing.assert_allclose(frame.depth, scene.depth, rtol=1e-6)
        _remove(folder.with_name("in-take"))


def _quaternion(rotation: np.ndarray) -> list[float]:
    """w, x, y, z from the rotation's axis and angle."""
    angle = math.acos((np.trace(rotation) - 1) / 2)
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    return [math.cos(angle / 2), *(axis / np.linalg.norm(axis) * math.sin(angle / 2))]


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def test_a_lens_may_be_declared_where_poses_are_missing(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "in", Conventions(UNREAL, UNREAL, 0.01))
    (tmp_path / "in/cameras.json").unlink()
    declared = Declared(world_axes=UNREAL, metres_per_unit=0.01, vertical_fov=1.0, depth_kind="ray")
    done = import_take(open_source(tmp_path / "in", None, declared), tmp_path / "take")
    assert (done.no_camera, done.no_pose) == (0, 2)
    for frame, scene in zip(read_back(tmp_path / "take"), truth, strict=True):
        assert "no_pose" in frame.flags
        assert frame.camera.fy == pytest.approx(SHAPE[0] / 2 / math.tan(0.5))
        assert not frame.has_pose
        assert frame.channels["depth"].descriptor.projection == "declared"
        assert np.isfinite(frame.depth).any() and (frame.depth <= scene.depth * 1.01).all()
    with pytest.raises(ImportSourceError, match=r"depth of kind ray needs the field of view.*--vfov"):
        import_take(open_source(tmp_path / "in", None, Declared(depth_kind="ray")), tmp_path / "other")


def test_a_take_of_the_city_exported_and_imported_is_the_same_take(tmp_path: Path) -> None:
    city = City(3, (64, 36))
    with TakeWriter(tmp_path / "city", conventions=Conventions(), descriptors=city_descriptors(city.size),
                    engine="city", legend={"segmentation": LEGEND}, preview=False) as writer:  # fmt: skip
        for index in (0, 1, 5):
            seen = city.frame(index)
            stored = {
                descriptor.name: Channel(descriptor, city_channels(seen)[descriptor.name], index)
                for descriptor in city_descriptors(city.size)
            }
            writer.append(Frame(0, index, seen.time, seen.camera, stored, entities=seen.entities))
    with Take(tmp_path / "city") as take:
        export_frames(take, tmp_path / "frames")
    import_take(open_source(tmp_path / "frames"), tmp_path / "again")
    with Take(tmp_path / "city") as before, Take(tmp_path / "again") as after:
        assert len(before) == len(after) == 3
        assert (after.engine, after.fps) == ("city", before.fps)
        assert after.legend == before.legend
        for one, other in zip(before, after, strict=True):
            assert (other.serial, other.time, other.flags) == (one.serial, one.time, one.flags)
            assert other.camera == one.camera
            for name in ("color", "depth", "motion", "segmentation", "instance"):
                np.testing.assert_array_equal(other.canonical(name), one.canonical(name), err_msg=name)
            np.testing.assert_allclose(other.normal, one.normal, atol=1 / 127)  # exported with 8 bits


def test_what_an_export_says_about_its_numbers_is_kept(tmp_path: Path) -> None:
    """A game whose unit and pose are unknown, and normals that were derived from depth."""
    (scene,) = scenes(1)
    depth = Descriptor("depth", "float32", SHAPE, scale="unknown", projection="measured")
    color = Descriptor("color", "uint8", (*SHAPE, 3))
    stored = {"color": Channel(color, color_of(scene), 4), "depth": Channel(depth, scene.depth.astype(np.float32), 4)}
    lens = Camera(np.eye(4), *(getattr(scene.camera, name) for name in ("fx", "fy", "cx", "cy", "near", "far")))
    with TakeWriter(tmp_path / "game", conventions=Conventions(), descriptors=[color, depth], engine="opengl",
                    preview=False) as writer:  # fmt: skip
        writer.append(Frame(0, 4, 0.5, lens, stored, flags=("no_pose",)))
    with Take(tmp_path / "game") as take:
        export_frames(take, tmp_path / "frames")
    import_take(open_source(tmp_path / "frames"), tmp_path / "again")
    (frame,) = read_back(tmp_path / "again")
    assert frame.channels["depth"].descriptor == depth
    assert "normal" not in frame.channels
    assert (frame.flags, frame.raw_camera) == (("no_pose",), lens)
    np.testing.assert_array_equal(frame.channels["depth"].data, scene.depth.astype(np.float32))


def test_each_mistake_is_named_with_its_file(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "take"

    def refused(words: str, declared: Declared | None = None) -> None:
        with pytest.raises(ImportSourceError, match=words):
            import_take(open_source(source, None, declared), out)
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    source.mkdir()
    refused(r"in has no images: a folder for each channel is needed")
    write_folder(source, Conventions(), 4)
    cameras, depth = source / "cameras.json", source / "depth/000002.npy"
    kept = depth.read_bytes()
    depth.unlink()
    refused(r"color/000002\.png has no partner among the depth images, of which there are 3 for 4 frames")
    np.save(depth, np.ones((20, 40), np.float32))
    refused(r"depth/000002\.npy is 40x20, but the depth images before it are 40x27")
    np.save(depth, np.ones((27, 40), np.int64))
    refused(r"depth/000002\.npy holds int64, but depth may be float32")
    depth.write_bytes(kept[:60])
    refused(r"depth/000002\.npy cannot be read, it is damaged")
    depth.write_bytes(kept)
    picture = source / "color/000001.png"
    good = picture.read_bytes()
    picture.write_bytes(good[: len(good) // 2])
    refused(r"color/000001\.png cannot be read, it is damaged")
    picture.write_bytes(good)
    write_png(source / "color/second_000001.png", np.zeros((*SHAPE, 3), np.uint8))
    refused(r"000001\.png and second_000001\.png are both frame 1")
    (source / "color/second_000001.png").rename(source / "color/nameless.png")
    refused(r"nameless\.png has no frame number in its name")
    (source / "color/nameless.png").unlink()

    text = cameras.read_text()
    cameras.write_text(text[:-20])
    refused(r"cameras\.json cannot be read")
    cameras.write_text(json.dumps({"frames": [{"file": "900.png"}]}))
    refused(r"cameras\.json is about other frames than the images: these begin with number 0")
    document = json.loads(text)
    document["frames"][3]["camera"]["pose"][0][0] = 5
    cameras.write_text(json.dumps(document))
    refused(r"cameras\.json, frame 3: the rotation of the camera pose is not orthonormal")
    del document["frames"][3]["camera"]["fx"]
    document["frames"][3]["camera"]["pose"] = np.eye(4).tolist()
    cameras.write_text(json.dumps(document))
    refused(r"cameras\.json, frame 3: the field of view is missing")
    cameras.write_text(text)
    refused(r"000000\.npy: channel depth: baseline is None", Declared(depth_kind="disparity"))

    write_png(source / "depth/000000.png", np.zeros(SHAPE, np.uint8))
    (source / "depth/000000.npy").unlink()
    refused(r"depth/000000\.png has 8 bits per pixel, which is too coarse for depth")


def test_gaps_and_missing_poses_are_told_and_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", Conventions(), 5)
    for path in (tmp_path / "in").glob("*/000002.*"):
        path.unlink()
    document = json.loads((tmp_path / "in/cameras.json").read_text())
    document["frames"] = document["frames"][:4]
    (tmp_path / "in/cameras.json").write_text(json.dumps(document))
    done = import_take(open_source(tmp_path / "in", None, Declared(normal_space="camera")), tmp_path / "take")
    assert any("gap after 1" in note for note in done.notes)
    assert any("has no entry for frame 4: no pose there" in note for note in done.notes)
    with Take(tmp_path / "take") as take:
        assert [frame.serial for frame in take] == [0, 1, 3, 4]
        assert [frame.time for frame in take] == pytest.approx([0, 0.1, 0.3, 0.4])
        assert [frame.camera is None for frame in take] == [False, False, False, True]
        assert [event["name"] for event in take.events] == ["gap"]
    assert isinstance(take[0].raw_camera, Camera)
