"""How near is a lift to the truth, and how fine: likeness to a reference, fine detail, patch seams, newness.

Likeness wants a reference: the engine's own high-quality shading of the same frames. The rest does without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from realmaster.measure.moment import REFERENCE, RENDER, Moment
from realmaster.measure.rows import Rows

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales (Wang et al., Multiscale Structural Similarity, 2003). Pictures of less than 176 pixels a side
have room for fewer; then the first scales' weights are brought to a sum of one."""

FEWEST_LATE = 500
"""Pixels of things that appeared later, in the whole clip, below which it says nothing of them; nor of fewer pixels of
what they are compared with."""


class Likeness:
    """PSNR, SSIM and MS-SSIM against the reference, frame by frame (torchmetrics). What appears in the middle of a clip
    is compared apart."""

    gives = ("psnr", "ssim", "ms_ssim", "psnr_late", "psnr_early", "psnr_rest", "drift_psnr", "drift_psnr_error")

    def __init__(self) -> None:
        self._errors: dict[str, Tensor] = {}
        self._pixels = {"late": 0, "early": 0, "rest": 0}

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """Values `[P]` of this frame: psnr (dB), ssim, ms_ssim. The reference itself gets none (nan)."""
        if REFERENCE not in moment.names:
            return {}
        from torchmetrics.functional.image import (
            multiscale_structural_similarity_index_measure,
            structural_similarity_index_measure,
        )

        own = moment.names.index(REFERENCE)
        pictures, truth = moment.pictures[:own], moment.pictures[own:].expand(own, -1, -1, -1)
        error = (pictures - truth).square().mean(1)  # [P - 1, H, W]
        values = {"psnr": decibels(error.mean((1, 2)))}
        self._add_late(moment, error)
        if min(moment.shape) >= 11:
            values["ssim"] = structural_similarity_index_measure(pictures, truth, data_range=1.0, reduction="none")
        if scales := ms_ssim_scales(min(moment.shape)):
            weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
            values["ms_ssim"] = multiscale_structural_similarity_index_measure(
                pictures, truth, data_range=1.0, betas=tuple(weights.tolist()), normalize="relu", reduction="none"
            )
        return {name: torch.cat([value, torch.full((1,), torch.nan)]) for name, value in values.items()}

    def _add_late(self, moment: Moment, error: Tensor) -> None:
        if moment.late is None or moment.early is None:
            return
        for name, mask in (("late", moment.late), ("early", moment.early), ("rest", ~moment.late)):
            self._pixels[name] += int(mask.sum())
            self._errors[name] = self._errors.get(name, torch.zeros(len(error))) + error[:, mask].sum(1)

    def summary(self) -> dict[str, list[float]]:
        """psnr_late, psnr_early, psnr_rest in dB: of all pixels together that show instances which the clip's first
        frame does not show, instances that it shows, and anything but the former."""
        if self._pixels["late"] < FEWEST_LATE:
            return {}
        said = [name for name, pixels in self._pixels.items() if pixels >= FEWEST_LATE]
        means = {name: decibels(self._errors[name] / self._pixels[name]) for name in said}
        return {f"psnr_{name}": [*value.tolist(), float("nan")] for name, value in means.items()}


def ms_ssim_scales(side: int) -> int:
    """How many scales the shorter side of a picture has room for, by torchmetrics' rule; 0 where fewer than two."""
    fitting = [scales for scales in range(2, len(MS_SSIM_WEIGHTS) + 1) if side // (scales - 1) ** 2 >= 11]
    return max(fitting, default=0)


def decibels(mean_square: Tensor) -> Tensor:
    """PSNR of a mean square error of values in [0, 1]; at most 100 dB."""
    return -10 * torch.log10(mean_square.clamp_min(1e-10))


class Detail:
    """Fine detail: the root mean square of what a mean of 5 x 5 pixels takes away from brightness."""

    gives = ("detail_ratio", "detail_to_render", "drift_detail")

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """Value `[P]` of this frame: detail, in [0, 1] of the range."""
        return {"detail": moment.fine.square().mean((1, 2)).sqrt()}


@dataclass(frozen=True)
class Seam:
    """A grid of steps that lies still in a video while the world moves: the patches of the model show through."""

    period: int
    """Pixels between two lines."""
    offset: int
    """Of the first line: a step between this pixel and the one before it."""
    excess: float
    """How much steeper the picture is on the grid than beside it: 0.1 is a tenth more."""
    certainty: float
    """In standard errors."""


PERIODS = range(4, 65)
LARGEST_STEP = 0.1
"""Steps count up to this much, so that the edges of things do not drown those of patches."""

CERTAIN = 6.0
"""Standard errors from which a grid is believed; a search over all periods and offsets finds 4 by chance."""


class Seams:
    """Mean step between neighbouring columns and rows, over the whole clip; a grid stands out of it."""

    gives = ("seams",)

    def __init__(self, period: int | None = None) -> None:
        self._period = period
        self._profiles: list[Tensor] = []  # along x [P, W - 1], along y [P, H - 1]

    def add(self, moment: Moment) -> dict[str, Tensor]:
        steps = [
            moment.luma.diff(dim=2).abs().clamp_max(0.1).mean(1),
            moment.luma.diff(dim=1).abs().clamp_max(0.1).mean(2),
        ]
        if not self._profiles:
            self._profiles = steps
        elif all(a.shape == b.shape for a, b in zip(self._profiles, steps, strict=True)):
            self._profiles = [a + b for a, b in zip(self._profiles, steps, strict=True)]
        return {}

    def find(self, picture: int) -> Seam | None:
        """The grid that stands out most in a picture (0 is the lift); None where there is too little to tell."""
        ratios = self._ratios(picture)
        if not ratios:
            return None
        everything = np.concatenate([ratio[np.isfinite(ratio)] for ratio in ratios])
        if len(everything) < 16:
            return None
        low, middle = np.quantile(everything, (0.16, 0.5))
        spread = max(float(middle - low), 0.01)  # of the lower half, where no grid is
        best: tuple[float, int, int] | None = None
        for period in PERIODS if self._period is None else (self._period,):
            total, lines = np.zeros(period), np.zeros(period)
            for ratio in ratios:
                known = np.isfinite(ratio)
                clipped = np.where(known, np.clip((ratio - middle) / spread, -4, 4), 0.0)
                for sums, values in ((total, clipped), (lines, known.astype(float))):
                    sums += np.pad(values, (0, -len(values) % period)).reshape(-1, period).sum(0)
            certainties = np.where(lines >= 4, total / np.sqrt(np.maximum(lines, 1)), -np.inf)
            place = int(certainties.argmax())
            if np.isfinite(certainties[place]) and (best is None or certainties[place] > best[0]):
                best = float(certainties[place]), period, (place + 1) % period
        if best is None:
            return None
        certainty, period, offset = best
        return Seam(period, offset, _excess(ratios, period, offset), certainty)

    def excess(self, picture: int, seam: Seam) -> float:
        """How much steeper a picture is on a grid that was found in another; nan where there is too little to tell."""
        return _excess(self._ratios(picture), seam.period, seam.offset)

    def summary(self, pictures: int) -> dict[str, list[float]]:
        """seams: excess gradient on the grid that the lift shows most, for every picture."""
        seam = self.find(0)
        return {} if seam is None else {"seams": [self.excess(picture, seam) for picture in range(pictures)]}

    def _ratios(self, picture: int) -> list[np.ndarray]:
        return [_over_neighbours(profile[picture].numpy()) for profile in self._profiles]


def _over_neighbours(profile: np.ndarray) -> np.ndarray:
    """log of each step over the median of the two on each side of it, nan at the ends."""
    out = np.full(len(profile), np.nan)
    if len(profile) < 5:
        return out
    around = np.median(np.stack([profile[:-4], profile[1:-3], profile[3:-1], profile[4:]]), axis=0)
    out[2:-2] = np.log((profile[2:-2] + 1e-4) / (around + 1e-4))
    return out


def _excess(ratios: list[np.ndarray], period: int, offset: int) -> float:
    """By which share steps on a grid are larger than beside it. A step between pixels i and i + 1 stands at i, so a
    grid of lines at offset + k period is of steps offset - 1 + k period."""
    on, off = [], []
    for ratio in ratios:
        line = np.arange(len(ratio)) % period == (offset - 1) % period
        on.append(ratio[line & np.isfinite(ratio)])
        off.append(ratio[~line & np.isfinite(ratio)])
    here, there = np.concatenate(on), np.concatenate(off)
    if not len(here) or not len(there):
        return float("nan")
    return max(0.0, float(np.exp(np.median(here) - np.median(there)) - 1))


class Grade:
    """What a colour grade of the render explains of a picture, and how that grade changes over a take.

    A grade is an affine map of colours, fitted by least squares over the clip.
    """

    gives = ("novelty", "drift_color")
    STRIDE = 3

    def __init__(self) -> None:
        self._xx, self._xy, self._yy = Rows(), Rows(), Rows()

    def __len__(self) -> int:
        """Frames."""
        return len(self._xx)

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each frame, means over pixels: x x^T [N, 4, 4], x y^T [N, P, 4, 3], y^2 [N, P, 3], of x = (1, render
        colour) and y = the picture's colour."""
        return self._xx.values, self._xy.values, self._yy.values

    def add(self, moment: Moment) -> dict[str, Tensor]:
        sampled = moment.pictures[:, :, :: self.STRIDE, :: self.STRIDE].flatten(2).double()  # [P, 3, N]
        render = sampled[moment.names.index(RENDER)]
        x = torch.cat([torch.ones_like(render[:1]), render])  # [4, N]
        count = x.shape[1]
        self._xx.append(x @ x.T / count)
        self._xy.append(torch.einsum("an,pcn->pac", x, sampled) / count)
        self._yy.append(sampled.square().mean(2))
        return {}

    def summary(self) -> dict[str, list[float]]:
        """novelty: the share of a picture's variance that no colour grade of the render explains, 0 for a copy."""
        if not len(self):
            return {}
        xx, xy, yy = (np.mean(part, axis=0) for part in self.moments)
        values = []
        for cross, square in zip(xy, yy, strict=True):
            fit = np.linalg.lstsq(xx, cross, rcond=1e-9)[0]
            left = square - 2 * (fit * cross).sum(0) + np.einsum("ac,ab,bc->c", fit, xx, fit)
            spread = (square - cross[0] ** 2).sum()
            values.append(float(np.clip(left.sum() / max(spread, 1e-9), 0, 1)) if spread > 1e-6 else 0.0)
        return {"novelty": values}
