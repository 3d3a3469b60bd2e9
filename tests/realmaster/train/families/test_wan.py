"""Training's forward pass is the lifting pipeline's own, for each expert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import save_file

from realmaster.lift.loading import lifter_of
from realmaster.lift.profiles import Sampling, load_profile
from realmaster.train.batches import Batch
from realmaster.train.families.wan import WanFamily


@pytest.fixture(scope="module")
def family(wan: Path) -> WanFamily:
    sampling = Sampling(guidance_scale=1.0)
    profile = load_profile(wan).model_copy(update={"window": 9, "overlap": 5, "sampling": sampling})
    return WanFamily(lifter_of(profile, "cpu"))


def test_the_experts_share_the_noise_levels(family: WanFamily) -> None:
    high, low = family.experts
    assert (high.mark, low.mark) == ("high_noise", "low_noise")
    assert high.transformer is family.pipeline.transformer and low.transformer is family.pipeline.transformer_2
    assert low.span == (0.0, high.span[0]) and high.span[1] == 1.0


@pytest.mark.parametrize("first_known", [False, True])
def test_the_velocity_is_the_pipelines(family: WanFamily, first_known: bool) -> None:
    passes: list[tuple[dict[str, Any], torch.Tensor]] = []
    hook = family.pipeline.transformer.register_forward_hook(
        lambda _module, _args, kwargs, output: passes.append((kwargs, output[0])), with_kwargs=True
    )
    clip = np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)
    prefix = clip[:1] // 2 if first_known else None
    try:
        family.lifter.lift(clip, "a street", prefix=prefix, steps=3)
    finally:
        hook.remove()
    shown, said = passes[-1]
    latents = shown["hidden_states"].clone()
    if first_known:
        latents[:, :, :1] = family.encode(prefix, "target")[None]
    # The same clip in a batch of two kinds: with a first frame and without.
    batch = Batch(
        target=torch.zeros(2, *latents.shape[1:]),
        references=(family.encode(clip, "reference").expand(2, -1, -1, -1, -1),),
        words={"prompt": family.encode_caption("a street")["prompt"].expand(2, -1, -1)},
        noise=torch.zeros(2, *latents.shape[1:]),
        levels=shown["timestep"].float().expand(2) / 1000,
        first_known=torch.tensor([not first_known, first_known]),
    )
    with torch.no_grad():
        ours = family._velocity(family.pipeline.transformer, latents.expand(2, -1, -1, -1, -1), batch)
    at = 1 if first_known else 0
    torch.testing.assert_close(ours[1:, :, at:], said[:, :, at:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours[:1, :, at:], said[:, :, at:], atol=1e-4)


def test_trainers_names_are_those_that_diffusers_reads(family: WanFamily, tmp_path: Path) -> None:
    """Every layer that could be a target, there and back through diffusers' own conversion."""
    linear = (torch.nn.Linear,)
    layers = [name for name, part in family.pipeline.transformer.named_modules() if isinstance(part, linear)]
    layers = [name for name in layers if "image" not in name]
    assert any("condition_embedder" in name for name in layers) and "proj_out" in layers
    weights, wanted = {}, {}
    for number, name in enumerate(layers):
        for matrix in ("A", "B"):
            tensor = torch.full((2, 2), float(number))
            weights[f"diffusion_model.{family.trainers_name(name)}.lora_{matrix}.weight"] = tensor
            wanted[f"transformer.{name}.lora_{matrix}.weight"] = tensor
    save_file(weights, tmp_path / "trainers.safetensors")
    read = WanPipeline.lora_state_dict(str(tmp_path / "trainers.safetensors"))
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
