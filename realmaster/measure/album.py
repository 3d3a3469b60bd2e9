"""The pictures of a report, gathered while a clip is scored: a sheet, the worst frames, and maps of where.

Works on moments as the scorer leaves them. Keeps a handful of pictures, whatever the length of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from capture.pictures import shrink
from realmaster.measure import structure, temporal
from realmaster.measure.moment import LIFTED, REFERENCE, RENDER, Moment

WIDEST = 640
"""Pixels at which pictures are kept."""

COLUMNS = 4
"""Frames on the sheet."""

APART = 8
"""Frames between two worst frames of the same kind: neighbours show the same fault."""

SHOWN = 2
"""Worst frames of each kind."""


@dataclass(frozen=True)
class Where:
    """A kind of map: what it shows and which frames are worst by it."""

    title: str
    map: Callable[[Moment], Tensor | None]
    """[P, H, W], or None where it cannot be drawn."""
    full: float
    """The value that is drawn at full heat in a single frame."""
    badness: Callable[[Mapping[str, Mapping[str, float]]], float]
    """How bad a frame is, from its scores by video; nan where it is not known."""
    reading: str


def distance(moment: Moment) -> Tensor | None:
    """[P, H, W]: mean absolute difference of colours to the reference, in [0, 1]; None without one."""
    if REFERENCE not in moment.names:
        return None
    return (moment.pictures - moment.pictures[moment.names.index(REFERENCE)]).abs().mean(1)


def _beyond(score: str, sign: float) -> Callable[[Mapping[str, Mapping[str, float]]], float]:
    """How much worse the lift is than the render; sign is 1 where more is worse."""
    nan = float("nan")
    return lambda scores: sign * (scores[LIFTED].get(score, nan) - scores[RENDER].get(score, nan))


WHERE = {
    "edges": Where(
        "edges missed", structure.misses, 1.0, _beyond("depth_edge_alignment", -1),
        "the engine's depth and normal edges that the lift does not show",
    ),
    "warp": Where(
        "warp error", temporal.warp_error, 0.2, _beyond("warp_error", 1),
        "what changes although the engine says that it holds still",
    ),
    "reference": Where(
        "distance to the reference", distance, 0.35, lambda scores: -scores[LIFTED].get("psnr", float("nan")),
        "where the lift differs from the reference",
    ),
}  # fmt: skip


@dataclass
class Page:
    """One frame: its pictures by name, uint8 [H, W, 3], at most `WIDEST` wide."""

    index: int
    pictures: dict[str, np.ndarray]
    badness: float = 0.0


@dataclass
class Album:
    """Add every moment after it was scored; then read `sheet`, `worst` and `maps`."""

    worst: dict[str, list[Page]] = field(default_factory=dict)
    """Kind of WHERE -> its worst frames, the worst first; `heat` is among their pictures."""
    _kept: list[Page] = field(default_factory=list)
    _stride: int = 1
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _ground: Tensor | None = None
    _frames: int = 0

    @torch.inference_mode()
    def add(self, moment: Moment, scores: Mapping[str, Mapping[str, float]]) -> None:
        """scores: video -> score -> its value at this frame."""
        self._frames += 1
        if moment.index % self._stride == 0:
            self._kept.append(_page(moment))
            if len(self._kept) > 4 * COLUMNS:
                self._kept, self._stride = self._kept[::2], self._stride * 2
        luma = moment.luma[0]
        if self._ground is None:
            self._ground = torch.zeros_like(luma)
        if luma.shape != self._ground.shape:
            return
        self._ground += luma
        for kind, where in WHERE.items():
            values = where.map(moment)
            if values is None:
                continue
            heat = values[0]
            self._sums[kind] = self._sums.get(kind, torch.zeros_like(heat)) + heat
            self._counts[kind] = self._counts.get(kind, 0) + 1
            badness = where.badness(scores)
            if np.isfinite(badness):
                self._offer(kind, moment, badness, heat, where.full)

    def _offer(self, kind: str, moment: Moment, badness: float, heat: Tensor, full: float) -> None:
        pages = self.worst.setdefault(kind, [])
        near = [page for page in pages if abs(page.index - moment.index) < APART]
        if any(page.badness >= badness for page in near):
            return
        others = [page for page in pages if page not in near]
        if len(others) >= SHOWN and others[-1].badness >= badness:
            return
        page = _page(moment)
        page.badness = badness
        page.pictures["heat"] = shrink(overlay(moment.luma[0], heat / full), WIDEST)
        self.worst[kind] = sorted([*others, page], key=lambda page: -page.badness)[:SHOWN]

    @property
    def sheet(self) -> list[Page]:
        """Frames spread evenly over the clip."""
        places = np.linspace(0, len(self._kept) - 1, min(COLUMNS, len(self._kept)))
        return [self._kept[round(place)] for place in places]

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Kind of WHERE -> the clip's mean map over its mean picture, uint8 [H, W, 3]; full heat is its hottest
        thousandth."""
        drawn = {}
        for kind, total in self._sums.items():
            mean = total / self._counts[kind]
            full = float(torch.quantile(mean.flatten()[:: max(1, mean.numel() // 1_000_000)], 0.999))
            assert self._ground is not None
            drawn[kind] = shrink(overlay(self._ground / self._frames, mean / max(full, 1e-6)), WIDEST)
        return drawn


def _page(moment: Moment) -> Page:
    pictures = (moment.pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    by_name = dict(zip(moment.names, pictures, strict=True))
    return Page(
        moment.index, {name: shrink(by_name[name], WIDEST) for name in (RENDER, LIFTED, REFERENCE) if name in by_name}
    )


def overlay(ground: Tensor, heat: Tensor) -> np.ndarray:
    """Heat `[H, W]` in [0, 1] glowing over a dim grey picture `[H, W]` in [0, 1]; uint8 [H, W, 3]."""
    heat = heat.clamp(0, 1)
    # Black body: red, then yellow, then white.
    glow = torch.stack(
        [(heat * 2.2).clamp(0, 1), (heat * 2.0 - 0.6).clamp(0, 1), (heat * 2.5 - 1.6).clamp(0, 1)], dim=-1
    )
    dim = (0.07 + 0.38 * ground)[..., None] * torch.tensor([0.86, 0.95, 1.1])
    alpha = heat.sqrt()[..., None]
    return ((dim * (1 - alpha) + glow * alpha).clamp(0, 1) * 255).round().byte().numpy()
