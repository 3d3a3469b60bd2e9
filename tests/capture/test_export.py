"""Exports: the files say what the take says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.errors import TakeError
from capture.export import export_frames, export_mp4, export_preview
from capture.pictures import depth_to_picture, motion_to_picture, normal_to_picture, tile, turbo
from capture.take import Take, WriterSettings
from capture.video import read_video

from .recordings import HEIGHT, WIDTH, make_frame, record_take, start_take


def damage(path: Path, index: int) -> None:
    """Flip a byte in the last payload of a frame."""
    at = Take(path)._frames[index]
    data = bytearray((path / at.file).read_bytes())
    data[at.end - 120] ^= 1
    (path / at.file).write_bytes(data)


def test_mp4_has_the_frames_and_their_times(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial, time in enumerate([3.0, 3.1, 3.2, 5.0]):
            writer.append(make_frame(serial, time=time))
    take, calls = Take(tmp_path / "t"), []
    report = export_mp4(take, tmp_path / "v.mp4", crf=8, progress=lambda done, total: calls.append((done, total)))
    images, times = read_video(tmp_path / "v.mp4")
    assert report.frames == 4 and report.skipped == [] and json.dumps(report.to_dict())
    assert np.allclose(times, [0, 0.1, 0.2, 2.0], atol=1e-4)
    assert np.abs(images[2].astype(int) - take[2].color).mean() < 12
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("channel", "width"), [("depth", 1), ("normal", 1), ("instance", 1), ("side_by_side", 3), ("color,depth", 2)]
)
def test_mp4_of_any_channel(tmp_path: Path, channel: str, width: int) -> None:
    take = Take(record_take(tmp_path / "t", 4))
    export_mp4(take, tmp_path / "v.mp4", channel, frames=(1, 3))
    images, _ = read_video(tmp_path / "v.mp4")
    assert images.shape == (2, HEIGHT, WIDTH * width, 3)
    assert images.std() > 5


def test_wrong_channels_and_ranges_are_one_sentence(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 4))
    with pytest.raises(TakeError, match="no channel 'motion', it has: color, depth, normal, instance"):
        export_mp4(take, tmp_path / "v.mp4", "motion")
    with pytest.raises(TakeError, match="4 frames"):
        export_mp4(take, tmp_path / "v.mp4", frames=(2, 9))
    with pytest.raises(TakeError, match="no channel"):
        export_mp4(take, tmp_path / "v.mp4", " , ")


def test_damaged_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 5)
    damage(path, 2)
    report = export_frames(Take(path), tmp_path / "f")
    assert (report.frames, report.skipped, report.missing) == (4, [2], 1)
    assert not (tmp_path / "f" / "color" / "000002.png").exists()
    report = export_mp4(Take(path), tmp_path / "v.mp4", "instance")
    assert (report.frames, report.skipped) == (4, [2])
    assert len(read_video(tmp_path / "v.mp4")[1]) == 4
    assert export_preview(path)


def test_frames_that_are_gone_from_the_end_are_missing_from_the_export(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 6, settings=WriterSettings(segment_bytes=14_000))
    sorted(path.glob("frames-*"))[-1].unlink()
    left = len(Take(path))
    assert 0 < left < 6
    for report in (export_frames(Take(path), tmp_path / "f"), export_mp4(Take(path), tmp_path / "v.mp4")):
        assert report.missing == 6 - left
        assert report.to_dict()["exported"] == left
    assert export_mp4(Take(path), tmp_path / "w.mp4", frames=(0, left)).missing == 0


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


def test_long_takes_get_a_preview_of_the_same_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capture.export._PREVIEW_FRAMES", 5)
    monkeypatch.setattr("capture.export._PREVIEW_WIDTH", 20)
    path = record_take(tmp_path / "t", 24)
    assert export_preview(path)
    images, times = read_video(path / "preview.mp4")
    assert images.shape == (5, 12, 20, 3)
    assert np.allclose(times, np.arange(5) * 5 / 24, atol=1e-3)


def test_pictures() -> None:
    depth = np.array([[0.5, 5.0, 50.0, np.inf, np.nan]], np.float32)
    picture = depth_to_picture(depth, 0.5, 50.0).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] and picture[0, 2, 2] > picture[0, 2, 0]  # near red, far blue
    assert np.array_equal(picture[0, 1], turbo(np.array(0.54)))  # halfway by ratio
    assert np.array_equal(picture[0, 3], picture[0, 4]) and picture[0, 3].max() < 40
    normals = np.array([[[0, 0, -1], [1, 0, 0], [0, -1, 0], [0, 0, 0]]], np.float32)
    assert normal_to_picture(normals)[0, :3].tolist() == [[128, 128, 255], [255, 128, 128], [128, 255, 128]]
    motion = motion_to_picture(np.array([[[0, 0], [3, 0], [-3, 0]]], np.float32), 3.0)
    assert motion[0, 0].max() == 0 and motion[0, 1].tolist() == [255, 0, 0] and motion[0, 2].tolist() == [0, 255, 255]
    sheet = tile([np.full((4, 6, 3), 9, np.uint8), np.full((8, 12, 3), 99, np.uint8)], columns=1, gap=2)
    assert sheet.shape == (10, 6, 3) and (sheet[6:] == 99).all() and (sheet[:4] == 9).all()
