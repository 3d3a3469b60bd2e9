"""Video: what was played, at the speed at which it was played."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from capture.errors import TakeError
from capture.export import export_frames, export_mp4
from capture.take import Take, WriterSettings
from capture.video import read_video

from ..recordings import HEIGHT, WIDTH, make_frame, record_take, start_take
from .scenes import damage, redescribed, without


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


def test_frames_that_are_gone_from_the_end_are_missing_from_the_export(tmp_path: Path) -> None:
    path = record_take(tmp_path / "t", 6, settings=WriterSettings(segment_bytes=14_000))
    sorted(path.glob("frames-*"))[-1].unlink()
    left = len(Take(path))
    assert 0 < left < 6
    for report in (export_frames(Take(path), tmp_path / "f"), export_mp4(Take(path), tmp_path / "v.mp4")):
        assert report.missing == 6 - left
        assert report.to_dict()["exported"] == left
    assert export_mp4(Take(path), tmp_path / "w.mp4", frames=(0, left)).missing == 0


def played(path: Path) -> tuple[np.ndarray, float]:
    """Times of a video's frames and its length, in seconds, as a player reads them from the container."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None]
        assert container.duration is not None
        return np.array(sorted(times)), container.duration / 1e6


def record_at(path: Path, times: list[float], **changes: object) -> Take:
    with start_take(path) as writer:
        for serial, time in enumerate(times):
            writer.append(make_frame(serial, time=time, **changes))
    return Take(path)


def test_a_clock_that_was_set_back_goes_on(tmp_path: Path) -> None:
    take = record_at(tmp_path / "t", [7.0, 7.1, 7.2, 0.5, 0.6, 0.8, 0.8, 0.9])
    export_mp4(take, tmp_path / "v.mp4")
    times, seconds = played(tmp_path / "v.mp4")
    step = 1 / 24
    wanted = [0, 0.1, 0.2, 0.2 + step, 0.3 + step, 0.5 + step, 0.5 + step, 0.6 + step]
    assert np.allclose(times, wanted, atol=1e-3) and (np.diff(times) > 0).all()
    assert seconds == pytest.approx(wanted[-1] + step, abs=0.01)
    assert take.seconds == pytest.approx(seconds, abs=0.02)
    assert np.allclose(take.elapsed, wanted)


def test_an_engine_without_a_steady_pace_plays_as_it_was(tmp_path: Path) -> None:
    """Stalls, bursts and a rate far from the announced one: every frame stands as long as it did, to a millisecond."""
    rng = np.random.default_rng(3)
    steps = np.concatenate([rng.uniform(1 / 240, 1 / 20, 50), rng.uniform(0.2, 0.6, 6), np.full(20, 1 / 144)])
    sent = 1e5 + np.cumsum(rng.permutation(steps))
    export_mp4(record_at(tmp_path / "t", sent.tolist()), tmp_path / "v.mp4")
    times, seconds = played(tmp_path / "v.mp4")
    assert np.allclose(times, sent - sent[0], atol=1e-3)
    assert seconds == pytest.approx(sent[-1] - sent[0] + 1 / 24, abs=0.02)


def test_each_size_gets_its_file_or_bars(tmp_path: Path) -> None:
    with start_take(tmp_path / "t") as writer:
        for serial, size in enumerate([(40, 24)] * 3 + [(24, 40)] * 2 + [(40, 24)]):
            writer.append(make_frame(serial, *size))
    take = Take(tmp_path / "t")
    report = export_mp4(take, tmp_path / "v.mp4")
    assert [Path(file).name for file in report.files] == ["v.mp4", "v-2.mp4", "v-3.mp4"] and len(report.notes) == 1
    shapes = [read_video(file)[0].shape[:3] for file in report.files]
    assert shapes == [(3, 24, 40), (2, 40, 24), (1, 24, 40)] and report.frames == 6
    report = export_mp4(take, tmp_path / "w.mp4", fit=True)
    images, times = read_video(tmp_path / "w.mp4")
    assert images.shape[:3] == (6, 24, 40) and np.allclose(times, np.arange(6) / 24, atol=1e-3)
    assert images[3][:, :8].max() < 20 and images[3][:, 14:26].std() > 10
    assert report.files == [str(tmp_path / "w.mp4")] and not report.notes


def test_normals_come_from_depth_and_units_are_said(tmp_path: Path) -> None:
    with start_take(tmp_path / "t", descriptors=[]) as writer:
        for serial in range(2):
            writer.append(redescribed(without(make_frame(serial), "normal"), "depth", scale="unknown"))
    report = export_mp4(Take(tmp_path / "t"), tmp_path / "v.mp4", "depth,normal,edges,instance")
    images, _ = read_video(tmp_path / "v.mp4")
    assert images.shape == (2, 2 * HEIGHT, 2 * WIDTH, 3)
    assert len(report.notes) == 2 and "derived from depth" in report.notes[1]
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert "engine units (red)" in container.metadata["comment"]


def test_a_failed_export_leaves_no_file(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export_mp4(Take(record_take(tmp_path / "t", 5)), tmp_path / "out" / "v.mp4", progress=stop)
    assert list((tmp_path / "out").iterdir()) == []
