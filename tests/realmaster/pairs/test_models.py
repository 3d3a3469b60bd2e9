"""Editors and propagators on the real pipeline classes with tiny weights: what they are shown, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from capture.take import Take
from realmaster.lift import LiftRules
from realmaster.lift.cues import draw_cue
from realmaster.pairs import propagators
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.editors import PipelineEditor, load_editor
from realmaster.pairs.plan import make_job, make_plan
from realmaster.pairs.propagators import LifterPropagator, anchor_places, load_propagator, match_ends
from realmaster.pairs.run import make_pairs
from realmaster.pairs.settings import PairsError, Settings, keeping_all, load_settings, with_steps
from realmaster.pairs.stages import Worker
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_vace
from tests.realmaster.pairs.city_takes import city_take
from tests.realmaster.pairs.tiny_editors import save_tiny_klein, save_tiny_kontext, save_tiny_qwen_edit

PICTURE = np.random.default_rng(0).integers(0, 255, (74, 106, 3), np.uint8)
STYLE = 255 - PICTURE


def few_steps() -> Settings:
    """Random weights make no photographs: nothing is asked of what they make, and two steps are enough."""
    loaded = keeping_all(with_steps(load_settings(), 2))
    return loaded.model_copy(update={"clips": loaded.clips.model_copy(update={"frames": 9, "most": 1})})


@pytest.fixture(autouse=True)
def small_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen's pipeline enlarges whatever it is shown to a megapixel."""
    for name in ("CONDITION_IMAGE_SIZE", "VAE_IMAGE_SIZE"):
        monkeypatch.setattr(pipeline_qwenimage_edit_plus, name, 64 * 64)


def spied(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, instead: Callable[..., Any] | None = None
) -> list[dict[str, Any]]:
    """The keyword arguments of every call of a pipeline's method, which `instead` may take the place of."""
    calls: list[dict[str, Any]] = []
    original = getattr(owner, name)

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(self, *args, **kwargs) if instead is None else instead(**kwargs)

    monkeypatch.setattr(owner, name, spy)
    return calls


@pytest.mark.parametrize(("save", "pictures"), [(save_tiny_qwen_edit, 2), (save_tiny_klein, 2), (save_tiny_kontext, 1)])
def test_an_editor_is_shown_the_still_and_where_it_can_the_style(
    save: Callable[[Path], Path], pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = load_editor(str(save(tmp_path / "model")), few_steps())
    assert isinstance(editor, PipelineEditor)
    calls = spied(monkeypatch, type(editor.pipeline), "__call__")
    first = editor.edit(PICTURE, "A street.", 5)
    again, other = editor.edit(PICTURE, "A street.", 5), editor.edit(PICTURE, "A street.", 6)
    styled = editor.edit(PICTURE, "A street.", 5, STYLE)
    assert first.shape == styled.shape == PICTURE.shape and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    shown = [call["image"] if isinstance(call["image"], list) else [call["image"]] for call in calls]
    assert [len(images) for images in shown] == [1, 1, 1, pictures]
    assert (shown[0][0].width, shown[0][0].height) == (calls[0]["width"], calls[0]["height"])
    assert abs(np.asarray(shown[0][0]).mean() - PICTURE.mean()) < 2
    if pictures == 2:
        assert abs(np.asarray(shown[3][1]).mean() - STYLE.mean()) < 2 and "image 2" in calls[3]["prompt"]
    assert calls[0]["num_inference_steps"] == 2 and calls[0]["prompt"].endswith("A street.")


def test_a_large_picture_is_edited_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = few_steps()
    entry = settings.editors["qwen-image-edit"].model_copy(update={"max_pixels": 32 * 48})
    settings = settings.model_copy(update={"editors": {"qwen-image-edit": entry}})
    editor = load_editor(str(save_tiny_qwen_edit(tmp_path / "model")), settings)
    calls = spied(monkeypatch, type(editor.pipeline), "__call__")
    assert editor.edit(PICTURE, "", 0).shape == PICTURE.shape
    assert calls[0]["width"] * calls[0]["height"] <= 32 * 48 * 1.1


def test_an_editor_that_does_not_fit_the_card_waits_in_main_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def to(self: Any, place: Any) -> None:
        places.append(str(place))
        if str(place) == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(QwenImageEditPlusPipeline, "to", to)
    fetching = spied(monkeypatch, QwenImageEditPlusPipeline, "enable_model_cpu_offload", instead=lambda **_: None)
    load_editor(str(save_tiny_qwen_edit(tmp_path / "model")), few_steps(), device="cuda")
    assert places == ["cuda", "cpu"] and [str(call["device"]) for call in fetching] == ["cuda"]


def test_folders_that_edit_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="There is no editor"):
        load_editor(str(tmp_path), load_settings())
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(PairsError, match="is a WanPipeline, which edits no pictures"):
        load_editor(str(tmp_path), load_settings())
    (tmp_path / "model_index.json").write_text('{"_class_name": "QwenImageEditPlusPipeline"}')
    with pytest.raises(PairsError, match="does not load|cannot"):
        load_editor(str(tmp_path), load_settings())


# -- the whole way


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    return city_take(tmp_path_factory.mktemp("takes") / "street", 9, size=(96, 64))


def made(take: Take, out: Path, propagator: Path) -> tuple[Worker, Dataset, dict[int, np.ndarray]]:
    """A pair of the take by tiny Qwen and `propagator`, and the anchors that were propagated."""
    editor = save_tiny_qwen_edit(out.parent / "qwen")
    job = make_job(out, str(editor), str(propagator), few_steps())
    dataset = Dataset(out)
    dataset.begin(job.about, resume=False)
    plan, worker = make_plan([take], job), Worker(job)
    assert worker.run("edit", plan.clips[0]) == "propagate"
    _, stills = dataset.load_arrays(plan.clips[0].id, "anchors") or ({}, {})
    anchors = {int(name.removeprefix("at")): still for name, still in stills.items()}
    assert sorted(anchors) == [0, 8]
    make_pairs(plan, job)
    return worker, dataset, anchors


def test_vace_is_given_the_anchors_unmasked_and_the_edges_between_them_masked(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import WanVACEPipeline

    calls = spied(monkeypatch, WanVACEPipeline, "__call__")
    _, dataset, anchors = made(take, tmp_path / "d", save_tiny_vace(tmp_path / "vace"))
    video = np.stack([np.asarray(picture) for picture in calls[0]["video"]])
    masks = np.stack([np.asarray(mask.convert("L")) for mask in calls[0]["mask"]])
    edges = np.stack([draw_cue(frame, "edges") for frame in take])
    assert len(calls) == 1 and video.shape == (9, 64, 96, 3)
    for place, frame in enumerate(video):
        if place in (0, 8):
            assert np.array_equal(frame, anchors[place]) and not masks[place].any()
        else:
            assert np.array_equal(frame, edges[place]) and (masks[place] == 255).all()
    pair = dataset.pairs()[0]
    assert "road" in pair["caption"] and calls[0].get("prompt", pair["caption"]).endswith(pair["caption"])
    assert (pair["provenance"]["editor"], pair["provenance"]["propagator"]) == ("qwen", "vace")
    assert str(tmp_path) not in (dataset.path / "README.md").read_text()  # it may be given away


def test_ltx2_is_given_the_anchors_as_keyframes_and_the_edges_as_reference(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import LTX2InContextPipeline

    profile = tmp_path / "union.toml"
    base = save_tiny_ltx2(tmp_path / "ltx2")
    profile.write_text(f'family = "ltx2"\nbase = {json.dumps(str(base))}\ncue = "edges"\nwindow = 9\noverlap = 1\n'
                       "[sampling]\nsteps = 30\n")  # fmt: skip
    calls = spied(monkeypatch, LTX2InContextPipeline, "__call__")
    _, _, anchors = made(take, tmp_path / "d", profile)
    assert calls[0]["num_inference_steps"] == 2
    reference = np.asarray(calls[0]["reference_conditions"][0].frames)
    edges = np.stack([draw_cue(frame, "edges") for frame in take]) / 255
    assert np.abs(reference[:, :64, :96] - edges).max() < 0.01
    keyframes = {condition.index: np.asarray(condition.frames) for condition in calls[0]["conditions"]}
    last = 1 + 7 / 8  # counted in latent frames, of which the second shows pictures 1 to 8
    assert sorted(keyframes) == [0, last]
    for index, place in ((0, 0), (last, 8)):
        assert np.array_equal(keyframes[index].reshape(-1, *keyframes[index].shape[-3:])[0][:64, :96], anchors[place])


# -- chaining


class Recorder:
    """A lifter that notes what it is given and answers with flat pictures, a little darker than its anchors."""

    name, cue, references, guard = "recorder", "edges", (), None
    rules = LiftRules(window=9, overlap=1, frame_step=4, size_multiple=1, max_side=64)
    settings: dict[str, Any] = {}

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def lanes(self):
        return [self]

    def lift(self, clip, prompt="", seed=0, prefix=None, steps=None, progress=None, *, anchors=None, references=None):
        self.calls.append({"frames": len(clip), "prefix": prefix, "anchors": dict(anchors or {})})
        last = (anchors or {})[len(clip) - 1]
        video = np.stack([last - np.uint8(20)] * len(clip))
        if prefix is not None:
            video[: len(prefix)] = prefix
        return video


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "places"),
    [(9, 9, 1, [0, 8]), (5, 9, 1, [0, 4]), (17, 9, 1, [0, 8, 16]), (20, 9, 3, [0, 8, 14, 19]), (1, 9, 1, [0])],
)
def test_every_window_ends_in_an_anchor(frames: int, window: int, overlap: int, places: list[int]) -> None:
    assert anchor_places(frames, window, overlap) == places


def test_long_clips_are_chained_and_match_the_colours_of_their_anchors() -> None:
    recorder = Recorder()
    stills = {0: np.full((8, 8, 3), 100, np.uint8), 8: np.full((8, 8, 3), 120, np.uint8),
              16: np.full((8, 8, 3), 160, np.uint8)}  # fmt: skip
    video = LifterPropagator(recorder).propagate({"edges": np.zeros((17, 8, 8, 3), np.uint8)}, stills, "", 0)
    assert [call["frames"] for call in recorder.calls] == [9, 9]
    assert [sorted(call["anchors"]) for call in recorder.calls] == [[0, 8], [8]]
    assert np.array_equal(recorder.calls[1]["prefix"], video[8:9])
    assert [int(video[place].mean()) for place in (0, 8, 16)] == [100, 120, 160]
    assert (np.diff(video.mean((1, 2, 3))[:9]) > 0).all()  # evenly from one end's correction to the other's


def test_colours_that_fit_are_left_alone() -> None:
    video = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8)
    assert match_ends(video, video[0], video[-1]) is video


def test_the_embedded_propagator_is_the_base_without_its_adapter() -> None:
    settings = load_settings()
    profile = propagators.propagator_profile("embedded", settings)
    assert (profile.adapter, profile.cue) == (None, "geometry")
    propagator = load_propagator("embedded", settings)
    places = anchor_places(9, profile.window, profile.overlap)
    stills = dict.fromkeys(places, np.full((32, 64, 3), 90, np.uint8))
    video = propagator.propagate({"geometry": np.zeros((9, 32, 64, 3), np.uint8)}, stills, "", 0)
    assert video.shape == (9, 32, 64, 3) and not propagator.lifter.pipeline.get_list_adapters()
