"""The screen as a source of frames: a monitor, a region, or a window that is followed. Colour only.

Works on what mss grabs, and sends it through `capture.sender`. Knows nothing of the programs on the screen, so there is
neither depth nor camera. `python -m capture.screen` runs it as the bridge `screen`.

Frames keep to a fixed schedule: a frame that is due while the one before is still being worked on is left out and
counted as late, its number skipped; none is hurried after. A picture equal to the one before has the flag "duplicate",
one without any light the flag "black".
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time as clock
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.desktop import DesktopError, Rectangle, find_window, open_desktop
from capture.errors import UserError
from capture.frame import Descriptor
from capture.sender import FrameSender

ENGINE = "screen"
DUPLICATE, BLACK = "duplicate", "black"

BLACK_SECONDS = 1.0
"""After so long without any light the user is told what may be the reason."""

_LIGHT = np.uint32(0x00F8F8F8)
"""The bits of a BGRA pixel that make one of its colours brighter than 7; video range and dithering leave a little."""


class ScreenError(UserError):
    """The screen, or the part of it that was asked for, cannot be recorded."""


@dataclass
class ScreenStats:
    """What became of the frames."""

    sent: int = 0
    dropped: int = 0
    """Not sent because the daemon had no room."""
    late: int = 0
    """Left out because this machine was too slow for the frame rate."""
    duplicates: int = 0
    """Equal to the picture before."""
    black: int = 0
    """Without any light."""

    def __str__(self) -> str:
        return (
            f"{self.sent} frames sent, {self.dropped} dropped, {self.late} late, {self.duplicates} duplicates, "
            f"{self.black} black"
        )


class Grabber:
    """Reads rectangles of the screen; a context manager. ScreenError where there is no screen to read."""

    def __init__(self, cursor: bool = False) -> None:
        self._cursor = cursor
        self._mss = self._open()

    def __enter__(self) -> Grabber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mss.close()

    @property
    def desktop(self) -> Rectangle:
        """All monitors together."""
        return self.monitors()[0]

    def monitors(self) -> list[Rectangle]:
        """All monitors together, then each by itself."""
        return [Rectangle(m["left"], m["top"], m["width"], m["height"]) for m in self._mss.monitors]

    def grab(self, place: Rectangle) -> NDArray[np.uint8]:
        """(H, W, 4) uint8 BGRA, top row first; the fourth component means nothing."""
        from mss import ScreenShotError

        try:
            shot = self._mss.grab(place._asdict())
        except ScreenShotError:
            # A changed resolution makes what mss knows of the screen wrong.
            self._mss.close()
            self._mss = self._open()
            try:
                shot = self._mss.grab(place.within(self.desktop)._asdict())
            except ScreenShotError as error:
                raise ScreenError(f"The screen cannot be read any more: {error}.") from None
        return np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)

    def _open(self) -> Any:
        try:
            import mss
        except ImportError:
            raise ScreenError("Recording the screen needs the package mss: `pip install mss`.") from None
        try:
            opened = mss.MSS(with_cursor=self._cursor) if sys.platform == "linux" else mss.MSS()
            _ = opened.monitors
        except Exception as error:
            if sys.platform == "linux" and not os.environ.get("DISPLAY"):
                raise ScreenError(
                    "There is no display to record: run this in a graphical session, or set DISPLAY, as in DISPLAY=:0."
                ) from None
            raise ScreenError(f"The screen cannot be read: {str(error).rstrip('.')}.") from None
        return opened


class Target(ABC):
    """What is recorded: where it is now."""

    name = "monitor"

    @abstractmethod
    def place(self) -> Rectangle | None:
        """Where it is now, None while it cannot be seen. ScreenError or DesktopError when it is gone."""


class Fixed(Target):
    """A rectangle that stays."""

    def __init__(self, name: str, rectangle: Rectangle) -> None:
        self.name = name
        self._rectangle = rectangle

    def place(self) -> Rectangle | None:
        return self._rectangle


class FollowedWindow(Target):
    """A window, wherever it goes; only what of it lies on the screen. What covers it is recorded with it."""

    def __init__(self, title: str, grabber: Grabber) -> None:
        self._desktop = open_desktop()
        self._window = find_window(self._desktop.windows(), title)
        self._grabber = grabber
        self.name = self._window.title

    def place(self) -> Rectangle | None:
        rectangle = self._desktop.rectangle(self._window.id)
        visible = rectangle.within(self._grabber.desktop) if rectangle is not None else None
        return visible if visible is not None and min(visible.width, visible.height) > 0 else None


def choose_target(
    grabber: Grabber, *, monitor: int | None = None, region: Rectangle | None = None, window: str | None = None
) -> Target:
    """What the user asked for; by default the first monitor. ScreenError or DesktopError when it is not there."""
    if window is not None:
        return FollowedWindow(window, grabber)
    monitors = grabber.monitors()
    if region is not None:
        if region.within(grabber.desktop) != region:
            left, top, width, height = grabber.desktop
            raise ScreenError(
                f"The region {','.join(map(str, region))} does not lie on the screen, which is {width}x{height} from "
                f"{left},{top} on."
            )
        return Fixed(f"region {','.join(map(str, region))}", region)
    number = 1 if monitor is None else monitor
    if not 0 <= number < len(monitors):
        raise ScreenError(f"There is no monitor {number}: choose one from 1 to {len(monitors) - 1}, or 0 for all.")
    return Fixed(f"monitor {number}", monitors[number])


class Pace:
    """A schedule of ticks that does not drift: tick n is n / fps seconds after the first."""

    def __init__(
        self, fps: float, now: Callable[[], float] = clock.monotonic, sleep: Callable[[float], None] = clock.sleep
    ) -> None:
        self._period = 1 / fps
        self._now, self._sleep = now, sleep
        self._start = math.nan
        self._tick = -1
        self.late = 0
        """Ticks that passed unused."""

    def wait(self) -> int:
        """Wait for the next tick and give its number, from 0. Ticks that are over are left out and counted."""
        now = self._now()
        if self._tick < 0:
            self._start = now
        due = self._tick + 1
        newest = int((now - self._start) / self._period)
        self.late += max(0, newest - due)
        self._tick = max(due, newest)
        while (left := self._start + self._tick * self._period - self._now()) > 0:
            self._sleep(left)
        return self._tick


def is_black(image: NDArray[np.uint8]) -> bool:
    """Whether no pixel of a BGRA picture has light. Most pictures are told from a few of their pixels."""
    pixels = image.view(np.uint32)
    return not (pixels[::16, ::16] & _LIGHT).any() and not (pixels & _LIGHT).any()


def black_reason(system: str = sys.platform) -> str:
    """What may be the reason of a black picture here, and what to do, in one sentence."""
    if system == "win32":
        return (
            "The picture is black: a game in exclusive fullscreen cannot be read, switch it to a borderless window in "
            "its video settings."
        )
    if os.environ.get("XDG_SESSION_TYPE") == "wayland" or os.environ.get("WAYLAND_DISPLAY"):
        return (
            "The picture is black: under Wayland no program may read the screen, choose an X11 session when you log in."
        )
    return (
        "The picture is black: if a game is there, switch it from exclusive fullscreen to a borderless window, and see "
        "whether this is the right monitor."
    )


def record(
    grabber: Grabber,
    target: Target,
    endpoint: str | None = None,
    *,
    fps: float = 30.0,
    frames: int | None = None,
    seconds: float = math.inf,
    duplicates: bool = True,
    tell: Callable[[str], None] = lambda sentence: None,
) -> ScreenStats:
    """Sends what is seen at `target`, `fps` times a second, until `frames` have been sent or `seconds` are over.

    A frame's serial is its place in the schedule and its time seconds since the first, so that late frames leave a
    gap. duplicates: False leaves out pictures equal to the one before, and their serials. tell: called with sentences
    for the user. A window that is closed ends the recording; while it is hidden nothing is sent.
    Raises ScreenError, DesktopError, and SenderError as FrameSender does.
    """
    place = target.place()
    if place is None:
        raise ScreenError(f"The window {target.name!r} is minimised or off the screen: bring it back first.")
    stats, pace = ScreenStats(), Pace(fps)
    descriptor = Descriptor("color", "uint8", (place.height, place.width, 4), order="bgra")
    before, left_out, dark, told = None, 0, 0, set()

    def tell_once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            tell(sentence)

    with FrameSender(endpoint, engine=ENGINE, game=target.name, channels=[descriptor], fps=fps) as sender:
        start = clock.monotonic()
        while frames is None or sender.stats.sent < frames:
            tick = pace.wait()
            if tick >= seconds * fps:
                break
            sender.controls()  # none that a screen could obey
            if sender.skip():
                continue
            try:
                place = target.place()
            except DesktopError as gone:
                tell_once(str(gone))
                break
            if place is None:
                tell_once("The window is hidden: the recording waits until it can be seen.")
                continue
            time = clock.monotonic() - start
            image = grabber.grab(place)
            digest = (image.shape, zlib.crc32(image.data))  # of two pictures in a row no better hash is needed
            duplicate, black = digest == before, is_black(image)
            before = digest
            stats.duplicates += duplicate
            stats.black += black
            dark = dark + 1 if black else 0
            if dark >= BLACK_SECONDS * fps:
                tell_once(black_reason())
            if duplicate and not duplicates:
                left_out += 1
                continue
            if image.shape != descriptor.shape:
                descriptor = descriptor.with_shape(image.shape)
                sender.describe([descriptor])
            flags = [flag for flag, is_so in ((DUPLICATE, duplicate), (BLACK, black)) if is_so]
            sender.send(None, {"color": image}, time=time, serial=tick - left_out, flags=flags)
    stats.sent, stats.dropped, stats.late = sender.stats.sent, sender.stats.dropped, pace.late
    return stats


def region(text: str) -> Rectangle:
    """`X,Y,W,H` in pixels of the desktop."""
    try:
        place = Rectangle(*(int(number) for number in text.split(",")))
    except (TypeError, ValueError):
        place = Rectangle(0, 0, 0, 0)
    if place.width < 1 or place.height < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a region such as 100,50,1280,720 (left, top, width, height)")
    return place


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m capture.screen",
        description="Send what the screen shows to the realmaster daemon: colour only.",
        epilog="Example: python -m capture.screen --window 'My Game' --fps 30",
    )
    parser.add_argument("--endpoint", help="of the daemon (default: REALMASTER_ENDPOINT, else tcp://127.0.0.1:5790)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--monitor", type=int, metavar="N", help="1 is the first (default), 0 all together")
    what.add_argument("--region", type=region, metavar="X,Y,W,H", help="a rectangle of the desktop")
    what.add_argument("--window", metavar="TITLE", help="a window by its title, or by a part of it")
    parser.add_argument("--fps", type=float, default=30.0, help="frames per second (default 30)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=int, metavar="N", help="stop after N frames sent (default: never)")
    length.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="stop after S seconds")
    parser.add_argument("--cursor", action="store_true", help="show the mouse cursor (Linux)")
    parser.add_argument("--no-duplicates", action="store_true", help="leave out pictures equal to the one before")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the bridge; gives the exit status. A UserError becomes one sentence on stderr and status 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 0 < options.fps <= 1000:
        parser.error(f"--fps is {options.fps:g}, but must lie between 0 and 1000")
    try:
        with Grabber(options.cursor) as grabber:
            target = choose_target(grabber, monitor=options.monitor, region=options.region, window=options.window)
            stats = record(
                grabber,
                target,
                options.endpoint,
                fps=options.fps,
                frames=options.frames,
                seconds=options.seconds,
                duplicates=not options.no_duplicates,
                tell=lambda sentence: print(f"realmaster: {sentence}", file=sys.stderr, flush=True),
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"screen: {stats}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
