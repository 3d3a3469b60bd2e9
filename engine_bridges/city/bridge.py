"""The city as an engine that sends its frames, and the way back from a take to its reference pictures.

Works on: a City and a FrameSender. Knows nothing of: the daemon behind the sender, how takes are stored.

Controls obeyed: `pause` {"on": bool, by default the other state} and `step` {"frames": n, by default 1}, which pauses
after n more frames. Recording is the daemon's own matter.
"""

from __future__ import annotations

import math
import re
import time as clock
from typing import Any, Protocol

import numpy as np

from capture.errors import FrameError
from capture.frame import Descriptor
from capture.sender import FrameSender, SenderStats
from capture.wire import Control
from engine_bridges.city.scene import LEGEND, City, CityFrame

ENGINE = "city"
CONTROLS = ("pause", "step")
_NORMAL_SCALE = 32767
_IDLE_SECONDS = 0.02


def descriptors(size: tuple[int, int]) -> list[Descriptor]:
    """What the city sends at `size` (width, height). Normals are 16 bit, all other channels exact."""
    width, height = size
    return [
        Descriptor("color", "uint8", (height, width, 3), order="rgb"),
        Descriptor("depth", "float32", (height, width), kind="linear"),
        Descriptor("normal", "int16", (height, width, 3), space="camera", encoding="snorm"),
        Descriptor("motion", "float32", (height, width, 2), kind="backward_pixels"),
        Descriptor("segmentation", "uint8", (height, width)),
        Descriptor("instance", "uint16", (height, width)),
    ]


def channels(frame: CityFrame) -> dict[str, np.ndarray]:
    """The arrays of a frame as `descriptors` announces them."""
    return {
        "color": frame.color,
        "depth": frame.depth,
        "normal": np.rint(frame.normal * _NORMAL_SCALE).astype(np.int16),
        "motion": frame.motion,
        "segmentation": frame.segmentation,
        "instance": frame.instance,
    }


class _Clock:
    """When the next frame is due: at once in lossless mode, at the city's frame rate in live mode."""

    def __init__(self, fps: float) -> None:
        self._period = 1.0 / fps
        self._due = clock.monotonic()

    def wait(self) -> None:
        now = clock.monotonic()
        if self._due > now:
            clock.sleep(self._due - now)
        elif now - self._due > self._period:
            self._due = now  # too slow for the frame rate: slow motion rather than a rush to catch up
        self._due += self._period


class _Remote:
    """Pause and step, as the daemon asks."""

    def __init__(self) -> None:
        self.steps_left: float = math.inf

    def obey(self, control: Control) -> None:
        if control.name == "pause":
            pause = control.args.get("on", self.steps_left > 0)
            self.steps_left = 0 if pause else math.inf
        elif control.name == "step":
            wanted = control.args.get("frames", 1)
            self.steps_left = max(1, wanted) if isinstance(wanted, int) else 1

    @property
    def paused(self) -> bool:
        return self.steps_left <= 0


def run(city: City, endpoint: str | None, *, frames: int | None, mode: str = "live") -> SenderStats:
    """Sends the city to the daemon from its first frame on, until `frames` have been sent (None: for ever).

    mode: "live" keeps to the city's frame rate by the wall clock and leaves out frames for which there is no credit;
    "lossless" goes as fast as the daemon takes them. The serial of a frame is its number in the city.
    Raises SenderError as FrameSender does.
    """
    with FrameSender(
        endpoint, engine=ENGINE, game=game_name(city), channels=descriptors(city.size), fps=city.fps, mode=mode,
        legend={"segmentation": LEGEND}, capabilities=CONTROLS,
    ) as sender:  # fmt: skip
        pace, remote, index = _Clock(city.fps), _Remote(), 0
        while frames is None or sender.stats.sent < frames:
            for control in sender.controls():
                remote.obey(control)
            if remote.paused and sender.connected:  # without the daemon nobody could end the pause
                clock.sleep(_IDLE_SECONDS)
                continue
            if mode == "live":
                pace.wait()
            if not sender.skip():
                frame = city.frame(index)
                sender.send(frame.camera, channels(frame), time=frame.time, serial=index, entities=frame.entities)
            index += 1
            remote.steps_left -= 1
    return sender.stats


def game_name(city: City) -> str:
    """The session's game: it names the street, with what overrules its seed."""
    overrides = [f"{what} {name}" for what, name in city.overrides.items() if name]
    return ", ".join([f"city seed {city.seed}", *overrides])


class _Take(Protocol):
    """The part of capture.Take that names the street: its frames' serials are the city's frame numbers."""

    @property
    def engine(self) -> str: ...
    @property
    def game(self) -> str: ...
    @property
    def fps(self) -> float: ...
    @property
    def manifest(self) -> dict[str, Any]: ...


def city_from_take(take: _Take) -> City:
    """The City that a take was recorded from: `city.reference(take[i].serial)` is the ground truth of `take[i]`.

    Raises FrameError for a take of another engine.
    """
    match = re.fullmatch(r"city seed (\d+)((?:, (?:layout|palette|weather) [a-z ]+)*)", take.game)
    shape = next((c["shape"] for c in take.manifest["channels"] if c["name"] == "color"), None)
    if take.engine != ENGINE or match is None or shape is None:
        raise FrameError(
            f"a take of {take.engine} {take.game} has no reference pictures: choose one recorded from the city."
        )
    overrides = dict(part.split(" ", 1) for part in match[2].split(", ")[1:])
    return City(int(match[1]), (shape[1], shape[0]), take.fps, **overrides)
