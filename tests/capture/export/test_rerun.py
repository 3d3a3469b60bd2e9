"""The Rerun recording, read back by Rerun's own reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.errors import TakeError
from capture.export import export_rerun
from capture.take import Take

from ..recordings import make_frame, record_take, start_take
from .scenes import redescribed, scene_take, without


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every entity of a recording as plain values, in the order of the frames; times in nanoseconds."""
    chunk = pytest.importorskip("rerun.chunk")
    found: dict[str, list[dict[str, Any]]] = {}
    for one in chunk.RrdReader(str(path)).stream():
        batch = one.to_record_batch()
        columns = {
            name: (column.cast("int64") if "duration" in str(column.type) else column).to_pylist()
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        found.setdefault(one.entity_path, []).extend(rows)
    return {name: sorted(entity, key=lambda row: row.get("frame", -1)) for name, entity in found.items()}


def values(entity: list[dict[str, Any]], component: str) -> list[Any]:
    """A component's values, row by row, whatever archetype it belongs to."""
    return [value for row in entity for name, value in row.items() if name.endswith(component) and value is not None]


def test_cameras_images_and_timelines(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    take, _ = scene_take(tmp_path / "t", 3)
    report = export_rerun(take, tmp_path / "t.rrd")
    assert report.frames == 3 and report.notes == []
    found = rows(tmp_path / "t.rrd")
    names = {"color", "depth", "normal", "motion", "segmentation", "instance"}
    assert {f"/world/camera/image/{name}" for name in names} <= set(found)
    moved = np.array([value[0] for value in values(found["/world/camera"], ":translation")])
    assert np.allclose(moved, [take[i].camera.pose[:3, 3] for i in range(3)])
    turned = np.array([value[0] for value in values(found["/world/camera"], ":mat3x3")]).reshape(-1, 3, 3)
    assert np.allclose(turned.transpose(0, 2, 1), [take[i].camera.pose[:3, :3] for i in range(3)])  # columns first
    pinhole = np.array(values(found["/world/camera/image"], ":image_from_camera")[0][0]).reshape(3, 3).T
    camera = take[0].camera
    assert np.allclose(pinhole, [[camera.fx, 0, camera.cx + 0.5], [0, camera.fy, camera.cy + 0.5], [0, 0, 1]])
    depth = found["/world/camera/image/depth"]
    buffer = np.array(values(depth, ":buffer")[1][0], np.uint8).view(np.float16).reshape(take[1].depth.shape)
    truth = take[1].depth
    seen = np.isfinite(truth)
    assert np.allclose(buffer[seen], truth[seen], rtol=1e-3) and not buffer[~seen].any()
    assert values(depth, ":meter")[0][0] == 1.0
    assert [(row["frame"], row["serial"]) for row in depth] == [(0, 0), (1, 1), (2, 2)]
    assert np.allclose([row["time"] / 1e9 for row in depth], np.arange(3) / 24)


def test_unknown_poses_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        frame = redescribed(without(make_frame(0, flags=("no_pose",)), "normal"), "depth", scale="unknown")
        writer.append(frame)
    report = export_rerun(Take(tmp_path / "t"), tmp_path / "t.rrd")
    assert len(report.notes) == 3
    found = rows(tmp_path / "t.rrd")
    assert "/world/camera" not in found and "/world/camera/image/normal" in found
    assert "engine units" in str(found["/about"])


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("rerun")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export_rerun(Take(record_take(tmp_path / "t", 3)), tmp_path / "out" / "t.rrd", progress=stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_package_one_sentence_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(TakeError, match=r'pip install "realmaster\[rerun\]"'):
        export_rerun(Take(record_take(tmp_path / "t", 1)), tmp_path / "t.rrd")
