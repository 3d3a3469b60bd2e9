"""The recipe of the embedded model, in small: its step learns, its stages go on where they stopped, and what it trains
is what the pipeline runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel

from realmaster import load_lifter
from realmaster.models import recipe
from realmaster.models.patch_codec import PatchCodec


@pytest.fixture(scope="module")
def tiny() -> LTX2VideoTransformer3DModel:
    torch.manual_seed(0)
    return LTX2VideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=1, caption_channels=64, rope_type="split",
        rope_double_precision=False, vae_scale_factors=(4, 16, 16), base_height=256, base_width=256,
    )  # fmt: skip


def reference_and_render(item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return item[1], item[0]


def test_batches_keep_pairs_and_true_coordinates(tiny: LTX2VideoTransformer3DModel) -> None:
    latents = torch.randn(3, 4, 8, 3, 4, 6).half()
    latents[:, 1] = -latents[:, 0]
    grid = tiny.rope.prepare_video_coords(1, 3, 4, 6, "cpu", fps=recipe.FPS)
    places = {tuple(c) for c in grid[0, :, :, 0].T.tolist()}
    torch.manual_seed(0)
    sizes = set()
    source = recipe.batches(latents, reference_and_render, tiny.rope)
    for _ in range(12):
        batch = next(source)
        sizes.add(batch.size)
        assert torch.equal(batch.target, -batch.reference)
        assert batch.coords.shape[2] == batch.target.shape[1] == np.prod(batch.size)
        assert {tuple(c) for c in batch.coords[0, :, :, 0].T.tolist()} <= places
        first = batch.size[1] * batch.size[2]
        assert not batch.known[:, first:].any()  # only the first latent frame is ever given
    assert sizes == {(3, 4, 6), (3, 2, 3)}


def test_a_perfect_velocity_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss's target is noise minus data, at every noise level and with given frames left out."""
    target = torch.zeros(2, 6, 8)
    known = torch.zeros(2, 6, dtype=torch.bool)
    known[0, :2] = True
    batch = recipe.Batch(target, target, torch.zeros(2, 3, 6, 2), known, (3, 1, 2))

    def perfect(_transformer, noisy, timesteps, batch, _prompt):
        assert torch.equal(timesteps == 0, batch.known)
        return noisy / timesteps.clamp(min=1e-6)[..., None]  # noisy = sigma * noise where data is zero

    monkeypatch.setattr(recipe, "velocity", perfect)
    torch.manual_seed(0)
    assert recipe.flow_loss(None, batch, torch.zeros(1, 8, 64)) < 1e-9


def test_the_step_learns(tiny: LTX2VideoTransformer3DModel) -> None:
    """One picture, learned by heart: the loss falls."""
    torch.manual_seed(1)
    latents = torch.randn(1, 4, 8, 3, 4, 6).half()
    latents[:, 1] = latents[:, 0]
    prompt = torch.randn(1, 8, 64)
    source = recipe.batches(latents, reference_and_render, tiny.rope)
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        losses.append(recipe.flow_loss(tiny, next(source), prompt))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_a_stopped_run_goes_on(tiny: LTX2VideoTransformer3DModel, tmp_path: Path) -> None:
    latents = torch.randn(1, 4, 8, 3, 4, 6).half()
    prompt = torch.nn.Parameter(torch.randn(1, 8, 64))
    source = recipe.batches(latents, reference_and_render, tiny.rope)
    state = tmp_path / "state"
    recipe.train(tiny, prompt, source, 0.04, 1e-3, state, save_every=0.2)
    saved = torch.load(state, weights_only=True)
    assert saved["step"] > 0 and saved["spent"] > 0
    # With its time spent, a second run has nothing left to do but to take up the averaged weights.
    recipe.train(tiny, prompt, source, saved["spent"] / 60, 1e-3, state)
    assert torch.equal(prompt.data, saved["average"]["prompt"])


def test_the_stages_read_clips_and_write_latents(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        pictures = rng.integers(0, 255, (3, 9, 6, 10, 3), dtype=np.uint8).repeat(10, 2).repeat(16, 3)
        np.save(tmp_path / "clips" / f"{name}.npy", pictures)
    (tmp_path / "work").mkdir()
    recipe.codec_stage(tmp_path / "clips", tmp_path / "work")
    latents = recipe.load_latents(tmp_path / "work")
    assert latents.shape == (4, 4, 128, 3, 4, 10)  # two clips and their mirror images; 60 rows padded to 64
    codec = PatchCodec.from_pretrained(tmp_path / "work" / "codec")
    clip = recipe.load_clip(tmp_path / "clips" / "a.npy")
    assert torch.allclose(codec.encode(clip[:1]).latent_dist.mode()[0], latents[0, 0].float(), atol=0.02)
    assert torch.allclose(codec.encode(clip[:1].flip(-1)).latent_dist.mode()[0], latents[1, 0].float(), atol=0.02)


def test_what_is_trained_is_what_the_pipeline_runs() -> None:
    """The recipe's own Euler sampler and diffusers' pipeline give the same pictures: same tokens, coordinates,
    timesteps, and no voice of the audio branch in the video."""
    lifter = load_lifter("embedded")
    pipeline = lifter.pipeline
    blocks = np.random.default_rng(1).integers(40, 220, (1, 4, 6, 3), dtype=np.uint8)
    clip = blocks.repeat(16, 1).repeat(16, 2)
    video = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        render = pipeline.vae.encode(video).latent_dist.mode()
        prompt = pipeline.connectors.embedding
        lifted = recipe.sample(pipeline.transformer, render, prompt, lifter.profile.sampling.sigmas, seed=5)
        ours = (pipeline.vae.decode(lifted).sample[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy() * 255
    theirs = lifter.lift(clip, seed=5)
    assert np.abs(ours - theirs).max() <= 1.5
