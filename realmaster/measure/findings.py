"""What stands out in a lift, in sentences: the faults that its scores give away.

Works on a `Scorer` that has seen the whole clip. A fault is told by the measure meant for it, against the untouched
render and, where there is one, the reference: what those do as well is no fault of the lift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from realmaster.measure.moment import REFERENCE, RENDER
from realmaster.measure.placement import Misplaced
from realmaster.measure.realism import CERTAIN
from realmaster.measure.scores import Scorer, Scores

COPY_CAVEAT = (
    "A copy of the render wins every structure measure: read a lift's structure beside what it changes and beside "
    "its distance to a reference."
)

LONG = 48
"""Frames from which a drift of colours is told without a reference."""

LONGER = 240
"""Frames from which a drift of 0.5 dB is told, before that one of 2 dB. In a short clip what the camera sees changes as
slowly as a drift: thirds of twenty streets of 48 frames, each frame lifted by itself, were up to 1.6 dB apart."""


@dataclass(frozen=True)
class Finding:
    """One thing that stands out."""

    fault: str
    """In a word or two: copy, displaced, order, colour, flicker, blur, noise, seams, geometry, identity, drift, far,
    late."""
    measure: str
    """The score that tells it."""
    sentence: str
    frames: tuple[int, ...] = ()
    """The frames that show it, by the names that the scorer gives them; empty where all do."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"frames": list(self.frames)}


def findings(scorer: Scorer) -> list[Finding]:
    """What stands out, the gravest first; empty for a lift that has none of the faults known here."""
    if not scorer.count:
        return []
    scores = scorer.result()
    lifted, render, reference = scores["lifted"], scores[RENDER], scores.get(REFERENCE)
    found = [
        *_copy(lifted),
        *(_displaced(lifted, reference) if scorer.displacement.is_clear(0) else ()),
        *_order(scorer),
        *_geometry(lifted, render, reference),
        *_colors(scorer, lifted, render, reference),
        *_identity(scorer, reference),
        *_detail(lifted, reference),
        *_seams(scorer),
        *_drift(lifted, render, reference, scorer.count),
        *_distance(lifted, render),
    ]
    misplaced = {
        frame + near for each in found if each.fault == "order" for frame in each.frames for near in (-1, 0, 1)
    }
    if len(misplaced) > scorer.count / 2:
        found = [each for each in found if each.fault != "displaced"]
    if {"displaced", "order"} & {each.fault for each in found}:  # which is why it misses edges
        found = [each for each in found if each.fault != "geometry"]
    if any(each.measure == "drift_color" for each in found):  # then all things turn
        found = [each for each in found if each.fault != "identity" or "turns" not in each.sentence]
    found = [  # what another moment shows is neither a jump of colour nor another thing
        each
        for each in found
        if each.fault not in ("colour", "identity") or not each.frames or not misplaced.issuperset(each.frames)
    ]
    faults = {each.fault for each in found}
    # What lies elsewhere, or at another time, neither holds still along the engine's motion nor fits small things.
    if not faults & {"displaced", "order"}:
        found += [*(_flicker(lifted, render, reference) if "colour" not in faults else ()), *_late(lifted, render)]
    return found


def _copy(lifted: Scores) -> Iterator[Finding]:
    if lifted.novelty is None or lifted.novelty > 0.1:
        return
    what = "a copy of the render" if lifted.novelty < 0.02 else "hardly more than a colour grade of the render"
    yield Finding(
        "copy", "novelty", f"The lift is {what}: a colour grade explains {_percent(1 - lifted.novelty)} of it. "
        "A copy wins every structure measure, so those say nothing here."
    )  # fmt: skip


def _displaced(lifted: Scores, reference: Scores | None) -> Iterator[Finding]:
    x, y = lifted.displacement_x, lifted.displacement_y
    if x is None or y is None:
        return
    least = 0.8  # soft shadows under things pull the best fit by up to half a pixel
    if reference is not None and reference.displacement_x is not None and reference.displacement_y is not None:
        x, y, least = x - reference.displacement_x, y - reference.displacement_y, 0.6
    if (x * x + y * y) ** 0.5 < least:
        return
    parts = []
    for value, ahead, back in ((x, "to the right of", "to the left of"), (y, "below", "above")):
        if abs(value) >= max(0.6, 0.35 * max(abs(x), abs(y))):
            parts.append(f"about {_pixels(abs(value))} {ahead if value > 0 else back}")
    yield Finding("displaced", "displacement", f"The lift lies {' and '.join(parts)} the geometry.")


def _order(scorer: Scorer) -> Iterator[Finding]:
    found = scorer.order.misplaced() or []
    if len(found) <= scorer.count / 2:
        # A frame that fits its own moment badly may be blurred; one of another moment also breaks the motion.
        restless = _restless(scorer)
        found = [each for each in found if each.frame in restless]
    if not found:
        return
    found = [Misplaced(each.frame + scorer.first_frame, each.distance) for each in found]
    frames = tuple(each.frame for each in found)
    yield Finding("order", "frame_order", _order_sentence(found, scorer.count), frames)


def _restless(scorer: Scorer) -> set[int]:
    """Frames at which, or after which, the warp error is by a third larger than usual."""
    curve = np.array(scorer.curves["lifted"].get("warp_error", []))
    if not np.isfinite(curve).any():
        return set(range(scorer.count))
    high = np.flatnonzero(curve > 1.33 * np.nanmedian(curve)).tolist()
    return {frame - back for frame in high for back in (0, 1)}


def _order_sentence(found: Sequence[Misplaced], count: int) -> str:
    shown = {each.frame: each.frame + each.distance for each in found if each.distance}
    names = _numbers([each.frame for each in found])
    if len(found) > count / 2:
        distances = [each.distance for each in found]
        usual = max(set(distances), key=distances.count)
        if len({2 * each.frame + each.distance for each in found}) == 1:
            return (
                f"The lift runs backwards: frame {found[0].frame} shows the geometry of frame {shown[found[0].frame]}."
            )
        if usual and distances.count(usual) > count / 2:
            frames = "a frame" if abs(usual) == 1 else f"{abs(usual)} frames"
            when = "late" if usual < 0 else "early"
            return f"The lift is {frames} {when}: most of it shows another frame's geometry."
        return f"The order of the frames is wrong: {len(found)} of {count} do not show their own moment."
    if len(found) == 2 and (len(shown) == 2 and all(shown.get(b) == a for a, b in shown.items()) or _adjacent(found)):
        return f"Frames {names} are swapped: each shows the geometry of the other."
    if len(found) == 1:
        return f"Frame {names} does not show its own moment" + (
            f": it fits frame {next(iter(shown.values()))} better." if shown else "."
        )
    swapped = " They may be swapped." if len(found) == 2 else ""
    return f"Frames {names} do not show their own moment: their edges are not those of the geometry then.{swapped}"


def _adjacent(found: Sequence[Misplaced]) -> bool:
    return abs(found[0].frame - found[1].frame) == 1


def _geometry(lifted: Scores, render: Scores, reference: Scores | None) -> Iterator[Finding]:
    share, least, of = lifted.depth_edges_to_render, 0.75, "the render"
    if reference is not None and lifted.depth_edges_to_reference is not None:
        share, least, of = lifted.depth_edges_to_reference, 0.9, "the reference"
    if share is not None and share < least:
        yield Finding(
            "geometry", "depth_edge_alignment",
            f"The lift loses geometry: it keeps {_percent(share)} of the depth edges that {of} keeps.",
        )  # fmt: skip
    control, least = (render, 0.75) if reference is None else (reference, 0.85)
    if lifted.edge_f1 is not None and control.edge_f1 and lifted.edge_f1 < least * control.edge_f1:
        yield Finding(
            "geometry", "edge_f1",
            f"The lift's edges are not the geometry's: their F1 is {lifted.edge_f1:.2f}, {of}'s {control.edge_f1:.2f}.",
        )  # fmt: skip


def _colors(scorer: Scorer, lifted: Scores, render: Scores, reference: Scores | None) -> Iterator[Finding]:
    curve = np.array(scorer.curves["lifted"].get("color_jump", []))
    if lifted.color_jump is None or not np.isfinite(curve).any():
        return
    control = max(s.color_jump or 0.0 for s in (render, reference) if s is not None)
    if lifted.color_jump > max(0.01, 3 * control):
        yield Finding(
            "colour", "color_jump",
            f"Colours jump from frame to frame, by {_percent(lifted.color_jump, 1)} of their range on average.",
            tuple(scorer.first_frame + place for place in _largest(curve, 4)),
        )  # fmt: skip
        return
    beyond = curve - np.nan_to_num(np.array(scorer.curves[REFERENCE if reference else RENDER]["color_jump"]))
    jumps = scorer.first_frame + np.flatnonzero(beyond > max(0.012, 5 * float(np.nanmedian(np.abs(beyond)))))
    if len(jumps):
        gaps = set(np.diff(jumps).tolist())
        every = f", every {gaps.pop()} frames, as windows do" if len(jumps) > 2 and len(gaps) == 1 else ""
        largest = float(np.nanmax(beyond))
        where = f"frame{'s' if len(jumps) > 1 else ''} {_numbers(jumps.tolist())}"
        sentence = f"Colours jump by up to {_percent(largest, 1)} of their range at {where}{every}."
        yield Finding("colour", "color_jump", sentence, tuple(jumps.tolist()))


def _flicker(lifted: Scores, render: Scores, reference: Scores | None) -> Iterator[Finding]:
    error = lifted.warp_error
    if error is None:
        return
    if reference is not None and reference.warp_error:
        if error > max(1.6 * reference.warp_error, 0.008):
            times = error / reference.warp_error
            yield Finding(
                "flicker", "warp_error",
                f"The lift flickers: along the engine's motion it changes {times:.1f} times as much as the reference.",
            )  # fmt: skip
    elif error > max(0.03, 3 * (render.warp_error or 0.0)):
        yield Finding(
            "flicker", "warp_error",
            f"The lift flickers: along the engine's motion it changes by {_percent(error, 1)} of the range a frame, "
            f"the render by {_percent(render.warp_error or 0.0, 1)}.",
        )  # fmt: skip


def _identity(scorer: Scorer, reference: Scores | None) -> Iterator[Finding]:
    # Lamps and shadows change colours too; with a reference they are known.
    sudden, slow = (0.1, 0.08) if reference is None else (0.03, 0.05)
    found = []
    for number, track in scorer.identity.tracks.items():
        if track.jump > sudden:
            frame = scorer.first_frame + track.jump_frame
            found.append((track.jump, number, f"its colour changes at frame {frame} and stays", frame))
        elif track.turned > slow:
            found.append(
                (track.turned, number, "its colour turns over the clip", scorer.first_frame + scorer.count - 1)
            )
    # Where many things change at once it is the picture that changes.
    at = Counter(frame for *_, frame in found)
    found = sorted((each for each in found if at[each[3]] <= 3), reverse=True)
    names = {entity.id: entity.cls for entity in scorer.last.frame.entities} if scorer.last else {}
    for size, number, what, frame in found[:3]:
        name = f"{names[number]} {number}" if number in names else f"instance {number}"
        more = f" ({len(found) - 3} more do so.)" if len(found) > 3 and number == found[2][1] else ""
        yield Finding(
            "identity", "identity_color",
            f"{name[0].upper()}{name[1:]} does not stay what it was: {what} ({_percent(size)} of the range, where "
            f"render{' and reference keep' if reference else ' keeps'} it).{more}",
            (frame,),
        )  # fmt: skip


def _detail(lifted: Scores, reference: Scores | None) -> Iterator[Finding]:
    if reference is not None and lifted.detail_ratio is not None:
        if lifted.detail_ratio < 0.75:
            yield Finding(
                "blur", "detail_ratio",
                f"The lift is blurred: it has {_percent(lifted.detail_ratio)} of the reference's fine detail.",
            )  # fmt: skip
        elif lifted.detail_ratio > 1.25:
            yield Finding(
                "noise", "detail_ratio",
                f"The lift is noisy or oversharp: it has {lifted.detail_ratio:.1f} times the reference's fine detail.",
            )  # fmt: skip
    elif lifted.detail_to_render is not None and lifted.detail_to_render < 0.35:
        yield Finding(
            "blur", "detail_to_render",
            f"The lift is blurred: it has {_percent(lifted.detail_to_render)} of the fine detail of the render.",
        )  # fmt: skip


def _seams(scorer: Scorer) -> Iterator[Finding]:
    seam = scorer.seams.find(0)
    if seam is None or seam.certainty < CERTAIN or seam.excess < 0.1:
        return
    others = [scorer.seams.excess(place, seam) for place in range(1, len(scorer.curves))]
    if seam.excess < max(others) + 0.08:
        return
    codec = ", or of a strongly compressed video" if seam.period in (4, 8, 16) else ""
    yield Finding(
        "seams", "seams",
        f"Seams every {seam.period} pixels: steps on that grid are {_percent(seam.excess)} steeper than beside it, at "
        f"the borders of the model's patches{codec}.",
    )  # fmt: skip


def _drift(lifted: Scores, render: Scores, reference: Scores | None, frames: int) -> Iterator[Finding]:
    if lifted.drift_psnr is not None:
        farther, error = -lifted.drift_psnr, lifted.drift_psnr_error or 0.0
        scene = -(render.drift_psnr or 0.0)  # makes the render drift too
        least_db = 0.5 if frames >= LONGER else 2.0
        if min(farther, farther - scene) > least_db and farther > 3 * error:
            yield Finding(
                "drift", "drift_psnr",
                f"The lift drifts: its last third is {farther:.1f} dB farther from the reference than its first (the "
                f"render's: {scene:.1f} dB; standard error {error:.1f} dB).",
            )  # fmt: skip
    # Short clips show few colours: of forty of 48 frames, each lifted by itself, four exceed 0.015, none 0.025. Without
    # a reference the light of the scene may have changed as well.
    if reference is not None:
        least = 0.015 if frames >= LONGER else 0.025
    else:
        least = 0.08 if frames >= LONG else 1.0
    if lifted.drift_color is not None and lifted.drift_color > least:
        yield Finding(
            "drift", "drift_color",
            f"Colours drift: equal colours of the render are {_percent(lifted.drift_color, 1)} of the range apart in "
            "the lift's first and last third.",
        )  # fmt: skip
    if lifted.drift_detail is not None and not 0.75 < lifted.drift_detail < 1.33:
        way = "softens" if lifted.drift_detail < 1 else "grows noisy"
        yield Finding(
            "drift", "drift_detail", f"The lift {way}: its last third has {_percent(lifted.drift_detail)} of the fine "
            "detail of its first."
        )  # fmt: skip


def _distance(lifted: Scores, render: Scores) -> Iterator[Finding]:
    if lifted.psnr is None or render.psnr is None:
        return
    if lifted.psnr <= render.psnr:
        yield Finding(
            "far", "psnr", f"The lift is no nearer to the reference than the untouched render: {lifted.psnr:.1f} dB "
            f"against {render.psnr:.1f}."
        )  # fmt: skip


def _late(lifted: Scores, render: Scores) -> Iterator[Finding]:
    late, other, name = lifted.psnr_late, lifted.psnr_early, "those that were there"  # road and sky are easier
    late_render, other_render = render.psnr_late, render.psnr_early
    if other is None:  # the first frame shows no things
        other, other_render, name = lifted.psnr_rest, render.psnr_rest, "the rest"
    if late is None or other is None or late_render is None or other_render is None:
        return
    behind = (other - other_render) - (late - late_render)
    if behind > 1 and other - late > 1:
        yield Finding(
            "late", "psnr_late",
            f"Things that appear in the middle are lifted worse: {late:.1f} dB against {other:.1f} for {name}.",
        )  # fmt: skip


def _largest(curve: np.ndarray, count: int) -> list[int]:
    """Places of the largest values, in the order of time."""
    order = np.argsort(-np.nan_to_num(curve, nan=-np.inf), kind="stable")
    return sorted(int(i) for i in order[:count] if np.isfinite(curve[i]))


def _numbers(values: Sequence[int]) -> str:
    """`3, 4 and 9`; at most eight."""
    shown = [str(value) for value in sorted(values)[:8]]
    if len(values) > 8:
        return ", ".join(shown) + f" and {len(values) - 8} more"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{share * 100:.{digits}f} %"


def _pixels(value: float) -> str:
    return f"{round(value)} px" if abs(value - round(value)) < 0.25 else f"{value:.1f} px"
