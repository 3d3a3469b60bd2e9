"""Does a thing stay the thing it was: the colour and texture of each instance over time.

Wants the engine's instance ids. Each instance is followed by a handful of numbers, whatever the length of the take.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from realmaster.measure.moment import LUMA, Moment

SMALLEST = 1 / 1000
"""Share of the picture that an instance must fill to be judged."""

SEEN = 4
"""Frames in which it must do so."""


@dataclass
class Track:
    """One instance over time; colours are of P pictures."""

    count: int = 0
    pixels: float = 0.0
    """Sum over frames."""
    total: Tensor | float = 0.0
    """Sum over frames of [P, 3]: two chroma components, and log texture."""
    squares: Tensor | float = 0.0
    wandered: Tensor | float = 0.0
    """[P, 3]: how far the mean colour has come along the engine's motion, step by step."""
    jump: float = 0.0
    """Largest step of the lift's colour beyond that of the rest of the picture and that of the render."""
    jump_frame: int = 0
    jumps: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """An instance that is not what it was."""

    instance: int
    frame: int
    """Where its colour jumps, or where it has wandered to."""
    size: float
    """How far, in [0, 1] of the colour range."""
    sudden: bool


class Identity:
    """Follows the instances of a clip."""

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self._steps = np.zeros(256, np.int64)  # histogram of all instances' steps, 1/512 each

    def add(self, moment: Moment) -> dict[str, Tensor]:
        ids = moment.instance
        if ids is None:
            return {}
        numbers, where = _compact(ids)
        counts = np.bincount(where.ravel(), minlength=len(numbers))
        large = [i for i in np.flatnonzero(counts >= SMALLEST * ids.size).tolist() if numbers[i] != 0]
        if not large:
            return {}
        place = torch.from_numpy(where.ravel())
        colors = _means(moment.pictures, place, len(numbers))[..., large]  # [P, 3, instances]
        texture = _means(moment.fine.abs()[:, None], place, len(numbers))[:, 0, large]
        chroma = colors[:, [0, 2]] - torch.einsum("pci,c->pi", colors, LUMA)[:, None]  # red and blue against luma
        looks = torch.cat([chroma, torch.log(texture + 2 / 255)[:, None]], dim=1)  # [P, 3, instances]
        steps = self._tracked_steps(moment, place, len(numbers))
        for column, i in enumerate(large):
            track = self.tracks.setdefault(int(numbers[i]), Track())
            weight = float(counts[i])
            track.count += 1
            track.pixels += weight
            track.total = track.total + looks[..., column]
            track.squares = track.squares + looks[..., column] ** 2
            if steps is not None and bool(torch.isfinite(steps[..., i]).all()):
                step = steps[..., i]  # [P, 3]
                track.wandered = track.wandered + step
                size = float(step[0].norm() - step[1].norm()) / 3**0.5
                self._steps[min(255, max(0, int(size * 512)))] += 1
                if size > track.jump:
                    track.jump, track.jump_frame = size, moment.index
        return {}

    @staticmethod
    def _tracked_steps(moment: Moment, place: Tensor, count: int) -> Tensor | None:
        """[P, 3, instances]: change of each one's mean colour over the pixels that the render holds, without the
        change of the picture as a whole; nan where there are too few."""
        if moment.residual is None or moment.held is None or not bool(moment.held.any()):
            return None
        held = moment.held.flatten()
        sums = _sums(moment.residual * moment.held, place, count)
        pixels = torch.bincount(place[held], minlength=count).float()
        whole = sums.sum(-1, keepdim=True) / pixels.sum()
        steps = sums / pixels.clamp_min(1) - whole
        return torch.where(pixels >= 16, steps, torch.nan)

    def summary(self) -> dict[str, list[float]]:
        """identity_color, identity_texture: standard deviation over time of an instance's chroma (in [0, 1]) and of
        the logarithm of its texture, mean over the instances, each by the pixels it has shown."""
        judged = [track for track in self.tracks.values() if track.count >= SEEN]
        if not judged:
            return {}
        weights = torch.tensor([track.pixels for track in judged])
        spread = torch.stack([_deviation(track) for track in judged])  # [tracks, P, 3]
        mean = (spread * weights[:, None, None]).sum(0) / weights.sum()
        return {"identity_color": mean[:, :2].norm(dim=1).tolist(), "identity_texture": mean[:, 2].tolist()}

    @property
    def usual_step(self) -> float:
        """The step in colour from frame to frame that 19 of 20 instances stay below."""
        total = self._steps.sum()
        return float(np.searchsorted(self._steps.cumsum(), 0.95 * total) + 1) / 512 if total else 0.0


def _deviation(track: Track) -> Tensor:
    assert isinstance(track.total, Tensor) and isinstance(track.squares, Tensor)
    mean = track.total / track.count
    return (track.squares / track.count - mean**2).clamp_min(0).sqrt()


def _compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids that there are, and for each pixel the place of its id among them."""
    if int(ids.max()) > 1 << 20:
        numbers, where = np.unique(ids, return_inverse=True)
        return numbers, where.reshape(ids.shape)
    numbers = np.flatnonzero(np.bincount(ids.ravel()))
    table = np.zeros(int(numbers[-1]) + 1, np.int64)
    table[numbers] = np.arange(len(numbers))
    return numbers, table[ids]


def _sums(values: Tensor, place: Tensor, count: int) -> Tensor:
    """[P, C, count]: sums of `[P, C, H, W]` over the pixels of each place `[H * W]`."""
    flat = values.flatten(2)
    return torch.zeros(*flat.shape[:2], count).index_add_(2, place, flat)


def _means(values: Tensor, place: Tensor, count: int) -> Tensor:
    return _sums(values, place, count) / torch.bincount(place, minlength=count).clamp_min(1)
