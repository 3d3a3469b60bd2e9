"""One picture of an examination, for people: where edges lie, the lags, the normals, the camera, and the verdicts.

Works on an Examination; draws the frames as declared, so that a mistake is seen as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.geometry import reprojection_error
from capture.health.diagnosis import Diagnosis
from capture.health.edges import LAGS
from capture.health.examination import Examination
from capture.health.report import Check
from capture.health.shots import Shot
from capture.pictures import SKY, depth_to_picture, normal_to_picture, turbo

Picture = NDArray[np.uint8]

INK, FAINT, PAPER, PANEL = (236, 238, 242), (150, 156, 168), (18, 20, 24), (28, 31, 37)
COLORS = {"good": (88, 196, 120), "cannot tell": (120, 126, 138), "suspicious": (232, 180, 60), "wrong": (236, 90, 84)}
CURVES = {"color": (90, 170, 250), "normal": (200, 130, 240), "pose": (240, 170, 80)}
DEPTH_EDGE, COLOR_EDGE, BOTH_EDGES = (240, 90, 120), (80, 110, 150), (120, 240, 150)

_WIDTH, _GAP, _MARGIN, _CAPTION = 400, 18, 26, 30


def draw(examination: Examination, title: str) -> Any:
    """A PIL image, 1270 pixels wide: six panels above the verdicts."""
    from PIL import Image, ImageDraw

    health = examination.health
    panels = _panels(examination)
    height = panels[0][1].shape[0]
    columns = 3
    rows = math.ceil(len(panels) / columns)
    lines = [(check, _wrapped(check.sentence, 96)) for check in _ordered(health.checks)]
    head = 96
    top_of_list = head + rows * (height + _CAPTION + _GAP)
    total = top_of_list + sum(12 + 21 * len(text) for _, text in lines) + _MARGIN
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP
    canvas = Image.new("RGB", (width, total), PAPER)
    paint = ImageDraw.Draw(canvas)
    paint.ellipse((_MARGIN, 34, _MARGIN + 22, 56), fill=COLORS[health.verdict])
    headline = _wrapped(f"{health.line[0].upper()}{health.line[1:]}", 88)[0]
    paint.text((_MARGIN + 36, 45), headline, fill=INK, font=_font(28), anchor="lm")
    examined = f"{title}   ·   {health.frames} frames examined"
    paint.text((_MARGIN + 36, 74), examined, fill=FAINT, font=_font(15), anchor="lm")
    for i, (caption, picture) in enumerate(panels):
        x = _MARGIN + i % columns * (_WIDTH + _GAP)
        y = head + i // columns * (height + _CAPTION + _GAP)
        paint.text((x, y + _CAPTION - 8), caption, fill=FAINT, font=_font(15), anchor="ls")
        canvas.paste(Image.fromarray(picture), (x, y + _CAPTION))
    y = top_of_list
    for check, text in lines:
        paint.ellipse((_MARGIN + 2, y + 4, _MARGIN + 14, y + 16), fill=COLORS[check.verdict])
        paint.text((_MARGIN + 26, y + 10), check.name, fill=INK, font=_font(16), anchor="lm")
        paint.text((_MARGIN + 156, y + 10), check.verdict, fill=COLORS[check.verdict], font=_font(15), anchor="lm")
        ink = INK if check.verdict in ("suspicious", "wrong") else FAINT
        for j, line in enumerate(text):
            paint.text((_MARGIN + 262, y + 10 + 21 * j), line, fill=ink, font=_font(15), anchor="lm")
        if check.figure:
            paint.text((width - _MARGIN, y + 10), check.figure, fill=FAINT, font=_font(14), anchor="rm")
        y += 12 + 21 * len(text)
    return canvas


def _ordered(checks: Sequence[Check]) -> list[Check]:
    order = ("wrong", "suspicious", "good", "cannot tell")
    return sorted(checks, key=lambda check: order.index(check.verdict))


def _panels(examination: Examination) -> list[tuple[str, Picture]]:
    shot, other = _pair(examination)
    height = _WIDTH * 9 // 16
    if shot is not None and (image := shot.color if shot.color is not None else shot.depth) is not None:
        height = max(120, min(400, round(_WIDTH * image.shape[0] / image.shape[1])))
    fit = functools.partial(_fitted, height=height)
    none = functools.partial(_note, height=height)
    panels: list[tuple[str, Picture]] = []
    color = None if shot is None else shot.color
    depth = None if shot is None else shot.depth
    panels.append(("colour", fit(color) if color is not None else none("no colour")))
    panels.append(("depth as declared", fit(depth_to_picture(depth)) if depth is not None else none("no depth")))
    if shot is not None and color is not None and depth is not None:
        panels.append(("edges: colour blue, depth red, both green", fit(_edge_picture(shot), smooth=False)))
    else:
        panels.append(("edges", none("colour or depth is missing")))
    panels.append(("agreement with depth by lag in frames", _lag_chart(examination.diagnosis, height)))
    panels.append(_normal_panel(shot, fit, none))
    panels.append(_camera_panel(shot, other, fit, none))
    return panels


def _pair(examination: Examination) -> tuple[Shot | None, Shot | None]:
    """The frame that is shown, and one from shortly before."""
    runs = [run for run in examination.declared if run]
    if not runs:
        return None, None
    run = runs[len(runs) // 2]
    i = len(run) // 2
    return run[i], run[max(0, i - 4)] if len(run) > 1 else None


def _edge_picture(shot: Shot) -> Picture:
    steps, colors = shot.edges.steps, shot.edges.colors
    assert steps is not None and colors is not None
    height, width = shot.depth.shape if shot.depth is not None else (1, 1)

    def joined(pair: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[Any]:
        whole = np.zeros((height, width), pair[0].dtype)
        whole[:, :-1] = pair[0]
        whole[:-1] = np.maximum(whole[:-1], pair[1])
        return whole

    steep, step = joined(colors), joined(steps)
    picture = np.full((height, width, 3), PAPER, np.float32)
    picture += np.clip(steep * 1.6 - 0.5, 0, 1)[..., None] * np.array(COLOR_EDGE, np.float32)
    picture[step] = DEPTH_EDGE
    picture[step & (steep > 0.62)] = BOTH_EDGES
    return np.clip(picture, 0, 255).astype(np.uint8)


def _normal_panel(shot: Shot | None, fit: Any, none: Any) -> tuple[str, Picture]:
    if shot is None or shot.view is None:
        return "normals", none("no depth with a camera")
    derived = normal_to_picture(shot.view.normal)
    if shot.normal is None:
        return "normals from depth (none are sent)", fit(derived)
    sent = normal_to_picture(shot.normal)
    half = derived.shape[1] // 2
    both = np.concatenate([sent[:, :half], derived[:, half:]], axis=1)
    both[:, half - 1 : half + 1] = INK
    return "normals: left half sent, right half from depth", fit(both)


def _camera_panel(shot: Shot | None, other: Shot | None, fit: Any, none: Any) -> tuple[str, Picture]:
    caption = "camera: error of surfaces after its motion"
    if shot is None or other is None or shot.view is None or other.view is None:
        return caption, none("no depth with a camera")
    if not shot.pose_known:
        return caption, none("no pose is sent")
    assert shot.view.camera is not None and other.view.camera is not None
    error = reprojection_error(
        shot.view.depth, shot.view.camera, other.view.depth, other.view.camera, relative_tolerance=0.5
    )
    picture = turbo(np.clip(np.nan_to_num(error) / 3, 0, 0.95))
    picture[~np.isfinite(error)] = SKY
    return "camera: error after its motion, blue 0, red 3 pixels", fit(picture, smooth=False)


def _lag_chart(diagnosis: Diagnosis, height: int) -> Picture:
    """Agreement of each channel with the depth, scaled to its own range; a full dot where it is best."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (_WIDTH, height), PANEL)
    paint = ImageDraw.Draw(canvas)
    left, right, top, bottom = 26, _WIDTH - 16, 34, height - 30
    place = {lag: left + (right - left) * i / (len(LAGS) - 1) for i, lag in enumerate(LAGS)}
    for lag, x in place.items():
        paint.line((x, top, x, bottom), fill=(62, 67, 78) if lag else (120, 126, 138), width=1)
        paint.text((x, bottom + 14), f"{lag:+d}" if lag else "0", fill=FAINT, font=_font(13), anchor="mm")
    shown = 0
    for name, curve in diagnosis.lags.items():
        known = [(lag, v) for lag, v in zip(LAGS, curve.agreement, strict=True) if math.isfinite(v)]
        if len(known) < 3:
            continue
        low, high = min(v for _, v in known), max(v for _, v in known)
        span = max(high - low, 1e-6)
        points = [(place[lag], bottom - 6 - (bottom - top - 12) * (v - low) / span) for lag, v in known]
        color = CURVES[name] if curve.best is not None else (90, 94, 104)
        paint.line(points, fill=color, width=3, joint="curve")
        for (x, y), (lag, _) in zip(points, known, strict=True):
            r = 6 if lag == curve.best else 3
            paint.ellipse((x - r, y - r, x + r, y + r), fill=color)
        word = {"color": "colour", "normal": "normals"}.get(name, name)
        told = f"best at {curve.best}" if curve.best is not None else "cannot be told"
        paint.text((12 + 130 * shown, 16), f"{word}: {told}", fill=color, font=_font(13), anchor="lm")
        shown += 1
    if not shown:
        paint.text((_WIDTH / 2, height / 2), "nothing to compare", fill=FAINT, font=_font(15), anchor="mm")
    return np.asarray(canvas)


def _fitted(image: Picture, height: int, smooth: bool = True) -> Picture:
    from PIL import Image

    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((_WIDTH, height), how))


def _note(text: str, height: int) -> Picture:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (_WIDTH, height), PANEL)
    ImageDraw.Draw(canvas).text((_WIDTH / 2, height / 2), text, fill=FAINT, font=_font(15), anchor="mm")
    return np.asarray(canvas)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
