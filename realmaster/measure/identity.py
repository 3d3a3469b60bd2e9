"""Does a thing stay the thing it was: the colour and texture of each instance over time.

Wants the engine's instance ids. Each instance is followed by a handful of numbers, whatever the length of the take.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from realmaster.measure.moment import LUMA, Moment

SMALLEST = 1 / 1000
"""Share of the picture that an instance must fill to be judged."""

SEEN = 4
"""Frames in which it must do so."""

AROUND = 3
"""Frames before and after a jump of colour that say whether it lasts."""

FEWEST = 16
"""Pixels that the render holds from frame to frame, below which nothing is said of an instance's step."""


@dataclass
class Track:
    """One instance over time, in P pictures."""

    count: int = 0
    pixels: float = 0.0
    """Sum over frames."""
    total: Tensor | float = 0.0
    """Sum over frames of [P, 3]: red and blue against luma, and the logarithm of the texture."""
    squares: Tensor | float = 0.0
    recent: deque[tuple[int, Tensor, Tensor | None]] = field(default_factory=lambda: deque(maxlen=2 * AROUND))
    """(frame, [P, 3] mean colour, [P, 3] step of the colour from the frame before) of the latest frames."""
    first: Tensor | None = None
    """[P, 3] mean colour of the first `AROUND` frames."""
    jump: float = 0.0
    """Largest change of the lift's colour from one frame to the next that lasts, beyond that of the controls."""
    jump_frame: int = 0

    def add(self, frame: int, color: Tensor, step: Tensor | None) -> None:
        """The instance's colour `[P, 3]` in the next frame that shows it, and its step along the motion."""
        self.recent.append((frame, color, step))
        colors = [color for _, color, _ in self.recent]
        if len(colors) == AROUND:
            self.first = torch.stack(colors).mean(0)
        if len(colors) < 2 * AROUND:
            return
        frame, _, step = self.recent[AROUND]
        if step is None:
            return
        lasting = torch.stack(colors[AROUND:]).mean(0) - torch.stack(colors[:AROUND]).mean(0)
        jump = min(beyond_controls(step), beyond_controls(lasting))
        if jump > self.jump:
            self.jump, self.jump_frame = jump, frame

    @property
    def turned(self) -> float:
        """How far the lift's hue has gone from the first frames to the last, beyond the controls."""
        if self.first is None or len(self.recent) < 2 * AROUND:
            return 0.0
        change = torch.stack([color for _, color, _ in self.recent][AROUND:]).mean(0) - self.first
        return beyond_controls(change - torch.einsum("pc,c->p", change, LUMA)[:, None])


def beyond_controls(change: Tensor) -> float:
    """Length of the lift's change of colour, of [P, 3], beyond that of the picture that changes most among the render
    and the reference."""
    lengths = change.norm(dim=1) / 3**0.5
    return float(lengths[0] - lengths[1:].max())


class Identity:
    """Follows the instances of a clip."""

    gives = ("identity_color", "identity_texture")

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}

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
        chroma = colors[:, [0, 2]] - torch.einsum("pci,c->pi", colors, LUMA)[:, None]
        looks = torch.cat([chroma, torch.log(texture + 2 / 255)[:, None]], dim=1)  # [P, 3, instances]
        steps, known = self._steps(moment, place, len(numbers))
        for column, i in enumerate(large):
            track = self.tracks.setdefault(int(numbers[i]), Track())
            track.count += 1
            track.pixels += float(counts[i])
            track.total = track.total + looks[..., column]
            track.squares = track.squares + looks[..., column] ** 2
            track.add(moment.index, colors[..., column], steps[..., i] if known[i] else None)
        return {}

    @staticmethod
    def _steps(moment: Moment, place: Tensor, count: int) -> tuple[Tensor, list[bool]]:
        """[P, 3, instances]: change of each one's mean colour over the pixels that the render holds, without the
        change of the picture as a whole; and for which there are pixels enough."""
        if moment.residual is None or moment.held is None or not bool(moment.held.any()):
            return torch.empty(0), [False] * count
        sums = _sums(moment.residual * moment.held, place, count)
        pixels = torch.bincount(place[moment.held.flatten()], minlength=count).float()
        whole = sums.sum(-1, keepdim=True) / pixels.sum()
        return sums / pixels.clamp_min(1) - whole, (pixels >= FEWEST).tolist()

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
