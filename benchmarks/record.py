"""What recording costs: the wire beside imagezmq and vidgear, real-time recordings, random access, codecs.

    pip install "realmaster[bench]"
    python benchmarks/record.py [--seconds 10] [--rounds 3] [--only wire,record] [--json]

Frames are the city's (colour RGB8, depth float32, normals 3 x int8), rendered at full size, with film grain so that
no codec gets it too easy. Everything is measured between real processes, in one run and in turn, so that other load
on the machine hits all alike; CPU time per frame survives such load, frames per second do not. `--seconds 60` is what
the promise of a recording without loss is meant for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from capture import Descriptor, FrameSender, Take
from capture.records import Record, RecordFile, walk
from capture.take_folder import segment_paths
from engine_bridges.city.scene import City

Set = dict[str, NDArray[Any]]
"""The channels of one frame."""

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
RECORDINGS = (("720p", 60.0), ("1080p", 30.0))
DISTINCT = 6
"""Different frames at each size; all codecs work within a frame, so that repeating them makes nothing easier."""

PATIENCE = 180.0
"""Seconds after which a measurement that does not end is given up."""

spawn = multiprocessing.get_context("spawn")


# -- frames


def render(size: tuple[int, int], seed: int) -> list[Set]:
    """Frames of the city a second apart, as an engine would deliver them."""
    city, noise = City(seed, size), np.random.default_rng(seed)
    sets = []
    for index in range(DISTINCT):
        frame = city.frame(index * 24)
        grain = noise.normal(0, 2.5, frame.color.shape)
        bumps = noise.normal(0, 1.5, frame.normal.shape) * (frame.normal != 0)
        sets.append(
            {
                "color": np.clip(np.rint(frame.color + grain), 0, 255).astype(np.uint8),
                "depth": frame.depth,
                "normal": np.clip(np.rint(frame.normal * 127 + bumps), -127, 127).astype(np.int8),
            }
        )
    return sets


def descriptors(frame: Set) -> list[Descriptor]:
    return [Descriptor(name, array.dtype.name, array.shape) for name, array in frame.items()]


class Packer:
    """All channels of a frame in one array, for peers that carry one array a message: copied to memory that is there,
    which is the least that this takes."""

    def __init__(self, sets: list[Set]) -> None:
        height, width = sets[0]["depth"].shape
        bytes_ = sum(array.nbytes for array in sets[0].values())
        self._sets = sets
        self._images = [np.zeros((height, width, bytes_ // (height * width)), np.uint8) for _ in sets]

    def __call__(self, index: int) -> NDArray[np.uint8]:
        image, end = self._images[index % len(self._images)], 0
        for array in self._sets[index % len(self._sets)].values():
            begin, end = end, end + array.nbytes
            image.reshape(-1)[begin:end] = array.reshape(-1).view(np.uint8)
        return image


def load(folder: Path, size: str) -> list[Set]:
    with np.load(folder / f"{size}.npz") as arrays:
        return [{name: arrays[f"{name}{i}"] for name in ("color", "depth", "normal")} for i in range(DISTINCT)]


def save(folder: Path, size: str, sets: list[Set]) -> None:
    np.savez(folder / f"{size}.npz", **{f"{name}{i}": a for i, frame in enumerate(sets) for name, a in frame.items()})


# -- the wire: every way is a function of a sending and one of a receiving process


@dataclass
class Clock:
    """CPU and wall time of a process from its first frame on."""

    cpu: float = 0.0
    wall: float = 0.0
    thread: float = 0.0

    def start(self) -> None:
        self.cpu, self.wall, self.thread = time.process_time(), time.perf_counter(), time.thread_time()

    def report(self, frames: int) -> dict[str, float]:
        """Milliseconds a frame, and frames per second."""
        return {
            "cpu_ms": (time.process_time() - self.cpu) / frames * 1e3,
            "thread_ms": (time.thread_time() - self.thread) / frames * 1e3,
            "fps": frames / (time.perf_counter() - self.wall),
        }


def ours_send(address: str, folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    endpoint, token = address.split()
    sets, clock = load(folder, size), Clock()
    with FrameSender(
        endpoint, token=token, engine="benchmark", channels=descriptors(sets[0]), mode="lossless",
        shared_memory=way == "shm",
    ) as sender:  # fmt: skip
        for index in range(count + 1):
            if index == 1:
                clock.start()
            sender.send(None, sets[index % DISTINCT], time=index / 60)
        report = clock.report(count)
        if (sender.stats.shared > 0) != (way == "shm"):
            raise RuntimeError(f"the pixels travelled over {sender.transport}")
    return report


def ours_receive(ready: Callable[[str], None], folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    from daemon.ingest import Ingest

    clock, frames, reports = Clock(), 0, []

    def on_frame(session: str, frame: Any) -> None:
        nonlocal frames
        frames += 1
        if frames == 1:
            clock.start()
        elif frames == count + 1:
            reports.append(clock.report(count))

    ingest = Ingest("tcp://127.0.0.1:*", takes=folder / "takes", replay_seconds=0, previews=False, on_frame=on_frame)
    ready(f"{ingest.start()} {ingest.token}")
    deadline = time.monotonic() + PATIENCE
    while not reports and time.monotonic() < deadline:
        time.sleep(0.05)
    ingest.stop()
    return reports[0]


def imagezmq_send(address: str, folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    import imagezmq

    sets, clock = load(folder, size), Clock()
    packed = Packer(sets)
    with imagezmq.ImageSender(connect_to=address) as sender:
        for index in range(count + 1):
            if index == 1:
                clock.start()
            for array in [packed(index)] if way == "packed" else sets[index % DISTINCT].values():
                sender.send_image(str(index), array)
        return clock.report(count)


def imagezmq_receive(ready: Callable[[str], None], folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    import imagezmq

    clock, address = Clock(), f"tcp://127.0.0.1:{free_port()}"
    with imagezmq.ImageHub(open_port=address) as hub:
        ready(address)
        for index in range(count + 1):
            for _ in range(1 if way == "packed" else 3):
                hub.recv_image()
                hub.send_reply(b"OK")
            if index == 0:
                clock.start()
        return clock.report(count)


VIDGEAR_WAYS = ("pair tcp", "pair ipc", "req/rep tcp", "req/rep ipc")


def vidgear_gear(folder: Path, way: str, port: str, receive: bool) -> Any:
    from vidgear.gears import NetGear

    logging.disable()
    pattern, protocol = way.split()
    return NetGear(
        address="127.0.0.1" if protocol == "tcp" else str(folder / "vidgear"), port=port,
        protocol=protocol, pattern=0 if pattern == "pair" else 1, receive_mode=receive, jpeg_compression=False,
    )  # fmt: skip


def vidgear_send(address: str, folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    packed, clock = Packer(load(folder, size)), Clock()
    gear = vidgear_gear(folder, way, address, receive=False)
    for index in range(count + 1):
        if index == 1:
            clock.start()
        gear.send(packed(index))
    report = clock.report(count)
    time.sleep(1)  # what is still on its way; closing would cut it off
    return report


def vidgear_receive(ready: Callable[[str], None], folder: Path, size: str, count: int, way: str) -> dict[str, float]:
    clock, port = Clock(), str(free_port())
    gear = vidgear_gear(folder, way, port, receive=True)
    ready(port)
    for index in range(count + 1):
        if gear.recv() is None:
            raise RuntimeError("vidgear lost the connection")
        if index == 0:
            clock.start()
    return clock.report(count)


WIRE: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "realmaster, shared memory": (ours_send, ours_receive, "shm"),
    "realmaster, tcp": (ours_send, ours_receive, "tcp"),
    "imagezmq, an array a message": (imagezmq_send, imagezmq_receive, ""),
    "imagezmq, packed into one array": (imagezmq_send, imagezmq_receive, "packed"),
} | {f"vidgear NetGear, packed, {way}": (vidgear_send, vidgear_receive, way) for way in VIDGEAR_WAYS}
OURS = tuple(name for name in WIRE if name.startswith("realmaster"))


def run_receiver(answers: Any, receive: Callable[..., Any], *args: Any) -> None:
    try:
        answers.put(("receive", receive(lambda address: answers.put(("address", address)), *args)))
    except Exception as error:
        answers.put(("failed", f"{type(error).__name__}: {error}"))
    quit_now(answers)


def run_sender(answers: Any, send: Callable[..., Any], *args: Any) -> None:
    try:
        answers.put(("send", send(*args)))
    except Exception as error:
        answers.put(("failed", f"{type(error).__name__}: {error}"))
    quit_now(answers)


def quit_now(answers: Any) -> None:
    """The peers' threads and sockets may hold a process up for long."""
    answers.close()
    answers.join_thread()
    os._exit(0)


def one_way(name: str, folder: Path, size: str, count: int) -> dict[str, Any]:
    """{"send": ..., "receive": ...} of one way, or {"failed": why}."""
    send, receive, way = WIRE[name]
    answers = spawn.Queue()
    processes = [spawn.Process(target=run_receiver, args=(answers, receive, folder, size, count, way))]
    got: dict[str, Any] = {}
    try:
        processes[0].start()
        while not {"send", "receive"} <= got.keys() and "failed" not in got:
            kind, value = answers.get(timeout=PATIENCE)
            got[kind] = value
            if kind == "address":
                processes.append(
                    spawn.Process(target=run_sender, args=(answers, send, value, folder, size, count, way))
                )
                processes[1].start()
    except Exception as error:
        got["failed"] = f"no end within {PATIENCE:.0f} s ({type(error).__name__})"
    finally:
        for process in processes:
            process.join(0 if "failed" in got else 10)
            process.kill()
    return got


def measure_wire(folder: Path, size: str, count: int, rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for a plain copy and for each way: the best of the rounds by rate, and by CPU."""
    sets = load(folder, size)
    nbytes = sum(array.nbytes for array in sets[0].values())
    copies: list[float] = []
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WIRE}
    failures: dict[str, str] = {}
    for round_ in range(rounds):
        copies.append(copy_seconds(sets))
        for name in WIRE:
            say(f"{size} wire, round {round_ + 1}: {name}")
            run = one_way(name, folder, size, count)
            if "failed" in run:
                failures[name] = run["failed"]
            else:
                runs[name].append(run)
    memcpy = nbytes / min(copies)
    rows: list[dict[str, Any]] = [
        {"way": "plain memcpy", "size": size, "fps": memcpy / nbytes, "gb_s": memcpy / 1e9, "of_memcpy": 1.0}
    ]
    for name, done in runs.items():
        if not done:
            rows.append({"way": name, "size": size, "failed": failures[name]})
            continue
        fps = max(run["receive"]["fps"] for run in done)
        rows.append(
            {
                "way": name,
                "size": size,
                "fps": fps,
                "gb_s": fps * nbytes / 1e9,
                "of_memcpy": fps * nbytes / memcpy,
                "send_cpu_ms": min(run["send"]["cpu_ms"] for run in done),
                "render_thread_ms": min(run["send"]["thread_ms"] for run in done),
                "receive_cpu_ms": min(run["receive"]["cpu_ms"] for run in done),
                "gb_per_cpu_s": nbytes / 1e6 / min(run["send"]["cpu_ms"] + run["receive"]["cpu_ms"] for run in done),
            }
        )
    return rows


def copy_seconds(sets: list[Set]) -> float:
    """The fastest copy of a frame into memory that is there; of changing frames, as on the wire, so that the
    processor's caches do not do the work."""
    target = {name: array.copy() for name, array in sets[0].items()}
    times = []
    for index in range(10 * len(sets)):
        start = time.perf_counter()
        for name, array in sets[index % len(sets)].items():
            np.copyto(target[name], array)
        times.append(time.perf_counter() - start)
    return min(times)


def wire_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Our rate over those of the peers."""
    rate = {row["way"]: row["gb_s"] for row in rows if "gb_s" in row}
    peers = {way: value for way, value in rate.items() if way.startswith("imagezmq")}
    vidgear = [value for way, value in rate.items() if way.startswith("vidgear")]
    if vidgear:
        peers["vidgear's best mode"] = max(vidgear)
    return {f"{way} / {peer}": rate[way] / theirs for way in OURS if way in rate for peer, theirs in peers.items()}


# -- recording in real time


def record_daemon(answers: Any, takes: Path) -> None:
    from daemon.ingest import Ingest

    events: list[dict[str, Any]] = []
    ingest = Ingest(
        "tcp://127.0.0.1:*", takes=takes, auto_record=True, replay_seconds=0, previews=False, on_event=events.append
    )
    answers.put(("address", f"{ingest.start()} {ingest.token}"))
    while not any(event["event"] == "session_closed" for event in events):
        time.sleep(0.1)
    ingest.stop()
    closed = [event for event in events if event["event"] == "take_closed"]
    answers.put(("take", closed[0]))


def record_sender(answers: Any, address: str, folder: Path, size: str, fps: float, seconds: float) -> None:
    endpoint, token = address.split()
    sets = load(folder, size)
    count, walls, threads, dropped, late = round(seconds * fps), [], [], [], 0
    with FrameSender(
        endpoint, token=token, engine="benchmark", game=size, channels=descriptors(sets[0]), mode="live", fps=fps
    ) as sender:
        cpu, due = time.process_time(), time.perf_counter()
        for index in range(count):
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            elif -wait > 1 / fps:  # this process itself did not get the processor in time
                due, late = time.perf_counter(), late + 1
            due += 1 / fps
            wall, thread = time.perf_counter(), time.thread_time()
            if sender.send(None, sets[index % DISTINCT], time=index / fps, serial=index):
                walls.append(time.perf_counter() - wall)
                threads.append(time.thread_time() - thread)
            else:
                dropped.append(index)
        cpu = time.process_time() - cpu
        transport = sender.transport
    answers.put(
        (
            "sender",
            {
                "sent": sender.stats.sent,
                "dropped": sender.stats.dropped,
                "dropped_at_s": [round(index / fps, 1) for index in dropped],
                "late": late,
                "transport": transport,
                "render_thread_ms": float(np.median(threads)) * 1e3,
                "send_ms_p50": float(np.median(walls)) * 1e3,
                "send_ms_p99": float(np.quantile(walls, 0.99)) * 1e3,
                "cpu_ms": cpu / count * 1e3,
            },
        )
    )


def measure_recording(folder: Path, size: str, fps: float, seconds: float) -> dict[str, Any]:
    """Records for `seconds` of real time; then reads frames of the take at random."""
    answers, takes = spawn.Queue(), folder / f"takes {size}"
    daemon = spawn.Process(target=record_daemon, args=(answers, takes))
    daemon.start()
    try:
        address = answers.get(timeout=PATIENCE)[1]
        before = cpu_seconds(daemon.pid)
        sender = spawn.Process(target=record_sender, args=(answers, address, folder, size, fps, seconds))
        sender.start()
        memory: dict[str, list[float]] = {"sender": [], "daemon": []}
        watched = {"sender": psutil.Process(sender.pid), "daemon": psutil.Process(daemon.pid)}
        cpu = before
        while sender.is_alive():
            with contextlib.suppress(psutil.Error):
                for who, process in watched.items():
                    memory[who].append(process.memory_info().rss / 1e6)
                cpu = cpu_seconds(daemon.pid)
            sender.join(0.5)
        got = dict(answers.get(timeout=PATIENCE) for _ in range(2))
        daemon.join(30)
    finally:
        daemon.kill()
    cpu -= before
    path = takes / got["take"]["take"]
    bytes_ = sum(file.stat().st_size for file in path.iterdir())
    frames = got["take"]["frames"]
    return {
        "size": size,
        "fps": fps,
        "seconds": seconds,
        **got["sender"],
        "recorded": frames,
        "daemon_cpu_ms": cpu / max(1, frames) * 1e3,
        "of_two_cores": (cpu / max(1, frames) + got["sender"]["cpu_ms"] / 1e3) * fps / 2,
        "rss_mb": {who: curve(values) for who, values in memory.items()},
        "mb_per_minute": bytes_ / max(1, frames) * fps * 60 / 1e6,
        "hasty": hasty_frames(path),
        **random_access(path, load(folder, size)),
    }


def cpu_seconds(pid: int | None) -> float:
    """What a process has used since it began."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def curve(values: list[float], points: int = 10) -> list[float]:
    """A few values along a curve: medians of equal stretches, without the start (imports, first frames) and the end."""
    steady = values[min(4, len(values) // 4) : -1] or values
    return [round(float(np.median(part)), 1) for part in np.array_split(steady, min(points, len(steady)))]


def hasty_frames(path: Path) -> int:
    """Frames of which a channel stayed as it was, because the processors could not keep up."""
    hasty = set()
    for segment in segment_paths(path):
        with RecordFile(segment) as file:
            records = (found.header for found in walk(file) if isinstance(found, Record))
            hasty |= {header.frame for header in records if header.codec == "raw"}
    return len(hasty)


def random_access(path: Path, sets: list[Set], reads: int = 30) -> dict[str, Any]:
    """Milliseconds to open any frame and decode all its channels; each is compared with what was sent.

    The first one is apart: it also loads the codecs' libraries. No frame is read twice, for a Take remembers some.
    """
    take, walls, cpus, wrong = Take(path), [], [], 0
    for index in random.sample(range(len(take)), min(1 + reads, len(take))):
        wall, cpu = time.perf_counter(), time.process_time()
        frame = take.load(index)
        arrays = {name: channel.data for name, channel in frame.channels.items()}
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        sent = sets[frame.serial % DISTINCT]
        wrong += any(arrays[name].tobytes() != sent[name].tobytes() for name in sent)
    first, *walls = walls
    return {
        "seek_ms_first": first * 1e3,
        "seek_ms_p50": float(np.median(walls)) * 1e3,
        "seek_ms_max": max(walls) * 1e3,
        "seek_cpu_ms": float(np.median(cpus)) * 1e3,
        "frames_read": 1 + len(walls),
        "frames_wrong": wrong,
    }


# -- what is printed


def print_wire(rows: list[dict[str, Any]]) -> None:
    size = rows[0]["size"]
    print(f"\n{size} on the wire, colour + depth + normals, as fast as they go (best of the rounds)")
    print(
        f"{'':35s} {'fps':>6s} {'GB/s':>6s} {'of memcpy':>10s} {'sender: CPU':>12s} {'its thread':>11s} "
        f"{'receiver':>9s} {'GB per CPU s':>13s}"
    )
    for row in rows:
        if "failed" in row:
            print(f"{row['way']:35s} failed: {row['failed']}")
            continue
        line = f"{row['way']:35s} {row['fps']:6.0f} {row['gb_s']:6.2f} {row['of_memcpy']:10.0%}"
        if "send_cpu_ms" in row:
            line += f" {row['send_cpu_ms']:9.2f} ms {row['render_thread_ms']:8.2f} ms {row['receive_cpu_ms']:6.2f} ms"
            line += f" {row['gb_per_cpu_s']:13.1f}"
        print(line)
    for name, ratio in wire_ratios(rows).items():
        print(f"  {name}: {ratio:.1f}")


def print_recording(row: dict[str, Any]) -> None:
    print(
        f"\n{row['size']} at {row['fps']:g} frames per second for {row['seconds']:g} s, live, over {row['transport']}\n"
        f"  {row['sent']} sent, {row['recorded']} recorded, {row['dropped']} dropped"
        + (f" (the first at {', '.join(map(str, row['dropped_at_s'][:8]))} s)" if row["dropped"] else "")
        + (f", {row['late']} times the engine itself was late" if row["late"] else "")
        + f"\n  engine: {row['render_thread_ms']:.2f} ms CPU of the render thread a frame; "
        f"send() takes {row['send_ms_p50']:.1f} ms, 99% {row['send_ms_p99']:.1f} ms\n"
        f"  daemon: {row['daemon_cpu_ms']:.1f} ms CPU a frame; both sides {row['of_two_cores']:.0%} of two cores\n"
        f"  {row['mb_per_minute']:.0f} MB a minute"
        + (f"; in haste, {row['hasty']} frames kept their pictures uncompressed" if row["hasty"] else "")
        + "\n"
        f"  any frame: {row['seek_ms_p50']:.0f} ms, at most {row['seek_ms_max']:.0f} ms (the first, which loads the "
        f"codecs' libraries, {row['seek_ms_first']:.0f} ms), CPU {row['seek_cpu_ms']:.0f} ms "
        f"({row['frames_read']} read, {row['frames_wrong']} differ from what was sent)"
    )
    for who, values in row["rss_mb"].items():
        print(f"  memory of the {who}, MB: {' '.join(f'{value:.0f}' for value in values)}")


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="realmaster-benchmark-", ignore_cleanup_errors=True) as folder:
        os.environ["REALMASTER_RUNTIME_DIR"] = str(Path(folder) / "run")
        yield Path(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each recording (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the wire, the best counts (default: 3)")
    parser.add_argument("--count", type=int, default=150, help="frames a round on the wire (default: 150)")
    parser.add_argument("--only", default="wire,record,codecs", help="parts to run (default: wire,record,codecs)")
    parser.add_argument("--seed", type=int, default=5, help="which street the city builds")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    parts = options.only.split(",")
    results: dict[str, Any] = {"wire": [], "recordings": []}

    def say(text: str) -> None:
        print(f"\r\033[K{text}", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    with workplace() as folder:
        for name, size in SIZES.items():
            say(f"rendering {DISTINCT} frames at {name}")
            save(folder, name, render(size, options.seed))
        if "wire" in parts:
            for name in SIZES:
                rows = measure_wire(folder, name, options.count, options.rounds, say)
                results["wire"] += rows
                results.setdefault("ratios", {})[name] = wire_ratios(rows)
                print_wire(rows)
        if "record" in parts:
            for name, fps in RECORDINGS:
                say(f"recording {name}")
                results["recordings"].append(measure_recording(folder, name, fps, options.seconds))
                print_recording(results["recordings"][-1])
    if "codecs" in parts:
        subprocess.run([sys.executable, str(Path(__file__).with_name("codecs.py"))], check=True)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
