"""The Wan lifter on tiny models of the real classes: adapters of both experts, any size and length, few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file

from realmaster.lift import LiftError, lift_long, load_lifter, pipeline_lifter
from realmaster.lift.wan import WanLifter
from tests.realmaster.lift.tiny_wan import save_tiny_wan

LAYERS = {"attn1.to_q": (24, 24), "ffn.net.2": (32, 24)}
"""(in, out) of the layers that the adapters here change."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("wan") / "base", experts=2)


def profile(folder: Path, name: str = "mine", **sampling: object) -> Path:
    lines = "\n".join(f"{key} = {value!r}" for key, value in sampling.items()).replace("'", '"')
    path = folder.parent / f"{name}.toml"
    path.write_text(f'base = "{folder.as_posix()}"\nwindow = 9\noverlap = 5\nmax_side = 64\n[sampling]\n{lines}\n')
    return path


@pytest.fixture(scope="module")
def fast(folder: Path) -> Path:
    """A profile of three steps, over the boundary of the two experts."""
    return profile(folder, "fast", sigmas=[1.0, 0.6, 0.3])


@pytest.fixture(scope="module")
def lifter(fast: Path) -> WanLifter:
    return load_lifter(fast)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), np.uint8)


Weights = dict[str, torch.Tensor]


def trainer_keys(seed: int = 0, rank: int = 2) -> Weights:
    """An adapter in the form of Wan's own repository and most trainers."""
    theirs = {"attn1.to_q": "self_attn.q", "ffn.net.2": "ffn.2"}
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for block in range(2):
        for layer, (width_in, width_out) in LAYERS.items():
            key = f"diffusion_model.blocks.{block}.{theirs[layer]}"
            weights[f"{key}.lora_A.weight"] = torch.randn(rank, width_in, generator=generator)
            weights[f"{key}.lora_B.weight"] = torch.randn(width_out, rank, generator=generator)
    return weights


def diffusers_keys(seed: int = 0, rank: int = 2) -> Weights:
    names = {"diffusion_model": "transformer", "self_attn.q": "attn1.to_q", "ffn.2": "ffn.net.2"}
    renamed = {}
    for key, weight in trainer_keys(seed, rank).items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        renamed[key] = weight
    return renamed


def test_a_bare_folder_is_recognised(folder: Path) -> None:
    lifter = load_lifter(folder)
    assert isinstance(lifter, WanLifter)
    assert (lifter.rules.window, lifter.rules.frame_step, lifter.rules.size_multiple) == (81, 4, 16)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 48), (4, 50, 70), (9, 33, 97), (6, 90, 40)])
def test_any_length_and_size_comes_back_as_it_went_in(lifter: WanLifter, frames: int, height: int, width: int) -> None:
    clip = np.full((frames, height, width, 3), 128, np.uint8)
    assert lifter.lift(clip, steps=1).shape == clip.shape


def test_the_same_seed_gives_the_same_clip_and_another_another(lifter: WanLifter, clip: np.ndarray) -> None:
    first = lifter.lift(clip, seed=1)
    assert np.array_equal(first, lifter.lift(clip, seed=1)) and not np.array_equal(first, lifter.lift(clip, seed=2))


def test_the_lift_depends_on_the_render_and_the_prompt(fast: Path, clip: np.ndarray, tmp_path: Path) -> None:
    save_file(trainer_keys(), tmp_path / "strong.safetensors")  # random weights alone stir less than a grey level
    lifter = load_lifter(fast, lora=str(tmp_path / "strong.safetensors"))
    usual = lifter.lift(clip, "a street")
    assert not np.array_equal(usual, lifter.lift(255 - clip, "a street"))
    assert not np.array_equal(usual, lifter.lift(clip, "a wood"))


def test_both_experts_take_part_and_guidance_that_is_off_costs_nothing(lifter: WanLifter, clip: np.ndarray) -> None:
    passes = []
    handles = [
        expert.register_forward_pre_hook(lambda *_, expert=i: passes.append(expert))
        for i, expert in enumerate(lifter.pipeline.experts)
    ]
    try:
        lifter.lift(clip)
    finally:
        for handle in handles:
            handle.remove()
    assert passes == [0, 0, 1]


def test_progress_and_steps(lifter: WanLifter, clip: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    lifter.lift(clip, steps=2, progress=lambda done, total: calls.append((done, total)))
    lifter.lift(clip, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def test_the_prefix_is_kept_and_windows_chain(lifter: WanLifter, clip: np.ndarray) -> None:
    prefix = 255 - clip[:5]
    continued = lifter.lift(clip, prefix=prefix)
    assert np.array_equal(continued[:5], prefix)
    assert not np.array_equal(continued[5:], lifter.lift(clip)[5:])
    long = np.stack(list(lift_long(lifter, np.concatenate([clip, clip]))))
    assert long.shape == (18, *clip.shape[1:])


def test_an_anchor_at_the_first_frame_is_a_prefix_and_no_other_is_taken(
    lifter: WanLifter, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    encode = lifter.pipeline.encode_video
    monkeypatch.setattr(lifter.pipeline, "encode_video", lambda video: given.append(video) or encode(video))
    lifter.lift(clip, anchors={0: 255 - clip[0]})
    reference, prefix = given
    assert np.array_equal((prefix * 255).round().byte().permute(0, 2, 3, 1)[0], 255 - clip[0]) and len(reference) == 9
    with pytest.raises(LiftError, match="first frame only, not at frame 8"):
        lifter.lift(clip, anchors={8: clip[8]})


def test_further_references_stand_beside_the_render(folder: Path, clip: np.ndarray) -> None:
    path = profile(folder, "shown", sigmas=[1.0])
    path.write_text('references = ["depth"]\n' + path.read_text())
    lifter, tokens = load_lifter(path), []
    handle = lifter.pipeline.transformer.blocks[0].register_forward_pre_hook(
        lambda module, args: tokens.append(args[0].shape[1])
    )
    usual, shown = lifter.lift(clip), lifter.lift(clip, references={"depth": 255 - clip})
    handle.remove()
    assert tokens == [2 * 18, 3 * 18] and usual.shape == shown.shape


@pytest.mark.parametrize("keys", [trainer_keys, diffusers_keys])
def test_an_adapter_changes_the_lift_and_weight_zero_does_not(
    keys: Callable[[], Weights], fast: Path, lifter: WanLifter, clip: np.ndarray, tmp_path: Path
) -> None:
    save_file(keys(), tmp_path / "mine.safetensors")
    adapted = load_lifter(fast, lora=str(tmp_path / "mine.safetensors"))
    bare = lifter.lift(clip)
    assert not np.array_equal(adapted.lift(clip), bare)
    silent, adapter = tmp_path / "silent.toml", (tmp_path / "mine.safetensors").as_posix()
    silent.write_text(f'adapter_weight = 0.0\nadapter = "{adapter}"\n' + fast.read_text())
    assert np.array_equal(load_lifter(silent).lift(clip), bare)


def test_both_forms_of_keys_are_one_adapter(fast: Path, clip: np.ndarray, tmp_path: Path) -> None:
    lifts = []
    for keys in (trainer_keys, diffusers_keys):
        file = tmp_path / f"{keys.__name__}.safetensors"
        save_file(keys(), file)
        lifts.append(load_lifter(fast, lora=str(file)).lift(clip))
    assert np.array_equal(*lifts)


def test_each_expert_has_its_own_file(fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_lifter, "fuse", lambda pipeline: [])
    save_file(trainer_keys(1), tmp_path / "street_HIGH_noise.safetensors")
    save_file(trainer_keys(2), tmp_path / "street_low_noise.safetensors")
    high, low = load_lifter(fast, lora=str(tmp_path)).pipeline.experts
    for expert, seed in ((high, 1), (low, 2)):
        loaded = expert.blocks[1].ffn.net[2].lora_A["lift"].weight
        assert torch.equal(loaded, trainer_keys(seed)["diffusion_model.blocks.1.ffn.2.lora_A.weight"])


def test_a_folder_of_many_files_is_asked_about(fast: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file(trainer_keys(), tmp_path / f"{name}.safetensors")
    with pytest.raises(LiftError, match="one.safetensors, two.safetensors"):
        load_lifter(fast, lora=str(tmp_path))


def test_the_downscale_factor_comes_from_the_adapters_own_metadata(
    fast: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    save_file(trainer_keys(), tmp_path / "half.safetensors", metadata={"reference_downscale_factor": "2"})
    half = load_lifter(fast, lora=str(tmp_path / "half.safetensors"))
    assert half.reference_downscale == 2 and half.rules.size_multiple == 32
    tokens = []
    handle = half.pipeline.transformer.blocks[0].register_forward_pre_hook(
        lambda module, args: tokens.append(args[0].shape[1])
    )
    half.lift(clip, steps=1)
    handle.remove()
    assert tokens == [3 * 2 * 4 + 3 * 1 * 2]  # 32x64 target patches and a quarter as many of the reference
    save_file(trainer_keys(), tmp_path / "other_low_noise.safetensors", metadata={"reference_downscale_factor": "4"})
    (tmp_path / "half.safetensors").rename(tmp_path / "other_high_noise.safetensors")
    with pytest.raises(LiftError, match="different reference downscale"):
        load_lifter(fast, lora=str(tmp_path))


def test_the_profile_chooses_the_solver_and_its_shift(folder: Path) -> None:
    few = load_lifter(profile(folder, "few", solver="euler", flow_shift=5.0, steps=4))
    assert isinstance(few.pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    assert few.pipeline.scheduler.config.shift == 5.0
    own = load_lifter(profile(folder, "own", flow_shift=8.0))
    assert own.pipeline.scheduler.config.flow_shift == 8.0
    assert own.lift(np.zeros((1, 32, 32, 3), np.uint8), steps=2).shape == (1, 32, 32, 3)


def test_levels_that_are_spelt_out_are_used_as_they_stand(lifter: WanLifter, clip: np.ndarray) -> None:
    lifter.lift(clip)
    assert lifter.pipeline.scheduler.timesteps.tolist() == [999, 600, 300]


@pytest.mark.parametrize("name", ["foreign", "larger"])
def test_an_adapter_of_another_model_is_one_sentence(fast: Path, tmp_path: Path, name: str) -> None:
    layer = "transformer.blocks.0"
    weights = {f"{layer}.lora_A.weight": torch.zeros(4, 7), f"{layer}.lora_B.weight": torch.zeros(7, 4)}
    if name == "larger":
        weights = {key: torch.zeros(3, 3) for key in trainer_keys()}
    save_file(weights, tmp_path / f"{name}.safetensors")
    with pytest.raises(LiftError, match="adapter") as error:
        load_lifter(fast, lora=str(tmp_path / f"{name}.safetensors"))
    assert "\n" not in str(error.value)


def test_a_model_of_another_kind_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(LiftError, match="is a FluxPipeline"):
        load_lifter(tmp_path)


def test_a_strengthened_adapter_weighs_more_for_one_clip(fast: Path, clip: np.ndarray, tmp_path: Path) -> None:
    save_file(trainer_keys(), tmp_path / "mine.safetensors")
    lora = str(tmp_path / "mine.safetensors")
    lifter = load_lifter(fast, lora, lora_scale=0.5)
    usual = lifter.lift(clip)
    stronger = lifter.lift(clip, strengthen=0.25)
    assert not np.array_equal(stronger, usual) and np.array_equal(lifter.lift(clip), usual)
    assert np.array_equal(stronger, load_lifter(fast, lora, lora_scale=0.75).lift(clip))
    bare = load_lifter(fast)
    assert np.array_equal(bare.lift(clip, strengthen=0.5), bare.lift(clip))


def test_a_guard_has_nothing_to_strengthen_without_an_adapter(folder: Path, fast: Path, tmp_path: Path) -> None:
    guarded = fast.with_name("guarded.toml")
    guarded.write_text(fast.read_text() + "\n[guard]\nstrengthen = 0.2\n")
    save_file(trainer_keys(), tmp_path / "mine.safetensors")
    strengthen = [load_lifter(guarded, lora).guard.strengthen for lora in (None, str(tmp_path / "mine.safetensors"))]
    assert strengthen == [0.0, 0.2]
