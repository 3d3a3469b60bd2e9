"""Wan in context: what the docstring's mathematics promises, on the real classes with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from torch import Tensor

from realmaster.lift.wan_in_context import (
    WanContext,
    WanInContextPipeline,
    WanInContextTransformer3DModel,
    WanReference,
    in_context,
)
from tests.realmaster.lift.tiny_wan import save_tiny_wan, tiny_wan

CALL: dict[str, Any] = {"prompt": "a street", "height": 32, "width": 48, "num_frames": 9, "output_type": "pt"}
LATENTS = (2, 16, 3, 4, 6)


@pytest.fixture(scope="module", params=[1, 2], ids=["wan 2.1", "wan 2.2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("wan") / "model", request.param)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> WanInContextPipeline:
    loaded = WanInContextPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def transformer() -> WanInContextTransformer3DModel:
    return in_context(tiny_wan().transformer)


@pytest.fixture
def video() -> Tensor:
    return torch.rand(9, 3, 32, 48, generator=torch.Generator().manual_seed(5))


def run(pipeline: WanPipeline, seed: int = 3, steps: int = 3, **options: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    settings = CALL | {"num_inference_steps": steps, "guidance_scale": 1.0} | options
    return pipeline(generator=generator, **settings).frames


def velocity(model: WanInContextTransformer3DModel, context: WanContext | None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(LATENTS, generator=generator)
    text = torch.randn(2, 7, 32, generator=generator)
    times = torch.tensor([500.0, 900.0])
    with torch.no_grad():
        if context is None:
            return model(states, times, text, return_dict=False)[0]
        with model.given(context):
            return model(states, times, text, return_dict=False)[0]


def referring(*references: tuple[Tensor, int, float]) -> WanContext:
    return WanContext(references, tuple(torch.zeros_like(latents) for latents, _, _ in references))


def latents(shape: Sequence[int] = (1, *LATENTS[1:]), seed: int = 1) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


# -- without a context it is plain Wan


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_without_references_it_is_plain_wan_to_the_bit(
    folder: Path, pipeline: WanInContextPipeline, guidance: float
) -> None:
    plain = WanPipeline.from_pretrained(folder)
    plain.set_progress_bar_config(disable=True)
    options = {"guidance_scale": guidance, "negative_prompt": "grey"}
    assert torch.equal(run(pipeline, **options), run(plain, **options))


def test_an_empty_context_changes_nothing(transformer: WanInContextTransformer3DModel) -> None:
    torch.testing.assert_close(velocity(transformer, WanContext()), velocity(transformer, None), rtol=0, atol=1e-6)


def test_the_context_ends_with_the_call(pipeline: WanInContextPipeline, video: Tensor) -> None:
    before = run(pipeline)
    run(pipeline, references=[WanReference(video)])
    with pytest.raises(ValueError, match="divisible"):
        run(pipeline, references=[WanReference(video)], height=33)
    assert torch.equal(run(pipeline), before)


# -- positions


def test_a_reference_has_the_positions_of_the_target(transformer: WanInContextTransformer3DModel) -> None:
    rope = transformer.rope(torch.zeros(LATENTS))
    for ours, theirs in zip(transformer.positions(LATENTS), rope, strict=True):
        assert torch.equal(ours, theirs)


def test_a_smaller_reference_counts_in_steps(transformer: WanInContextTransformer3DModel) -> None:
    """A reference of half the size has the positions of every other row and column of the target's patches."""
    full = [part.view(3, 4, 6, 12) for part in transformer.positions((1, 16, 3, 8, 12))]
    half = [part.view(3, 2, 3, 12) for part in transformer.positions((1, 16, 3, 4, 6), downscale=2)]
    for ours, theirs in zip(half, full, strict=True):
        assert torch.equal(ours, theirs[:, ::2, ::2])


def test_the_order_of_references_does_not_matter(transformer: WanInContextTransformer3DModel) -> None:
    whole, half = (latents(), 1, 1.0), (latents((1, 16, 3, 2, 4), 2)[..., :2], 2, 1.0)
    first = velocity(transformer, referring(whole, half))
    torch.testing.assert_close(first, velocity(transformer, referring(half, whole)), rtol=0, atol=1e-6)


def test_where_a_reference_stands_does_matter(transformer: WanInContextTransformer3DModel) -> None:
    """Were positions ignored, the tokens of a mirrored reference would be the same set."""
    patches = latents().unflatten(-1, (3, 2)).flip(-2).flatten(-2)
    there, mirrored = (velocity(transformer, referring((video, 1, 1.0))) for video in (latents(), patches))
    assert (there - mirrored).abs().max() > 1e-4


def test_positions_beyond_the_models_are_refused(transformer: WanInContextTransformer3DModel) -> None:
    with pytest.raises(ValueError, match="exceed"):
        transformer.positions((1, 16, 3, 40, 40), downscale=2)


# -- timesteps


def test_a_clean_reference_does_not_depend_on_the_noise_level(transformer: WanInContextTransformer3DModel) -> None:
    """Its tokens are at timestep 0: their keys and values are the same at every step of the target."""
    seen: list[Tensor] = []
    handle = transformer.blocks[0].attn1.to_k.register_forward_hook(lambda module, args, out: seen.append(out))
    states, text = latents(), latents((1, 7, 32), 4)
    try:
        with torch.no_grad(), transformer.given(referring((latents(seed=7), 1, 1.0))):
            for level in (900.0, 100.0):
                transformer(states, torch.tensor([level]), text, return_dict=False)
    finally:
        handle.remove()
    target, reference = (slice(0, 18), slice(18, 36))
    assert torch.equal(seen[0][:, reference], seen[1][:, reference])
    assert not torch.equal(seen[0][:, target], seen[1][:, target])


def test_strength_mixes_noise_in_by_the_targets_level(transformer: WanInContextTransformer3DModel) -> None:
    """At strength g a reference stands at level (1 - g) s: the same as a clean one that was mixed by hand."""
    seen: list[Tensor] = []
    handle = transformer.patch_embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    reference, noise = latents(seed=7), latents(seed=8)
    try:
        with torch.no_grad(), transformer.given(WanContext(((reference, 1, 0.25),), (noise,))):
            transformer(latents(), torch.tensor([800.0]), latents((1, 7, 32), 4), return_dict=False)
    finally:
        handle.remove()
    torch.testing.assert_close(seen[1], 0.4 * reference + 0.6 * noise)


def test_references_and_their_strength_change_the_result(pipeline: WanInContextPipeline, video: Tensor) -> None:
    plain = run(pipeline)
    full = run(pipeline, references=[WanReference(video)])
    weak = run(pipeline, references=[WanReference(video, strength=0.3)])
    assert not torch.equal(full, plain) and not torch.equal(full, weak)
    assert torch.equal(full, run(pipeline, references=[WanReference(video)]))


# -- the prefix


def test_the_prefix_is_where_every_solver_ends(pipeline: WanInContextPipeline, video: Tensor) -> None:
    end = run(pipeline, steps=6, references=[WanReference(video)], prefix=video[:5], output_type="latent")
    torch.testing.assert_close(end[:, :, :2], pipeline.encode_video(video[:5]), rtol=0, atol=0.02)


def test_the_rest_goes_on_from_the_prefix(pipeline: WanInContextPipeline, video: Tensor) -> None:
    rests = [
        run(pipeline, references=[WanReference(video)], prefix=prefix, output_type="latent")[:, :, 2:]
        for prefix in (None, video[:5], 1 - video[:5])
    ]
    assert not torch.equal(rests[0], rests[1]) and not torch.equal(rests[1], rests[2])


def test_a_prefix_of_half_the_clip(transformer: WanInContextTransformer3DModel) -> None:
    """The noisy segment is found by its place, not by its length."""
    states, text = latents((1, 16, 4, 4, 6)), latents((1, 7, 32), 4)
    with torch.no_grad(), transformer.given(WanContext(prefix=states[:, :, :2])):
        out = transformer(states, torch.tensor([700.0]), text, return_dict=False)[0]
        again = transformer(torch.cat([latents((1, 16, 2, 4, 6), 9), states[:, :, 2:]], 2), torch.tensor([700.0]), text)
    assert torch.equal(out[:, :, 2:], again.sample[:, :, 2:])  # what stood in the prefix's place is not looked at
    assert torch.count_nonzero(out[:, :, :2]) == 0  # already there: nowhere to go


def test_a_prefix_must_leave_something_to_make(transformer: WanInContextTransformer3DModel) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        velocity(transformer, WanContext(prefix=latents()))


# -- a pipeline like any other


def test_sigmas_are_the_levels_sampled_at(pipeline: WanInContextPipeline) -> None:
    before = pipeline.scheduler.config.flow_shift
    pipeline.scheduler.register_to_config(flow_shift=1.0)
    try:
        run(pipeline, steps=2, sigmas=[1.0, 0.25])
        assert pipeline.scheduler.timesteps.tolist() == [999, 250]
        run(pipeline, steps=4)
        assert len(pipeline.scheduler.timesteps) == 4
    finally:
        pipeline.scheduler.register_to_config(flow_shift=before)


def test_it_is_saved_and_loaded_like_any_pipeline(
    pipeline: WanInContextPipeline, video: Tensor, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = WanInContextPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    references = [WanReference(video)]
    assert torch.equal(run(loaded, references=references), run(pipeline, references=references))


def test_gradients_reach_an_adapter_through_checkpointing() -> None:
    from peft import LoraConfig

    model = in_context(tiny_wan().transformer)
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q", "ffn.net.2"], init_lora_weights=False))
    losses = []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        with model.given(referring((latents(seed=7), 1, 1.0))):
            out = model(latents(), torch.tensor([500.0]), latents((1, 7, 32), 4), return_dict=False)[0]
            out.square().mean().backward()
        losses.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert losses[0] and all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*losses, strict=True))
    assert any(grad.abs().max() > 0 for grad in losses[0])
