"""Does a video hold still where the engine says that it does."""

from __future__ import annotations

from torch import Tensor

from realmaster.measure.moment import Moment

FEWEST_LATE = 100
"""Pixels of things that appeared later, below which a frame says nothing of them."""


class Steadiness:
    """How much pictures change from one frame to the next, with the engine's motion taken out and without."""

    gives = ("warp_error", "warp_error_late", "flicker_ratio", "color_jump")

    def add(self, moment: Moment) -> dict[str, Tensor]:
        """Values `[P]` of this frame, none at the first one:

        frame_change: mean absolute change of pixels, motion and all.
        warp_error: mean absolute difference from the last frame moved here, over the pixels that the render holds.
        warp_error_late: the same over things that the clip's first frame does not show.
        color_jump: change of the mean colour of those pixels, the largest of the three components.
        """
        before = moment.previous
        if before is None:
            return {}
        values = {"frame_change": (moment.pictures - before.pictures).abs().mean((1, 2, 3))}
        if moment.residual is not None and moment.held is not None:
            if not bool(moment.held.any()):
                return values
            change = moment.residual[:, :, moment.held]
            values["warp_error"] = change.abs().mean((1, 2))
            if moment.late is not None and int((late := moment.held & moment.late).sum()) >= FEWEST_LATE:
                values["warp_error_late"] = moment.residual[:, :, late].abs().mean((1, 2))
        else:
            change = (moment.pictures - before.pictures).flatten(2)
        values["color_jump"] = change.mean(2).abs().amax(1)
        return values


def warp_error(moment: Moment) -> Tensor | None:
    """[P, H, W]: where the warp error lies, 0 at pixels that the render itself does not hold; None without motion."""
    if moment.residual is None or moment.held is None:
        return None
    return moment.residual.abs().mean(1) * moment.held
