"""Flow matching with a clean context: which noise levels are trained on, what the model is shown, what it should say.

Works on tensors; knows no model. With data x, noise e and noise level s in [0, 1] the noisy target is
(1 - s) x + s e, and the velocity to predict e - x (Lipman et al. 2023, "Flow Matching for Generative Modeling"; the
linear path). References are clean and have no loss; nor have target tokens that are given clean.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor

from realmaster.settings import Part

TAILS = (0.005, 0.999)
"""Quantiles of the logit-normal that become noise levels 0 and 1."""


class NoiseLevels(Part):
    """How often each noise level is trained on: a logit-normal, some uniform, some pure noise.

    The logit-normal leans towards noise the more tokens a clip has, as larger pictures keep their shape longer under
    noise (Esser et al. 2024, "Scaling Rectified Flow Transformers"), and is stretched so that it reaches 0 and 1. Mean
    and shares are by default those of LTX-2's published in-context recipe.
    """

    mean: float | None = Field(None, description="of the logit-normal; by default 0.95 at 1024 tokens to 2.05 at 4096")
    deviation: float = Field(1.0, gt=0.0, le=10.0, description="of the logit-normal")
    uniform: float = Field(0.1, ge=0.0, le=1.0, description="share of steps with a level drawn evenly")
    pure: float = Field(0.0, ge=0.0, le=1.0, description="share of steps from pure noise, for sampling in few steps")

    def draw(
        self,
        count: int,
        tokens: int,
        span: tuple[float, float] = (0.0, 1.0),
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Noise levels `[count]`, float32 on the CPU, for clips of so many target tokens.

        span: only levels in it, as one of several experts is trained; the distribution within stays as it is.
        """
        low, high = span
        kind, place = torch.rand(2, count, generator=generator, dtype=torch.float64)
        begin, end = self._quantiles_of(span, tokens)
        levels = self._level_at(begin + (end - begin) * place, tokens)
        levels = torch.where(kind < self.uniform, low + (high - low) * place, levels)
        if high == 1.0:
            levels = torch.where(kind >= 1 - self.pure, torch.ones(()), levels)
        return levels.clamp(max(low, 1e-3), high).float()

    @lru_cache(maxsize=1024)  # noqa: B019 (settings are few, and drawing is asked for at every update)
    def _normal(self, tokens: int) -> tuple[float, Tensor]:
        """Mean of the normal distribution, and the levels before stretching at `TAILS`."""
        share = (min(tokens, 4096) - 1024) / (4096 - 1024)
        mean = self.mean if self.mean is not None else 0.95 + share * (2.05 - 0.95)
        tails = torch.special.ndtri(torch.tensor(TAILS, dtype=torch.float64))
        return mean, torch.sigmoid(mean + self.deviation * tails)

    def _level_at(self, quantiles: Tensor, tokens: int) -> Tensor:
        mean, (least, most) = self._normal(tokens)
        plain = torch.sigmoid(mean + self.deviation * torch.special.ndtri(quantiles))
        return (plain - least) / (most - least)

    @lru_cache(maxsize=1024)  # noqa: B019
    def _quantiles_of(self, levels: tuple[float, ...], tokens: int) -> Tensor:
        """The inverse of `_level_at`."""
        mean, (least, most) = self._normal(tokens)
        plain = least + torch.tensor(levels, dtype=torch.float64) * (most - least)
        return torch.special.ndtr((torch.logit(plain) - mean) / self.deviation)


def noised(target: Tensor, noise: Tensor, levels: Tensor, known: Tensor | None = None) -> Tensor:
    """The target `[B, ...]` at noise levels `[B]`; where `known` (bool, broadcasts to target) it stays clean."""
    level = levels.view(-1, *[1] * (target.ndim - 1))
    noisy = (1 - level) * target + level * noise
    return noisy if known is None else torch.where(known, target, noisy)


def frames_apart(latents: Tensor) -> Tensor:
    """`[B, C, f, h, w]` -> `[B f, C, 1, h, w]`: each frame as a clip of its own."""
    return latents.transpose(1, 2).flatten(0, 1).unsqueeze(2)


def frames_together(clips: Tensor, count: int) -> Tensor:
    """The inverse of `frames_apart`: `[B f, C, 1, h, w]` -> `[B, C, f, h, w]`, B the count."""
    return clips.unflatten(0, (count, -1)).transpose(1, 2).flatten(2, 3)


def flow_loss(velocity: Tensor, target: Tensor, noise: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean squared error `[B]` of each sample's velocity `[B, ...]`, over what was not given clean."""
    error = (velocity.float() - (noise - target).float()).pow(2)
    if known is None:
        return error.flatten(1).mean(1)
    asked = (~known).expand_as(error)
    return (error * asked).flatten(1).sum(1) / asked.flatten(1).sum(1)
