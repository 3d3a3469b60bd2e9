"""The examination: frames in, one verdict per check out.

Works on runs of consecutive frames. Puts together what the channels are by themselves (`capture.health.channels`) and
how they fit each other (`capture.health.diagnosis`), and says it in words. Knows nothing of files and of drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from capture.errors import FrameError
from capture.frame import Frame
from capture.health.channels import Numbers, enough, look_at
from capture.health.diagnosis import Diagnosis, Found
from capture.health.edges import LAGS, LagCurve, agreement
from capture.health.report import Check, Health
from capture.health.runs import Run, runs_of, small_frame, take_runs
from capture.health.shots import Shot
from capture.take import Take

_SHARE_STUCK = 0.3
_FEW_LEVELS = 256


@dataclass(frozen=True)
class Examination:
    """The outcome, with what a picture of it needs."""

    health: Health
    declared: tuple[tuple[Shot, ...], ...]
    """The frames as declared."""
    diagnosis: Diagnosis
    """Its runs hold the frames as they fit."""
    numbers: dict[str, Numbers]


def examine(frames: Iterable[Frame]) -> Examination:
    """Examine frames that follow each other; a few dozen say most. They are made small first."""
    return examine_runs(runs_of(small_frame(frame) for frame in frames))


def examine_take(take: Take) -> Examination:
    """Examine frames from four places of a take. Damaged frames are left out; raises TakeError as the take does."""
    return examine_runs(take_runs(take))


def examine_runs(runs: Sequence[Run]) -> Examination:
    """Examine runs of small frames (`capture.health.runs.take_runs`), from different places of one recording."""
    runs = [run for run in runs if run]
    if runs:  # frames of other channels or sizes are another matter: the most frequent kind is examined
        kinds = [_kind(run[0]) for run in runs]
        most = max(kinds, key=lambda kind: sum(len(run) for run, k in zip(runs, kinds, strict=True) if k == kind))
        runs = [run for run, kind in zip(runs, kinds, strict=True) if kind == most]
    numbers = look_at(list(runs))
    problems: list[str] = []
    declared = _shots(runs, problems)
    dead = _dead(numbers) | _estimated(runs)
    alive = [[_without(shot, dead) for shot in run] for run in declared]
    diagnosis = Diagnosis(alive)
    diagnosis.search()
    checks = [
        *_channel_checks(numbers, problems, runs),
        _in_step(diagnosis, numbers, runs),
        _rows(diagnosis, runs),
        _depth(diagnosis, numbers, runs),
        _normals(diagnosis, numbers, runs),
        _field_of_view(diagnosis, runs),
        _camera(diagnosis, runs),
        _up(diagnosis),
        _units(diagnosis, runs),
        _colors(diagnosis, numbers),
    ]
    lags = {name: _curve(curve) for name, curve in diagnosis.lags.items()}
    health = Health(tuple(checks), tuple(n.facts for n in numbers.values()), sum(len(run) for run in runs), lags)
    return Examination(health, tuple(tuple(run) for run in declared), diagnosis, numbers)


def _kind(frame: Frame) -> object:
    return [(name, channel.descriptor) for name, channel in sorted(frame.channels.items())]


def _shots(runs: Sequence[Run], problems: list[str]) -> list[list[Shot]]:
    shots: list[list[Shot]] = []
    for run in runs:
        read = []
        for frame in run:
            try:
                read.append(Shot.of(frame))
            except FrameError as error:
                if str(error) not in problems:
                    problems.append(str(error))
        if read:
            shots.append(read)
    return shots


def _without(shot: Shot, dead: set[str]) -> Shot:
    """Without channels that say nothing."""
    if "color" in dead:
        shot = replace(shot, color=None)
    if "depth" in dead:
        shot = replace(shot, depth=None)
    if "normal" in dead or "depth" in dead:
        shot = replace(shot, vectors=None, normal_turn=None)
    if "coarse depth" in dead:
        shot = replace(shot, camera=None, vectors=None, normal_turn=None)
    return shot


def _curve(curve: LagCurve) -> dict[int, float]:
    return {lag: value for lag, value in zip(LAGS, curve.agreement, strict=True) if math.isfinite(value)}


# -- channels by themselves


def _is_black(n: Numbers) -> bool:
    return n.name == "color" and n.facts.high <= 12 and n.facts.mean < 3


def _is_flat(n: Numbers) -> bool:
    if n.name == "motion":
        return False  # nothing moves: an honest zero
    spread = math.sqrt(n.facts.variance)
    if n.name == "depth":
        return n.facts.finite > 0 and (n.distinct <= 2 or spread < 1e-5 * max(n.facts.mean, 1e-9))
    return n.uniform if n.name == "normal" else spread < 1.0


def _is_stuck(n: Numbers) -> bool:
    return enough(n) and n.name != "motion" and n.stuck > _SHARE_STUCK * n.could_stick


def _is_coarse(n: Numbers) -> bool:
    """At most 256 distances over all frames: they have gone through 8 bits."""
    return n.name == "depth" and 2 < n.distinct <= _FEW_LEVELS and n.facts.finite > 0.05


def _dead(numbers: dict[str, Numbers]) -> set[str]:
    dead = {n.name for n in numbers.values() if _is_black(n) or _is_flat(n) or _always_stuck(n) or n.unreadable}
    if "depth" in numbers and _is_coarse(numbers["depth"]):
        dead.add("coarse depth")
    return dead


def _estimated(runs: Sequence[Run]) -> set[str]:
    """Channels that a network guessed from the picture: they prove nothing."""
    return {n for run in runs[:1] for n, channel in run[0].channels.items() if channel.descriptor.estimated}


def _always_stuck(n: Numbers) -> bool:
    return _is_stuck(n) and n.stuck == n.could_stick


def _channel_checks(numbers: dict[str, Numbers], problems: list[str], runs: Sequence[Run]) -> Iterable[Check]:
    if not numbers:
        yield Check("channels", "cannot tell", "There are no frames with colour, depth or normals to be examined.")
        return
    for n in numbers.values():
        yield _channel_check(n)
    for problem in problems:
        yield Check("reading", "wrong", problem[0].upper() + problem[1:], summary="frames cannot be read as declared")


def _channel_check(n: Numbers) -> Check:
    f, name = n.facts, _word(n.name)
    spread = f"{f.low:.4g} to {f.high:.4g}"
    if n.unreadable:
        return Check(n.name, "wrong", f"{name} cannot be read: {n.unreadable}", summary=f"{name} cannot be read")
    if _is_black(n):
        return Check(
            n.name, "wrong", "The colour is black: the picture is taken before anything is drawn, from the wrong "
            "target, or is protected (exclusive full screen).", spread, ("color_black",), "the colour is black",
        )  # fmt: skip
    if n.name == "depth" and f.finite == 0:
        return Check(
            n.name, "suspicious", "The depth is sky everywhere: every number lies at or beyond the far plane, so near "
            "and far, or the scale, are not those of this buffer.", "all sky", ("depth_flat",), "the depth is all sky",
        )  # fmt: skip
    if _is_flat(n):
        where = "a buffer that is cleared or not the scene's" if n.name == "depth" else "a target that nothing draws to"
        return Check(
            n.name, "wrong", f"The {name} {_is(n.name)} one and the same everywhere: {where} was read.", spread,
            (f"{n.name}_flat",), f"the {name} {_is(n.name)} flat",
        )  # fmt: skip
    if _is_stuck(n):
        share = n.stuck / n.could_stick
        return Check(
            n.name, "wrong", f"The {name} {_is(n.name)} that of the frame before in {n.stuck} of "
            f"{n.could_stick} frames while others go on: an old buffer is sent again.",
            f"{share:.0%} repeated", (f"{n.name}_stale",),
            f"the {name} {_is(n.name)} {'' if share == 1 else 'sometimes '}stale",
        )  # fmt: skip
    if _is_coarse(n):
        return Check(
            n.name, "wrong", f"The depth has only {n.distinct} different distances: it has gone through an 8-bit "
            "picture; read the depth buffer itself.", f"{n.distinct} levels", ("depth_8_bit",), "the depth has 8 bits",
        )  # fmt: skip
    sky = f", {1 - f.finite:.0%} sky" if n.name == "depth" and f.finite < 1 else ""
    still = " Nothing changes from frame to frame." if f.compared >= 3 and f.repeated == f.compared else ""
    verb = "hold" if n.name == "normal" else "holds"
    return Check(n.name, "good", f"The {name} {verb} a picture.{still}", spread + sky)


def _is(name: str) -> str:
    return "are" if name == "normal" else "is"


def _word(name: str) -> str:
    return {"color": "colour", "normal": "normals"}.get(name, name)


# -- how they fit


def _mine(diagnosis: Diagnosis, check: str) -> list[Found]:
    return [found for found in diagnosis.found if found.check == check]


def _in_step(diagnosis: Diagnosis, numbers: dict[str, Numbers], runs: Sequence[Run]) -> Check:
    found = _mine(diagnosis, "in step")
    color = diagnosis.lags.get("color")
    figure = ""
    if color is not None and color.best is not None:
        at = dict(zip(LAGS, color.agreement, strict=True))
        others = max((v for lag, v in at.items() if lag != color.best and math.isfinite(v)), default=math.nan)
        figure = f"agreement {at[color.best]:.2f} at lag {color.best}, {others:.2f} elsewhere"
    out_of_step = sum(not frame.in_sync for run in runs for frame in run)
    if found:
        words = [_out_of_step(f) for f in found]
        cause = "It is read before the frame is finished, or from the buffer of an earlier one."
        if any(f.mistake.endswith("_early") for f in found):
            cause = "It belongs to a frame that is drawn later than the one it is sent with."
        return Check(
            "in step", "wrong", f"Not all channels are of one frame: {' and '.join(words)}. {cause}", figure,
            tuple(f.mistake for f in found), ", ".join(words),
        )  # fmt: skip
    if out_of_step:
        return Check(
            "in step", "wrong", f"{out_of_step} frames carry channels that by their serials belong to other frames.",
            figure, (), f"{out_of_step} frames out of step",
        )  # fmt: skip
    told = [_word(name) for name, curve in diagnosis.lags.items() if curve.best == 0]
    if told:
        return Check("in step", "good", f"{_list(told)} and depth are of the same frame.", figure)
    return Check("in step", "cannot tell", _why_no_lag(diagnosis, numbers, runs), figure)


def _out_of_step(found: Found) -> str:
    """E.g. "the normals are 2 frames late"."""
    name, how = found.mistake.split("_")
    what = {"color": "the colour", "depth": "the depth", "normal": "the normals", "pose": "the camera's pose"}[name]
    n = abs(int(found.value or 0))
    return f"{what} {_is(name)} {'one frame' if n == 1 else f'{n} frames'} {how}"


def _list(words: Sequence[str]) -> str:
    text = ", ".join(words)
    return text[0].upper() + text[1:]


def _why_no_lag(diagnosis: Diagnosis, numbers: dict[str, Numbers], runs: Sequence[Run]) -> str:
    if "depth" not in numbers:
        return "There is no depth that colours could be compared with."
    if "color" not in diagnosis.lags:
        if "depth" in _estimated(runs):
            return "The depth is estimated from the picture: it is of its frame by construction."
        return "Colour or depth says nothing, so they cannot be compared."
    if sum(len(run) for run in diagnosis.runs) < 9:
        return "Too few frames have been seen: a dozen are needed."
    if not any(math.isfinite(v) for v in diagnosis.lags["color"].agreement):
        return "The depth has hardly any steps that colours could be compared at."
    return "Nothing moves, or colours hardly change at the steps of depth: all lags look alike."


def _rows(diagnosis: Diagnosis, runs: Sequence[Run]) -> Check:
    found = _mine(diagnosis, "rows")
    shots = [run[len(run) // 2] for run in diagnosis.runs]
    both = [s for s in shots if s.color is not None and s.depth is not None]
    now = _mean([agreement(s.edges, s.edges) for s in both])
    turned = _mean([agreement(s.edges, s.edges, flip=True) for s in both])
    figure = f"agreement {now:.2f}, {turned:.2f} upside down" if math.isfinite(now) and math.isfinite(turned) else ""
    if found:
        name = found[0].mistake.removesuffix("_rows")
        whole = name == "picture"
        what = "The whole picture is" if whole else f"The {_word(name)} {'are' if name == 'normal' else 'is'}"
        cause = "the rows are sent in the other order than `rows` says (OpenGL reads the bottom row first)"
        # Without poses only the sky, below the ground, speaks against a whole picture, and some games have it so.
        sure = not whole or any(frame.has_pose for run in runs for frame in run)
        other = "" if sure else ", unless this world has its sky below"
        is_ = "are" if name == "normal" else "is" if sure else "may be"
        return Check(
            "rows", "wrong" if sure else "suspicious", f"{what} upside down: {cause}{other}.", figure,
            (found[0].mistake,), f"{'the picture' if whole else 'the ' + _word(name)} {is_} upside down",
        )  # fmt: skip
    if math.isfinite(now) and math.isfinite(turned) and now > turned + 0.03:
        return Check("rows", "good", "Colour and depth have the same row first.", figure)
    if diagnosis.scores.angle < 15:
        return Check("rows", "good", "Normals and depth have the same row first.", figure)
    why = "there is no depth to compare with" if not both else "their edges agree no better one way than the other"
    return Check("rows", "cannot tell", f"Which row comes first cannot be told: {why}.", figure)


def _depth(diagnosis: Diagnosis, numbers: dict[str, Numbers], runs: Sequence[Run]) -> Check:
    if "depth" not in numbers:
        return Check("depth law", "cannot tell", "There is no depth.")
    if "depth" in _estimated(runs):
        return Check("depth law", "cannot tell", "The depth is estimated from the picture: it proves nothing.")
    found = _mine(diagnosis, "depth")
    kind = runs[0][0].channels["depth"].descriptor.kind
    if found:
        f = found[0]
        return Check("depth law", "wrong", _depth_cause(f, str(kind)), "", (f.mistake,), _DEPTH_SUMMARY[f.mistake])
    if "depth" in _dead(numbers) or "coarse depth" in _dead(numbers):
        return Check("depth law", "cannot tell", "The depth itself says nothing (see depth).")
    if diagnosis.scores.squeezed:
        return Check(
            "depth law", "suspicious", "Nearly all of the depth lies right at the near plane: near is too large, or "
            "the depth is of another kind than declared.", "", ("depth_near",), "the depth lies at the near plane",
        )  # fmt: skip
    proof = []
    if diagnosis.scores.angle < 20:
        proof.append("normals")
    if diagnosis.scores.pose < 0.02 and diagnosis.moves:
        proof.append("camera motion")
    if diagnosis.planes > 1:
        proof.append("plane surfaces")
    if proof:
        return Check("depth law", "good", f"Depth of kind {kind} fits {' and '.join(proof)}.")
    return Check(
        "depth law", "cannot tell",
        "Neither normals nor poses nor plane surfaces prove the kind of depth; nothing speaks against it.",
    )  # fmt: skip


_DEPTH_SUMMARY = {
    "depth_ray": "the depth is ray distance",
    "depth_planar": "the depth is planar, not along the ray",
    "depth_reversed": "the depth is reversed",
    "depth_forward": "the depth is not reversed",
    "depth_ndc": "the depth is that of a buffer, not linear",
    "depth_ndc_reversed": "the depth is that of a reversed buffer, not linear",
    "depth_near": "the near plane is wrong",
    "depth_far": "the far plane is wrong",
}


def _depth_cause(found: Found, kind: str) -> str:
    factor = found.value if isinstance(found.value, float) else 1.0
    return {
        "depth_ray": f"The depth is the distance along the ray, but is declared as {kind}: declare `kind: ray`.",
        "depth_planar": "The depth is the distance along the optical axis, but is declared as ray: declare `linear`.",
        "depth_reversed": "The depth is reversed (1 is near), but is declared as ndc: declare `kind: ndc_reversed`; "
        "near and far exchanged look the same.",
        "depth_forward": "The depth is not reversed (0 is near), but is declared as ndc_reversed: declare `kind: ndc`; "
        "near and far exchanged look the same.",
        "depth_ndc": "The depth holds a depth buffer's numbers, but is declared as linear: declare `kind: ndc`.",
        "depth_ndc_reversed": "The depth holds a reversed depth buffer's numbers, but is declared as linear: declare "
        "`kind: ndc_reversed`.",
        "depth_near": f"The near plane is not the buffer's: {factor:.3g} times the declared one fits.",
        "depth_far": f"The far plane is not the buffer's: {factor:.3g} times the declared one fits.",
    }[found.mistake]


def _normals(diagnosis: Diagnosis, numbers: dict[str, Numbers], runs: Sequence[Run]) -> Check:
    if "normal" not in numbers:
        return Check("normals", "cannot tell", "The engine sends no normals; they are derived from depth.")
    found = _mine(diagnosis, "normals")
    if found:
        f = found[0]
        before, after = f.scores.angle, diagnosis.scores.angle
        figure = f"{before:.0f}° off, {after:.1f}° when mended"
        cause, summary = {
            "normal_axes": (
                f"The axes of the normals are not the declared ones: what is sent as x, y, z is {f.value} of what it "
                "should be (axes exchanged or negated).",
                "the normals' axes are wrong",
            ),
            "normal_world": ("The normals are in world space, but declared as camera space: declare `space: world`.",
                             "the normals are in world space"),
            "normal_camera": ("The normals are in camera space, but declared as world space: declare `space: camera`.",
                              "the normals are in camera space"),
            "normal_packed": (
                "The normals are packed as n * 0.5 + 0.5 (unorm), but are read as signed numbers, or the other way: "
                "declare the dtype and encoding that was stored.",
                "the normals are packed otherwise",
            ),
        }[f.mistake]  # fmt: skip
        return Check("normals", "wrong", cause, figure, (f.mistake,), summary)
    if "normal" in _dead(numbers):
        return Check("normals", "cannot tell", "The normals themselves say nothing (see normal).")
    angle = diagnosis.scores.angle
    if math.isnan(angle):
        return Check("normals", "cannot tell", "There is too little smooth depth to compare the normals with.")
    figure = f"{angle:.1f}° median"
    if angle < 20:
        return Check("normals", "good", "Normals sent and normals from depth agree.", figure)
    return Check(
        "normals", "suspicious", "Normals sent and normals from depth disagree, and no known mistake explains it.",
        figure, (), "the normals do not fit the depth",
    )  # fmt: skip


def _field_of_view(diagnosis: Diagnosis, runs: Sequence[Run]) -> Check:
    name = "field of view"
    shot = diagnosis.runs[0][0] if diagnosis.runs else None
    if shot is None or shot.camera is None:
        return Check(name, "cannot tell", "There is no camera, or no depth to test it with.")
    camera = runs[0][0].raw_camera
    assert camera is not None
    height = runs[0][0].shape[0]
    declared = math.degrees(2 * math.atan(height / 2 / camera.fy))
    found = _mine(diagnosis, name)
    if found:
        ratio = float(found[0].value or 1.0)
        fits = math.degrees(2 * math.atan(height / 2 / (camera.fy * ratio)))
        figure = f"{declared:.1f}° declared, {fits:.1f}° fits"
        if found[0].mistake == "fov_horizontal":
            sentence = (
                f"The declared vertical field of view, {declared:.1f}°, is the horizontal one: "
                f"{fits:.1f}° fits vertically."
            )
        else:
            sentence = f"The vertical field of view is {declared:.1f}° as declared, but {fits:.1f}° fits the data."
        return Check(name, "wrong", sentence, figure, (found[0].mistake,), f"the field of view is {fits:.0f}°")
    curve = dict(diagnosis.focal_curve)
    lowest = min(curve.values(), default=0.0)
    sharp = curve and max(c for r, c in curve.items() if 0.7 < r < 0.9) > lowest + 1
    figure = f"{declared:.1f}° vertical"
    if sharp:
        return Check(name, "good", "The declared field of view fits better than any other.", figure)
    return Check(
        name, "cannot tell", "Nothing speaks against the declared field of view, but what is seen does not prove "
        "it: without normals and poses a camera that turns is needed.", figure,
    )  # fmt: skip


def _camera(diagnosis: Diagnosis, runs: Sequence[Run]) -> Check:
    found = _mine(diagnosis, "camera")
    if found:
        f = found[0]
        sentence, summary = {
            "camera_handedness": (
                "The pose mirrors the scene under the declared axes: world or camera axes are of the other handedness, "
                "or the pose is.",
                "the handedness is wrong",
            ),
            "camera_mirrored": (
                f"World and camera axes are both of the other handedness: the camera's x, y, z are {f.value} of the "
                "declared ones, and the scene comes out mirrored.",
                "the scene is mirrored (handedness)",
            ),
            "camera_axes": (
                f"The camera's axes are not the declared ones: x, y, z are {f.value} of what they should be "
                "(OpenGL looks along -z, OpenCV along +z).",
                "the camera's axes are wrong",
            ),
            "pose_inverse": (
                "The pose is the inverse one, world-to-camera (a view matrix), where camera-to-world is meant.",
                "the pose is inverted",
            ),
            "pose_transposed": (
                "The rotation of the pose is transposed: rows and columns are exchanged.",
                "the pose's rotation is transposed",
            ),
        }[f.mistake]
        return Check("camera", "wrong", sentence, "", tuple(f.mistake for f in found), summary)
    if not any(frame.has_pose for run in runs for frame in run):
        return Check("camera", "cannot tell", "The engine sends no pose.")
    if not diagnosis.runs or diagnosis.runs[0][0].view is None:
        return Check("camera", "cannot tell", "Without usable depth the pose cannot be proved.")
    if not diagnosis.moves:
        return Check("camera", "cannot tell", "The camera stands still.")
    error = diagnosis.scores.pose
    figure = f"{error:.2%} of the distance"
    if error < 0.02:
        return Check("camera", "good", "Surfaces lie where the camera's motion puts them.", figure)
    return Check(
        "camera", "suspicious", "Surfaces do not lie where the camera's motion puts them, and no known mistake "
        "explains it; perhaps the whole scene moves.", figure, (), "depth and camera motion do not fit",
    )  # fmt: skip


def _up(diagnosis: Diagnosis) -> Check:
    """Which axis of the world is up, by how the camera is held and by what floors there are."""
    axes = [np.array(a, float) for a in ((0, -1, 0), (0, 1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1))]
    names = ("up", "down", "right", "left", "forward", "back")
    held, floors, seen = np.zeros(6), np.zeros(6), 0
    for run in diagnosis.runs:
        for shot in run[:: max(1, len(run) // 2)]:
            if not shot.pose_known or shot.view is None or shot.camera is None:
                continue
            rotation = shot.camera.pose[:3, :3]
            held += [float(-rotation[:, 1] @ axis) for axis in axes]
            view = shot.view
            lower = view.smooth.copy()
            lower[: lower.shape[0] // 2] = False
            normals = view.normal[lower] @ rotation.T
            floors += [float((normals @ axis > 0.97).mean()) if len(normals) else 0.0 for axis in axes]
            seen += 1
    if not seen:
        return Check("up", "cannot tell", "Without pose and depth the world's up cannot be told.")
    held, floors = held / seen, floors / seen
    best = int(np.argmax(held))
    figure = f"camera {held[0]:.2f}, floors {floors[0]:.0%} along up"
    if best != 0 and held[best] > 0.8 and floors[best] > 0.15 and floors[best] > 3 * floors[0]:
        return Check(
            "up", "wrong", f"What is up in the pictures is {names[best]} in the declared world: the world's axes are "
            "exchanged (a z-up world declared as y-up, say).", figure, ("pose_world_up",), "the world's up is wrong",
        )  # fmt: skip
    if best == 0 and held[0] > 0.5:
        return Check("up", "good", "The camera is held upright in the declared world.", figure)
    return Check("up", "cannot tell", "The camera is tilted, and no floor tells which way is up.", figure)


_PEOPLE = ("person", "pedestrian", "people", "human", "man", "woman", "ped", "walker", "character")


def _units(diagnosis: Diagnosis, runs: Sequence[Run]) -> Check:
    found = _mine(diagnosis, "units")
    if found:
        factor = float(found[0].value or 1.0)
        return Check(
            "units", "wrong", f"Depth and the camera's positions are of different units: depth times {factor:.3g} fits "
            "(centimetres and metres, say).", f"x {factor:.3g}", ("depth_scale",), "depth and poses differ in unit",
        )  # fmt: skip
    frames = [frame for run in runs for frame in run[:2]]
    if not frames or "depth" not in frames[0].channels:
        return Check("units", "cannot tell", "There is no depth.")
    if not frames[0].channels["depth"].descriptor.in_metres:
        return Check("units", "cannot tell", "The engine's unit is declared as unknown: depth is right up to a factor.")
    m = frames[0].conventions.metres_per_unit
    people = [max(e.size) * m for f in frames for e in f.entities if e.size and e.cls.lower() in _PEOPLE]
    if people:
        height = float(np.median(people))
        figure = f"people are {height:.3g} m high"
        if not 0.5 < height < 4:
            right = m * 1.7 / height
            return Check(
                "units", "wrong", f"People are {height:.3g} m high: metres_per_unit is {m:g}, about {right:.2g} fits.",
                figure, ("units_metres",), "metres_per_unit is wrong",
            )  # fmt: skip
        return Check("units", "good", "People have the height of people.", figure)
    middles = [
        float(np.median(s.view.depth[s.view.surface]))
        for run in diagnosis.runs
        for s in run[:1]
        if s.view is not None and s.view.surface.any()
    ]
    if not middles:
        return Check("units", "cannot tell", "There is too little depth.")
    middle = float(np.median(middles))
    figure = f"median {middle:.3g} m"
    if not 0.15 < middle < 5000:
        return Check(
            "units", "suspicious", f"Half of what is seen is nearer than {middle:.3g} m: metres_per_unit ({m:g}) or "
            "the depth's scale seems to be of another unit.", figure, ("units_metres",), "metres_per_unit seems wrong",
        )  # fmt: skip
    return Check("units", "cannot tell", "Nothing of known size is in sight; the distances are plausible.", figure)


def _colors(diagnosis: Diagnosis, numbers: dict[str, Numbers]) -> Check:
    """Red and blue exchanged make an orange sky over bluish ground; a sunset lights the ground as well."""
    name = "red and blue"
    sky, ground = [], []
    for run in diagnosis.runs:
        shot = run[len(run) // 2]
        if shot.color is None or shot.depth is None or shot.color.shape[:2] != shot.depth.shape:
            continue
        beyond = ~np.isfinite(shot.depth)
        warm = shot.color[..., 0].astype(np.float32) - shot.color[..., 2]
        light = shot.color.sum(axis=-1).astype(np.float32) / 3 + 8
        if beyond.mean() > 0.02:
            sky.append(float(warm[beyond].mean() / light[beyond].mean()))
            ground.append(float(warm[~beyond].mean() / light[~beyond].mean()) if (~beyond).any() else 0.0)
    if not sky:
        why = "No sky is in sight" if "depth" in numbers else "Without depth the sky cannot be found"
        return Check(name, "cannot tell", f"{why}, by which red and blue could be told apart.")
    above, below = float(np.mean(sky)), float(np.mean(ground))
    figure = f"sky {above:+.2f}, ground {below:+.2f} (red - blue)"
    # A sky at dusk is as warm as 0.12, over streets in its blue light.
    if above > 0.15 and below < -0.03 or above > 0.2 and below < 0.3 * above - 0.03:
        sure = above > 0.2 and below < -0.03
        return Check(
            name, "wrong" if sure else "suspicious", "The sky is orange over bluish ground: red and blue are exchanged "
            "(`order: bgr` sent as rgb)" + ("." if sure else ", or the light is unusual."), figure, ("color_bgr",),
            "red and blue are exchanged" if sure else "red and blue may be exchanged",
        )  # fmt: skip
    if above < -0.03:
        return Check(name, "good", "The sky is bluer than red.", figure)
    return Check(name, "cannot tell", "The sky has no colour that tells red from blue.", figure)


def _mean(values: list[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan
