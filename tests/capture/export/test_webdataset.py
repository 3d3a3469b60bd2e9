"""Shards: the library reads them, their bytes repeat, and they hold what the take holds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture.errors import TakeError
from capture.export import export_webdataset
from capture.take import Take
from capture.video import read_video

from ..recordings import make_frame, record_take, start_take
from .scenes import damage, redescribed, without


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    """{key: {extension: bytes}} of all shards, in their order, by the standard library."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                file = tar.extractfile(member)
                assert file is not None and member.mtime == 0
                found.setdefault(key, {})[extension] = file.read()
    return found


def test_frames_are_what_the_take_holds(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "a.take", 5))
    report = export_webdataset(take, tmp_path / "out", frames=(1, 4))
    assert report.frames == 3
    found = samples(tmp_path / "out")
    assert list(found) == ["a_take-000001", "a_take-000002", "a_take-000003"]
    sample, frame = found["a_take-000002"], take[2]
    assert set(sample) == {"json", "color.png", "depth.npy", "normal.png", "instance.png"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample["color.png"]))), frame.color)
    assert np.array_equal(np.load(io.BytesIO(sample["depth.npy"])), frame.depth)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample["instance.png"]))), frame.instance)
    about = json.loads(sample["json"])
    assert about["serial"] == 2 and np.allclose(about["camera"]["pose"], frame.camera.pose)


def test_the_library_reads_it(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    take = Take(record_take(tmp_path / "t", 7))
    report = export_webdataset(take, tmp_path / "out", shard_bytes=20_000)
    assert len(report.files) > 1
    dataset = webdataset.WebDataset(report.files, shardshuffle=False, empty_check=False).decode("rgb8")
    read = list(dataset)
    assert [sample["__key__"] for sample in read] == [f"t-{i:06d}" for i in range(7)]
    assert np.array_equal(read[3]["color.png"], take[3].color)
    assert np.array_equal(read[3]["depth.npy"], take[3].depth)
    assert read[3]["json"]["serial"] == 3


def test_shards_are_sized_and_repeat_byte_by_byte(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 9))
    for name in ("one", "two"):
        export_webdataset(take, tmp_path / name, shard_bytes=25_000)
    files = sorted(path.name for path in (tmp_path / "one").glob("*.tar"))
    assert len(files) > 2
    for name in files:
        data = (tmp_path / "one" / name).read_bytes()
        assert data == (tmp_path / "two" / name).read_bytes() and len(data) <= 25_000 + 1024
    about = json.loads((tmp_path / "one" / "dataset.json").read_text())
    assert about["samples"] == 9 and [shard["file"] for shard in about["shards"]] == files
    assert [shard["bytes"] for shard in about["shards"]] == [(tmp_path / "one" / f).stat().st_size for f in files]


def test_an_interrupted_export_is_gone_on_with(tmp_path: Path) -> None:
    take = Take(record_take(tmp_path / "t", 9))
    export_webdataset(take, tmp_path / "whole", shard_bytes=25_000)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_webdataset(take, tmp_path / "out", shard_bytes=25_000, progress=stop)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "unfinished.json" in left and 1 < len(left) <= len(list((tmp_path / "whole").iterdir()))
    report = export_webdataset(take, tmp_path / "out", shard_bytes=25_000)
    assert report.frames == 9
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "out" / "unfinished.json").exists()


def test_clips_do_not_cross_cuts_gaps_and_sizes(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial in range(14):
            size = (24, 40) if serial >= 10 else (40, 24)
            writer.append(make_frame(serial, *size, flags=("cut",) if serial == 4 else ()))
    damage(tmp_path / "t", 7)
    report = export_webdataset(Take(tmp_path / "t"), tmp_path / "out", clip=3)
    found = samples(tmp_path / "out")
    assert list(found) == ["t-000000", "t-000004", "t-000010"]  # 3 | cut | 4 5 6 | 7 lost | 8 9 | size | 10 11 12 | 13
    assert report.frames == 9 and report.skipped == [7] and "4 frames were left off" in report.notes[0]
    sample = found["t-000004"]
    assert np.load(io.BytesIO(sample["depth.npy"])).shape == (3, 24, 40)
    assert np.load(io.BytesIO(sample["normal.npy"])).dtype == np.uint8
    (tmp_path / "clip.mp4").write_bytes(sample["color.mp4"])
    images, _ = read_video(tmp_path / "clip.mp4")
    assert images.shape == (3, 24, 40, 3)
    assert [entry["frame"] for entry in json.loads(sample["json"])["frames"]] == [4, 5, 6]
    with pytest.raises(TakeError, match="none of the frames"):
        export_webdataset(Take(tmp_path / "t"), tmp_path / "none", clip=9)


def test_unknown_units_and_derived_normals_are_said(tmp_path: Path) -> None:
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        writer.append(redescribed(without(make_frame(0), "normal"), "depth", scale="unknown"))
    export_webdataset(Take(tmp_path / "t"), tmp_path / "out")
    about = json.loads(samples(tmp_path / "out")["t-000000"]["json"])
    assert about["depth_unit"] == "engine units" and about["normals"] == "derived from depth"
