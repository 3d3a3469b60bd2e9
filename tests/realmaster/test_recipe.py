"""The recipe of the embedded model, in small: its stages learn, go on where they stopped, and what they train is what
the pipeline runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from realmaster import load_lifter
from realmaster.lift.loading import lifter_of
from realmaster.lift.windows import lift_long
from realmaster.models import recipe
from realmaster.models.patch_codec import PatchCodec
from realmaster.train.families.ltx2 import coordinates, pack, velocity
from realmaster.train.pictures import grid, picture_losses, seams

ADAPTER = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of blocks 64 x 90: the reference is the render turned dark; they have five frames, two, and one."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number, frames in enumerate((5, 2, 1, 1, 1)):
        blocks = rng.integers(0, 255, (frames, 4, 6, 3), dtype=np.uint8).repeat(16, 1).repeat(15, 2)
        movers = np.where(blocks[..., :1] > 127, np.uint8(255), np.uint8(0)).repeat(3, -1)
        np.save(folder / f"{number:08d}-0000.npy", np.stack([blocks, 255 - blocks, blocks // 2, movers]))
    return folder


def quiet(stage: str, done: float, of: float, note: str) -> None:
    pass


def test_clips_are_padded_mirrored_and_kept_apart(folder: Path) -> None:
    clips = recipe.Clips(folder)
    assert len(clips.all) == 3 and len(clips.apart) == 2 and clips.longest == 5
    torch.manual_seed(0)
    videos = clips.draw(8, 5)
    assert videos.shape == (8, 4, 3, 5, 64, 96)
    assert torch.equal(videos[..., -1], videos[..., -2]) or torch.equal(videos[..., 0], videos[..., 1])  # the border
    assert torch.allclose(videos[:, 0], -videos[:, 1], atol=1e-6)  # render and reference stay one picture
    first = videos[:, 0, :, 0]
    assert any(torch.equal(a.flip(-1), b) for a in first for b in first)


def test_clips_without_movers_say_how_to_mend_it(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.npy"):
        np.save(tmp_path / path.name, np.load(path)[:3])
    with pytest.raises(SystemExit, match=r"0000\.npy was made by another version"):
        recipe.Clips(tmp_path)


def test_a_mirrored_cue_is_the_cue_of_the_mirror() -> None:
    clip = torch.rand(3, 3, 1, 4, 6)
    seen = recipe.mirrored(clip)
    assert torch.equal(seen[0], clip[0].flip(-1))
    assert torch.equal(seen[2, 0], -clip[2, 0].flip(-1)) and torch.equal(seen[2, 1:], clip[2, 1:].flip(-1))


def test_a_degraded_copy_keeps_shape_and_changes_looks() -> None:
    torch.manual_seed(0)
    video = (torch.rand(2, 3, 1, 32, 32) * 2 - 1).expand(-1, -1, 3, -1, -1)
    cheap = recipe.degraded(video)
    assert cheap.shape == video.shape and cheap.min() >= -1 and cheap.max() <= 1
    assert torch.allclose(cheap[:, :, 0], cheap[:, :, 2], atol=1e-6)  # a clip is cheap in one way throughout
    assert not torch.allclose(cheap[0], cheap[1], atol=0.1) and (cheap - video).abs().mean() > 0.05


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    state = tmp_path / "state"
    recipe.train(lambda: weight.pow(2).sum(), {"weight": weight}, 0.02, 1e-2, state, quiet, save_every=0.2)
    assert weight.abs().max() < 1
    saved = torch.load(state, weights_only=True)
    assert saved["step"] > 0 and saved["spent"] > 0
    # With its time spent, a second run has nothing left to do but to take up the averaged weights.
    again = torch.nn.Parameter(torch.ones(4))
    recipe.train(lambda: again.sum(), {"weight": again}, saved["spent"] / 60, 1e-2, state, quiet)
    assert torch.equal(again.data, saved["average"][0])


def test_a_frame_of_a_clip_is_lifted_by_itself_and_with_the_noise_of_the_others() -> None:
    pipeline = load_lifter("embedded").pipeline
    parts = pipeline.transformer, pipeline.connectors.embedding
    random = torch.Generator().manual_seed(2)
    clips = torch.rand(2, 3, 1, 64, 96, generator=random).expand(-1, -1, 2, -1, -1) * 2 - 1
    with torch.no_grad():
        torch.manual_seed(0)
        twice = recipe.lifted(*parts, pipeline.vae, clips)
        torch.manual_seed(0)
        once = recipe.lifted(*parts, pipeline.vae, clips[:, :, :1])
    assert twice.shape == (2, 256, 2, 4, 6)
    assert torch.allclose(twice[:, :, 0], twice[:, :, 1], atol=1e-3)
    assert torch.allclose(twice[:, :, :1], once, atol=0.1)  # the processor may multiply in sixteen bits


def test_a_lift_does_not_depend_on_what_came_before() -> None:
    """So it cannot drift: a lift that begins later has the same bytes."""
    lifter, random = load_lifter("embedded"), torch.Generator().manual_seed(4)
    pictures = torch.randint(0, 256, (7, 64, 96, 3), dtype=torch.uint8, generator=random).numpy()
    whole, late = (np.stack(list(lift_long(lifter, iter(cues), seed=5))) for cues in (pictures, pictures[4:]))
    assert np.array_equal(whole[4:], late)


def test_seams_are_told_from_steps_elsewhere() -> None:
    random = torch.Generator().manual_seed(3)
    picture = torch.rand(2, 3, 1, 64, 96, generator=random) * 0.05
    patched = picture.clone()
    patched[..., 16:32] += 0.1
    assert seams(picture, 16).shape == (5 + 3,) and (seams(picture, 16) - 1).abs().max() < 0.5
    assert seams(patched, 16)[:2].min() > 2 and (seams(patched, 16)[2:] - 1).abs().max() < 0.5
    elsewhere = picture.clone()
    elsewhere[..., 20:40] += 0.1
    assert (seams(elsewhere, 16) - 1).abs().max() < 0.5
    losses = [picture_losses(each, picture, 16).mean().item() for each in (picture, elsewhere, patched)]
    assert losses[0] == pytest.approx(0, abs=1e-3) and losses[2] > 1.1 * losses[1]


def test_a_grid_is_told_from_detail_as_strong_without_one() -> None:
    random = torch.Generator().manual_seed(3)
    truth = torch.rand(2, 3, 1, 64, 96, generator=random) * 0.1
    noise = torch.rand(truth.shape, generator=random) * 0.1
    comb = torch.tensor([0.0, 0.0, 0.0, 0.1]).repeat(24)
    assert grid(truth, 4).shape == (2,)
    assert grid(truth + comb, 4).min() > 4 * grid(truth + noise, 4).max()
    assert picture_losses(truth, truth, 16).abs().max() < 1e-3


def test_what_flickers_is_worse_than_what_is_wrong_throughout() -> None:
    truth = torch.zeros(1, 3, 2, 64, 64)
    wrong = torch.full_like(truth, 0.1)
    flickering = wrong * torch.tensor([1.0, -1.0]).view(1, 1, 2, 1, 1)
    assert picture_losses(flickering, truth) > picture_losses(wrong, truth) + 0.15


def test_a_shadow_that_may_be_here_or_there_is_best_painted_half_dark() -> None:
    """Absolute error alone is the same for one of the two, whichever, and for what lies between."""
    lit_left = torch.ones(1, 3, 1, 64, 64) * 0.4
    lit_left[..., 32:] = -0.4
    truths = lit_left, lit_left.flip(-1)

    def mean_loss(guess: torch.Tensor) -> float:
        return sum(picture_losses(guess, truth).item() for truth in truths) / 2

    assert mean_loss(lit_left * 0) < mean_loss(lit_left) - 0.1


def test_an_error_on_what_is_stressed_counts_more() -> None:
    truth = torch.zeros(1, 3, 2, 64, 64)
    stressed = torch.zeros(1, 1, 2, 64, 64, dtype=torch.bool)
    stressed[..., 8:24, 8:24] = True
    here, there = truth.clone(), truth.clone()
    here[..., 8:24, 8:24], there[..., 40:56, 40:56] = 0.5, 0.5
    plain, more = (picture_losses(here, truth, stressed=mask).item() for mask in (None, stressed))
    assert more > plain + 0.02
    assert picture_losses(there, truth, stressed=stressed).item() == pytest.approx(plain, rel=1e-3)
    # as much however few pixels it has
    both = torch.cat([truth, here]), torch.cat([truth, truth])
    half = picture_losses(*both, stressed=torch.cat([stressed & False, stressed])) - picture_losses(*both)
    assert half[1].item() == pytest.approx(more - plain, rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_stages_make_a_model_that_lifts(folder: Path, tmp_path: Path) -> None:
    """Codec, base, adapter and pack, in seconds: blocks turned dark are learned well enough to be nearer than the
    render, through the pipeline that users run."""
    clips, said = recipe.Clips(folder), []
    out = recipe.make(folder, tmp_path, 0.7, lambda stage, done, of, note: said.append((stage, note)))
    order = ["codec", "base", "adapter", "lifting the clips", "decoder"]
    assert [stage for stage, _ in said] == sorted((stage for stage, _ in said), key=order.index)
    assert "held out" in said[-1][1]
    before = len(said)
    assert recipe.make(folder, tmp_path, 0.7, lambda *_: said.append(_)) == out and len(said) == before  # all is done
    recipe.make(folder, tmp_path / "further", 0.1, quiet, begin=out)
    assert not (tmp_path / "further" / "work" / "base.state").exists()
    weights = [
        safetensors.torch.load_file(place / "model/adapter" / ADAPTER) for place in (tmp_path, tmp_path / "further")
    ]
    apart = [(weights[0][name].float() - weights[1][name].float()).abs().max().item() for name in weights[0]]
    assert 0 < max(apart) < 0.2  # it went on from there
    shipped = load_lifter("embedded").profile
    lifter = lifter_of(shipped.model_copy(update={"base": str(out), "adapter": str(out / "adapter")}))
    render, truth = ((clips.all[1][domain, :1].permute(0, 2, 3, 1)).numpy() for domain in (0, 1))
    lifted = lifter.lift(render)
    distance = [np.abs(picture.astype(float) - truth).mean() for picture in (lifted, render)]
    assert distance[0] < distance[1]


def test_what_is_trained_is_what_the_pipeline_runs() -> None:
    """One step by the recipe's own forward pass and by diffusers' pipeline gives the same pictures: same tokens,
    coordinates, timesteps, and no voice of the audio branch in the video."""
    lifter = load_lifter("embedded")
    pipeline = lifter.pipeline
    blocks = np.random.default_rng(1).integers(40, 220, (1, 4, 6, 3), dtype=np.uint8)
    clip = blocks.repeat(16, 1).repeat(16, 2)
    video = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        render = pipeline.vae.encode(video).latent_dist.mode()
        tokens = pack(pipeline.transformer, render)
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(5))
        coords = coordinates(pipeline.transformer, render.shape, "cpu")
        both = torch.cat([coords, coords], dim=2)
        moved = velocity(pipeline.transformer, noise, torch.ones(1), tokens, both, pipeline.connectors.embedding)
        lifted = (noise - moved).transpose(1, 2).unflatten(2, render.shape[2:])
        ours = (pipeline.vae.decode(lifted).sample[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy() * 255
    theirs = lifter.lift(clip, seed=5)
    assert np.abs(ours - theirs).max() <= 1.5


def test_the_codec_of_the_recipe_loads(folder: Path, tmp_path: Path) -> None:
    recipe.codec_stage(recipe.Clips(folder), tmp_path, quiet)
    codec = PatchCodec.from_pretrained(tmp_path / "codec")
    assert codec.temporal_compression_ratio == 1 and codec.components.abs().sum() > 0
