"""The screen as a source: a real X server, a real window, the real protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from capture import wire
from capture.desktop import DesktopError, Rectangle, Window, find_window, open_desktop
from capture.screen import (
    Grabber,
    Pace,
    ScreenError,
    ScreenStats,
    Target,
    black_reason,
    choose_target,
    is_black,
    main,
    record,
    region,
)
from tests.capture import x11
from tests.capture.small_daemon import TOKEN, SmallDaemon


class Clock:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_pace_keeps_to_the_schedule_however_long_the_work_takes() -> None:
    clock = Clock()
    pace = Pace(10, clock.read, clock.sleep)
    for tick in range(50):
        assert pace.wait() == tick
        assert clock.now == pytest.approx(100 + tick / 10)
        clock.now += 0.07
    assert pace.late == 0


def test_a_late_frame_is_left_out_and_those_after_it_are_on_time() -> None:
    clock = Clock()
    pace = Pace(10, clock.read, clock.sleep)
    assert [pace.wait(), pace.wait()] == [0, 1]
    clock.now += 0.37  # ticks 2 to 4 have passed; 4 is the newest
    assert pace.wait() == 4
    assert pace.late == 2
    assert pace.wait() == 5
    assert clock.now == pytest.approx(100.5)
    assert pace.late == 2


def test_black_is_black_and_one_bright_pixel_is_not() -> None:
    image = np.full((90, 160, 4), 255, np.uint8)
    image[..., :3] = 5
    assert is_black(image)  # whatever the fourth component is
    image[33, 7, 1] = 90
    assert not is_black(image)


@pytest.mark.parametrize(
    ("system", "session", "words"),
    [
        ("win32", "", "exclusive fullscreen"),
        ("linux", "wayland", "Wayland"),
        ("linux", "x11", "right monitor"),
    ],
)
def test_the_reason_of_a_black_picture(monkeypatch, system: str, session: str, words: str) -> None:
    monkeypatch.setenv("XDG_SESSION_TYPE", session)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert words in black_reason(system)


def test_find_window_by_its_title() -> None:
    windows = [Window(1, "Mines"), Window(2, "Minesweeper"), Window(3, "Editor - mines.txt")]
    assert find_window(windows, "MINES").id == 1  # the whole title goes before a part of others
    assert find_window(windows, "sweep").id == 2
    with pytest.raises(DesktopError, match="Several windows match 'mine': 'Mines', 'Minesweeper', 'Editor"):
        find_window(windows, "mine")
    with pytest.raises(DesktopError, match="no window called 'Quake'; these are open: 'Mines', 'Minesweeper'"):
        find_window(windows, "Quake")
    with pytest.raises(DesktopError, match="these are open: none"):
        find_window([], "Quake")


def test_region_from_text() -> None:
    assert region("-10,5,640,480") == Rectangle(-10, 5, 640, 480)
    for wrong in ("1,2,3", "a,b,c,d", "0,0,0,5"):
        with pytest.raises(Exception, match="left, top, width, height"):
            region(wrong)


def test_the_part_of_a_rectangle_on_the_screen() -> None:
    screen = Rectangle(0, 0, 100, 80)
    assert Rectangle(-10, 70, 50, 50).within(screen) == Rectangle(0, 70, 40, 10)
    assert Rectangle(200, 0, 10, 10).within(screen).width <= 0


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    if lacks := x11.missing():
        pytest.skip(lacks)
    with x11.virtual_display() as name:
        yield name


@pytest.fixture
def on_display(display: str, monkeypatch) -> str:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("XDG_SESSION_TYPE", "x11")
    return display


def test_a_region_is_read_as_it_is_shown(on_display: str) -> None:
    with x11.Program(on_display, "game", 50, 40, 80, 60) as program, Grabber() as grabber:
        program.do("color 2080F0")
        assert grabber.desktop == Rectangle(0, 0, 640, 480)
        image = grabber.grab(choose_target(grabber, region=Rectangle(40, 30, 20, 15)).place())
        assert image.shape == (15, 20, 4)
        inside = np.zeros((15, 20), bool)
        inside[10:, 10:] = True
        assert (image[inside][:, :3] == (0xF0, 0x80, 0x20)).all()  # blue, green, red
        assert (image[~inside][:, :3] == 0).all()


def test_a_window_is_found_and_followed(on_display: str) -> None:
    with x11.Program(on_display, "A game", 50, 40, 80, 60) as program, Grabber() as grabber:
        with x11.Program(on_display, "Another one", 300, 40, 30, 30):
            assert {window.title for window in open_desktop().windows()} == {"A game", "Another one"}
            with pytest.raises(DesktopError, match="Several windows match 'a'"):
                choose_target(grabber, window="a")
        target = choose_target(grabber, window="a game")
        assert target.name == "A game"
        assert target.place() == Rectangle(50, 40, 80, 60)
        program.do("move 100 90 64 48")
        assert target.place() == Rectangle(100, 90, 64, 48)
        program.do("move 600 -20 64 48")  # only what lies on the screen can be read
        assert target.place() == Rectangle(600, 0, 40, 28)
        program.do("hide")
        assert target.place() is None
        program.do("show")
        assert target.place() is not None
        program.do("close")
        with pytest.raises(DesktopError, match="was closed"):
            target.place()


def test_what_is_not_there_is_said_in_one_sentence(on_display: str, monkeypatch) -> None:
    with Grabber() as grabber:
        with pytest.raises(ScreenError, match="no monitor 7: choose one from 1 to 1, or 0"):
            choose_target(grabber, monitor=7)
        with pytest.raises(ScreenError, match="600,0,100,100 does not lie on the screen, which is 640x480"):
            choose_target(grabber, region=Rectangle(600, 0, 100, 100))
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(ScreenError, match="no display to record.*set DISPLAY"):
        Grabber()
    with pytest.raises(DesktopError, match="no X11 display"):
        open_desktop()


class Watched(Target):
    """A target that counts how often it was asked for its place."""

    def __init__(self, target: Target) -> None:
        self.name, self._target, self.asked = target.name, target, 0

    def place(self) -> Rectangle | None:
        self.asked += 1
        return self._target.place()


class Recording:
    """`record` on a thread of its own, into a small daemon."""

    def __init__(self, daemon: SmallDaemon, grabber: Grabber, window: str, **options) -> None:
        self.daemon = daemon
        self.told: list[str] = []
        self.stats: ScreenStats | None = None
        self.target = target = Watched(choose_target(grabber, window=window))

        def run() -> None:
            self.stats = record(grabber, target, daemon.endpoint, fps=50, tell=self.told.append, **options)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def until(self, found: Callable[[wire.FrameMessage], bool]) -> wire.FrameMessage:
        """The first frame of which `found` is true."""
        deadline = time.monotonic() + 60
        while True:
            frame = next((frame for frame in self.daemon.frames if found(frame)), None)
            if frame is not None:
                return frame
            assert time.monotonic() < deadline, f"{len(self.daemon.frames)} frames, {self.told}"
            time.sleep(0.01)

    def look(self, times: int) -> None:
        """Wait until the window has been looked at so often again."""
        wanted, deadline = self.target.asked + times, time.monotonic() + 60
        while self.target.asked < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> ScreenStats:
        self._thread.join(60)
        assert self.stats is not None
        return self.stats


def _shows(color: tuple[int, int, int], shape: tuple[int, int]) -> Callable[[wire.FrameMessage], bool]:
    def found(frame: wire.FrameMessage) -> bool:
        image = frame.parts[0].array
        return image.shape[:2] == shape and (image[..., 2::-1] == color).all()

    return found


def test_a_recording_follows_its_window(on_display: str, monkeypatch) -> None:
    """Duplicates and black are marked, a new size is announced, and the closed window ends it."""
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    with SmallDaemon(credit=8) as daemon, Grabber() as grabber:
        with x11.Program(on_display, "game", 50, 40, 80, 60) as program:
            recording = Recording(daemon, grabber, "game")
            first = recording.until(_shows((0, 0, 0), (60, 80)))
            assert (first.camera, first.flags) == (None, ("black",))
            recording.until(lambda frame: set(frame.flags) == {"black", "duplicate"})
            program.do("color 2080F0")
            shown = recording.until(_shows((0x20, 0x80, 0xF0), (60, 80)))
            assert "black" not in shown.flags
            program.do("move 10 20 64 48")
            recording.until(_shows((0x20, 0x80, 0xF0), (48, 64)))
            program.do("close")
            stats = recording.end()
    assert recording.told[-1] == "The window was closed."
    assert daemon.of(wire.Hello)[0].engine == "screen"
    assert [d.name for d in daemon.of(wire.Hello)[0].channels] == ["color"]  # depth and normals are absent, not faked
    assert [m.channels[0].shape for m in daemon.of(wire.Channels)] == [(48, 64, 4)]
    flags = [frame.flags for frame in daemon.frames]
    assert stats.duplicates == sum("duplicate" in marks for marks in flags) > 0
    assert stats.black == sum("black" in marks for marks in flags) > 0
    serials = [frame.serial for frame in daemon.frames]
    assert serials == sorted(set(serials))
    missing = serials[-1] + 1 - len(serials)
    assert missing <= stats.late + stats.dropped  # every number that is missing has a reason


def test_duplicates_can_be_left_out(on_display: str, monkeypatch) -> None:
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    with SmallDaemon(credit=8) as daemon, Grabber() as grabber:
        with x11.Program(on_display, "game", 50, 40, 80, 60) as program:
            recording = Recording(daemon, grabber, "game", duplicates=False)
            for color in (0x102030, 0x405060, 0x708090):
                program.do(f"color {color:06X}")
                recording.until(_shows(tuple(color.to_bytes(3, "big")), (60, 80)))
                recording.look(4)
            program.do("close")
            stats = recording.end()
    assert stats.duplicates >= 3 * 3
    pictures = [frame.parts[0].array.tobytes() for frame in daemon.frames]
    assert all(a != b for a, b in zip(pictures, pictures[1:], strict=False))
    assert all("duplicate" not in frame.flags for frame in daemon.frames)
    serials = [frame.serial for frame in daemon.frames]
    assert serials[-1] + 1 - len(serials) <= stats.late + stats.dropped  # what was left out on purpose is no gap


class SlowGrabber(Grabber):
    """Needs eight periods for its third picture."""

    grabbed = 0

    def grab(self, place: Rectangle) -> np.ndarray:
        self.grabbed += 1
        time.sleep(8 / 50 if self.grabbed == 3 else 0)
        return super().grab(place)


def test_late_pictures_leave_a_gap(on_display: str, monkeypatch) -> None:
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    with SmallDaemon(credit=8) as daemon, x11.Program(on_display, "game", 0, 0, 40, 30), SlowGrabber() as grabber:
        stats = Recording(daemon, grabber, "game", frames=10).end()
    serials = [frame.serial for frame in daemon.frames]
    assert stats.late >= 7
    assert serials[-1] + 1 - len(serials) == stats.late + stats.dropped


def test_a_black_screen_is_explained_once(on_display: str, monkeypatch) -> None:
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    with SmallDaemon(credit=8) as daemon, x11.Program(on_display, "dark", 0, 0, 40, 30), Grabber() as grabber:
        recording = Recording(daemon, grabber, "dark", frames=60)
        assert recording.end().black == 60
    assert recording.told == [black_reason()]


def test_the_bridge_as_a_program(on_display: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("REALMASTER_TOKEN", TOKEN)
    with SmallDaemon(credit=8) as daemon:
        monkeypatch.setenv("REALMASTER_ENDPOINT", daemon.endpoint)
        assert main(["--region", "0,0,32,24", "--fps", "40", "--frames", "5"]) == 0
        assert "screen: 5 frames sent" in capsys.readouterr().err
        assert main(["--window", "nothing like this"]) == 1
        assert "error: There is no window called 'nothing like this'" in capsys.readouterr().err
