"""What a lift will look like, seen while it is sampled: the clean video that the model expects at each step, decoded
small and fast.

Works on latents as a pipeline's scheduler has them (normalised) and on pictures; knows no model family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Decoder = Callable[[Tensor], Tensor]
"""Latents `[C, F, h, w]` -> pictures `[F, H, W, 3]`, about in [0, 1]."""

SIDE = 512
"""Of the pictures that a linear decoder is fitted on, pixels: enough latents for more unknowns than any codec has."""
SHRINK = 4
"""A linear decoder's pictures are so many times smaller than the codec's, along each side."""
RIDGE = 1e-4
"""Of the fit, as a share of the latents' mean square."""


@contextmanager
def watching(scheduler: Any, show: Callable[[Tensor], None]) -> Iterator[None]:
    """Show the clean latents that each step expects, in the shape that the pipeline has them.

    Flow matching: of the latents x_s at noise level s and the velocity v, all guidance in it, x_0 = x_s - s v.
    """

    def watched(self: Any, velocity: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        done = type(self).step(self, velocity, timestep, sample, *args, **kwargs)
        if self is scheduler:  # a pipeline may copy it, for sound
            level = float(self.sigmas[self.step_index - 1])  # it counts on as it steps
            show(sample.float() - level * velocity.float())
        return done

    scheduler.step = MethodType(watched, scheduler)
    try:
        yield
    finally:
        del scheduler.step


def tiny_decoder(model: Any) -> Decoder:
    """A tiny VAE (diffusers' `AutoencoderTiny`), which takes latents picture by picture."""

    def decode(latents: Tensor) -> Tensor:
        pictures = latents.transpose(0, 1).to(model.device, model.dtype)
        return model.decode(pictures).sample.float().cpu().permute(0, 2, 3, 1) / 2 + 0.5

    return decode


def linear_decoder(encode: Callable[[Tensor], Tensor], frames: int) -> Decoder:
    """What stands in where nobody has trained a tiny VAE: pictures as a linear function of their latents, each of which
    becomes a small patch; fitted on clips of `frames` pictures that `encode`, `[T, H, W, 3]` in [0, 1] -> latents
    `[C, F, h, w]`, encodes.

    The pictures are noise whose power falls with the square of the frequency, as that of natural ones does (Field
    1987), and in any colour: a fit on one scene would know its colours alone.
    """
    pictures = torch.stack([natural_noise(SIDE, seed) for seed in range(2)])
    latents = torch.cat([encode(picture.expand(frames, -1, -1, -1)) for picture in pictures], dim=1)
    shown = pictures.repeat_interleave(latents.shape[1] // len(pictures), dim=0)  # nothing moves in a clip
    patch = max(1, SIDE // latents.shape[-1] // SHRINK)
    small = functional.adaptive_avg_pool2d(shown.permute(0, 3, 1, 2), patch * latents.shape[-1])
    wanted = functional.pixel_unshuffle(small, patch).permute(0, 2, 3, 1).flatten(0, 2).double()
    given = _with_one(latents.cpu()).flatten(0, 2).double()
    square = given.T @ given
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weights = torch.linalg.solve(square, given.T @ wanted).float()

    def decode(latents: Tensor) -> Tensor:
        patches = (_with_one(latents.cpu()) @ weights).permute(0, 3, 1, 2)
        return functional.pixel_shuffle(patches, patch).permute(0, 2, 3, 1)

    return decode


def _with_one(latents: Tensor) -> Tensor:
    """`[C, F, h, w]` -> `[F, h, w, C + 1]`, the last always 1."""
    return functional.pad(latents.float().permute(1, 2, 3, 0), (0, 1), value=1.0)


def natural_noise(side: int, seed: int) -> Tensor:
    """A picture `[side, side, 3]` in [0, 1] of the spectrum of natural ones."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.randn(3, side, side, generator=generator))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    picture = torch.fft.irfft2(spectrum / (down**2 + across**2).sqrt().clamp(min=1 / side), s=(side, side))
    picture = picture / picture.std(dim=(1, 2), keepdim=True)
    return (0.5 + 0.2 * picture).clamp(0, 1).permute(1, 2, 0)
