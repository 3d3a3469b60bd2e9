"""`realmaster doctor`: what this machine can run, what is missing, how to get it."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster.commands import doctor_bridge
from realmaster.commands.options import CommandError, WrongUse, add_command, add_takes_folder, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """What was found of one thing: `state` is "ok", "missing" (something cannot work) or "absent" (a part that
    only some uses need); `remedy` says how to get it."""

    name: str
    state: str
    found: str
    remedy: str = ""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "doctor",
        "what this machine can run, what is missing, how to get it",
        run=run,
        example="realmaster doctor --json\n  realmaster doctor --bridge city-0001",
        about="Look at this machine and say what it can run, what is missing, and how to get it. Exits with 1 when "
        "something that `realmaster demo` needs is missing.\nWith --bridge: look at what an engine sends, live or in a "
        "take, and prove that it is what it says it is,\nor name the mistake. Exits with 1 when something is wrong.",
    )
    add_takes_folder(parser)
    doctor_bridge.add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    if args.bridge is not None:
        return doctor_bridge.run(args, screen)
    if args.out is not None or args.listen is not None:
        raise WrongUse("-o and --listen go with --bridge")
    from rich.table import Table

    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "machine": _machine,
        "model": _model,
        "recording": lambda: _recording(takes_folder(args)),
        "engines and page": _engines,
        "daemon": _daemon,
    }
    table = Table(title="realmaster doctor", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("part", style="bold", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("how to get it", style="dim")
    marks = {"ok": "[green]✓[/]", "absent": "[yellow]-[/]", "missing": "[red]✗[/]"}
    report: dict[str, Any] = {}
    with screen.step("examining", total=len(sections)) as step:
        for done, (section, examine) in enumerate(sections.items()):
            step(done, note=section)
            findings = list(examine())
            report[section] = [asdict(finding) for finding in findings]
            table.add_row("", f"[dim]{section}[/]", end_section=False)
            for finding in findings:
                table.add_row(marks[finding.state], finding.name, finding.found, finding.remedy)
        step(len(sections))
    screen.show(table)

    profiles = _profiles()
    report["profiles"] = profiles
    verdicts = Table(title="model profiles", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("", "profile", "needs", "here"):
        verdicts.add_column(heading, style="bold" if heading == "profile" else "")
    for profile in profiles:
        mark = marks["ok" if profile["runs"] else "absent"]
        verdicts.add_row(mark, profile["name"], profile["needs"], profile["verdict"])
    screen.show("", verdicts)

    missing = [entry["name"] for section in sections for entry in report[section] if entry["state"] == "missing"]
    if missing:
        raise CommandError(f"The demo misses: {', '.join(missing)}; `realmaster doctor` says how to get it.", report)
    screen.show("\n[green]✓[/] This machine runs `realmaster demo`.")
    return report


def _machine() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    yield Finding("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    recent = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if recent else "missing", platform.python_version(), "" if recent else "Python 3.11")
    yield Finding("processor", "ok", f"{os.cpu_count()} cores")
    enough = memory.total >= 4 * GIB
    yield Finding(
        "memory",
        "ok" if enough else "missing",
        f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} free",
        "" if enough else "the embedded model needs 4 GiB",
    )


def _model() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", "missing", str(error), "pip install torch")
    else:
        yield Finding("torch", "ok", torch.__version__)
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                card = torch.cuda.get_device_properties(index)
                yield Finding(f"GPU {index}", "ok", f"{card.name}, {card.total_memory / GIB:.0f} GiB")
        else:
            yield Finding("GPU", "absent", "none, the embedded model runs on the processor",
                          "larger models want an NVIDIA card and a CUDA build of torch")  # fmt: skip
    for name in ("diffusers", "transformers", "peft", "accelerate", "safetensors"):
        yield _distribution(name, needed=True)
    yield _embedded_model()


def _embedded_model() -> Finding:
    folder = Path(__file__).parent.parent / "models" / "embedded"
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        return Finding("embedded model", "missing", "no weights in the package", "install realmaster again")
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    size = sum(path.stat().st_size for path in weights) / 1e6
    return Finding("embedded model", "ok", f"{size:.1f} MB in {len(weights)} files, sha256 {digest.hexdigest()[:16]}")


def _recording(takes: Path) -> Iterator[Finding]:
    import av
    import zmq

    wanted = {"libx264": "MP4", "ffv1": "archive", "magicyuv": "live"}
    have = [name for name in wanted if name in av.codecs_available]
    state = "ok" if "libx264" in have else "missing"
    yield Finding(
        "video", state, f"PyAV {av.__version__}, {', '.join(have)}", "" if state == "ok" else "pip install av"
    )
    curve = zmq.has("curve")
    yield Finding(
        "ZeroMQ",
        "ok",
        f"{zmq.zmq_version()}, {'with' if curve else 'without'} CURVE",
        "" if curve else "only loopback: a remote bridge needs a pyzmq with CURVE",
    )
    yield _takes_folder(takes)
    for name, port in (("port for bridges", 5790), ("port of the page", 8765)):
        free = _is_free(port)
        yield Finding(name, "ok" if free else "absent", f"{port} {'free' if free else 'in use'}",
                      "" if free else "a daemon runs already, or choose another with --listen and --http")  # fmt: skip


def _takes_folder(takes: Path) -> Finding:
    existing = next(folder for folder in (takes, *takes.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free / GIB
    if not os.access(existing, os.W_OK):
        return Finding("takes folder", "missing", f"{takes} is not writable", "choose another with --takes")
    hint = "" if free > 5 else "a take may fill 1 GiB a minute"
    return Finding("takes folder", "ok", f"{takes}, {free:.0f} GiB free", hint)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _daemon() -> Iterator[Finding]:
    """What a daemon that runs says of itself."""
    from realmaster.commands.client import Daemon

    try:
        daemon = Daemon.at()
        told = daemon.call("GET", "/support")
    except UserError as error:
        yield Finding("daemon", "absent", str(error).partition(": ")[0], "start one with `realmaster daemon`")
        return
    state = told["state"]
    yield Finding("daemon", "ok", f"{told['version']} at {daemon.url}, model {state['model']['name']}")
    if state["problem"]:
        yield Finding("receiving", "absent", state["problem"], "see the daemon's log")
    for session in state["sessions"]:
        found = f"{session['engine']} {session['game']}, {session['fps']} frames/s, {session['dropped']} dropped"
        health = session["health"]
        troubled = session["dropped"] or session["problem"] or (health and health["verdict"] in ("wrong", "suspicious"))
        remedy = session["problem"] or (health["line"] if health else "") if troubled else ""
        yield Finding(f"session {session['id'][:8]}", "absent" if troubled else "ok", found.strip(), remedy)
    for process in told["processes"]:
        memory = f"{process['memory'] / GIB:.2f} GiB, {process['threads']} threads, {process['cpu']:.0f} s of processor"
        yield Finding(f"process {process['name']}", "ok", memory)
    ends = {kind: times for kind, times in told["ends"].items() if times and kind != "cancel"}
    if ends:
        found = ", ".join(f"{kind} {times}" for kind, times in ends.items())
        yield Finding("restarts", "absent", found, "`realmaster daemon support` writes what is known of them")


def _engines() -> Iterator[Finding]:
    panda = _distribution("panda3d", needed=False, remedy="pip install panda3d")
    yield panda
    if panda.state == "ok":
        yield _offscreen_rendering()
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome", "firefox", "msedge"))), None)
    yield Finding("browser", "ok" if browser else "absent", browser or "none on the path",
                  "" if browser else "any browser shows the page; the tests use Chromium")  # fmt: skip


_OPEN_BUFFER = """
from panda3d.core import FrameBufferProperties, GraphicsEngine, GraphicsPipe, GraphicsPipeSelection
from panda3d.core import WindowProperties, load_prc_file_data
load_prc_file_data("", "notify-level error")
for library in ("p3headlessgl", "pandagl"):
    pipe = GraphicsPipeSelection.get_global_ptr().make_module_pipe(library)
    if not pipe:
        continue
    engine = GraphicsEngine()
    size, flags = WindowProperties.size(16, 16), GraphicsPipe.BF_refuse_window
    buffer = engine.make_output(pipe, "probe", 0, FrameBufferProperties.get_default(), size, flags)
    if buffer:
        engine.open_windows()
        gsg = buffer.get_gsg()
        print(library, "|", gsg.get_driver_renderer(), "|", gsg.get_driver_version())
        break
"""


def _offscreen_rendering() -> Finding:
    """Opens a buffer in a process of its own: a broken driver may take the process down."""
    remedy = "a graphics driver, or Mesa: apt-get install libegl1 libgl1 libgl1-mesa-dri"
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _OPEN_BUFFER], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Finding("OpenGL", "absent", "the driver does not answer", remedy)
    lines = [line for line in probe.stdout.splitlines() if "|" in line]
    if probe.returncode or not lines:
        return Finding("OpenGL", "absent", "no offscreen buffer", remedy)
    library, renderer, version = (part.strip() for part in lines[-1].split("|"))
    return Finding("OpenGL", "ok", f"{version}, {renderer} ({library})")


def _distribution(name: str, needed: bool, remedy: str = "") -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing" if needed else "absent", "not installed", remedy or f"pip install {name}")


def _profiles() -> list[dict[str, Any]]:
    """Which model profiles this machine can run, and how: are the weights here, and what fits the free memory."""
    from realmaster.lift.choices import model_choices

    return [choice.to_dict() for choice in model_choices()]
