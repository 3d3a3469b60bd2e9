"""How live the daemon is: from the game to the page while recording, what lifting through it costs, what idling costs.

    python benchmarks/live.py [--seconds 20] [--size 1280x720] [--fps 30] [--windows 60]

The game is a sender in a process of its own with textured frames; the page is a WebSocket client in another, which
acknowledges each picture as the browser does. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from daemon.lifts import LiftQueue
from daemon.service import DaemonConfig, Service
from daemon.worker import load

PAUSE = 0.05
"""Seconds before each lift that is timed: the threads of the one before it spin for a while, and it may have been
another process's."""

FIRST_SECONDS = 90.0
"""How long the first picture may take: processes start slowly on a busy machine."""


def play(endpoint: str, token: str, size: tuple[int, int], fps: float, seconds: float) -> None:
    """Send colour, depth and normals at a steady rate; the engine's clock is this machine's."""
    from capture.camera import Camera
    from capture.frame import Descriptor
    from capture.sender import FrameSender

    width, height = size
    channels = (
        Descriptor("color", "uint8", (height, width, 3)),
        Descriptor("depth", "float32", (height, width)),
        Descriptor("normal", "int8", (height, width, 3), encoding="snorm"),
    )
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, : width + 256].astype(np.float32)
    wide = 128 + 60 * np.sin(columns / 37) * np.cos(rows / 23) + random.normal(0, 4, rows.shape)
    texture = np.repeat(wide.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    depth = 2 + rows / 40 + columns / 400
    normal = np.zeros((height, width, 3), np.int8)
    normal[..., 2] = -127
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, width, height)
    with FrameSender(endpoint, engine="benchmark", channels=channels, fps=fps, mode="live", token=token) as sender:
        begin = time.monotonic()
        for number in range(round(seconds * fps)):
            time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            shift = number % 256
            color = np.ascontiguousarray(texture[:, shift : shift + width])
            arrays = {"color": color, "depth": np.ascontiguousarray(depth[:, shift : shift + width]), "normal": normal}
            sender.send(camera, arrays, time=time.monotonic(), serial=number)


def look(url: str, seconds: float, conn: Connection) -> None:
    """Watch the render as the page does; tells the latencies, in seconds."""
    from websockets.asyncio.client import connect

    from daemon.web.api.stream import PICTURE_HEADER

    async def watch() -> list[tuple[float, float]]:
        seen = []
        async with connect(f"{url.replace('http', 'ws')}/api/v1/stream") as socket:
            await socket.send(json.dumps({"watch": ["color"], "session": None}))
            end = time.monotonic() + FIRST_SECONDS
            while (left := end - time.monotonic()) > 0:
                try:
                    data = await asyncio.wait_for(socket.recv(), left)
                except TimeoutError:
                    break
                now = time.monotonic()
                end = end if seen else now + seconds
                *_, number, _, rendered = PICTURE_HEADER.unpack_from(data)
                seen.append((now, now - rendered))
                await socket.send(json.dumps({"ack": number}))
        return seen

    conn.send(asyncio.run(watch()))


def cpu_seconds(service: Service) -> float:
    """Processor time of all the daemon's processes so far."""
    times = [psutil.Process(pid).cpu_times() for pid in service.pids().values()]
    return sum(t.user + t.system for t in times)


def idle(service: Service, seconds: float) -> float:
    """Share of one core that a daemon uses whose page is open and whose engine is not."""
    spawn = multiprocessing.get_context("spawn")
    _, theirs = spawn.Pipe()
    page = spawn.Process(target=look, args=(service.http_url, seconds, theirs), daemon=True)
    page.start()
    while not service.viewers:
        time.sleep(0.05)
    time.sleep(1)
    before = cpu_seconds(service)
    time.sleep(seconds)
    used = cpu_seconds(service) - before
    page.kill()
    page.join()
    return used / seconds


def watch_live(service: Service, size: tuple[int, int], fps: float, seconds: float) -> dict[str, Any]:
    """A game, recorded, and a page that shows it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    game = spawn.Process(target=play, args=(service.endpoint, service.token, size, fps, seconds + FIRST_SECONDS))
    game.start()
    while not service.state()["sessions"]:
        time.sleep(0.05)
    (name,) = service.record_start()
    page = spawn.Process(target=look, args=(service.http_url, seconds, theirs))
    page.start()
    seen = ours.recv()
    page.join()
    service.record_stop()
    game.kill()
    game.join()
    while any(take["name"] == name and take["state"] != "closed" for take in service.state()["takes"]):
        time.sleep(0.1)
    take = next(take for take in service.state()["takes"] if take["name"] == name)
    latencies = sorted(latency for _, latency in seen)
    return {
        "pictures": len(seen),
        "pictures_per_second": round((len(seen) - 1) / (seen[-1][0] - seen[0][0]), 1),
        "latency_ms": {
            "median": round(1000 * statistics.median(latencies), 1),
            "p95": round(1000 * latencies[int(0.95 * len(latencies))], 1),
        },
        "recorded": take["frames"],
        "dropped": take["dropped"],
    }


def load_timed(spent: Any, *model: Any) -> Any:
    """As `daemon.worker.load`, and every call of the model tells in `spent`, shared memory, how many seconds it took
    where it was made."""
    lifter, lift_take = load(*model)
    lift = lifter.lift

    def timed(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        lifted = lift(*args, **options)
        spent.value = time.perf_counter() - began
        return lifted

    lifter.lift = timed  # type: ignore[method-assign]
    return lifter, lift_take


def lifting(service: Service, spent: Any, windows: int) -> dict[str, Any]:
    """What a window takes through the daemon, over the very call of the model within it: the same process, threads and
    frame. Beside it the model in this process, in turns: two processes differ by where their memory happens to lie,
    as two without a daemon do, so the daemon can only be blamed for what comes back at every start."""
    from realmaster import load_lifter

    lifter = load_lifter("embedded")
    service.lifts.load()
    while service.lifts.rules is None:
        time.sleep(0.1)
    height, width = lifter.rules.working_size(720, 1280)
    clip = np.random.default_rng(0).integers(0, 256, (lifter.rules.window, height, width, 3), dtype=np.uint8)

    def seconds(lift: Callable[[], Any]) -> float:
        time.sleep(PAUSE)
        began = time.perf_counter()
        lift()
        return time.perf_counter() - began

    def turn() -> tuple[float, float, float]:
        here = seconds(lambda: lifter.lift(clip))
        return seconds(lambda: service.lifts.lift_live(clip).result()), spent.value, here

    through, within, here = zip(*[turn() for _ in range(windows + 1)][1:], strict=True)
    return {
        "through_the_daemon_s": round(statistics.median(through), 4),
        "model_s": round(statistics.median(within), 4),
        "overhead_percent": more(through, within),
        "model_over_the_same_in_another_process_percent": more(within, here),
    }


def more(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """By how many percent each of ours is more than its counterpart: median and quartiles."""
    low, middle, high = statistics.quantiles((100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)), n=4)
    return {"median": round(middle, 1), "from": round(low, 1), "to": round(high, 1)}


def codecs(pictures: int = 40) -> dict[str, dict[str, float]]:
    """What one picture of the stream costs as JPEG, as it is sent, and as H.264: processor time, which survives other
    load, and bytes. Frames are the city's."""
    import av

    from capture.pictures import shrink
    from daemon.jpeg import jpeg
    from engine_bridges.city.scene import City

    city = City(0, (1280, 720))
    frames = [shrink(city.frame(number).color, 960) for number in range(4)]
    began, size = time.process_time(), 0
    for number in range(pictures):
        size += len(jpeg(frames[number % 4]))
    result = {"jpeg": {"cpu_ms": 1000 * (time.process_time() - began) / pictures, "kB": size / pictures / 1000}}
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
    encoder.framerate, encoder.time_base = 30, Fraction(1, 30)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
    began, size = time.process_time(), 0
    for number in range(pictures):
        frame = av.VideoFrame.from_ndarray(frames[number % 4], "rgb24").reformat(format="yuv420p")
        frame.pts = number
        size += sum(packet.size for packet in encoder.encode(frame))
    result["h264"] = {"cpu_ms": 1000 * (time.process_time() - began) / pictures, "kB": size / pictures / 1000}
    return {name: {key: round(value, 1) for key, value in figures.items()} for name, figures in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--windows", type=int, default=60)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        config = DaemonConfig(takes=Path(folder) / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
        service = Service(config)
        spent = multiprocessing.get_context("spawn").Value("d", lock=False)
        service.lifts = LiftQueue(config.takes, load=partial(load_timed, spent))
        with service:
            report = {
                "codecs": codecs(),
                "load": round(psutil.getloadavg()[0], 1),
                "idle_share_of_a_core": round(idle(service, min(10.0, args.seconds)), 4),
                "live": watch_live(service, (width, height), args.fps, args.seconds),
                "lifting": lifting(service, spent, args.windows) if args.windows else None,
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
