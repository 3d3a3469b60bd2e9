"""A closed-form video codec with LTX-2's causal layout, in the place where a pipeline expects its VAE.

Principal components of space-time patches encode; their transpose and a small convolutional refiner decode. It is
fitted in seconds on a CPU, which is why the embedded model uses it. It knows nothing of diffusion.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional


class PatchCodec(ModelMixin, ConfigMixin):
    """Encodes `[B, 3, F, H, W]` in [-1, 1] (F = patch_frames * k + 1; H, W multiples of patch_size) to latents
    `[B, latent_channels, k + 1, H / patch_size, W / patch_size]` of about unit scale.

    The first latent frame holds one picture (repeated to fill its patch), as LTX-2's causal encoder does, so a still
    frame can be a condition. Latents are the patch's principal components, each divided by the square root of its
    deviation: full whitening would make a flow model spend itself on components that nobody sees.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 128,
        patch_frames: int = 4,
        patch_size: int = 16,
        refiner_channels: int = 32,
        scaling_factor: float = 1.0,
        timestep_conditioning: bool = False,
    ) -> None:
        super().__init__()
        dim = patch_frames * patch_size * patch_size * 3
        # Parameters rather than buffers: diffusers reads a model's dtype and device from its parameters.
        self.mean = nn.Parameter(torch.zeros(dim), requires_grad=False)
        self.components = nn.Parameter(torch.zeros(dim, latent_channels), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(latent_channels), requires_grad=False)
        # The pipeline normalises latents by these two; the scale above has done it already.
        self.register_buffer("latents_mean", torch.zeros(latent_channels))
        self.register_buffer("latents_std", torch.ones(latent_channels))
        self.refiner = Refiner(refiner_channels)
        self.spatial_compression_ratio = patch_size
        self.temporal_compression_ratio = patch_frames

    @torch.no_grad()
    def fit(self, patches: Tensor) -> Tensor:
        """Set mean, components and scale from sample patches `[N, D]` (see `patchify`); returns the deviations `[C]`.

        Principal component analysis through the eigenvectors of the covariance.
        """
        mean = patches.mean(0)
        centred = patches - mean
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
        channels = self.config.latent_channels
        deviations = variances[-channels:].flip(0).clamp(min=1e-8).sqrt()
        scale = deviations.sqrt()
        scale *= (deviations / scale).pow(2).mean().sqrt()  # unit mean square over all latents
        self.mean.copy_(mean)
        self.components.copy_(vectors[:, -channels:].flip(1))
        self.scale.copy_(scale)
        return deviations

    def patchify(self, video: Tensor) -> Tensor:
        """`[B, 3, F, H, W]` -> `[B, f, h, w, D]`."""
        t, p = self.config.patch_frames, self.config.patch_size
        batch, _, frames, height, width = video.shape
        if (frames - 1) % t or height % p or width % p:
            raise ValueError(
                f"PatchCodec needs {t}k+1 frames and sides that are multiples of {p}, got {frames} of {width}x{height}"
            )
        video = torch.cat([video[:, :, :1].expand(-1, -1, t - 1, -1, -1), video], dim=2)
        patches = video.reshape(batch, 3, video.shape[2] // t, t, height // p, p, width // p, p)
        return patches.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """`[B, f, h, w, D]` -> `[B, 3, F, H, W]`; the first patch's repeated pictures are averaged to one."""
        t, p = self.config.patch_frames, self.config.patch_size
        batch, frames, height, width, _ = patches.shape
        video = patches.reshape(batch, frames, height, width, t, p, p, 3).permute(0, 7, 1, 4, 2, 5, 3, 6)
        video = video.reshape(batch, 3, frames * t, height * p, width * p)
        return torch.cat([video[:, :, :t].mean(2, keepdim=True), video[:, :, t:]], dim=2)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        latents = ((self.patchify(x) - self.mean) @ self.components / self.scale).permute(0, 4, 1, 2, 3)
        # The code is deterministic: a normal distribution of (numerically) no width.
        posterior = DiagonalGaussianDistribution(torch.cat([latents, torch.full_like(latents, -30.0)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode_patches(self, z: Tensor) -> Tensor:
        """Latents to `[B, 3, F, H, W]` without the refiner: exact inverse of `encode` within the kept components."""
        return self.unpatchify((z.permute(0, 2, 3, 4, 1) * self.scale) @ self.components.T + self.mean)

    def decode(
        self, z: Tensor, timestep: Tensor | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        video = self.decode_patches(z)
        refined = self.refiner(video.transpose(1, 2).flatten(0, 1))
        video = refined.unflatten(0, (z.shape[0], -1)).transpose(1, 2)
        return DecoderOutput(sample=video) if return_dict else (video,)


class Refiner(nn.Module):
    """A small U-Net that takes away patch seams and sharpens edges; `[N, 3, H, W]` -> same, sides multiples of 8.

    Works at a half, a quarter and an eighth of the size: a patch is 16 pixels wide, so a seam is only seen from afar.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter, eighth = channels, 2 * channels, 3 * channels
        self.enter = nn.Conv2d(12, half, 3, padding=1)
        self.down = nn.ModuleList(
            [nn.Conv2d(half, quarter, 3, stride=2, padding=1), nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)]
        )
        self.middle = nn.ModuleList([Residual(eighth), Residual(eighth)])
        self.up = nn.ModuleList(
            [nn.Conv2d(eighth, 4 * quarter, 3, padding=1), nn.Conv2d(quarter, 4 * half, 3, padding=1)]
        )
        self.join = nn.ModuleList([Residual(quarter), Residual(half)])
        self.leave = nn.Conv2d(half, 12, 3, padding=1)
        for parameter in self.leave.parameters():  # an untrained refiner changes nothing
            nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.enter(functional.pixel_unshuffle(pictures, 2))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(functional.silu(x))
        for residual in self.middle:
            x = residual(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(functional.pixel_shuffle(up(functional.silu(x)), 2) + skips.pop())
        return pictures + functional.pixel_shuffle(self.leave(functional.silu(x)), 2)


class Residual(nn.Module):
    """`x + convolution(silu(x))`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(functional.silu(x))
