"""The fake game under Wine, with the real .asi in its folder and the daemon's own ingest at the other end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture.frame import Frame
from capture.take import Take
from daemon.ingest import Ingest
from tests.daemon.engines import until
from tests.engine_bridges import wine
from tests.engine_bridges.gtav.truth import Truth

SIZE = "320x180"


@dataclass
class Recording:
    """One run of the game."""

    folder: Path
    """The game's folder."""
    returncode: int
    printed: str
    takes: list[Take]
    events: list[dict[str, Any]] = field(default_factory=list)
    """Of the ingest."""

    @property
    def frames(self) -> list[Frame]:
        return [frame for take in self.takes for frame in take]

    @property
    def log(self) -> str:
        return (self.folder / "realmaster.log").read_text("utf-8")

    @property
    def truth(self) -> Truth:
        return Truth(self.folder / "truth.jsonl")

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Data of the events of that name in the takes."""
        return [event["data"] for take in self.takes for event in take.events if event["name"] == name]

    @property
    def notices(self) -> dict[str, str | None]:
        """What the mod told the daemon: reason to its last sentence."""
        return {note["reason"]: note["sentence"] for note in self.notes("notice")}


class Game:
    """A folder with the game, ScriptHookV and the mod; run as often as wanted."""

    def __init__(self, build: Path, folder: Path, display: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in ("host.exe", "overlay.dll", "ScriptHookV.dll", "realmaster.asi"):
            shutil.copy2(build / name, folder / name)
        self._old = build / "old" / "ScriptHookV.dll"
        self._environment = {**wine.environment(), "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}
        self._lossless = False

    def settings(self, **settings: Any) -> None:
        self._lossless = settings.get("mode") == "lossless"
        lines = [f"{name} = {value}" for name, value in {"fps": 0, **settings}.items()]
        (self.folder / "realmaster.ini").write_text("\r\n".join(lines) + "\r\n", "utf-8")

    def use_old_script_hook(self) -> None:
        shutil.copy2(self._old, self.folder / "ScriptHookV.dll")

    def start(
        self, *options: str, environment: Mapping[str, str] | None = None, size: str = SIZE
    ) -> subprocess.Popen[str]:
        command = [
            wine.wine(), "host.exe", "--asi", "realmaster.asi", "--truth", "truth.jsonl", "--size", size, *options,
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=self.folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, **self._environment, **(environment or {})},
        )  # fmt: skip

    def record(
        self,
        *options: str,
        ticks: int = 60,
        least: int = 0,
        size: str = SIZE,
        auto_record: bool = True,
        replay_seconds: float = 0.0,
        timeout: float = 600,
    ) -> Recording:
        """Run the game for so many ticks, and on until at least so many frames are recorded, beside an ingest.

        The game's world begins to move when the mod has found the ingest: on a busy machine as well, what is to happen
        in a certain tick happens while frames are sent. In lossless mode the mod itself sees to that.
        """
        if not (self.folder / "realmaster.ini").exists():
            self.settings()
        takes, events = self.folder.parent / "takes", []
        shutil.rmtree(takes, ignore_errors=True)
        with Ingest(
            "tcp://127.0.0.1:*", takes=takes, auto_record=auto_record, previews=False, replay_seconds=replay_seconds,
            on_event=events.append,
        ) as ingest:  # fmt: skip
            place = {"REALMASTER_ENDPOINT": ingest.endpoint, "REALMASTER_TOKEN": ingest.token}
            marks = [] if self._lossless else ["--start", "start"]
            game = self.start("--ticks", str(ticks), "--end", "end", *marks, *options, environment=place, size=size)

            def sessions() -> list[dict[str, Any]]:
                return ingest.state.get("sessions", [])

            def over() -> bool:
                return game.poll() is not None

            try:
                until(lambda: sessions() or over(), timeout, "a session")
                (self.folder / "start").touch()
                until(lambda: over() or any(s["recorded"] >= least for s in sessions()), timeout, f"{least} frames")
                (self.folder / "end").touch()
                printed, _ = game.communicate(timeout=timeout)
            finally:
                game.kill()
                game.wait(60)
        found = [Take(path) for path in sorted(takes.iterdir())] if takes.exists() else []
        return Recording(self.folder, game.returncode, printed, found, events)
