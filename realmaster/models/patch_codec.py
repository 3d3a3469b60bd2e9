"""A closed-form picture codec in the place where a pipeline expects its video VAE.

Principal components of patches encode; their transpose and a small convolutional refiner decode. It is fitted in
seconds on a CPU, which is why the embedded model uses it. It knows nothing of diffusion.
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
    """Encodes `[B, 3, F, H, W]` in [-1, 1] (H, W multiples of patch_size) picture by picture to latents
    `[B, latent_channels, F, H / patch_size, W / patch_size]` of root mean square `latent_rms`.

    Latents are the patch's principal components, each divided by the square root of its deviation: full whitening
    would make a flow model spend itself on components that nobody sees. They are larger than the noise they are mixed
    with, so that what is left of the noise after a single step is small beside the picture.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 256,
        patch_size: int = 16,
        refiner_channels: int = 64,
        latent_rms: float = 4.0,
        scaling_factor: float = 1.0,
        timestep_conditioning: bool = False,
    ) -> None:
        super().__init__()
        dim = patch_size * patch_size * 3
        # Parameters rather than buffers: diffusers reads a model's dtype and device from its parameters.
        self.mean = nn.Parameter(torch.zeros(dim), requires_grad=False)
        self.components = nn.Parameter(torch.zeros(dim, latent_channels), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(latent_channels), requires_grad=False)
        # The pipeline normalises latents by these two; the scale above has done it already.
        self.register_buffer("latents_mean", torch.zeros(latent_channels))
        self.register_buffer("latents_std", torch.ones(latent_channels))
        self.refiner = Refiner(refiner_channels)
        self.spatial_compression_ratio = patch_size
        self.temporal_compression_ratio = 1

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
        scale *= (deviations / scale).pow(2).mean().sqrt() / self.config.latent_rms
        self.mean.copy_(mean)
        self.components.copy_(vectors[:, -channels:].flip(1))
        self.scale.copy_(scale)
        return deviations

    def patchify(self, video: Tensor) -> Tensor:
        """`[B, 3, F, H, W]` -> `[B, F, h, w, D]`."""
        size = self.config.patch_size
        height, width = video.shape[-2:]
        if height % size or width % size:
            raise ValueError(f"PatchCodec needs sides that are multiples of {size}, got {width}x{height}")
        return functional.pixel_unshuffle(video.transpose(1, 2), size).movedim(2, -1)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """The inverse of `patchify`."""
        return functional.pixel_shuffle(patches.movedim(-1, 2), self.config.patch_size).transpose(1, 2)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        latents = ((self.patchify(x) - self.mean) @ self.components / self.scale).movedim(-1, 1)
        # The code is deterministic: a normal distribution of (numerically) no width.
        posterior = DiagonalGaussianDistribution(torch.cat([latents, torch.full_like(latents, -30.0)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode_patches(self, z: Tensor) -> Tensor:
        """Latents to `[B, 3, F, H, W]` without the refiner: exact inverse of `encode` within the kept components."""
        return self.unpatchify((z.movedim(1, -1) * self.scale) @ self.components.T + self.mean)

    def decode(
        self, z: Tensor, timestep: Tensor | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        video = self.decode_patches(z)
        refined = self.refiner(video.transpose(1, 2).flatten(0, 1))
        video = refined.unflatten(0, (z.shape[0], -1)).transpose(1, 2)
        return DecoderOutput(sample=video) if return_dict else (video,)


class Refiner(nn.Module):
    """A small U-Net that takes away patch seams and sharpens edges; `[N, 3, H, W]` -> same, sides multiples of 16.

    Works at a half down to a sixteenth of the size: a patch is 16 pixels wide, so a seam is only seen from afar. What
    comes back up is enlarged without looking around, as the convolution after it does that: most of the work is at the
    largest size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels, channels * 3 // 2, channels * 2, channels * 2]
        self.enter = nn.Conv2d(12, channels, 3, padding=1)
        self.down = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)]
        )
        self.middle = nn.ModuleList([Residual(widths[-1]) for _ in range(3)])
        self.up = nn.ModuleList([nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)])
        self.join = nn.ModuleList([Residual(width) for width in widths[-2::-1]])
        self.leave = nn.Conv2d(channels, 12, 3, padding=1)
        for parameter in self.leave.parameters():  # an untrained refiner changes nothing
            nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor) -> Tensor:
        # Channels last: processors convolve so a fifth faster. What comes of it is laid out alike.
        x = self.enter(functional.pixel_unshuffle(pictures, 2).contiguous(memory_format=torch.channels_last))
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
    """`x + a convolution of it`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(functional.silu(x))
