"""How takes and frames show themselves in a notebook: a line of facts and small pictures, as HTML.

Works on takes and frames; nothing else imports it, and it is imported when a notebook asks.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import FrameError, TakeDamagedError
from capture.pictures import channel_picture, shrink

if TYPE_CHECKING:
    from capture.frame import Frame
    from capture.take import Take

_WIDTH = 240
_SHOWN = 4


def take_html(take: Take) -> str:
    """What a take is, and some of its frames."""
    width, height = next(((c["shape"][1], c["shape"][0]) for c in take.manifest["channels"]), (0, 0))
    line = f"{len(take)} frames, {take.seconds:.2f} s, {width}x{height}, {', '.join(take.channels)}, {take.state}"
    name = next((name for name in take.channels if name.startswith("color")), next(iter(take.channels), None))
    readable = take.readable
    chosen = [readable[int(i)] for i in np.unique(np.linspace(0, len(readable) - 1, min(_SHOWN, len(readable))))]
    pictures = [] if name is None else [(f"frame {i}", _picture(take, i, name)) for i in chosen]
    return _html(f"Take {take.name}", f"{take.engine} {take.game}: {line}", pictures)


def frame_html(frame: Frame) -> str:
    """What a frame is, and its channels."""
    height, width = frame.shape if frame.channels else (0, 0)
    flags = f", {' '.join(frame.flags)}" if frame.flags else ""
    line = f"serial {frame.serial}, {frame.time:.3f} s, {width}x{height}{flags}"
    names = [*frame.channels, *(name for name in frame.available if name not in frame.channels)]
    return _html(f"Frame {frame.index}", line, [(name, _picture([frame], 0, name)) for name in names])


def _picture(frames: Sequence[Frame], index: int, name: str) -> NDArray[np.uint8] | None:
    """A small picture of a channel; None where it is damaged."""
    try:
        return shrink(channel_picture(frames[index], name), _WIDTH)
    except (TakeDamagedError, FrameError):
        return None


def _html(title: str, line: str, pictures: Sequence[tuple[str, NDArray[np.uint8] | None]]) -> str:
    figures = "".join(
        f'<figure style="display:inline-block;margin:4px"><img src="data:image/jpeg;base64,{_jpeg(picture)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, picture in pictures
        if picture is not None
    )
    return f"<div><b>{escape(title)}</b><br>{escape(line)}<br>{figures}</div>"


def _jpeg(picture: Any) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="jpeg", quality=85)
    return base64.b64encode(file.getvalue()).decode()
