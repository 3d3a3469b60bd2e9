"""What a frame is, how it travels, how it is kept.

The ground package. It never imports torch, so that a recorder starts in a moment; names are imported when they are
first used, so `import capture` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capture.camera import Axes, Camera, Conventions
    from capture.errors import (
        FrameError,
        ProtocolError,
        SenderError,
        TakeDamagedError,
        TakeError,
        TakeNotFoundError,
        UserError,
    )
    from capture.frame import Channel, Descriptor, Entity, Frame
    from capture.sender import FrameSender
    from capture.take import Take, TakeWriter

_HOME = {
    "Axes": "camera",
    "Camera": "camera",
    "Channel": "frame",
    "Conventions": "camera",
    "Descriptor": "frame",
    "Entity": "frame",
    "Frame": "frame",
    "FrameError": "errors",
    "FrameSender": "sender",
    "ProtocolError": "errors",
    "SenderError": "errors",
    "Take": "take",
    "TakeDamagedError": "errors",
    "TakeError": "errors",
    "TakeNotFoundError": "errors",
    "TakeWriter": "take",
    "UserError": "errors",
}

__all__ = [
    "Axes",
    "Camera",
    "Channel",
    "Conventions",
    "Descriptor",
    "Entity",
    "Frame",
    "FrameError",
    "FrameSender",
    "ProtocolError",
    "SenderError",
    "Take",
    "TakeDamagedError",
    "TakeError",
    "TakeNotFoundError",
    "TakeWriter",
    "UserError",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'capture' has no attribute {name!r}") from None
    value = getattr(import_module(f"capture.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
