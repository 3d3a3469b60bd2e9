"""Contact sheets: pictures in rows and columns under a title, for people.

Works on finished pictures (`capture.pictures` makes them); knows nothing of takes, models or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""Height x width x 3, sRGB, 8 bit."""

_INK = (236, 238, 242)
_FAINT = (150, 156, 168)
_PAPER = (18, 20, 24)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Picture]]], columns: Sequence[str], title: str, subtitle: str = ""
) -> Image.Image:
    """Lay pictures out: a title, a heading per column, and rows of pictures of one size under their names.

    `rows` holds (name, pictures); a row has as many pictures as there are `columns`.
    """
    height, width = rows[0][1][0].shape[:2]
    font_size = max(12, round(width / 18))
    gap, margin = max(4, width // 60), font_size
    name_width = round(max(_font(font_size).getlength(name) for name, _ in rows)) + margin
    top = round(font_size * (5.4 if subtitle else 4.0)) + margin
    canvas_width = margin + name_width + len(columns) * (width + gap) - gap + margin
    wide_enough = max(canvas_width, round(_font(font_size).getlength(subtitle)) + 2 * margin)
    canvas = Image.new("RGB", (wide_enough, top + len(rows) * (height + gap) - gap + margin), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, margin), title, fill=_INK, font=_font(round(font_size * 1.4)))
    if subtitle:
        draw.text((margin, margin + font_size * 2), subtitle, fill=_FAINT, font=_font(font_size))
    for column, heading in enumerate(columns):
        left = margin + name_width + column * (width + gap)
        draw.text((left, top - font_size * 0.5), heading, fill=_FAINT, font=_font(font_size), anchor="lb")
    for row, (name, pictures) in enumerate(rows):
        y = top + row * (height + gap)
        draw.text((margin, y + height / 2), name, fill=_INK, font=_font(font_size), anchor="lm")
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (margin + name_width + column * (width + gap), y))
    return canvas


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
