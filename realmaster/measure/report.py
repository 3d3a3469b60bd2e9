"""A lift's scores as one HTML page that needs nothing else: no script, no network, pictures and curves within.

Works on a scorer and an album that have seen the whole clip.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from PIL import Image

from realmaster.measure.album import WHERE, Album, Page
from realmaster.measure.charts import line_chart
from realmaster.measure.findings import COPY_CAVEAT, Finding
from realmaster.measure.moment import LIFTED, REFERENCE, RENDER
from realmaster.measure.scores import MEASURES, Scorer, Scores

NAMES = {LIFTED: "lift", RENDER: "untouched render", REFERENCE: "reference"}
GROUPS = {
    "structure": "Structure: is the engine's geometry kept",
    "time": "Time: does it hold still where the engine does",
    "identity": "Identity: do things stay what they were",
    "realism": "Realism: how near to the truth, how fine",
    "late": "Things that appear in the middle",
    "drift": "Drift: the last third against the first",
}
ARROWS = {"higher": "↑", "lower": "↓", "one": "→ 1", "zero": "→ 0", "none": ""}
CURVES = {
    "depth_edge_alignment": "depth edges kept",
    "warp_error": "warp error",
    "psnr": "PSNR to the reference",
    "ssim": "SSIM to the reference",
    "color_jump": "colour jumps",
    "detail": "fine detail",
}
"""Scores of single frames that are drawn over time."""


def report_page(
    scorer: Scorer,
    album: Album,
    found: Sequence[Finding],
    facts: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """The page. facts: what was compared, name and value, for its head; notes: sentences for its end."""
    scores, first_frame = scorer.result(), scorer.first_frame
    known = "".join(f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in facts.items())
    body = [
        f'<header><h1>What a lift is worth</h1><p class="facts">{known}</p></header>',
        "<h2>What stands out</h2>", _findings(found),
        f'<p class="note">{escape(COPY_CAVEAT)}</p>',
        "<h2>Scores</h2>", _table(scores, {finding.measure for finding in found}),
        "<h2>Side by side</h2>", _sheet(album.sheet, first_frame),
        *_maps(album),
        "<h2>Over time</h2>", _curves(scorer, found),
        *_worst(album, first_frame),
        "<h2>How it was measured</h2>",
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
    ]  # fmt: skip
    style = files("realmaster.measure").joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Lift report: {escape(next(iter(facts.values()), ''))}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _findings(found: Sequence[Finding]) -> str:
    if not found:
        return (
            '<ul class="findings"><li class="none"><span class="lead">Nothing stands out.</span><small>None of the '
            "faults that are looked for: a copy, displacement, order of frames, jumping colours, flicker, changed "
            "things, blur, seams, drift.</small></li></ul>"
        )
    rows = []
    for finding in found:
        told = f"<small>told by: {escape(MEASURES[finding.measure].name.strip())}</small>"
        rows.append(f'<li><span class="lead">{escape(finding.sentence)}</span>{told}</li>')
    return f'<ul class="findings">{"".join(rows)}</ul>'


def _table(scores: Mapping[str, Scores], faulty: set[str]) -> str:
    videos = list(scores)
    head = "".join(f"<th>{NAMES[video]}</th>" for video in videos)
    rows = [f'<thead><tr><th></th>{head}<th></th><th class="reading"></th></tr></thead><tbody>']
    group = ""
    for key, measure in MEASURES.items():
        values = [getattr(scores[video], key) for video in videos]
        if values[0] is None:
            continue
        if measure.group != group:
            group = measure.group
            rows.append(f'<tr class="group"><td colspan="{len(videos) + 3}">{GROUPS[group]}</td></tr>')
        cells = "".join(
            f'<td class="{video}{" faulty" if video == LIFTED and key in faulty else ""}">{_value(key, value)}</td>'
            for video, value in zip(videos, values, strict=True)
        )
        part = ' class="part"' if measure.name.startswith(" ") else ""
        rows.append(
            f"<tr><td{part}>{escape(measure.name.strip())}</td>{cells}"
            f'<td class="arrow">{ARROWS[measure.better]}</td><td class="reading">{escape(measure.reading)}</td></tr>'
        )
    return f'<div class="scroll"><table>{"".join(rows)}</tbody></table></div>'


def _value(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    measure = MEASURES[key]
    return f"{value:.{measure.digits}f}{' ' + measure.unit if measure.unit else ''}"


def _sheet(pages: Sequence[Page], first: int) -> str:
    cells = ["<span></span>", *(f'<span class="head">frame {first + page.index}</span>' for page in pages)]
    for name in pages[0].pictures if pages else ():
        cells.append(f'<span class="name">{NAMES[name].removeprefix("untouched ")}</span>')
        cells += [_image(page.pictures[name], f"{NAMES[name]}, frame {first + page.index}") for page in pages]
    return f'<div class="scroll"><div class="sheet" style="--columns:{len(pages)}">{"".join(cells)}</div></div>'


def _maps(album: Album) -> list[str]:
    if not album.maps:
        return []
    cards = [
        f'<figure class="card"><h3>{escape(WHERE[kind].title)}</h3>{_image(picture, WHERE[kind].title)}'
        f"<figcaption>{escape(WHERE[kind].reading)}</figcaption></figure>"
        for kind, picture in album.maps.items()
    ]
    legend = '<p class="note">Mean over the clip: none<span class="heatbar"></span>most.</p>'
    return ["<h2>Where</h2>", legend, f'<div class="grid">{"".join(cards)}</div>']


def _curves(scorer: Scorer, found: Sequence[Finding]) -> str:
    cards = []
    for key, name in CURVES.items():
        curves = {video: scorer.curves[video][key] for video in reversed(scorer.curves) if key in scorer.curves[video]}
        if not curves or not np.isfinite(curves.get(LIFTED, [np.nan])).any():
            continue
        curves = {video: curve for video, curve in curves.items() if np.isfinite(curve).any()}
        marks = sorted({frame for finding in found for frame in finding.frames})[:40]
        unit = MEASURES[key].unit if key in MEASURES else ""
        chart = line_chart(curves, marks, unit, f"{name}, frame by frame", scorer.first_frame)
        cards.append(f'<div class="card"><h3>{escape(name)}</h3>{chart}</div>')
    legend = "".join(
        f'<span><i style="border-color:var(--{video})"></i>{NAMES[video]}</span>' for video in scorer.curves
    )
    if any(finding.frames for finding in found):
        legend += '<span><i style="border-color:var(--fault)"></i>frames that stand out</span>'
    return f'<p class="legend">{legend}</p><div class="grid">{"".join(cards)}</div>'


def _worst(album: Album, first: int) -> list[str]:
    kinds: dict[int, list[tuple[str, Page]]] = {}
    for kind, pages in album.worst.items():
        for page in pages:
            kinds.setdefault(page.index, []).append((kind, page))
    cards = []
    for index, shown in sorted(kinds.items()):
        pictures = {NAMES[name]: picture for name, picture in shown[0][1].pictures.items() if name in NAMES}
        pictures |= {WHERE[kind].title: page.pictures["heat"] for kind, page in shown}
        figures = "".join(
            f"<figure>{_image(picture, name)}<figcaption>{escape(name)}</figcaption></figure>"
            for name, picture in pictures.items()
        )
        most = ", ".join(WHERE[kind].title for kind, _ in shown)
        cards.append(
            f'<div class="card"><h3>Frame {first + index} <span>most: {escape(most)}</span></h3>'
            f'<div class="worst">{figures}</div></div>'
        )
    return ["<h2>The worst frames</h2>", *cards] if cards else []


def _image(picture: np.ndarray, alt: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "webp", quality=88, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = picture.shape[:2]
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/webp;base64,{data}">'
