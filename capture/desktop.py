"""The windows of the desktop: which there are, and where one is now. X11 and Windows.

Works on titles and rectangles in pixels of the whole desktop, through the system's own libraries. Knows nothing of
pictures, and nothing of Wayland, where no program may ask.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_long, c_ubyte, c_uint, c_ulong, c_void_p
from typing import Any, NamedTuple, Protocol

from capture.errors import UserError

_SHOWN_TITLES = 12


class DesktopError(UserError):
    """The desktop cannot be asked, or has no such window."""


class Rectangle(NamedTuple):
    """Pixels of the desktop: left and top may be negative with several monitors."""

    left: int
    top: int
    width: int
    height: int

    def within(self, other: Rectangle) -> Rectangle:
        """The part that lies in `other`; its width or height is 0 or less where there is none."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        return Rectangle(left, top, right - left, bottom - top)


class Window(NamedTuple):
    id: int
    """The system's handle."""
    title: str


class Desktop(Protocol):
    def windows(self) -> list[Window]:
        """Windows that are visible now and have a title."""
        ...

    def rectangle(self, window: int) -> Rectangle | None:
        """The inside of a window, without frame and title bar; None while it is minimised or hidden.

        DesktopError when it has been closed.
        """
        ...


def open_desktop() -> Desktop:
    """The desktop of this session; DesktopError where windows cannot be asked for."""
    if sys.platform == "win32":
        return _WindowsDesktop()
    if sys.platform == "darwin":
        raise DesktopError("Windows cannot be found by their title on macOS: record --monitor or --region.")
    return _X11Desktop()


def find_window(windows: list[Window], title: str) -> Window:
    """The window with this title, or the only one whose title contains it, whatever the case. DesktopError."""
    wanted = title.casefold()
    exact = [window for window in windows if window.title.casefold() == wanted]
    found = exact or [window for window in windows if wanted in window.title.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise DesktopError(
            f"Several windows match {title!r}: {_titles(found)}; give more of the title, or record a --region."
        )
    raise DesktopError(f"There is no window called {title!r}; these are open: {_titles(windows) or 'none'}.")


def _titles(windows: list[Window]) -> str:
    titles = [repr(window.title[:60]) for window in windows]
    more = f" and {len(titles) - _SHOWN_TITLES} more" if len(titles) > _SHOWN_TITLES else ""
    return ", ".join(titles[:_SHOWN_TITLES]) + more


class _X11Desktop:
    """Through libX11. Its errors are asked for one by one: a window may be closed between two questions."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("X11")
        if name is None:
            raise DesktopError("Windows cannot be found without the library libX11: install it (libx11-6).")
        x11 = self._x11 = ctypes.CDLL(name)
        x11.XOpenDisplay.restype = c_void_p
        x11.XOpenDisplay.argtypes = [c_char_p]
        x11.XDefaultRootWindow.restype = c_ulong
        x11.XInternAtom.restype = c_ulong
        self._failed = False
        self._handler = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)(self._on_error)  # kept alive with us
        x11.XSetErrorHandler(self._handler)  # Xlib's own ends the process
        display = x11.XOpenDisplay(None)
        if not display:
            raise DesktopError("There is no X11 display to find windows on: set DISPLAY, as in DISPLAY=:0.")
        self._display = c_void_p(display)
        self._root = c_ulong(x11.XDefaultRootWindow(self._display))

    def windows(self) -> list[Window]:
        listed = self._property(self._root, "_NET_CLIENT_LIST")
        ids = listed if listed is not None else self._descendants(self._root)  # without a window manager
        found = []
        for id in ids:
            attributes = self._attributes(id)
            title = self._title(id) if attributes is not None and attributes.map_state == _VIEWABLE else ""
            if title:
                found.append(Window(id, title))
        return found

    def rectangle(self, window: int) -> Rectangle | None:
        attributes = self._attributes(window)
        if attributes is None:
            raise DesktopError("The window was closed.")
        if attributes.map_state != _VIEWABLE:
            return None
        x, y, child = c_int(), c_int(), c_ulong()
        self._ask("XTranslateCoordinates", c_ulong(window), self._root, 0, 0, byref(x), byref(y), byref(child))
        return Rectangle(x.value, y.value, attributes.width, attributes.height)

    def _on_error(self, display: int, event: int) -> int:
        self._failed = True
        return 0

    def _ask(self, function: str, *arguments: Any) -> bool:
        """Whether the server answered without an error."""
        self._failed = False
        answer = getattr(self._x11, function)(self._display, *arguments)
        self._x11.XSync(self._display, 0)
        return bool(answer) and not self._failed

    def _attributes(self, window: int) -> _XWindowAttributes | None:
        attributes = _XWindowAttributes()
        return attributes if self._ask("XGetWindowAttributes", c_ulong(window), byref(attributes)) else None

    def _title(self, window: int) -> str:
        name = self._property(c_ulong(window), "_NET_WM_NAME")
        if name:
            return bytes(name).decode("utf-8", "replace")
        text = c_char_p()
        if not self._ask("XFetchName", c_ulong(window), byref(text)) or text.value is None:
            return ""
        title = text.value.decode("utf-8", "replace")
        self._x11.XFree(text)
        return title

    def _property(self, window: c_ulong, name: str) -> list[int] | None:
        """The numbers of a property (bytes, or 32-bit items), None where it is not set."""
        atom = c_ulong(self._x11.XInternAtom(self._display, name.encode(), 0))
        kind, size, count, rest, data = c_ulong(), c_int(), c_ulong(), c_ulong(), c_void_p()
        self._failed = False
        self._x11.XGetWindowProperty(
            self._display, window, atom, c_long(0), c_long(65536), 0, c_ulong(0),
            byref(kind), byref(size), byref(count), byref(rest), byref(data),
        )  # fmt: skip
        self._x11.XSync(self._display, 0)
        if self._failed or not data:
            return None
        item: Any = c_ulong if size.value == 32 else c_ubyte  # Xlib hands out 32-bit items as longs
        values = list(ctypes.cast(data, POINTER(item))[: count.value])
        self._x11.XFree(data)
        return values if kind.value else None

    def _descendants(self, window: c_ulong) -> list[int]:
        root, parent, children, count = c_ulong(), c_ulong(), POINTER(c_ulong)(), c_uint()
        if not self._ask("XQueryTree", window, byref(root), byref(parent), byref(children), byref(count)):
            return []
        ids = list(children[: count.value])
        if children:
            self._x11.XFree(children)
        return [id for child in ids for id in (child, *self._descendants(c_ulong(child)))]


_VIEWABLE = 2


class _XWindowAttributes(Structure):
    """As in Xlib.h."""

    _fields_ = [
        *((name, c_int) for name in ("x", "y", "width", "height", "border_width", "depth")),
        ("visual", c_void_p),
        ("root", c_ulong),
        *((name, c_int) for name in ("class_", "bit_gravity", "win_gravity", "backing_store")),
        ("backing_planes", c_ulong),
        ("backing_pixel", c_ulong),
        ("save_under", c_int),
        ("colormap", c_ulong),
        ("map_installed", c_int),
        ("map_state", c_int),
        ("all_event_masks", c_long),
        ("your_event_mask", c_long),
        ("do_not_propagate_mask", c_long),
        ("override_redirect", c_int),
        ("screen", c_void_p),
    ]


if sys.platform == "win32":
    from ctypes import wintypes

    class _WindowsDesktop:
        """Through user32."""

        def __init__(self) -> None:
            self._user32 = ctypes.WinDLL("user32", use_last_error=True)
            for name in ("IsWindow", "IsWindowVisible", "IsIconic"):
                getattr(self._user32, name).argtypes = [wintypes.HWND]
            self._user32.GetWindowTextW.argtypes = [wintypes.HWND, wintypes.LPWSTR, c_int]
            self._user32.GetClientRect.argtypes = [wintypes.HWND, POINTER(wintypes.RECT)]
            self._user32.ClientToScreen.argtypes = [wintypes.HWND, POINTER(wintypes.POINT)]

        def windows(self) -> list[Window]:
            found: list[Window] = []

            def note(handle: int, _: int) -> bool:
                text = ctypes.create_unicode_buffer(512)
                if self._user32.IsWindowVisible(handle) and self._user32.GetWindowTextW(handle, text, 512):
                    found.append(Window(handle, text.value))
                return True

            kind: Callable[..., Any] = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
            self._user32.EnumWindows(kind(note), 0)
            return found

        def rectangle(self, window: int) -> Rectangle | None:
            if not self._user32.IsWindow(window):
                raise DesktopError("The window was closed.")
            if not self._user32.IsWindowVisible(window) or self._user32.IsIconic(window):
                return None
            size, corner = wintypes.RECT(), wintypes.POINT(0, 0)
            self._user32.GetClientRect(window, byref(size))
            self._user32.ClientToScreen(window, byref(corner))
            return Rectangle(corner.x, corner.y, size.right, size.bottom)
