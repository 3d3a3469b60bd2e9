"""`realmaster demo`: the whole loop on one command, through the real daemon, measured.

Everything here is a part that other commands use as well: the service, the city bridge, the lifting process, the
scores. Only the ground truth is special: city can shade the frames of the take a second time, far more really.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.errors import UserError
from realmaster import __version__
from realmaster.commands.options import CommandError, add_command, natural, positive, writable_folder

if TYPE_CHECKING:
    import numpy as np

    from daemon.service import Service
    from realmaster.progress import Screen

SEED = 20260000
"""A street that training never saw: the recipe draws its seeds elsewhere."""

SIZE, FPS = (256, 144), 24.0
CLOSE_SECONDS = 20.0
"""How long the daemon may take to close the take once the engine has ended."""
EXAMINE_SECONDS = 120.0
"""And to make its preview and examine it."""

MADE_BY = "realmaster demo"
TAKE, REPORT = "take", "report.json"
PRODUCTS = {
    TAKE: "the recording, every frame as the engine sent it",
    "lifted.mp4": "the lift",
    "side_by_side.mp4": "render, lift and ground truth",
    "sheet.png": "stills, with depth and normals",
    REPORT: "frames, scores, times",
}


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        "the whole loop: engine, daemon, take, lift, page, report",
        run=run,
        example="realmaster demo --out ./realmaster-demo --open",
        about="Show the whole loop on embedded defaults: the embedded engine streams to the daemon, the daemon "
        "records a take,\nthe embedded model lifts it, a page shows both, and a report measures the lift against the "
        "ground truth.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("realmaster-demo"),
        metavar="DIR",
        help="folder to write (default: ./realmaster-demo)",
    )
    parser.add_argument("--seconds", type=positive, default=2.0, metavar="S", help="engine time to record (default: 2)")
    parser.add_argument("--seed", type=natural, default=SEED, help=f"which street to drive through (default: {SEED})")
    parser.add_argument("--open", action="store_true", help="open the page in the browser and serve it until Ctrl-C")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from daemon.service import DaemonConfig, Service

    out = _claim(args.out)
    clock = _Clock()
    # The take is recorded straight into the folder that the demo leaves behind, so the page goes on showing it.
    config = DaemonConfig(takes=out, listen="tcp://127.0.0.1:*", http="127.0.0.1:0", auto_record=True)
    with clock.stage("start"), screen.step("starting the daemon"):
        service = Service(config).start()
    try:
        screen.say(f"the page: [bold]{service.http_url}[/]")
        if args.open:
            _open_browser(service.http_url, screen)
        service.lifts.load()  # the model gets ready while the engine runs
        with clock.stage("record"):
            sent = _record(service, out, args, screen)
        with clock.stage("lift"):
            lift = _lift(service, screen)
        with clock.stage("measure"):
            scores, matches = _measure(out, lift, screen)
        report = _report(out, args, clock, sent, lift, scores, matches)
        _show(screen, out, report)
        if args.open:
            screen.say(f"serving {service.http_url} until Ctrl-C")
            _wait_for_interrupt()
    finally:
        service.stop()
        _rename_take(out)  # after Ctrl-C too: what was recorded is kept
    return report


def _claim(out: Path) -> Path:
    """The folder, made and marked as ours, without what an earlier demo left; UserError for a foreign folder."""
    out = out.absolute()
    ours = not out.exists() or (out.is_dir() and (_made_here(out) or not any(out.iterdir())))
    if not ours:
        raise UserError(f"{out} holds something that is not a demo: choose an empty or new folder with --out.")
    writable_folder(out, "the demo")
    for name in PRODUCTS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)
    _write_report(out, {"made_by": MADE_BY, "state": "running"})
    return out


def _made_here(out: Path) -> bool:
    try:
        return bool(json.loads((out / REPORT).read_text("utf-8"))["made_by"] == MADE_BY)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_report(out: Path, report: Mapping[str, Any]) -> None:
    (out / REPORT).write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 2)

    def total(self) -> float:
        return round(time.monotonic() - self._started, 2)


def _record(service: Service, out: Path, args: argparse.Namespace, screen: Screen) -> int:
    """Run city against the daemon, which records from the first frame; the take becomes `out/take`.

    Returns how many frames the bridge says that it sent.
    """
    from realmaster.commands.bridge import Bridge

    frames = max(1, round(args.seconds * FPS))
    command = [sys.executable, "-m", "engine_bridges.city", "--mode", "lossless", "--fps", f"{FPS:g}"]
    command += ["--size", "{}x{}".format(*SIZE), "--seed", str(args.seed), "--frames", str(frames)]
    with screen.step("engine to take", total=frames, unit="frames") as step:
        with Bridge(command, service.endpoint, service.token) as bridge:
            while not bridge.wait(0.2):
                for session in service.state()["sessions"]:
                    step(session["recorded"], note=f"{session['fps']:.1f} fps, {session['dropped']} dropped")
            failure, sent = bridge.failure(), bridge.sent()
        take = _closed_take(service)
        if take is None or failure:
            raise UserError(f"The embedded engine failed: {failure or 'it sent no frame.'}")
        step(frames)
        service.check_unused(take, EXAMINE_SECONDS)
        service.library.rename(take, TAKE)
    return sent if sent is not None else frames


def _closed_take(service: Service) -> str | None:
    """Wait until the take is closed and, bounded by CLOSE_SECONDS, has its preview, the first thing that is made of it;
    its name, or None when there is none."""
    from capture.take_folder import PREVIEW

    name = None
    deadline = time.monotonic() + CLOSE_SECONDS
    while time.monotonic() < deadline:
        state = service.state()
        if not state["takes"] and not state["sessions"]:
            break
        if state["takes"] and state["takes"][0]["state"] == "closed":
            name = str(state["takes"][0]["name"])
            if (service.config.takes / name / PREVIEW).exists():
                break
        time.sleep(0.1)
    return name


def _rename_take(out: Path) -> None:
    """The daemon names takes by the time; the demo's is called `take`."""
    for manifest in out.glob("*/take.json"):
        if not (out / TAKE).exists():
            manifest.parent.rename(out / TAKE)


def _lift(service: Service, screen: Screen) -> Path:
    """Have the lifting process lift the take; returns the lift's folder."""
    job = service.lift(TAKE)
    with screen.step("lifting", unit="frames") as step:
        while not job.finished:
            time.sleep(0.2)
            job = next(known for known in service.lifts.jobs() if known.id == job.id)
            step(job.done, total=job.total or None, note="" if job.total else "loading the model")
    if job.state != "done":
        raise UserError(f"The lift failed: {job.sentence or job.state}")
    return service.config.takes / TAKE / "lifts" / job.lift


def _measure(out: Path, lift: Path, screen: Screen) -> tuple[dict[str, Any], bool]:
    """Score lift and untouched render against the ground truth, and write the pictures that show all three.

    Returns the scores and whether the engine, asked again, gives the very frames of the take.
    """
    from capture.pictures import channel_picture, depth_range, tile
    from capture.take import Take
    from capture.video import iterate_video, write_video
    from engine_bridges.city.bridge import city_from_take
    from realmaster.measure import Scorer

    shutil.copyfile(lift / "lifted.mp4", out / "lifted.mp4")
    with Take(out / TAKE) as take, screen.step("measuring", total=len(take), unit="frames") as step:
        city, scorer = city_from_take(take), Scorer()
        stills = {round(place * (len(take) - 1) / 3) for place in range(4)}
        near, far = depth_range([take[index].depth for index in stills])
        columns: dict[str, list[np.ndarray]] = {}
        matches = True

        def compared() -> Iterator[np.ndarray]:
            nonlocal matches
            for frame, (_, lifted) in zip(take, iterate_video(lift / "lifted.mp4"), strict=True):
                reference = city.reference(frame.serial)
                scorer.add(frame, lifted, reference)
                three = [frame.color, lifted, reference]
                if frame.index in stills:
                    matches = matches and bool((city.frame(frame.serial).color == frame.color).all())
                    buffers = [channel_picture(frame, name, near, far) for name in ("depth", "normal")]
                    columns[f"frame {frame.index}   {frame.time:.2f} s"] = [*three, *buffers]
                yield tile(three, labels=("render", "lifted", "reference"), gap=4)
                step(frame.index + 1)

        write_video(out / "side_by_side.mp4", compared(), fps=take.fps, times=take.times)
    scores = {name: each.to_dict() for name, each in scorer.result().items()}
    _draw_sheet(out, columns, scores)
    return scores, matches


def _draw_sheet(out: Path, columns: Mapping[str, list[np.ndarray]], scores: Mapping[str, Any]) -> None:
    from realmaster.sheet import contact_sheet

    names = ("render", "lifted", "reference", "depth", "normals")
    rows = [(name, [pictures[row] for pictures in columns.values()]) for row, name in enumerate(names)]
    lifted, render = scores["lifted"], scores["render"]
    detail = (
        f"to the reference: lift {lifted['psnr']:.1f} dB, SSIM {lifted['ssim']:.3f}; "
        f"untouched render {render['psnr']:.1f} dB, SSIM {render['ssim']:.3f}"
    )
    contact_sheet(rows, list(columns), "realmaster demo", detail).save(out / "sheet.png")


def _report(
    out: Path,
    args: argparse.Namespace,
    clock: _Clock,
    sent: int,
    lift: Path,
    scores: Mapping[str, Any],
    matches: bool,
) -> dict[str, Any]:
    """What the demo did, as written to report.json. CommandError when a frame was lost."""
    from capture.take import Take, verify

    with Take(out / TAKE) as take:
        dropped = int(take.manifest.get("dropped") or 0)
    checked = verify(out / TAKE)
    lifting = json.loads((lift / "report.json").read_text("utf-8"))
    report = {
        "made_by": MADE_BY,
        "state": "done",
        "frames_sent": sent,
        "frames_recorded": checked.good,
        "frames_dropped": dropped,
        "frames_lifted": lifting["frames_lifted"],
        "scores": scores,
        "engine": {"name": "city", "seed": args.seed, "size": SIZE, "fps": FPS, "reference_of_same_frames": matches},
        "model": {key: lifting[key] for key in ("model", "seed", "windows", "window_frames", "frames_per_second")},
        "seconds": {**clock.seconds, "total": clock.total()},
        "machine": _machine(),
        "versions": _versions(),
        "files": {name: out / name for name in PRODUCTS},
        "lift": lift,
    }
    _write_report(out, report)
    if checked.good != sent:
        raise CommandError(f"The engine sent {sent} frames, but {checked.good} were recorded.", report)
    return report


def _machine() -> dict[str, Any]:
    import psutil
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"system": platform.platform(), "cores": os.cpu_count(), "memory_gib": memory, "gpu": gpu}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "realmaster": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "peft", "numpy", "pyzmq")},
    }


def _show(screen: Screen, out: Path, report: Mapping[str, Any]) -> None:
    from realmaster.commands.evaluate import scores_table
    from realmaster.progress import facts

    seconds = report["seconds"]
    screen.show(
        "",
        facts(
            "frames",
            {
                "sent by the engine": report["frames_sent"],
                "recorded": report["frames_recorded"],
                "dropped": report["frames_dropped"],
                "lifted": f"{report['frames_lifted']} at {report['model']['frames_per_second']} a second",
                "time": f"{seconds['total']:.0f} s: "
                + ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items() if name != "total"),
            },
        ),
        "",
        scores_table(report["scores"], "scores"),
        "",
        facts(str(out), PRODUCTS),
        "",
        facts(
            "next",
            {
                "see it on the page": f"realmaster daemon --takes {out}",
                "another street": "realmaster demo --seed 20260001",
                "your own engine": "realmaster record panda3d, or engine_bridges/PROTOCOL.md",
                "this machine": "realmaster doctor",
            },
        ),
    )


def _open_browser(url: str, screen: Screen) -> None:
    import webbrowser

    if not webbrowser.open(url):
        screen.say(f"no browser could be opened: open {url} yourself")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
