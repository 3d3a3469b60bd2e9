"""The LTX-2 lifter on tiny models of 2.0, 2.3 and 2.5: what the transformer is given, counted and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from safetensors.torch import save_file

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.ltx2 import LTX2Lifter
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2

Calls = list[dict[str, Any]]
VERSIONS = ("2.0", "2.3", "2.5")
TOKENS = 3 * 2 * 3
"""Of a clip of 17 frames of 96x64."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ltx2")
    return {version: save_tiny_ltx2(folder / version, version) for version in VERSIONS}


def write_profile(base: Path, name: str, text: str = "") -> Path:
    path = base.parent / f"{name}.toml"
    path.write_text(f'base = "{base.as_posix()}"\nwindow = 17\noverlap = 9\nmax_side = 96\n{text}\n')
    return path


@pytest.fixture(scope="module")
def lifter(bases: dict[str, Path]) -> LTX2Lifter:
    """Of 2.3, and it may be shown depth and normals too."""
    text = 'references = ["depth", "normals"]\n[sampling]\nsigmas = [1.0, 0.7]\n'
    return load_lifter(write_profile(bases["2.3"], "shown", text))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (17, 64, 96, 3), np.uint8)


@contextmanager
def forwards(lifter: LTX2Lifter) -> Iterator[Calls]:
    """What the transformer is called with."""
    calls: Calls = []
    handle = lifter.pipeline.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


# -- anchors and references


@pytest.mark.parametrize("place", [1, 6, 8, 16])
def test_an_anchor_stands_clean_at_the_time_of_its_frame(lifter: LTX2Lifter, clip: np.ndarray, place: int) -> None:
    with forwards(lifter) as calls:
        lifter.lift(clip, anchors={place: 255 - clip[place]})
    anchor = slice(TOKENS, TOKENS + 6)  # one picture of two by three tokens, before the reference
    for call in calls:
        assert call["hidden_states"].shape[1] == TOKENS + 6 + TOKENS
        seconds = call["video_coords"][0, 0, anchor]
        torch.testing.assert_close(seconds[:, 0], torch.full((6,), place / 24.0))
        torch.testing.assert_close(seconds[:, 1], torch.full((6,), (place + 1) / 24.0))
        assert torch.count_nonzero(call["timestep"][0, anchor]) == 0


def test_an_anchor_at_the_first_frame_takes_its_tokens(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    with forwards(lifter) as calls:
        lifter.lift(clip, anchors={0: 255 - clip[0]})
    assert calls[0]["hidden_states"].shape[1] == 2 * TOKENS
    assert calls[0]["timestep"][0, :6].max() == 0 and calls[0]["timestep"][0, 6:TOKENS].min() > 0


def test_anchors_change_what_comes_out_and_not_what_was_lifted_before(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    usual = lifter.lift(clip)
    anchored = lifter.lift(clip, anchors={0: 255 - clip[0], 16: 255 - clip[16]})
    assert anchored.shape == clip.shape and not np.array_equal(anchored, usual)
    prefix = 255 - clip[:9]
    going_on = lifter.lift(clip, prefix=prefix)
    assert np.array_equal(going_on, lifter.lift(clip, prefix=prefix, anchors={3: clip[3]}))
    assert not np.array_equal(going_on, lifter.lift(clip, prefix=prefix, anchors={12: clip[12]}))


def test_references_stand_beside_the_render_at_its_coordinates(lifter: LTX2Lifter, clip: np.ndarray) -> None:
    with forwards(lifter) as calls:
        usual = lifter.lift(clip)
        shown = lifter.lift(clip, references={"depth": 255 - clip, "normals": clip})
    assert [call["hidden_states"].shape[1] // TOKENS for call in calls] == [2, 2, 4, 4]
    target, *references = calls[2]["video_coords"][0].split(TOKENS, dim=1)
    assert all(torch.equal(target, reference) for reference in references)
    assert not np.array_equal(usual, shown)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"anchors": {17: (64, 96, 3)}}, "no frame 17"),
        ({"anchors": {2: (32, 96, 3)}}, "anchor of frame 2"),
        ({"references": {"edges": (17, 64, 96, 3)}}, "takes no reference 'edges'"),
        ({"references": {"depth": (16, 64, 96, 3)}}, "reference depth must be"),
    ],
)
def test_what_does_not_fit_the_clip_is_named(lifter: LTX2Lifter, clip: np.ndarray, given: Any, said: str) -> None:
    arrays = {
        kind: {key: np.zeros(shape, np.uint8) for key, shape in entries.items()} for kind, entries in given.items()
    }
    with pytest.raises(LiftError, match=said):
        lifter.lift(clip, **arrays)


# -- guidance and sound


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [
        ("", [1, 1]),
        ("guidance_scale = 3.0", [2, 2]),
        ("stg_scale = 1.0\nstg_blocks = [1]", [1, 1, 1, 1]),
        ("guidance_scale = 3.0\nstg_scale = 1.0\nstg_blocks = [1]\nmodality_scale = 3.0\nguidance_rescale = 0.7",
         [2, 1, 1, 2, 1, 1]),
    ],
)  # fmt: skip
def test_each_guidance_costs_its_passes_and_none_costs_none(
    bases: dict[str, Path], clip: np.ndarray, sampling: str, passes: list[int]
) -> None:
    """(samples in) each forward pass of two steps; LTX-2's own defaults would run [2, 1, 1, 2, 1, 1]."""
    lifter = load_lifter(write_profile(bases["2.3"], "guided", f"[sampling]\nsteps = 2\n{sampling}\n"))
    with forwards(lifter) as calls:
        lifter.lift(clip)
    assert [call["hidden_states"].shape[0] for call in calls] == passes


def test_guidance_changes_the_lift_and_the_negative_prompt_takes_part(bases: dict[str, Path], clip: np.ndarray) -> None:
    off, on = (
        load_lifter(write_profile(bases["2.3"], name, f"[sampling]\nsigmas = [1.0, 0.5]\nguidance_scale = {scale}\n"))
        for name, scale in (("off", 1.0), ("on", 30.0))
    )
    assert not np.array_equal(on.lift(clip, "a street"), off.lift(clip, "a street"))
    assert not np.array_equal(on.lift(clip, negative_prompt="a" * 99), on.lift(clip, negative_prompt="fog"))
    assert np.array_equal(off.lift(clip, negative_prompt="a" * 99), off.lift(clip, negative_prompt="fog"))


def test_blocks_that_the_model_has_not_are_named(bases: dict[str, Path]) -> None:
    with pytest.raises(LiftError, match="block 28, but the model has only 2"):
        load_lifter(write_profile(bases["2.3"], "deep", "[sampling]\nstg_scale = 1.0\n"))


def test_sound_costs_one_token_and_has_no_say(bases: dict[str, Path], clip: np.ndarray) -> None:
    lifter = load_lifter(write_profile(bases["2.3"], "silent", "[sampling]\nsigmas = [1.0]\n"))
    assert lifter.pipeline.vocoder is None
    lengths, heard = [], []
    blocks = lifter.pipeline.transformer.transformer_blocks
    blocks[0].register_forward_pre_hook(
        lambda _module, _args, kwargs: lengths.append(kwargs["audio_hidden_states"].shape[1]), with_kwargs=True
    )
    for block in blocks:
        for layer in (block.audio_to_video_attn, block.video_to_audio_attn):
            layer.register_forward_pre_hook(lambda *_: heard.append(1))
    lifter.lift(clip)
    assert lengths == [1] and not heard


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lift_is_what_the_bare_pipeline_gives(bases: dict[str, Path], clip: np.ndarray, version: str) -> None:
    """Prompts that were encoded apart, cut to their own length and kept on disk included."""
    base, sigmas = bases[version], [1.0, 0.8, 0.4]
    pipeline = LTX2InContextPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.register_forward_pre_hook(
        lambda _module, args, kwargs: (args, {**kwargs, "isolate_modalities": True}), with_kwargs=True
    )
    off = {f"{kind}guidance_scale": 1.0 for kind in ("", "audio_")} | {
        f"{kind}{name}": value
        for kind in ("", "audio_")
        for name, value in (("stg_scale", 0.0), ("modality_scale", 1.0), ("guidance_rescale", 0.0))
    }
    frames = pipeline(
        "a wet street", reference_conditions=LTX2ReferenceCondition(clip / np.float32(255)), height=64, width=96,
        num_frames=17, sigmas=sigmas, generator=torch.Generator().manual_seed(3), output_type="np",
        spatio_temporal_guidance_blocks=None, **off,
    ).frames[0]  # fmt: skip
    profile = write_profile(base, f"bare-{version}", f"[sampling]\nsigmas = {sigmas}\n")
    for _ in range(2):  # the second time the prompt comes from the disk
        lifted = load_lifter(profile).lift(clip, "a wet street", seed=3)
        assert np.array_equal(lifted, (frames * 255).round().astype(np.uint8))


# -- adapters

Weights = dict[str, torch.Tensor]


def diffusers_keys(seed: int = 0, rank: int = 4) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for block in range(2):
        for layer, (width_in, width_out) in {"attn1.to_q": (32, 32), "ff.net.2": (128, 32)}.items():
            key = f"transformer.transformer_blocks.{block}.{layer}"
            weights[f"{key}.lora_A.weight"] = torch.randn(rank, width_in, generator=generator)
            weights[f"{key}.lora_B.weight"] = torch.randn(width_out, rank, generator=generator)
    return weights


def trainer_keys() -> Weights:
    """As Lightricks' trainer and ComfyUI have them."""
    return {key.replace("transformer.", "diffusion_model.", 1): weight for key, weight in diffusers_keys().items()}


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_both_forms_of_keys_are_one_adapter_and_strength_0_is_none(
    bases: dict[str, Path], clip: np.ndarray, version: str, tmp_path: Path
) -> None:
    profile = write_profile(bases[version], f"adapted-{version}", "[sampling]\nsigmas = [1.0, 0.6]\n")
    for keys in (diffusers_keys, trainer_keys):
        save_file(keys(), tmp_path / f"{keys.__name__}.safetensors", metadata={"reference_downscale_factor": "2"})
    theirs, ours = (str(tmp_path / f"{keys.__name__}.safetensors") for keys in (trainer_keys, diffusers_keys))
    bare = load_lifter(profile).lift(clip)
    adapted = load_lifter(profile, ours).lift(clip)
    assert not np.array_equal(adapted, bare)
    assert np.array_equal(adapted, load_lifter(profile, theirs).lift(clip))
    assert np.array_equal(bare, load_lifter(profile, ours, lora_scale=0).lift(clip))
    half = load_lifter(profile, ours, lora_scale=0.5).lift(clip)
    assert not np.array_equal(half, adapted) and not np.array_equal(half, bare)


def test_the_reference_is_as_small_as_the_adapter_wants_it(
    bases: dict[str, Path], clip: np.ndarray, tmp_path: Path
) -> None:
    save_file(trainer_keys(), tmp_path / "half.safetensors", metadata={"reference_downscale_factor": "2"})
    lifter = load_lifter(write_profile(bases["2.3"], "small"), str(tmp_path / "half.safetensors"))
    assert lifter.rules.size_multiple == 64
    with forwards(lifter) as calls:
        lifted = lifter.lift(clip, steps=1)
    assert lifted.shape == clip.shape
    target, reference = 3 * 2 * 4, 3 * 1 * 2  # 96x64 is filled up to 128x64
    assert calls[0]["hidden_states"].shape[1] == target + reference
    coordinates = calls[0]["video_coords"][0, 1:].split([target, reference], dim=1)
    assert torch.equal(coordinates[0].amax((1, 2)), coordinates[1].amax((1, 2)))  # over the same picture


# -- two stages


def test_two_stages_enlarge_and_go_on_without_adapter_and_render(
    bases: dict[str, Path], clip: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    upsampler = LTX2LatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)
    upsampler.save_pretrained(tmp_path / "upsampler")
    save_file(diffusers_keys(), tmp_path / "mine.safetensors")
    text = (
        f'[sampling]\nsigmas = [1.0]\n[upscale]\nmodel = "{(tmp_path / "upsampler").as_posix()}"\nsigmas = [0.7, 0.4]\n'
    )
    lifter = load_lifter(write_profile(bases["2.3"], "two", text), str(tmp_path / "mine.safetensors"))
    assert lifter.rules.size_multiple == 64
    steps, adapted = [], []
    layer = lifter.pipeline.transformer.transformer_blocks[0].attn1.to_q
    layer.register_forward_pre_hook(lambda *_: adapted.append(not layer.disable_adapters))
    with forwards(lifter) as calls:
        lifted = lifter.lift(
            clip, prefix=255 - clip[:9], anchors={16: clip[0]}, progress=lambda done, of: steps.append((done, of))
        )
    assert lifted.shape == clip.shape and np.array_equal(lifted[:9], 255 - clip[:9])
    assert steps == [(1, 3), (2, 3), (3, 3)] and adapted == [True, False, False]
    small, large = 3 * 1 * 2, 3 * 2 * 4
    lengths = [call["hidden_states"].shape[1] for call in calls]
    assert lengths == [small + small // 3 + small, large + large // 3, large + large // 3]
    assert not np.array_equal(lifted, lifter.lift(clip, seed=1))


# -- schedules


def test_fewer_steps_are_chosen_among_the_levels_it_was_distilled_at(bases: dict[str, Path], clip: np.ndarray) -> None:
    distilled = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]
    lifter = load_lifter(write_profile(bases["2.5"], "distilled", f"[sampling]\nsigmas = {distilled}\n"))
    for steps, wanted in ((None, distilled), (3, [1.0, 0.975, 0.421875]), (1, [1.0])):
        lifter.lift(clip, steps=steps)
        torch.testing.assert_close(lifter.pipeline.scheduler.sigmas[:-1], torch.tensor(wanted))


def test_levels_that_are_spelt_out_are_not_shifted(tmp_path: Path, clip: np.ndarray) -> None:
    """LTX-2's undistilled models come with a scheduler that shifts by the number of tokens."""
    base = save_tiny_ltx2(tmp_path / "dev")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1).save_pretrained(base / "scheduler")
    for text, shifted in (("sigmas = [1.0, 0.5]", False), ("steps = 2", True)):
        lifter = load_lifter(write_profile(base, "levels", f"[sampling]\n{text}\n"))
        lifter.lift(clip)
        assert (abs(lifter.pipeline.scheduler.sigmas[1].item() - 0.5) > 0.01) == shifted
