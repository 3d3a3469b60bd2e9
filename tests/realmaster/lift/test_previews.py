"""What a lift will look like, seen at every step: real pipelines, fitted and tiny decoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from torch.nn import functional

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.previews import linear_decoder, natural_noise, watching
from realmaster.lift.profiles import load_profile
from realmaster.models.patch_codec import PatchCodec
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_vace, save_tiny_wan


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(40, 220, (1, 4, 6, 3), dtype=np.uint8)
    return np.broadcast_to(blocks.repeat(16, 1).repeat(16, 2), (9, 64, 96, 3)).copy()


@pytest.mark.parametrize("solver", [FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler])
def test_a_model_that_knows_the_video_shows_it_from_the_first_step(solver: type) -> None:
    shift = {} if solver is FlowMatchEulerDiscreteScheduler else {"prediction_type": "flow_prediction",
                                                                  "use_flow_sigmas": True}  # fmt: skip
    scheduler, shown = solver(**shift), []
    clean, noise = torch.randn(2, 1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(5)
    sample = noise * scheduler.sigmas[0] + clean * (1 - scheduler.sigmas[0])
    with watching(scheduler, shown.append):
        for number, timestep in enumerate(scheduler.timesteps):
            velocity = (sample - clean) / scheduler.sigmas[number]
            sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
    assert len(shown) == 5 and all(torch.allclose(latents, clean, atol=1e-4) for latents in shown)
    assert "step" not in vars(scheduler)


def test_a_linear_decoder_comes_close_to_a_linear_codec() -> None:
    codec = PatchCodec.from_pretrained(f"{load_profile('embedded').base}/vae")

    def encode(video: torch.Tensor) -> torch.Tensor:
        return codec.encode(2 * video.permute(3, 0, 1, 2)[None] - 1).latent_dist.mode()[0]

    decode = linear_decoder(encode, 1)
    picture = natural_noise(128, seed=9)
    shown = decode(encode(picture[None]))[0]
    wanted = functional.avg_pool2d(picture.permute(2, 0, 1), 4).permute(1, 2, 0)
    assert shown.shape == wanted.shape == (32, 32, 3)
    assert (shown - wanted).abs().mean() < 0.1 * wanted.std()


def test_previews_come_to_what_is_lifted_and_change_nothing(clip: np.ndarray, tmp_path: Path) -> None:
    profile = load_profile("embedded")
    path = tmp_path / "windowed.toml"
    path.write_text(
        f'base = "{Path(profile.base).as_posix()}"\nadapter = "{Path(str(profile.adapter)).as_posix()}"\n'
        "window = 9\noverlap = 1\nmax_side = 320\n"
    )
    lifter, shown = load_lifter(path), []
    usual = lifter.lift(clip[:5], steps=3, seed=1)
    seen = lifter.lift(clip[:5], steps=3, seed=1, preview=shown.append)
    assert np.array_equal(usual, seen)
    assert [(preview.dtype, preview.shape) for preview in shown] == [(np.uint8, (5, 16, 24, 3))] * 3
    small = torch.from_numpy(usual).float().permute(0, 3, 1, 2)
    small = functional.avg_pool2d(small, 4).permute(0, 2, 3, 1).numpy()
    errors = [np.abs(preview - small).mean() for preview in shown]
    assert errors[-1] < 16 and errors[-1] <= errors[0]


MODELS = {
    "ltx2": (save_tiny_ltx2, 2, (16, 24)),
    "wan": (lambda folder: save_tiny_wan(folder, experts=2), 3, (16, 24)),
    "vace": (save_tiny_vace, 3, (16, 24)),
}
"""How a model is made, latent frames of nine pictures, size of a preview of 64x96 pixels."""


@pytest.mark.parametrize("family", MODELS)
def test_every_family_shows_each_step(family: str, clip: np.ndarray, tmp_path: Path) -> None:
    make, frames, size = MODELS[family]
    lifter, shown = load_lifter(make(tmp_path / "base")), []
    given = {} if family == "wan" else {"anchors": {8: clip[8]}}  # keyframes have tokens of their own
    lifter.lift(clip[:, :60], "a street", steps=2, preview=shown.append, **{
        name: {place: still[:60] for place, still in stills.items()} for name, stills in given.items()
    })  # fmt: skip
    assert [preview.shape for preview in shown] == [(frames, round(size[0] * 60 / 64), size[1], 3)] * 2


def test_a_tiny_vae_shows_each_step(clip: np.ndarray, tmp_path: Path) -> None:
    base = save_tiny_wan(tmp_path / "base")
    channels = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    blocks = {"num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4}
    AutoencoderTiny(latent_channels=16, **channels, **blocks).save_pretrained(base / "tiny")
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "{base.as_posix()}"\npreview = "tiny"\nwindow = 9\noverlap = 5\nmax_side = 96\n')
    shown: list[np.ndarray] = []
    load_lifter(path).lift(clip, "a street", steps=2, preview=shown.append)
    assert [preview.shape for preview in shown] == [(3, 64, 96, 3)] * 2
    path.write_text(path.read_text().replace('"tiny"', '"not-there"'))
    with pytest.raises(LiftError, match="AutoencoderTiny not-there does not load"):
        load_lifter(path).lift(clip, "a street", steps=2, preview=shown.append)


def test_the_command_keeps_a_picture_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from realmaster.cli import main
    from tests.realmaster.lift.test_families import SIZE, record_odd_take

    take, base = record_odd_take(tmp_path / "take"), save_tiny_wan(tmp_path / "base")
    asked = ["lift", str(take), "--model", str(base), "--steps", "1", "--frames", "0:5"]
    assert main([*asked, "-o", str(tmp_path / "out"), "--preview", str(tmp_path / "so-far.png")]) == 0
    with Image.open(tmp_path / "so-far.png") as picture:
        assert picture.height >= SIZE[0] // 4 and picture.width >= 2 * (SIZE[1] // 4)
    assert main([*asked, "-o", str(tmp_path / "other"), "--preview", str(tmp_path / "so-far.gif")]) == 1
    assert "must end in .png or .jpg" in capsys.readouterr().err
