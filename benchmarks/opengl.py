"""What the OpenGL bridge costs a game: frame times without and with it, and the longest swap while nobody reads.

    PYTHONPATH=. python benchmarks/opengl.py [--runs 3] [--size 1280x720] [--seconds 10] [--skip-game]

Needs Xvfb, a C++ compiler and openarena (Debian's packages). Draws in software where there is no graphics card.

OpenArena records a demo of its own bots, then plays it as fast as it can (`timedemo`: every frame of the demo is drawn
once), in turn without and with the bridge, whose frames a daemon records live. The ratio is that of the medians of
the frame times. The zoo of the tests then draws while the daemon records, and while it is frozen (SIGSTOP): the
render thread must not wait for it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from capture.connection import connection_file
from engine_bridges.opengl.build import library
from engine_bridges.opengl.launch import Game, Settings, find_program
from realmaster.commands.record_opengl import POLITENESS
from tests.engine_bridges.opengl.programs import build_zoo, virtual_display

PATIENCE = 600.0
ENDPOINT = "tcp://127.0.0.1:5797"


@dataclass(frozen=True)
class OpenArena:
    """The game, with its settings and demos in a folder of its own."""

    home: Path
    size: str

    def record_demo(self, seconds: float) -> None:
        """Follow a bot for so long. The demo differs from one call to the next; only runs over one demo compare."""
        frames = round(seconds * 30)
        self._run(
            None, f"+set com_maxfps 30 +set g_doWarmup 0 +devmap oa_dm1 +addbot Grism 3 +addbot Sarge 3 +wait 100 "
            f"+team spectator +wait 30 +follow 1 +wait 10 +record bench +wait {frames} +stoprecord +quit",
        )  # fmt: skip
        if not list(self.home.rglob("bench.dm_*")):
            raise SystemExit("openarena recorded no demo")

    def play_demo(self, bridge: Path | None) -> tuple[int, float]:
        """Frames drawn, and seconds that each took on average, as the game itself counts them."""
        printed = self._run(bridge, "+set timedemo 1 +set nextdemo quit +demo bench")
        found = re.search(r"(\d+) frames +([\d.]+) seconds", printed)
        if found is None:
            raise SystemExit(f"openarena did not play its demo:\n{printed[-2000:]}")
        return int(found[1]), float(found[2]) / int(found[1])

    def _run(self, bridge: Path | None, arguments: str) -> str:
        width, height = self.size.split("x")
        common = "+set net_ip 127.0.0.1 +set s_initsound 0 +set sv_pure 0 +set r_fullscreen 0 +set r_swapInterval 0 "
        common += f"+set r_mode -1 +set r_customwidth {width} +set r_customheight {height} +set com_maxfps 0 "
        command = [str(find_program("openarena")), *common.split(), *arguments.split()]
        environment = {**os.environ, "HOME": str(self.home)}
        if bridge is None:
            run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
            return run.stdout + run.stderr
        printed = ""
        settings = {**Settings().environment(), "REALMASTER_ENDPOINT": ENDPOINT, "HOME": str(self.home)}
        with Game(command, bridge, settings) as game:
            while not game.wait(0.5):
                printed += game.news()
            return printed + game.news()


@contextmanager
def daemon(takes: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that records every session live into `takes`, behind the game as `record opengl` does."""
    command = ["nice", "-n", str(POLITENESS), sys.executable, "-m", "realmaster", "record", "listen"]
    command += ["--listen", ENDPOINT, "--takes", str(takes)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        with suppress(OSError):  # not every kernel groups sessions
            Path(f"/proc/{process.pid}/autogroup").write_text(str(POLITENESS))
        try:
            deadline = time.monotonic() + 60
            while not connection_file(5797).exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()


def compare_game(size: str, runs: int, seconds: float, bridge: Path, room: Path) -> None:
    arena = OpenArena(room / "home", size)
    arena.home.mkdir()
    arena.record_demo(seconds)
    arena.play_demo(None)  # shaders are compiled, files are in memory
    without, with_bridge, recorded = [], [], 0
    for run in range(runs):
        frames, each = arena.play_demo(None)
        without.append(each)
        takes = room / f"game-{run}"
        with daemon(takes):
            frames, each = arena.play_demo(bridge)
        with_bridge.append(each)
        recorded = recorded_frames(takes)
        print(f"  run {run + 1}: {without[-1] * 1000:6.1f} ms without, {each * 1000:6.1f} ms with, "
              f"{recorded} of {frames} frames recorded", file=sys.stderr)  # fmt: skip
    before, after = statistics.median(without), statistics.median(with_bridge)
    print(f"openarena {size}, {frames} frames    {before * 1000:7.1f} ms without  {after * 1000:7.1f} ms with    "
          f"ratio {after / before:.2f}    (medians of {runs}, {recorded} frames recorded in the last)")  # fmt: skip


def recorded_frames(takes: Path) -> int:
    from capture.take import list_takes

    return sum(take.frames for take in list_takes(takes))


def longest_swaps(size: str, seconds: float, bridge: Path, zoo: Path, room: Path) -> None:
    swaps = room / "swaps"
    command = [str(zoo), "deferred", "--size", size, "--swaps", str(swaps)]
    for name, loaded, frozen in (("no bridge", False, False), ("daemon records", True, False),
                                 ("daemon frozen", True, True)):  # fmt: skip
        takes = room / name.replace(" ", "-")
        with daemon(takes) as process:
            environment = {"REALMASTER_ENDPOINT": ENDPOINT, **({} if loaded else {"REALMASTER_GL": "0"})}
            with Game(command, bridge, environment) as game:
                deadline = time.monotonic() + 60
                while loaded and not recorded_frames(takes) and time.monotonic() < deadline:
                    game.wait(0.2)
                try:
                    if frozen:
                        process.send_signal(signal.SIGSTOP)
                    game.wait(2.0)  # until the game has begun, and what was on its way has arrived
                    first = len(swaps.read_text().splitlines())
                    game.wait(seconds)
                    lines = swaps.read_text().splitlines()[first:-1]
                finally:
                    process.send_signal(signal.SIGCONT)
        times = sorted(float(line.split()[1]) * 1000 for line in lines)
        print(f"zoo {size}, {name:16s} {len(times):6d} swaps    median {statistics.median(times):6.2f} ms    "
              f"99% {times[len(times) * 99 // 100]:6.2f} ms    longest {times[-1]:6.2f} ms")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the demo, and of each turn of the zoo")
    parser.add_argument("--skip-game", action="store_true", help="only the zoo")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    bridge = library(lambda share, what: print(f"\rbuilding {share:4.0%} {what:40s}", end="", file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder, virtual_display(width, height) as display:
        room = Path(folder)
        os.environ |= {"DISPLAY": display, "REALMASTER_RUNTIME_DIR": str(room / "run")}
        if not options.skip_game:
            compare_game(options.size, options.runs, options.seconds, bridge, room)
        longest_swaps(options.size, options.seconds, bridge, build_zoo(room), room)


if __name__ == "__main__":
    main()
