"""The LTX-2 lifter with the weights that ship: real pipeline class, real sampling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LTX2InContextPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from realmaster import load_lifter
from realmaster.lift import LiftError, lift_long, pipeline_lifter
from realmaster.lift.lifter import Guard
from realmaster.lift.loading import lifter_of
from realmaster.lift.ltx2 import LTX2Lifter
from realmaster.lift.profiles import load_profile


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in windows of nine frames, as video models are used; its own profile lifts still by still."""
    profile = load_profile("embedded")
    base, adapter = (Path(path).as_posix() for path in (profile.base, str(profile.adapter)))
    path = tmp_path_factory.mktemp("profile") / "windowed.toml"
    path.write_text(
        f'base = "{base}"\nadapter = "{adapter}"\nwindow = 9\noverlap = 1\nmax_side = 320\n'
        "[sampling]\nsigmas = [1.0, 0.7]\n"
    )
    return path


@pytest.fixture(scope="module")
def lifter(windowed: Path) -> LTX2Lifter:
    return load_lifter(windowed)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 220, (1, 4, 6, 3), dtype=np.uint8)
    return np.broadcast_to(blocks.repeat(16, 1).repeat(16, 2), (9, 64, 96, 3)).copy()


def test_the_class_is_diffusers_own_with_a_peft_adapter(lifter: LTX2Lifter) -> None:
    assert isinstance(lifter.pipeline, LTX2InContextPipeline)
    assert lifter._fused and all(isinstance(layer, LoraLayer) for layer in lifter._fused)
    assert all(parameter.dtype == torch.float32 for parameter in lifter.pipeline.transformer.parameters())


def test_the_same_seed_gives_the_same_clip_and_another_another(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    first = lifter.lift(clip, seed=1)
    assert first.dtype == np.uint8 and first.shape == clip.shape
    assert np.array_equal(first, lifter.lift(clip, seed=1))
    assert not np.array_equal(first, lifter.lift(clip, seed=2))


def test_the_lift_depends_on_the_render(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    other = lifter.lift(clip[:, ::-1, ::-1].copy(), seed=0)
    same = lifter.lift(clip, seed=0)
    difference = np.abs(same.astype(int) - other).mean()
    flipped_back = np.abs(same.astype(int) - other[:, ::-1, ::-1]).mean()
    assert flipped_back < difference  # it follows the picture, not the place


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 64, 96), (4, 50, 70), (9, 33, 97), (7, 180, 400)])
def test_any_length_and_size_comes_back_as_it_went_in(lifter: LTX2Lifter, frames: int, height: int, width: int) -> None:
    clip = np.full((frames, height, width, 3), 128, np.uint8)
    assert lifter.lift(clip, steps=1).shape == clip.shape


def test_the_prefix_is_kept_and_the_rest_goes_on_from_it(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    usual = lifter.lift(clip, seed=0)
    prefix = np.clip(usual[:1].astype(int) + 60, 0, 255).astype(np.uint8)  # a brighter past
    continued = lifter.lift(clip, seed=0, prefix=prefix)
    assert np.array_equal(continued[:1], prefix)
    assert continued[1].mean() > usual[1].mean()


def test_steps_and_progress(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    lifter.lift(clip, steps=3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_one_forward_pass_a_step(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    """Guidance that is off is really off: LTX-2's defaults would run three passes, doubled."""
    batches = []
    handle = lifter.pipeline.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: batches.append(kwargs["hidden_states"].shape[0]), with_kwargs=True
    )
    try:
        lifter.lift(clip, steps=2)
    finally:
        handle.remove()
    assert batches == [1, 1]


def test_the_adapter_is_what_lifts(lifter: LTX2Lifter, windowed: Path, clip: np.ndarray) -> None:
    without = load_lifter(windowed, lora="none")
    assert not without._fused
    assert not np.array_equal(without.lift(clip, seed=0), lifter.lift(clip, seed=0))


def test_an_adapter_that_is_part_of_the_weights_lifts_as_one_beside_them(
    lifter: LTX2Lifter, windowed: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = lifter.pipeline.transformer.transformer_blocks[0].attn1.to_q
    assert type(layer) is torch.nn.Linear  # it costs nothing
    monkeypatch.setattr(pipeline_lifter, "fuse", lambda pipeline: [])
    beside = load_lifter(windowed)
    assert list(beside.pipeline.transformer.peft_config) == ["lift"]
    before = lifter.lift(clip, seed=0)
    for by in (0.0, 0.5, 1.5):  # the last is more than an adapter may weigh
        difference = np.abs(lifter.lift(clip, strengthen=by).astype(int) - beside.lift(clip, strengthen=by))
        assert difference.max() <= 1 and difference.mean() < 0.01
    assert not np.array_equal(lifter.lift(clip, strengthen=0.5), before)
    assert np.array_equal(lifter.lift(clip), before)


def test_frames_that_stand_alone_are_lifted_side_by_side_to_the_same_pictures() -> None:
    lifter, threads = load_lifter("embedded", device="cpu"), torch.get_num_threads()
    frames = np.random.default_rng(1).integers(0, 255, (7, 64, 96, 3), np.uint8)
    lifts = []
    try:
        for lanes in (1, 2, 3):
            torch.set_num_threads(lanes)
            assert len(lifter.lanes()) == lanes
            lifts.append(np.stack(list(lift_long(lifter, frames, seed=5, steps=2))))
            assert torch.get_num_threads() == lanes
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(lifts[0], lifts[1]) and np.array_equal(lifts[0], lifts[2])
    assert len(np.unique(lifts[0].reshape(7, -1), axis=0)) == 7


def test_what_cannot_be_lifted_side_by_side_is_not(lifter: LTX2Lifter) -> None:
    profile = load_profile("embedded")
    profile.guard = Guard(strengthen=0.2)
    assert lifter.lanes() == [lifter]  # frames of a window belong together
    for alone in (lifter_of(profile, "cpu"), load_lifter("embedded", device="cpu", memory="low")):
        assert alone.lanes() == [alone]
        assert alone.lift(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 32, 48, 3)


def test_a_folder_in_diffusers_layout_is_a_model(clip: np.ndarray) -> None:
    folder = Path(load_profile("embedded").base)
    bare = load_lifter(folder)
    without = load_lifter("embedded", lora="none")
    assert np.array_equal(bare.lift(clip[:1], seed=3, steps=1), without.lift(clip[:1], seed=3, steps=1))


def test_bad_weights_are_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(load_profile("embedded").base, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(LiftError, match="does not load") as error:
        load_lifter(folder)
    assert "\n" not in str(error.value)


def test_a_folder_cannot_choose_what_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(load_profile("embedded").base, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["antigravity", "Thing"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(LiftError, match="does not load"):
        load_lifter(folder)
    import sys

    assert "antigravity" not in sys.modules


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(load_profile("embedded").base, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "transformer" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(LiftError, match="is a pickle"):
        load_lifter(folder)


@pytest.mark.parametrize("lora", ["missing.safetensors", "foreign.safetensors", "text.safetensors"])
def test_an_adapter_that_does_not_fit_is_one_sentence(tmp_path: Path, lora: str) -> None:
    layer = "transformer.blocks.0"
    foreign = {f"{layer}.lora_A.weight": torch.zeros(4, 7), f"{layer}.lora_B.weight": torch.zeros(7, 4)}
    save_file(foreign, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(LiftError, match="adapter") as error:
        load_lifter("embedded", lora=str(tmp_path / lora))
    assert "\n" not in str(error.value)


def test_the_downscale_factor_comes_from_the_adapters_own_metadata(
    tmp_path: Path, windowed: Path, lifter: LTX2Lifter
) -> None:
    source = Path(load_profile("embedded").adapter) / "pytorch_lora_weights.safetensors"
    save_file(load_file(source), tmp_path / "half.safetensors", metadata={"reference_downscale_factor": "2"})
    half = load_lifter(windowed, lora=str(tmp_path / "half.safetensors"))
    assert half.reference_downscale == 2 and half.rules.size_multiple == 2 * lifter.rules.size_multiple
    assert half.lift(np.full((5, 64, 64, 3), 90, np.uint8), steps=1).shape == (5, 64, 64, 3)


@pytest.mark.parametrize(
    "clip", [np.zeros((9, 32, 32, 3), np.float32), np.zeros((9, 32, 32), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)]
)
def test_what_is_no_clip_is_refused(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    with pytest.raises(LiftError):
        lifter.lift(clip)
