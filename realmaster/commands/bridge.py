"""A bridge as a process of its own beside a command: started with the daemon's address, ended without loss.

Knows processes; knows nothing of engines, sockets or takes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType

from capture.errors import UserError

PATIENCE_SECONDS = 5.0
"""How long a bridge that was asked to end may take before it is ended by force."""

GONE_SECONDS = 10.0
"""A bridge that has lost the daemon for so long ends."""


class Bridge:
    """A running bridge; a context manager that ends it on the way out.

    It runs in a process group of its own: Ctrl-C reaches the command, which then ends the bridge in good order.
    What it prints is kept, to say why it failed. When the command is killed, the daemon dies with it, and the bridge
    ends GONE_SECONDS later. Raises UserError when the program cannot be started.
    """

    def __init__(self, command: Sequence[str], endpoint: str, token: str) -> None:
        environment = {**os.environ, "REALMASTER_ENDPOINT": endpoint, "REALMASTER_TOKEN": token}
        environment |= {"REALMASTER_GIVE_UP_AFTER": f"{GONE_SECONDS:g}", "PYTHONUNBUFFERED": "1"}
        self._printed = tempfile.TemporaryFile()
        self._told = 0  # bytes of it that `news` has looked at
        try:
            self._process = subprocess.Popen(
                list(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            self._printed.close()
            raise UserError(f"Cannot start {command[0]}: {error.strerror}.") from None

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float) -> bool:
        """Wait until the bridge has ended, at most `timeout` seconds; whether it has."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Ask the bridge to end as Ctrl-C does, then insist."""
        if self.running:
            self._signal(signal.SIGINT)
            if not self.wait(PATIENCE_SECONDS):
                self._process.terminate()
            if not self.wait(PATIENCE_SECONDS):
                self._process.kill()
                self._process.wait()

    def failure(self) -> str | None:
        """Why the bridge failed, in its own last words; None while it runs and when it ended well."""
        if self._process.poll() in (None, 0):
            return None
        lines = [line.strip() for line in self._text().splitlines()]
        words = next((line for line in reversed(lines) if line), "").removeprefix("error: ")
        return words or f"it ended with exit code {self._process.returncode}"

    def sent(self) -> int | None:
        """How many frames the bridge says that it sent (its last line tells), None when it does not say."""
        counts = re.findall(r"(\d+) frames sent", self._text())
        return int(counts[-1]) if counts else None

    def news(self, prefix: str) -> list[str]:
        """What follows `prefix` in the lines that it has printed since the last call."""
        data = self._read(self._told)
        whole = data[: data.rfind(b"\n") + 1]
        self._told += len(whole)
        lines = whole.decode("utf-8", "replace").splitlines()
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    def _text(self) -> str:
        return self._read(0).decode("utf-8", "replace")

    def _read(self, start: int) -> bytes:
        """What it has printed, from byte `start` on."""
        if sys.platform == "win32":
            self._printed.seek(start)
            return self._printed.read()
        # Where we read is no business of the file's own position, at which the bridge writes.
        return os.pread(self._printed.fileno(), os.fstat(self._printed.fileno()).st_size, start)

    def __enter__(self) -> Bridge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._printed.close()

    def _signal(self, number: int) -> None:
        if sys.platform == "win32":
            self._process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(self._process.pid, number)
