"""A game with the library preloaded: what cannot work is said before it starts, what did not work after it ended.

Works on processes, their environment and their output; knows nothing of frames or of the daemon. The library speaks
on the game's stderr, one sentence a line after "realmaster: ".
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

from capture.errors import UserError
from engine_bridges.opengl.build import LIBRARY

SAYS = "realmaster: "
"""How a line of the library begins."""

PATIENCE_SECONDS = 3.0
"""How long a game that was asked to end may take before it is ended by force."""

_SEES = f"{SAYS}sees OpenGL"
_ERROR = f"{SAYS}error: "
_GAME_FOLDERS = ("/usr/games", "/usr/local/games")
_PT_INTERP = 3


@dataclass(frozen=True)
class Settings:
    """What the library is told; None leaves it to the library."""

    mode: str = "live"
    """ "live": the game never waits, frames may be dropped; "lossless": it waits."""
    fps: float | None = None
    """Frames sent a second, at most."""
    vfov: float | None = None
    """Vertical field of view in degrees, for games whose projection cannot be read."""
    near: float | None = None
    """Distance of the near plane in the game's units, likewise."""
    far: float | None = None
    """Distance of the far plane."""
    metres_per_unit: float | None = None
    """Length of the game's unit; without it the depth is right up to a factor, and says so."""

    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            f"REALMASTER_GL_{name.upper()}": value if isinstance(value, str) else f"{value:g}"
            for name, value in given.items()
            if value is not None
        }


def find_program(name: str) -> Path:
    """Path of the game's program, looked for where shells and desktops look.

    Raises UserError when there is none, or when nothing can be preloaded into it.
    """
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_GAME_FOLDERS))
    found = shutil.which(name, path=places)
    if found is None:
        if os.path.isdir(name):
            raise UserError(f"{name} is a folder: give the game's program in it.")
        if os.path.isfile(name):
            raise UserError(f"{name} is not a program that can be started: make it one with `chmod +x`.")
        raise UserError(f"There is no program {name!r} here: install the game, or give the path of its program.")
    path = Path(found)
    _check_rights(path)
    _check_format(path)
    return path


def _check_rights(path: Path) -> None:
    """UserError for a program that changes its rights: the loader then ignores LD_PRELOAD (ld.so(8))."""
    status = path.stat()
    other_user = status.st_mode & 0o4000 and status.st_uid != os.geteuid()
    other_group = status.st_mode & 0o2000 and status.st_gid != os.getegid()
    try:
        capable = bool(os.getxattr(path, "security.capability"))  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        capable = False
    if other_user or other_group or capable:
        raise UserError(
            f"{path} runs with rights of its own (setuid, setgid or capabilities), and Linux preloads nothing into "
            "such a program: copy it, which drops them, and start the copy."
        )


def _check_format(path: Path) -> None:
    """UserError for a program of another architecture or without a dynamic loader. Scripts pass."""
    with open(path, "rb") as file, open("/proc/self/exe", "rb") as own:
        header, ours = file.read(64), own.read(64)
        if header[:4] != b"\x7fELF":
            return
        if header[4] != ours[4]:
            raise UserError(f"{path} is a 32-bit program, and the bridge a 64-bit library: use the 64-bit build.")
        if header[18:20] != ours[18:20]:
            raise UserError(f"{path} is a program for another processor: use the game's build for this one.")
        at, size, count = (*struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54))
        file.seek(at)
        table = file.read(size * count)
    if not any(struct.unpack_from("<I", table, index * size)[0] == _PT_INTERP for index in range(len(table) // size)):
        raise UserError(f"{path} is linked statically, so nothing can be preloaded into it: use a dynamic build.")


class Game:
    """A running game; a context manager that ends it, with all its processes, on the way out.

    command: its program and arguments.  library: what is preloaded.  environment: added to ours.
    It runs in a session of its own: Ctrl-C reaches us, and a shell script's children are found. Raises UserError when
    it cannot be started.
    """

    def __init__(self, command: Sequence[str], library: Path, environment: Mapping[str, str]) -> None:
        program = find_program(command[0])
        self.name = program.name
        self._log = tempfile.TemporaryFile()
        self._read = 0  # bytes of the log that `news` has given
        self._room = tempfile.TemporaryDirectory(prefix="realmaster-")
        self._library = _without_separators(library, Path(self._room.name))
        self._sees = self._refused = False
        self._loaded: set[str] = set()
        self._last_error: str | None = None
        preload = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), str(self._library))))
        try:
            self._process = subprocess.Popen(
                [str(program), *command[1:]],
                env={**os.environ, **environment, "LD_PRELOAD": preload},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            self._room.cleanup()
            raise UserError(f"{program} cannot be started: {error.strerror}.") from None
        self.started = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether any process of the game lives."""
        return self._process.poll() is None or next(self._processes(), None) is not None

    @property
    def draws(self) -> bool:
        """Whether the library has seen it show a picture."""
        return self._sees

    def wait(self, seconds: float) -> bool:
        """Wait until the game has ended, at most so long; whether it has."""
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            try:
                self._process.wait(min(0.1, seconds))
            except subprocess.TimeoutExpired:
                pass
            else:
                time.sleep(0.05)  # its children are not ours to wait for
        return not self.running

    def news(self) -> str:
        """What the game and the library have printed since the last call."""
        data = os.pread(self._log.fileno(), 1 << 20, self._read)  # does not move the game's place in the file
        whole = data[: data.rfind(b"\n") + 1] if self.running else data
        self._read += len(whole)
        text = whole.decode("utf-8", "replace")
        for line in text.splitlines():
            self._sees = self._sees or line.startswith(_SEES)
            self._refused = self._refused or ("wrong ELF class" in line and self._library.name in line)
            if line.startswith(_ERROR):
                self._last_error = line.removeprefix(_ERROR)
        if not self._sees:
            self._look()
        return text

    def why_nothing(self) -> str:
        """Why no picture came, in a sentence, as far as it can be told from outside."""
        if self._last_error:
            return self._last_error
        if self._refused:
            return f"{self.name} starts a 32-bit program, and the bridge is a 64-bit library: use the 64-bit build."
        if "vulkan" in self._loaded:
            return f"{self.name} draws with Vulkan, not with OpenGL: choose OpenGL in its settings or options."
        if "bridge" not in self._loaded and self.running:
            return (
                f"The bridge was not loaded into {self.name}, as in a sandbox (Flatpak, Snap) or a program with rights "
                "of its own: start the game's own program."
            )
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            return f"{self.name} showed no picture, and there is no display: set DISPLAY, or start it under `xvfb-run`."
        if self.running:
            return f"{self.name} runs but shows no picture through OpenGL: is it a launcher that waits for you?"
        return f"{self.name} ended before it showed a picture ({self.ending()}): does it start without realmaster?"

    def ending(self) -> str:
        """How the game ended: its exit code, or the signal that ended it."""
        code = self._process.returncode
        number = -code if code < 0 else code - 128 if code > 128 else 0  # a shell adds 128 for its children
        if number in set(signal.Signals):
            return f"ended by {signal.Signals(number).name}"
        return f"exit code {code}"

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well."""
        return self._process.poll() not in (None, 0)

    def end(self) -> None:
        """Ask the game to end, then insist; all its processes."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                return
            for pid in self._processes():
                _signal(pid, number)
            self.wait(PATIENCE_SECONDS)

    def _processes(self) -> Iterator[int]:
        """Ids of the game's living processes: those of its session."""
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    state, session = _state_and_session(int(entry))
                except (OSError, ValueError, IndexError):
                    continue  # it has just ended
                if session == self._process.pid and state not in "ZX":
                    yield int(entry)

    def _look(self) -> None:
        """Note which libraries the game's processes have loaded."""
        for pid in self._processes():
            try:
                maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
            except OSError:
                continue
            self._loaded |= {what for what, file in (("bridge", LIBRARY), ("vulkan", "libvulkan.so")) if file in maps}

    def __enter__(self) -> Game:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._log.close()
        self._room.cleanup()


def _without_separators(library: Path, room: Path) -> Path:
    """A path of the library that LD_PRELOAD takes: blanks and colons separate its items and cannot be quoted."""
    if not any(character in str(library) for character in " :"):
        return library
    link = room / library.name
    link.symlink_to(library)
    return link


def _state_and_session(pid: int) -> tuple[str, int]:
    """State letter and session id of a process (proc(5), the fields after the name in brackets)."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return values[0], int(values[3])


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended
