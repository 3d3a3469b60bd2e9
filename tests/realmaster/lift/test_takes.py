"""Lifting takes: windows that stop and go on, cuts, tries, and exactly the take's frames and times."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.take import Take, TakeWriter
from capture.video import read_video
from realmaster.commands.lift import _name_whole_lifts
from realmaster.lift import LiftError, LiftRules, lift_job, lift_take, load_lifter
from realmaster.lift.cues import draw_cue
from realmaster.lift.lifter import Cue, Guard
from tests.realmaster.lift.tiny_wan import save_tiny_wan

SIZE = (32, 48)


class Stopped(Exception):
    pass


class Brighter:
    """A lifter whose lift depends on everything it is given; it stops for good before the window `stop_at`."""

    name = "brighter"
    cue = "color"

    def __init__(
        self,
        window: int = 9,
        overlap: int = 5,
        guard: Guard | None = None,
        stop_at: int | None = None,
        references: tuple[Cue, ...] = (),
    ) -> None:
        self.references = references
        self.notes: list[str] = []
        self.rules = LiftRules(window=window, overlap=overlap, frame_step=4, size_multiple=16, max_side=64)
        self.guard = guard
        self.settings = {"window": window, "overlap": overlap}
        self.calls: list[dict[str, Any]] = []
        self._stop_at = stop_at

    def lanes(self):
        return [self]

    def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None, *, anchors=(), references=(),
             negative_prompt=None, strengthen=0.0):  # fmt: skip
        if self._stop_at is not None and len(self.calls) == self._stop_at:
            raise Stopped
        given = {
            "anchors": dict(anchors),
            "references": dict(references),
            "prompt": prompt,
            "negative": negative_prompt,
            "strengthen": strengthen,
        }
        self.calls.append({"seed": seed, "frames": len(clip), "prefix": prefix, "clip": clip, **given})
        lifted = clip + np.uint8(20) if prefix is None else clip + np.uint8(prefix.mean() / 10)
        if prefix is not None:
            lifted[: len(prefix)] = prefix
        return lifted


def picture(index: int) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    box = 30 * ((y >= 8) & (y < 24) & (x >= 12) & (x < 30))  # what the depth has, the render shows
    return (np.stack([x * 4 + index, y * 6, np.full_like(x, 60 + index)], axis=-1) + box[..., None]).astype(np.uint8)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Take]:
    def record(frames: int, *, cuts: tuple[int, ...] = (), depth: bool = True, resize_at: int | None = None) -> Take:
        shape = (*SIZE, 3)
        descriptors = [Descriptor("color", "uint8", shape)] + [Descriptor("depth", "float32", SIZE)] * depth
        writer = TakeWriter(
            tmp_path / "take", conventions=Conventions(), descriptors=descriptors, engine="test", game="", fps=30.0
        )
        for index in range(frames):
            color, box = picture(index), np.full(SIZE, 10.0, np.float32)
            box[8:24, 12:30] = 4.0
            if resize_at is not None and index >= resize_at:
                color, box = color[:16], box[:16]
            channels = {"color": Channel(Descriptor("color", "uint8", color.shape), color, index)}
            if depth:
                channels["depth"] = Channel(Descriptor("depth", "float32", box.shape), box, index)
            camera = Camera.from_vertical_fov(np.eye(4), 1.0, color.shape[1], color.shape[0])
            time = index / 30 + (0.5 if index > 4 else 0.0)  # a pause after the fifth frame
            flags = ("cut",) if index in cuts else ()
            writer.append(
                Frame(
                    index=index, serial=index, time=time, camera=camera, channels=channels, conventions=Conventions(),
                    flags=flags,
                )
            )  # fmt: skip
        writer.close()
        return Take(tmp_path / "take")

    return record


def test_exactly_the_takes_frames_size_and_times(record: Callable[..., Take], tmp_path: Path) -> None:
    take = record(23)
    report = lift_take(take, tmp_path / "out", Brighter())
    images, times = read_video(tmp_path / "out" / "lifted.mp4")
    assert images.shape == (23, *SIZE, 3)
    np.testing.assert_allclose(times, [frame.time for frame in take], atol=1e-4)
    assert (report["frames_lifted"], report["windows"], report["size"]) == (23, 5, [48, 32])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "lifted.mp4", "report.json", "still-00000.png", "still-00011.png", "still-00022.png",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("file", [".lifted.partial.mp4", "still-00011.png"])
def test_a_full_disk_is_one_sentence_and_no_window_is_lost(
    record: Callable[..., Take], tmp_path: Path, file: str
) -> None:
    take, out = record(23), tmp_path / "out"
    out.mkdir()
    (out / file).symlink_to("/dev/full")
    with pytest.raises(LiftError, match="disk is full; make room, then lift again, and it goes on"):
        lift_take(take, out, Brighter())
    kept = len(list((out / "windows").glob("*.zst")))
    (out / file).unlink(missing_ok=True)
    assert kept >= 2 and lift_take(take, out, Brighter())["windows_resumed"] == kept


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_an_interrupted_lift_goes_on_to_the_same_file(
    record: Callable[..., Take], tmp_path: Path, stop_at: int
) -> None:
    take = record(23)
    lift_take(take, tmp_path / "whole", Brighter(), seed=4)
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / "part", Brighter(stop_at=stop_at), seed=4)
    assert not (tmp_path / "part" / "lifted.mp4").exists()
    resumed = Brighter()
    report = lift_take(take, tmp_path / "part", resumed, seed=4)
    assert report["windows_resumed"] == stop_at and len(resumed.calls) == 5 - stop_at
    for name in ("lifted.mp4", "still-00022.png"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_side_by_side_an_interrupted_lift_goes_on_to_the_same_file(record: Callable[..., Take], tmp_path: Path) -> None:
    class Lanes(Brighter):
        def __init__(self) -> None:
            super().__init__(window=1, overlap=0)

        def lanes(self):
            return [self, self]

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise Stopped

    take = record(23, cuts=(11,))
    lift_take(take, tmp_path / "one", Brighter(window=1, overlap=0))
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / "two", Lanes(), progress=stop)
    report = lift_take(take, tmp_path / "two", Lanes())
    assert 7 <= report["windows_resumed"] <= 11 and report["windows"] == 23
    assert (tmp_path / "one" / "lifted.mp4").read_bytes() == (tmp_path / "two" / "lifted.mp4").read_bytes()


def lift_and_die(take: Path, out: Path, at: int) -> None:
    """Lift in this process, which dies, as by a power cut, where it touches the disk for the `at`-th time."""
    torch.set_num_threads(1)  # the threads of the process that this one is a copy of are not here
    touched = itertools.count(1)

    def die(event: str, _arguments: object) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and next(touched) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    lift_take(Take(take), out, Brighter(), seed=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that start as copies")
@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_it_goes_on_to_the_same_file(record: Callable[..., Take], tmp_path: Path, seed: int) -> None:
    take, processes, out = record(23), multiprocessing.get_context("fork"), tmp_path / "part"
    lift_take(take, tmp_path / "whole", Brighter(), seed=4)
    random, deaths = np.random.default_rng(seed), 0
    for _ in range(12):
        process = processes.Process(target=lift_and_die, args=(take.path, out, int(random.integers(1, 40))))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0 or not (out / "job.json").exists() and (out / "report.json").exists():
            break
        deaths += 1
    else:
        lift_take(take, out, Brighter(), seed=4)
    assert deaths
    names = ["lifted.mp4", "report.json", "still-00000.png", "still-00011.png", "still-00022.png"]
    assert [path.name for path in sorted(out.iterdir()) if not path.name.startswith(".")] == names
    for name in set(names) - {"report.json"}:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_window_that_was_not_saved_whole_is_lifted_again(record: Callable[..., Take], tmp_path: Path) -> None:
    take = record(23)
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / "part", Brighter(stop_at=2))
    last = sorted((tmp_path / "part" / "windows").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-9])
    again = Brighter()
    assert lift_take(take, tmp_path / "part", again)["windows_resumed"] == 1 and len(again.calls) == 4


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompt": "snow"}, {"frames": (0, 20)}])
def test_windows_of_another_job_are_never_mixed_in(
    record: Callable[..., Take], tmp_path: Path, change: dict[str, Any]
) -> None:
    take = record(23)
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / "part", Brighter(stop_at=2))
    for lifter, options in ((Brighter(), change), (Brighter(window=13), {})):
        with pytest.raises(LiftError, match="other settings"):
            lift_take(take, tmp_path / "part", lifter, **options)


def test_it_goes_on_where_another_amount_of_memory_is_free_and_says_so(
    record: Callable[..., Take], tmp_path: Path
) -> None:
    first, again, take = Brighter(stop_at=2), Brighter(), record(23)
    first.settings["memory"], again.settings["memory"] = "weights as they are", "weights in fp8"
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / "part", first)
    report = lift_take(take, tmp_path / "part", again)
    assert report["windows_resumed"] == 2
    assert report["memory"] == [
        "windows lifted before it was interrupted: weights as they are; from there on: weights in fp8"
    ]


def test_a_cut_starts_afresh(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Brighter()
    report = lift_take(record(23, cuts=(11,)), tmp_path / "out", lifter)
    assert report["cuts"] == [11] and report["frames_lifted"] == 23
    assert [(call["frames"], call["prefix"] is None) for call in lifter.calls] == [
        (9, True), (7, False), (9, True), (8, False),
    ]  # fmt: skip
    assert report["windows"] == len(lifter.calls)


def test_a_take_of_two_sizes_is_one_sentence(record: Callable[..., Take], tmp_path: Path) -> None:
    take = record(12, resize_at=7)
    with pytest.raises(LiftError, match="48x16 and 48x32|48x32 and 48x16"):
        lift_take(take, tmp_path / "out", Brighter())
    assert lift_take(take, tmp_path / "out", Brighter(), frames=(7, 12))["size"] == [48, 16]


class Blurring(Brighter):
    """Loses all edges unless the seed is one of the good ones."""

    def __init__(self, guard: Guard, good: Callable[[int], bool]) -> None:
        super().__init__(guard=guard)
        self._good = good

    def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None, **given):
        lifted = super().lift(clip, prompt, seed, prefix, steps, progress, **given)
        if self._good(seed):
            edges = np.zeros(SIZE, bool)
            edges[8:24, 12:30] = True
            return np.where(edges[None, :, :, None], np.uint8(250), np.uint8(10)) + np.zeros_like(lifted)
        rng = np.random.default_rng(0)
        return rng.integers(0, 255, lifted.shape, np.uint8)


def test_a_window_that_lost_the_geometry_is_tried_again(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Blurring(Guard(attempts=3, depth_edges=0.9), good=lambda seed: seed > 7)
    report = lift_take(record(12), tmp_path / "out", lifter, seed=7)
    assert report["guard"] == "on" and [len(window["attempts"]) for window in report["attempts"]] == [2, 2]
    first, second = report["attempts"][0]["attempts"]
    assert (first["seed"], first["passed"], second["passed"]) == (7, False, True)
    assert first["depth_edges"] < 0.9 <= second["depth_edges"]
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())


def test_further_tries_may_strengthen_the_adapter_and_say_so(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Blurring(Guard(attempts=3, depth_edges=50.0, strengthen=0.25), good=lambda seed: False)
    report = lift_take(record(9), tmp_path / "out", lifter, seed=7)
    tries = report["attempts"][0]["attempts"]
    assert [attempt["strengthened"] for attempt in tries] == [0.0, 0.25, 0.5]
    assert [call["strengthen"] for call in lifter.calls] == [0.0, 0.25, 0.5]


def test_when_no_try_is_good_the_best_is_taken(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Blurring(Guard(attempts=2, depth_edges=50.0), good=lambda seed: seed == 7)
    report = lift_take(record(9), tmp_path / "out", lifter, seed=7)
    tries = report["attempts"][0]["attempts"]
    assert [attempt["passed"] for attempt in tries] == [False, False]
    images, _ = read_video(tmp_path / "out" / "lifted.mp4")
    assert images[0, 16, 20].min() > 200 and images[0, 2, 2].max() < 60  # the first, which kept the box


def test_without_depth_the_guard_says_that_it_is_off(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Brighter(guard=Guard(attempts=3))
    report = lift_take(record(9, depth=False), tmp_path / "out", lifter)
    assert report["guard"] == "off: the take has no depth" and len(lifter.calls) == 1


def test_the_takes_own_prompt_stands_where_none_is_given(record: Callable[..., Take], tmp_path: Path) -> None:
    take, lifter = record(9), Brighter()
    (take.path / "prompt.txt").write_text("a street\n in the rain \n")
    report = lift_take(take, tmp_path / "own", lifter, negative_prompt="fog")
    assert report["prompt"] == lifter.calls[0]["prompt"] == "a street in the rain"
    assert report["negative_prompt"] == lifter.calls[0]["negative"] == "fog"
    lift_take(take, tmp_path / "given", lifter, prompt="a wood")
    assert lifter.calls[1]["prompt"] == "a wood"
    assert lift_job(take, lifter, (0, 9)) == lift_job(take, lifter, (0, 9), prompt="a street in the rain")


def test_what_is_converted_is_said(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter = Brighter()
    lifter.rules = LiftRules(window=9, overlap=5, frame_step=4, size_multiple=32, max_side=40, frame_rate=24.0)
    assert lift_take(record(9), tmp_path / "out", lifter)["conversion"] == {
        "take": {"size": [48, 32], "frames_per_second": 30.0},
        "model": {
            "size": [40, 27], "filled_to": [64, 32], "window": 9, "overlap": 5, "told_frames_per_second": 24.0,
        },
        "result": {"size": [48, 32], "frames_per_second": 30.0, "times": "the take's"},
    }  # fmt: skip


def test_anchors_reach_the_windows_that_hold_their_frames(record: Callable[..., Take], tmp_path: Path) -> None:
    lifter, stills = Brighter(), {2: picture(2) + 9, 16: picture(16) + 9}
    report = lift_take(record(23), tmp_path / "out", lifter, frames=(1, 23), anchors=stills)
    assert report["anchors"] == [2, 16]
    # Windows of nine that share five: they begin at frames 1, 5, 9, 13 and 17.
    assert [sorted(call["anchors"]) for call in lifter.calls] == [[1], [], [7], [3], []]
    assert all(
        np.array_equal(still, call["clip"][at] + 9) for call in lifter.calls for at, still in call["anchors"].items()
    )


def test_an_anchor_that_has_no_frame_or_another_size_is_one_sentence(
    record: Callable[..., Take], tmp_path: Path
) -> None:
    take = record(9)
    with pytest.raises(LiftError, match="anchor for frame 7, but frames 0:6"):
        lift_take(take, tmp_path / "out", Brighter(), frames=(0, 6), anchors={7: picture(7)})
    with pytest.raises(LiftError, match=r"anchor of frame 3 is uint8 \[16, 48, 3\]"):
        lift_take(take, tmp_path / "out", Brighter(), anchors={3: picture(3)[:16]})


def test_references_are_drawn_from_the_same_frames_where_the_take_has_them(
    record: Callable[..., Take], tmp_path: Path
) -> None:
    lifter, take = Brighter(references=("depth", "normals")), record(13)
    report = lift_take(take, tmp_path / "out", lifter)
    assert report["references"] == ["depth", "normals"]
    for start, call in zip((0, 4), lifter.calls, strict=True):
        for cue, video in call["references"].items():
            assert np.array_equal(video, [draw_cue(take[start + i], cue) for i in range(call["frames"])])
    shutil.rmtree(tmp_path / "take")
    without = Brighter(references=("depth", "normals"))
    report = lift_take(record(9, depth=False), tmp_path / "bare", without)
    assert report["references"] == [] and without.calls[0]["references"] == {}


def test_a_real_model_goes_on_to_the_same_file(record: Callable[..., Take], tmp_path: Path) -> None:
    """Wan, two experts, random weights: the result after an interruption is the same to the byte."""
    base = save_tiny_wan(tmp_path / "base", experts=2).as_posix()
    profile = tmp_path / "mine.toml"
    profile.write_text(f'base = "{base}"\nwindow = 9\noverlap = 5\nmax_side = 64\n[sampling]\nsigmas = [1.0, 0.4]\n')
    take, lifter = record(15), load_lifter(profile)
    lift_take(take, tmp_path / "whole", lifter, seed=2)

    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lift_take(take, tmp_path / "part", lifter, seed=2, progress=stop)
    report = lift_take(take, tmp_path / "part", load_lifter(profile), seed=2)
    assert report["windows_resumed"] >= 1
    assert (tmp_path / "part" / "lifted.mp4").read_bytes() == (tmp_path / "whole" / "lifted.mp4").read_bytes()
    shutil.rmtree(tmp_path / "base")


def test_a_lift_that_was_whole_but_for_its_name_gets_it(record: Callable[..., Take], tmp_path: Path) -> None:
    """A program that is killed between the last two things that it does."""
    take = record(13)
    lift_take(take, tmp_path / ".mine-1.part", Brighter())
    with pytest.raises(Stopped):
        lift_take(take, tmp_path / ".mine-2.part", Brighter(stop_at=1))
    _name_whole_lifts(tmp_path)
    assert (tmp_path / "mine-1" / "lifted.mp4").exists() and not (tmp_path / "mine-2").exists()
