"""The embedded model's own parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from realmaster.models.constant_prompt import ConstantPrompt
from realmaster.models.patch_codec import PatchCodec


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    """Smooth moving pictures `[4, 3, 9, 64, 96]` in [-1, 1]."""
    t, y, x = torch.meshgrid(torch.arange(9.0), torch.arange(64.0), torch.arange(96.0), indexing="ij")
    phases = torch.rand(4, 3, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 6
    return torch.sin(x / 17 + y / 23 + t / 5 + phases)


def test_codec_round_trip_and_layout(videos: torch.Tensor) -> None:
    codec = PatchCodec()
    codec.fit(codec.patchify(videos).flatten(0, 3))
    latents = codec.encode(videos).latent_dist.mode()
    assert latents.shape == (4, 256, 9, 4, 6)
    assert (codec.decode(latents).sample - videos).abs().max() < 0.05
    assert latents.pow(2).mean().sqrt() == pytest.approx(codec.config.latent_rms, rel=0.1)
    # picture by picture: a still is coded as it is in a video
    fourth = codec.encode(videos[:, :, 3:4]).latent_dist.mode()
    assert torch.allclose(fourth[:, :, 0], latents[:, :, 3], atol=1e-4)


def test_codec_saves_and_loads(videos: torch.Tensor, tmp_path: Path) -> None:
    codec = PatchCodec()
    codec.fit(codec.patchify(videos).flatten(0, 3))
    codec.save_pretrained(tmp_path)
    again = PatchCodec.from_pretrained(tmp_path)
    assert torch.equal(again.encode(videos).latent_dist.mode(), codec.encode(videos).latent_dist.mode())


@pytest.mark.parametrize("shape", [(1, 3, 9, 60, 64), (1, 3, 9, 64, 60)])
def test_codec_names_what_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sides that are multiples of 16"):
        PatchCodec().encode(torch.zeros(shape))


def test_constant_prompt_is_constant() -> None:
    prompt = ConstantPrompt(tokens=8, dim=16)
    one = prompt(torch.zeros(1, 3, 5), torch.ones(1, 3))
    two = prompt(torch.randn(2, 9, 5), torch.ones(2, 9))
    assert one[0].shape == (1, 8, 16) and two[2].shape == (2, 8)
    assert torch.equal(two[0][1], one[0][0])
