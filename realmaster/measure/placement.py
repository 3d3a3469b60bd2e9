"""Does the lift lie where the geometry lies, and does each frame show its own moment.

Both compare how steep the pictures are at the engine's edges with how steep they are beside them, or at the edges of
other frames; the untouched render says how large such differences are when all is right.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realmaster.measure.moment import Moment
from realmaster.measure.rows import Rows
from realmaster.measure.structure import anchors, dilate

LARGEST_SIDE = 640
"""Displacements are looked for at this width at most; the peak is found to a fraction of a pixel."""

LONGEST = 5000
"""Frames of a clip up to which all are compared with all, when some show another moment."""


class Displacement:
    """By how many pixels a lift lies beside the geometry: the shift at which its edges fit the engine's best.

    Cross-correlation of steepness with the engine's edges, summed over the clip (by FFT); the render's own best shift
    is taken off, for edge pixels lie on the nearer side of a step.
    """

    gives = ("displacement", "displacement_x", "displacement_y")

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._scale = 1.0

    def add(self, moment: Moment) -> dict[str, Tensor]:
        table, self._scale = shifts(anchors(moment), moment.steepness)
        if self._sum is None:
            self._sum = torch.zeros_like(table)
        if self._sum.shape == table.shape:
            self._sum += table
        return {}

    def summary(self) -> dict[str, list[float]]:
        """displacement_x, displacement_y in pixels, right and down; displacement, their length. One value each for
        every picture; nan where no shift fits clearly better than others."""
        if self._sum is None:
            return {}
        peaks = [peak(table) for table in self._sum]
        zero = peaks[1]
        values: dict[str, list[float]] = {"displacement_x": [], "displacement_y": [], "displacement": []}
        for shift in peaks:
            x = y = float("nan")
            if shift is not None and zero is not None:
                x, y = ((a - b) * self._scale for a, b in zip(shift, zero, strict=True))
            values["displacement_x"].append(x)
            values["displacement_y"].append(y)
            values["displacement"].append((x * x + y * y) ** 0.5)
        return values

    def is_clear(self, picture: int) -> bool:
        """Whether the best shift of a picture fits clearly better than the render's: in a blurred picture many fit."""
        if self._sum is None:
            return False
        table, place = self._sum[picture], int(self._sum[1].argmax())
        top = float(table.max())
        return top - float(table.flatten()[place]) > 0.05 * (top - float(table.mean()))


def shifts(expected: Tensor, steep: Tensor) -> tuple[Tensor, float]:
    """([P, 2 reach + 1, 2 reach + 1], scale): mean steepness of pictures `[P, H, W]` at the expected edges `[H, W]`
    when these are moved by (dy, dx) steps, each of so many pixels."""
    halvings = 0
    while expected.shape[-1] >> halvings > LARGEST_SIDE:
        halvings += 1
    if halvings:
        expected, steep = (F.avg_pool2d(x[:, None], 2**halvings)[:, 0] for x in (expected[None], steep))
        expected = expected[0]
    height, width = expected.shape
    reach = max(4, width // 40)
    reach_y, reach_x = min(reach, (height - 1) // 2), min(reach, (width - 1) // 2)
    centred = steep - steep.mean((1, 2), keepdim=True)
    product = torch.fft.rfft2(expected).conj() * torch.fft.rfft2(centred)
    table = torch.fft.irfft2(product, s=(height, width)) / expected.sum().clamp_min(1e-6)
    rows = torch.arange(-reach_y, reach_y + 1) % height
    columns = torch.arange(-reach_x, reach_x + 1) % width
    return table[:, rows[:, None], columns], float(2**halvings)


def peak(table: Tensor) -> tuple[float, float] | None:
    """(x, y) of the highest point of a table of shifts, to a fraction by a parabola; None where it does not stand out:
    fewer than 3 deviations over the mean."""
    rows, columns = table.shape
    if float(table.max() - table.mean()) < 3 * float(table.std()) or float(table.max()) <= 0:
        return None
    top = int(table.argmax())
    y, x = top // columns, top % columns

    def vertex(before: float, at: float, after: float) -> float:
        bend = before - 2 * at + after
        return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))

    dx = vertex(*table[y, x - 1 : x + 2].tolist()) if 0 < x < columns - 1 else 0.0
    dy = vertex(*table[y - 1 : y + 2, x].tolist()) if 0 < y < rows - 1 else 0.0
    return x + dx - columns // 2, y + dy - rows // 2


@dataclass
class _Fit:
    """How much better one frame's pictures fit its own edges than those of the frames around it."""

    index: int
    others: dict[int, list[float]] = field(default_factory=dict)
    """Frame distance -> [P]: steepness at edges that only this frame has, minus that at edges that only the other
    has."""


@dataclass(frozen=True)
class Misplaced:
    """A frame of a lift that does not show its own moment."""

    frame: int
    distance: int
    """It shows the edges of the frame so many frames later; 0 where it shows none of its neighbours'."""


class FrameOrder:
    """Does each frame show its own moment: edges that only this frame has against edges that only a neighbour has.

    What a frame's preference for its own edges should be, the render tells, and how much of that a lift keeps (blurred
    or moved aside, it keeps less), the clip as a whole. A frame that keeps far less, or prefers a neighbour's edges, is
    out of place. Frames that a still camera leaves alike are not judged.
    """

    gives = ("frame_order",)
    REACH = 2
    FEWEST = 40
    """Pixels of edges that differ between two frames, below which nothing is asked."""

    def __init__(self) -> None:
        self._recent: deque[tuple[_Fit, Tensor, Tensor, Tensor]] = deque(maxlen=self.REACH)
        self._fits: list[_Fit] = []
        self._thumbnails = Rows("float16")  # [2, 18 * 32]: how steep the lift and the render are

    def add(self, moment: Moment) -> dict[str, Tensor]:
        own = anchors(moment) > 0
        near = dilate(own[None])[0]
        fit = _Fit(moment.index)
        if moment.previous is None:
            self._recent.clear()
        for distance, (other, other_own, other_near, other_steep) in enumerate(reversed(self._recent), start=1):
            only_here, only_there = own & ~other_near, other_own & ~near
            if min(int(only_here.sum()), int(only_there.sum())) < self.FEWEST:
                continue
            # Plain numbers: small tensors that stay would keep the memory of large ones that go from being given back.
            fit.others[-distance] = (_mean(moment.steepness, only_here) - _mean(moment.steepness, only_there)).tolist()
            other.others[distance] = (_mean(other_steep, only_there) - _mean(other_steep, only_here)).tolist()
        self._fits.append(fit)
        if len(self._thumbnails) <= LONGEST:  # of a longer clip they are not looked at
            self._thumbnails.append(F.adaptive_avg_pool2d(moment.steepness[:2], (18, 32)).flatten(1))
        self._recent.append((fit, own, near, moment.steepness))
        return {}

    def _shares(self, picture: int) -> dict[int, dict[int, float]]:
        """Frame -> distance -> a picture's preference for its own edges over the render's."""
        return {
            fit.index: shares
            for fit in self._fits
            if (shares := {d: v[picture] / v[1] for d, v in fit.others.items() if v[1] > 0.1})
        }

    def misplaced(self, picture: int = 0) -> list[Misplaced] | None:
        """The frames out of place; None where nothing can be said: too few frames, or a lift that keeps too little
        of the geometry to tell its frames apart."""
        shares = self._shares(picture)
        if len(shares) < 3:
            return None
        typical = float(np.median([share for each in shares.values() for share in each.values()]))
        at = {distance: [each[distance] for each in shares.values() if distance in each] for distance in (-1, 1)}
        lag = min(at, key=lambda distance: float(np.median(at[distance])) if at[distance] else 0.0)
        if at[lag] and float(np.median(at[lag])) < -0.3:  # the whole clip, or most of it, is early or late
            return [Misplaced(frame, lag) for frame, each in shares.items() if each.get(lag, 0.0) < -0.3]
        if typical < 0.3:  # neighbours cannot be told apart, far frames perhaps
            return (self._far() or None) if picture == 0 else None
        found = []
        for frame, each in shares.items():
            nearest = min(each, key=lambda distance: each[distance])
            if each[nearest] < -0.3 * typical:
                found.append(Misplaced(frame, nearest))
            elif float(np.mean(list(each.values()))) < 0.3 * typical:
                found.append(Misplaced(frame, 0))
        if picture == 0 and any(not each.distance for each in found):
            at_far = {each.frame: each for each in self._far()}
            found = [each if each.distance else at_far.get(each.frame, each) for each in found]
            if len(found) == 2 and self._would_fit_swapped(found[0].frame, found[1].frame):
                apart = found[1].frame - found[0].frame
                found = [Misplaced(found[0].frame, apart), Misplaced(found[1].frame, -apart)]
        return found

    def _far(self) -> list[Misplaced]:
        """The frames of the lift whose thumbnail of edges fits that of a far frame of the render clearly better."""
        if not 3 <= len(self._thumbnails) <= LONGEST:
            return []
        fit = self._fit()
        if float(fit.amax(1).median()) < 0.3:
            return []
        best = fit.argmax(1)
        clear = fit.amax(1) > fit.diagonal() + 0.1
        return [
            Misplaced(frame, other - frame)
            for frame, (other, sure) in enumerate(zip(best.tolist(), clear.tolist(), strict=True))
            if sure and abs(other - frame) > self.REACH
        ]

    def _fit(self) -> Tensor:
        """[frames, frames]: correlation of the thumbnails of the lift with those of the render, each without what all
        frames share."""
        lifted, render = torch.from_numpy(self._thumbnails.values).transpose(0, 1).float()  # [frames, cells]
        lifted, render = (F.normalize(each - each.mean(0), dim=1) for each in (lifted, render))
        return lifted @ render.T

    def _would_fit_swapped(self, a: int, b: int) -> bool:
        if len(self._thumbnails) > LONGEST:
            return False
        fit = self._fit()
        return bool(fit[a, b] > fit[a, a] and fit[b, a] > fit[b, b])

    def summary(self, pictures: int) -> dict[str, list[float]]:
        """frame_order: the share of judged frames that show their own moment, for each picture; nan where that cannot
        be said."""
        values = []
        for picture in range(pictures):
            found, judged = self.misplaced(picture), len(self._shares(picture))
            values.append(float("nan") if found is None else 1 - len(found) / judged)
        return {"frame_order": values}


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return values[:, mask].mean(1)
