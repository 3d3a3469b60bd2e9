"""Videos: what is written plays at the right speed with the right colours."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from capture.video import VideoError, iterate_video, read_video, write_video


def card(height: int = 64, width: int = 96) -> np.ndarray:
    """Four fields of strong colours."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (210, 30, 40)
    image[: height // 2, width // 2 :] = (30, 190, 60)
    image[height // 2 :, : width // 2] = (40, 60, 220)
    image[height // 2 :, width // 2 :] = (245, 245, 245)
    return image


def test_round_trip_keeps_colours_and_order(tmp_path: Path) -> None:
    images = [np.roll(card(), shift * 8, axis=1) for shift in range(5)]
    assert write_video(tmp_path / "v.mp4", images, fps=25, crf=10) == 5
    read, times = read_video(tmp_path / "v.mp4")
    assert read.shape == (5, 64, 96, 3) and read.dtype == np.uint8
    assert np.allclose(times, np.arange(5) / 25, atol=1e-4)
    for wanted, got in zip(images, read, strict=True):
        assert np.abs(wanted.astype(int) - got).mean() < 4  # a wrong colour matrix costs 10 and more
    centres = read[0][16::32, 24::48].reshape(4, 3).astype(int)
    assert np.abs(centres - card()[16::32, 24::48].reshape(4, 3)).max() <= 4


def test_times_decide_the_speed(tmp_path: Path) -> None:
    times = [10.0, 10.1, 10.2, 12.0, 12.05]
    write_video(tmp_path / "v.mp4", [card()] * 5, fps=10, times=times)
    _, read = read_video(tmp_path / "v.mp4")
    assert np.allclose(read, np.array(times) - 10, atol=1e-4)
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(2.05 + 0.1, abs=0.01)  # the last image stays for 1 / fps


def test_times_that_do_not_rise_still_make_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [card()] * 5, times=[0.0, 0.1, 0.1, 0.05, 0.2], fps=20)
    _, read = read_video(tmp_path / "v.mp4")
    assert (np.diff(read) > 0).all() and np.allclose(read, [0.0, 0.1, 0.1, 0.15, 0.3], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (31, 47), (32, 47)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "v.mp4", [np.full((*size, 3), 90, np.uint8)] * 2)
    read, _ = read_video(tmp_path / "v.mp4")
    assert read.shape[1:3] == tuple(side + side % 2 for side in size)
    assert np.abs(read.astype(int) - 90).max() <= 3


@pytest.mark.parametrize("size", [(17, 17), (31, 47), (32, 47), (32, 48)])
def test_odd_sizes_that_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "v.mp4", [np.full((*size, 3), (40, 90, 200), np.uint8)] * 2, keep_odd=True)
    read, _ = read_video(tmp_path / "v.mp4")
    assert read.shape[1:3] == size and np.abs(read.astype(int) - (40, 90, 200)).max() <= 4
    with av.open(str(tmp_path / "v.mp4")) as container:
        odd = any(side % 2 for side in size)
        assert container.streams.video[0].codec_context.pix_fmt == ("yuv444p" if odd else "yuv420p")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".v.partial.mp4").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), np.uint8)
    with pytest.raises(VideoError, match="disk is full; make room"):
        write_video(tmp_path / "v.mp4", noise)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are given to a process on Linux only")
def test_the_same_images_give_the_same_bytes_on_any_number_of_cores(tmp_path: Path) -> None:
    images = np.kron(
        np.random.default_rng(0).integers(0, 255, (8, 34, 45, 3), np.uint8), np.ones((1, 8, 8, 1), np.uint8)
    )
    cores = os.sched_getaffinity(0)
    write_video(tmp_path / "many.mp4", images)
    try:
        os.sched_setaffinity(0, {min(cores)})
        write_video(tmp_path / "one.mp4", images)
    finally:
        os.sched_setaffinity(0, cores)
    assert (tmp_path / "many.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_players_can_start_at_once_and_know_the_colours(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [card()] * 3)
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_range) == (1, 1, 1)


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    out = tmp_path / "v.mp4"
    out.write_bytes(b"old")

    def images():  # noqa: ANN202
        yield card()
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_video(out, images())
    with pytest.raises(VideoError, match="96x64 to 48x32"):
        write_video(out, [card(), card(32, 48)])
    with pytest.raises(VideoError, match="no images"):
        write_video(out, [])
    with pytest.raises(VideoError, match="more images than times"):
        write_video(out, [card()] * 2, times=[0.0])
    with pytest.raises(VideoError, match="fps"):
        write_video(out, [card()], fps=0)
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"] and out.read_bytes() == b"old"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VideoError, match="cannot be written"):
        write_video(tmp_path / "file" / "v.mp4", [card()])


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="there is no video"):
        read_video(tmp_path / "none.mp4")
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 100)
    with pytest.raises(VideoError, match="cannot be read as a video"):
        list(iterate_video(tmp_path / "noise.mp4"))
