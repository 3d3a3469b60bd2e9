"""VACE as a lifter: from cues, with the frames before kept; and the cues themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Frame
from realmaster.lift import LiftError, load_lifter
from realmaster.lift.cues import draw_cue
from realmaster.lift.vace import VACELifter
from tests.realmaster.lift.tiny_wan import save_tiny_vace


@pytest.fixture(scope="module")
def lifter(tmp_path_factory: pytest.TempPathFactory) -> VACELifter:
    return load_lifter(save_tiny_vace(tmp_path_factory.mktemp("vace") / "model"))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), np.uint8)


def test_a_bare_folder_lifts_from_edges(lifter: VACELifter) -> None:
    assert (lifter.cue, lifter.rules.window, lifter.rules.frame_step) == ("edges", 81, 4)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 48), (6, 50, 70)])
def test_any_length_and_size_comes_back_as_it_went_in(lifter: VACELifter, frames: int, height: int, width: int) -> None:
    clip = np.full((frames, height, width, 3), 128, np.uint8)
    assert lifter.lift(clip, steps=1).shape == clip.shape


@pytest.fixture
def seen(lifter: VACELifter, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The control video and the masks that the pipeline is given."""
    seen: dict[str, Any] = {}
    prepare = lifter.pipeline.preprocess_conditions

    def spy(video, mask, *args, **kwargs):
        seen["video"] = np.stack([np.asarray(picture) for picture in video])
        seen["mask"] = [np.asarray(picture) for picture in mask]
        return prepare(video, mask, *args, **kwargs)

    monkeypatch.setattr(lifter.pipeline, "preprocess_conditions", spy)
    return seen


def test_it_is_told_what_to_keep_and_what_to_make(lifter: VACELifter, clip: np.ndarray, seen: dict[str, Any]) -> None:
    prefix = 255 - clip[:5]
    lifted = lifter.lift(clip, steps=1, prefix=prefix)
    assert np.array_equal(lifted[:5], prefix)
    assert np.array_equal(seen["video"], np.concatenate([prefix, clip[5:]]))
    assert [sorted(np.unique(mask)) for mask in seen["mask"]] == [[0]] * 5 + [[255]] * 4


def test_anchors_are_kept_and_the_cues_between_them_made(
    lifter: VACELifter, clip: np.ndarray, seen: dict[str, Any]
) -> None:
    first, last = 255 - clip[0], 255 - clip[8]
    lifted = lifter.lift(clip, steps=1, anchors={0: first, 8: last})
    assert lifted.shape == clip.shape
    assert np.array_equal(seen["video"], np.stack([first, *clip[1:8], last]))
    assert [sorted(np.unique(mask)) for mask in seen["mask"]] == [[0]] + [[255]] * 7 + [[0]]


def test_it_is_shown_one_cue(lifter: VACELifter, tmp_path: Path) -> None:
    profile = tmp_path / "two.toml"
    profile.write_text(f'base = "{Path(lifter.profile.base).as_posix()}"\ncue = "edges"\nreferences = ["depth"]\n')
    with pytest.raises(LiftError, match="shown one cue"):
        load_lifter(profile)


def test_progress_counts_steps(lifter: VACELifter, clip: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    lifter.lift(clip, steps=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


# -- cues


def frame(depth: np.ndarray | None, normal: np.ndarray | None = None) -> Frame:
    color = np.zeros((24, 32, 3), np.uint8) if normal is None else np.zeros(normal.shape, np.uint8)
    channels = {"color": Channel(Descriptor("color", "uint8", color.shape), color, 0)}
    if depth is not None:
        channels["depth"] = Channel(Descriptor("depth", "float32", depth.shape), depth, 0)
    if normal is not None:
        channels["normal"] = Channel(Descriptor("normal", "float32", normal.shape), normal, 0)
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, color.shape[1], color.shape[0])
    return Frame(index=0, serial=0, time=0.0, camera=camera, channels=channels, conventions=Conventions())


def test_edges_are_drawn_where_depth_breaks_off_and_nowhere_else() -> None:
    depth = np.full((24, 32), 10.0, np.float32)
    depth[6:18, 8:24] = 4.0
    cue = draw_cue(frame(depth), "edges")
    assert cue.shape == (24, 32, 3) and set(np.unique(cue)) == {0, 255}
    assert cue[5:7, 12].max() == 255 and cue[12, 16].max() == 0 and cue[2, 2].max() == 0


def test_depth_is_drawn_near_bright_far_dark_on_one_scale() -> None:
    depth = np.full((24, 32), np.inf, np.float32)
    depth[:, 8:16], depth[:, 16:24], depth[:, 24:] = 100.0, 10.0, 0.5
    cue = draw_cue(frame(depth), "depth")[0, :, 0]
    assert cue[0] == 0 and cue[31] == 255
    assert cue[8] == round(255 * np.log(2) / np.log(400)) and abs(int(cue[20]) - 255 / 2) < 1


def test_normals_are_drawn_as_normal_maps_are() -> None:
    """A wall that faces the viewer is light blue, the ground green, a wall to the right (facing left) dark in red."""
    normal = np.zeros((4, 4, 3), np.float32)
    normal[0], normal[1], normal[2] = (0, 0, -1), (0, -1, 0), (-1, 0, 0)
    drawn = draw_cue(frame(None, normal), "normals")
    assert drawn[:, 0].tolist() == [[128, 128, 255], [128, 255, 128], [0, 128, 128], [0, 0, 0]]


def test_without_depth_there_is_no_cue() -> None:
    with pytest.raises(LiftError, match="has no depth"):
        draw_cue(frame(None), "edges")
    assert draw_cue(frame(None), "color").shape == (24, 32, 3)
