"""Images and arrays: the files say what the take says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.errors import TakeError
from capture.export import export_frames
from capture.take import Take

from ..recordings import make_frame, record_take, start_take
from .scenes import redescribed, without


def test_frames_are_exact(tmp_path: Path) -> None:
    take, out = Take(record_take(tmp_path / "t", 3)), tmp_path / "f"
    export_frames(take, out)
    frame = take[1]
    assert np.array_equal(np.asarray(Image.open(out / "color" / "000001.png")), frame.color)
    depth = np.load(out / "depth" / "000001.npy")
    assert depth.dtype == np.float32 and np.array_equal(depth, frame.depth)
    millimetres = np.asarray(Image.open(out / "depth" / "000001.png")).astype(int)
    near = frame.depth < 65
    assert near.any() and np.abs(millimetres[near] - frame.depth[near] * 1000).max() <= 0.51
    assert (millimetres[np.isinf(frame.depth)] == 65535).all()
    normal = np.asarray(Image.open(out / "normal" / "000001.png")) / 255 * 2 - 1
    assert np.abs(normal - frame.normal).max() < 0.005
    instance = np.asarray(Image.open(out / "instance" / "000001.png"))
    assert instance.max() > 255 and np.array_equal(instance, frame.instance)
    document = json.loads((out / "cameras.json").read_text())
    entry = document["frames"][1]
    assert (entry["file"], entry["serial"], entry["time"]) == ("000001", 1, 1 / 24)
    assert np.allclose(entry["camera"]["pose"], frame.camera.pose) and entry["camera"]["fx"] == frame.camera.fx
    assert document["legend"] == {"instance": {"300": "postman"}}
    with pytest.raises(TakeError, match="not empty"):
        export_frames(take, out)


def test_an_interrupted_export_is_gone_on_with(tmp_path: Path) -> None:
    take, out = Take(record_take(tmp_path / "t", 4)), tmp_path / "f"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_frames(take, out, progress=stop)
    (out / "depth" / "000001.png").unlink()  # of depth the PNG is written last: this one was not finished
    (out / "color" / "000000.png").write_bytes(b"kept")
    assert export_frames(take, out).frames == 4
    assert (out / "color" / "000000.png").read_bytes() == b"kept" and (out / "depth" / "000001.png").exists()
    assert {path.name for path in out.iterdir()} == {"color", "depth", "normal", "instance", "cameras.json"}
    assert len(json.loads((out / "cameras.json").read_text())["frames"]) == 4


def test_derived_normals_and_unknown_units_are_said(tmp_path: Path) -> None:
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(redescribed(without(make_frame(0), "normal"), "depth", scale="unknown"))
    export_frames(Take(tmp_path / "t"), tmp_path / "f")
    document = json.loads((tmp_path / "f" / "cameras.json").read_text())
    (entry,) = document["frames"]
    assert entry["normals"] == "derived from depth" and entry["depth_unit"] == "engine units"
    assert document["lengths"].startswith("engine units")
    assert Image.open(tmp_path / "f" / "normal" / "000000.png").size == (40, 24)
