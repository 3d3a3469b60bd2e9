"""The page: whole in itself, and with the right pictures in it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from capture.frame import Channel, Descriptor, Frame
from realmaster.measure import Scorer, findings
from realmaster.measure.album import Album, overlay
from realmaster.measure.charts import line_chart
from realmaster.measure.report import report_page
from tests.realmaster.measure.test_scores import frame as box_frame


def filled(frames: int = 30, bad: int = 17) -> tuple[Scorer, Album]:
    """A clip whose frame `bad` is black, with its reference."""
    scorer, album = Scorer(first_frame=100), Album()
    for index in range(frames):
        frame = box_frame(index % 6)
        lifted = frame.color * 0 if index == bad else frame.color
        album.add(scorer.add(frame, lifted, frame.color), scorer.latest)
    return scorer, album


def test_the_page_needs_nothing_else_and_names_the_worst_frame() -> None:
    scorer, album = filled()
    assert album.worst["reference"][0].index == 17
    page = report_page(scorer, album, findings(scorer), {"lift": "<b>.mp4"}, ["one note."])
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page and "http" not in page
    assert "&lt;b&gt;.mp4" in page and "<b>.mp4" not in page
    assert "Frame 117 <span>most:" in page and "one note." in page and "A copy of the render wins" in page
    pictures = len(album.sheet) * 3 + len(album.maps)
    assert page.count("<img ") >= pictures and page.count("<svg ") >= 4


def test_the_sheet_stays_small_and_spans_the_clip() -> None:
    scorer, album = filled(frames=70)
    indices = [page.index for page in album.sheet]
    assert len(indices) == 4 and indices[0] == 0 and indices[-1] >= 60
    assert len(album._kept) <= 16
    near = np.diff(sorted(page.index for page in album.worst["reference"]))
    assert (near >= 8).all(), "neighbours show the same fault"


def test_the_heat_map_glows_where_the_error_is() -> None:
    scorer, album = Scorer(), Album()
    for index in range(4):
        color = np.full((48, 64, 3), 90, np.uint8)
        lifted = color.copy()
        lifted[10:20, 30:40] = 250
        frame = Frame(
            index, index, 0.0, None, {"color": Channel(Descriptor("color", "uint8", color.shape), color, index)}
        )
        album.add(scorer.add(frame, lifted, color), scorer.latest)
    heat = album.maps["reference"].astype(int)
    assert heat[15, 35].sum() > 3 * heat[40, 5].sum()
    import torch

    cold, hot = overlay(torch.full((1, 2), 0.5), torch.tensor([[0.0, 1.0]]))[0]
    assert hot.tolist() == [255, 255, 230] and cold.max() < 90


def test_curves_are_drawn_with_gaps_and_true_numbers() -> None:
    chart = line_chart({"lifted": [1.0, 2.0, float("nan"), 4.0]}, marks=[12], unit="dB", first=10)
    svg = ElementTree.fromstring(chart)
    (path,) = [each for each in svg.iter() if each.get("class") == "curve lifted"]
    assert path.get("d").count("M") == 2, "nan leaves a gap"
    labels = {each.text for each in svg.iter("text")}
    assert {"10", "13", "dB"} <= labels and "frame 12" in {each.text for each in svg.iter("title")}
    ys = [float(part.split()[1]) for part in re.split("[ML]", path.get("d"))[1:]]
    assert ys[0] > ys[1] > ys[2], "up is more"
    assert line_chart({"lifted": [float("nan")]}) == ""
