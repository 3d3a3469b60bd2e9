"""Training's forward pass is the pipeline's own: same tokens, places, times and words in, same velocity out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTX2InContextPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from safetensors.torch import save_file

from realmaster.lift.loading import lifter_of
from realmaster.lift.ltx2 import GUIDANCE_OFF
from realmaster.lift.profiles import load_profile
from realmaster.train.families import ltx2
from tests.realmaster.lift.tiny_ltx2 import tiny_ltx2


@pytest.fixture(scope="module")
def pipeline() -> LTX2InContextPipeline:
    made = tiny_ltx2()
    for block in made.transformer.transformer_blocks:  # audio without a voice, as training has it
        torch.nn.init.zeros_(block.audio_to_video_attn.to_out[0].weight)
        torch.nn.init.zeros_(block.audio_to_video_attn.to_out[0].bias)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> Path:
    """The folder of a tiny LTX-2.3; its fixture bears the name of the module under test."""
    return request.getfixturevalue("ltx2")


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("prefix", [False, True])
def test_the_velocity_is_the_pipelines(pipeline: LTX2InContextPipeline, downscale: int, prefix: bool) -> None:
    passes: list[tuple[dict[str, Any], torch.Tensor]] = []
    hook = pipeline.transformer.register_forward_hook(
        lambda _module, _args, kwargs, output: passes.append((kwargs, output[0])), with_kwargs=True
    )
    video = np.random.default_rng(0).random((17, 64, 128, 3)).astype(np.float32)
    pictures = (video[:1] * 255).astype(np.uint8)
    conditions = [LTX2VideoCondition(frames=pictures, index=0, strength=1.0, crf=0)] if prefix else None
    try:
        pipeline(
            prompt="a street", height=64, width=128, num_frames=17, sigmas=[1.0, 0.6], num_inference_steps=2,
            reference_conditions=LTX2ReferenceCondition(video), reference_downscale_factor=downscale,
            conditions=conditions, generator=torch.Generator().manual_seed(0), output_type="latent", **GUIDANCE_OFF,
        )  # fmt: skip
    finally:
        hook.remove()
    assert len(passes) == 2
    shown, said = passes[1]
    shape = (1, 8, 3, 2, 4)
    count = 3 * 2 * 4
    known = torch.zeros(1, count, dtype=torch.bool)
    known[:, : 2 * 4 if prefix else 0] = True
    small = (1, 8, 3, 2 // downscale, 4 // downscale)
    coords = [ltx2.coordinates(pipeline.transformer, shape, "cpu")]
    coords.append(ltx2.coordinates(pipeline.transformer, small, "cpu", downscale))
    with torch.no_grad():
        ours = ltx2.velocity(
            pipeline.transformer,
            noisy=shown["hidden_states"][:, :count],
            levels=torch.tensor([0.6]),
            references=shown["hidden_states"][:, count:],
            coords=torch.cat(coords, dim=2),
            prompt=shown["encoder_hidden_states"],
            prompt_mask=shown["encoder_attention_mask"],
            known=known,
        )
    assert torch.equal(torch.cat(coords, dim=2), shown["video_coords"])
    torch.testing.assert_close(ours, said[:, :count], rtol=1e-4, atol=1e-5)


def test_tokens_are_packed_as_the_pipeline_packs_them(pipeline: LTX2InContextPipeline) -> None:
    latents = torch.randn(2, 8, 3, 2, 4)
    tokens = ltx2.pack(pipeline.transformer, latents)
    assert torch.equal(tokens, latents.flatten(2).transpose(1, 2))


def test_pairs_are_encoded_as_the_lifter_encodes_a_render(tiny: Path) -> None:
    profile = load_profile(tiny).model_copy(update={"window": 9, "overlap": 1, "max_side": 128})
    lifter = lifter_of(profile, "cpu")
    family = ltx2.LTX2Family(lifter)
    seen: list[dict[str, Any]] = []
    hook = lifter.pipeline.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    clip = np.random.default_rng(0).integers(0, 255, (9, 50, 150, 3), dtype=np.uint8)  # is made smaller, and padded
    try:
        lifter.lift(clip, "a street", steps=1)
    finally:
        hook.remove()
    encoded = family.encode(clip, "reference")
    tokens = ltx2.pack(lifter.pipeline.transformer, encoded[None])
    count = family.tokens(encoded.shape)
    assert torch.equal(seen[0]["hidden_states"][:, count:], tokens)
    words = family.encode_caption("a street")
    assert torch.equal(seen[0]["encoder_hidden_states"][0], words["prompt"])
    assert torch.equal(seen[0]["encoder_attention_mask"][0], words["mask"])


def test_adapters_leave_audio_alone_and_trainers_names_are_read(tiny: Path, tmp_path: Path) -> None:
    family = ltx2.LTX2Family(lifter_of(load_profile(tiny), "cpu"))
    names = [name for name, part in family.pipeline.transformer.named_modules() if isinstance(part, torch.nn.Linear)]
    ends = tuple(f".{target}" for target in family.targets)
    targets = [name for name in names if name.endswith(ends)]
    assert len(targets) == 2 * (8 + 2) and not any("audio" in name for name in targets)
    weights = {f"diffusion_model.{family.trainers_name(name)}.lora_A.weight": torch.ones(1) for name in names}
    assert "diffusion_model.patchify_proj.lora_A.weight" in weights
    save_file(weights, tmp_path / "trainers.safetensors")
    read = LTX2InContextPipeline.lora_state_dict(str(tmp_path / "trainers.safetensors"))
    assert read.keys() == {f"transformer.{name}.lora_A.weight" for name in names}
