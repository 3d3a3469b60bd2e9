"""CARLA's packed depth, ids and rotators, written as its client writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from capture.camera import UNREAL, Conventions
from capture.importers import Declared, import_take, open_source
from capture.importers.cameras import rotator
from capture.importers.source import ImportSourceError
from tests.capture.analytic import look, to_engine
from tests.capture.importers.truth import (
    SHAPE,
    assert_truth,
    color_of,
    engine_normals,
    read_back,
    scenes,
    square_pixels,
    write_png,
)

CARLA = Conventions(UNREAL, UNREAL, 1.0)
ANGLES = ((-8.0, 20.0, 5.0), (-12.0, -35.0, -9.0))


def matrix(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """`carla.Transform.get_matrix`, written out as its documentation has it."""
    cp, cy, cr = (math.cos(math.radians(a)) for a in (pitch, yaw, roll))
    sp, sy, sr = (math.sin(math.radians(a)) for a in (pitch, yaw, roll))
    return np.array(
        [
            [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
            [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
            [sp, -cp * sr, cp * cr],
        ]
    )


def test_rotator_is_carlas() -> None:
    for angles in ANGLES:
        np.testing.assert_allclose(rotator(*angles), matrix(*angles), atol=1e-12)


def write_carla(folder: Path, view_space: bool = False) -> list:
    truth, frames = [], []
    for number, angles in enumerate(ANGLES):
        lens = square_pixels(scenes(1)[0]).camera
        pose = np.eye(4)
        pose[:3, :3] = UNREAL.basis @ matrix(*angles) @ UNREAL.basis.T
        pose[:3, 3] = (0.2, -0.3, 0.1 * number)
        scene = look(type(lens)(pose, lens.fx, lens.fy, lens.cx, lens.cy, lens.near, 1000), SHAPE)
        truth.append(scene)
        stored = np.minimum(np.where(np.isfinite(scene.depth), scene.depth, 1000) / 1000 * (2**24 - 1), 2**24 - 1)
        packed = np.rint(stored).astype(np.uint32)
        alpha = np.full(SHAPE, 255, np.uint8)
        bytes_ = [((packed >> shift) & 255).astype(np.uint8) for shift in (0, 8, 16)]
        name = f"{1000 + number:06d}.png"
        write_png(folder / "depth" / name, np.stack([*bytes_, alpha], axis=-1))
        write_png(folder / "rgb" / name, np.dstack([color_of(scene), alpha]))
        surface = np.isfinite(scene.depth)
        tags = np.stack([np.where(surface, 7, 11), np.where(surface, 44, 0), np.where(surface, 1, 0), alpha], axis=-1)
        write_png(folder / "semantic_segmentation" / name, tags.astype(np.uint8))
        write_png(folder / "instance_segmentation" / name, tags.astype(np.uint8))
        normals = engine_normals(scene, UNREAL)
        if view_space:  # x right, y up, z forward
            normals = np.stack([scene.normal[..., 0], -scene.normal[..., 1], scene.normal[..., 2]], axis=-1)
        write_png(folder / "normals" / name, np.rint((normals / 2 + 0.5) * 255).astype(np.uint8))
        location = to_engine(pose[:3, 3], UNREAL)
        entry = dict(zip(("x", "y", "z", "pitch", "yaw", "roll"), (*location, *angles), strict=True))
        fov = 2 * math.degrees(math.atan(SHAPE[1] / 2 / lens.fx))
        frames.append({"frame": 1000 + number, "hfov_degrees": fov, **entry})
    (folder / "cameras.json").write_text(json.dumps({"fps": 20, "frames": frames}))
    return truth


@pytest.mark.parametrize("view_space", [False, True])
def test_carla(tmp_path: Path, view_space: bool) -> None:
    truth = write_carla(tmp_path / "in", view_space)
    declared = Declared(normal_space="camera") if view_space else None
    import_take(open_source(tmp_path / "in", "carla", declared), tmp_path / "take")
    for number, (frame, scene) in enumerate(zip(read_back(tmp_path / "take"), truth, strict=True)):
        assert_truth(frame, scene, depth=1e-4, normal=0.02)
        assert (frame.color == color_of(scene)).all()
        surface = np.isfinite(scene.depth)
        assert (frame.segmentation == np.where(surface, 7, 11)).all()
        assert (frame.instance == np.where(surface, 44 + 256, 0)).all()
        assert (frame.serial, frame.time) == (1000 + number, pytest.approx(number / 20))
        assert frame.channels["depth"].data.dtype == np.uint32


def test_depth_through_a_converter_is_refused(tmp_path: Path) -> None:
    write_carla(tmp_path / "in")
    grey = np.repeat(np.arange(SHAPE[0], dtype=np.uint8)[:, None], SHAPE[1], axis=1)
    write_png(tmp_path / "in/depth/001000.png", np.stack([grey] * 3, axis=-1))
    with pytest.raises(ImportSourceError, match=r"001000\.png was saved with a colour converter"):
        import_take(open_source(tmp_path / "in", "carla"), tmp_path / "take")
    write_png(tmp_path / "in/depth/001000.png", grey)
    with pytest.raises(ImportSourceError, match=r"001000\.png has no three bytes per pixel"):
        import_take(open_source(tmp_path / "in", "carla"), tmp_path / "take")
