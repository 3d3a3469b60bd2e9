"""The daemon in figures: for Prometheus, and whole for support.

Works on `Service`; knows nothing of HTTP. Nothing here tells a token.
"""

from __future__ import annotations

import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from daemon import logs
from realmaster import __version__

if TYPE_CHECKING:
    from daemon.service import Service

LIBRARIES = ("numpy", "pyzmq", "av", "torch", "diffusers", "fastapi", "uvicorn")


def exposition(service: Service) -> bytes:
    """All figures in Prometheus' text form."""
    registry = CollectorRegistry()
    registry.register(_Collector(service))
    return generate_latest(registry)


def support(service: Service) -> dict[str, Any]:
    """Everything that somebody who helps wants to know, as plain JSON values."""
    config = {name: value for name, value in asdict(service.config).items() if "token" not in name}
    versions: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    memory = psutil.virtual_memory()
    return {
        "version": __version__,
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": psutil.cpu_count(),
            "memory": memory.total,
            "memory_free": memory.available,
        },
        "libraries": versions,
        "config": {
            name: value if isinstance(value, int | float | None) else str(value) for name, value in config.items()
        },
        "disk_free": _disk_free(service),
        "processes": processes(service),
        "ends": dict(service.lifts.ends) | {"ingest": service.restarts},
        "state": service.state(),
        "log": logs.recent(),
    }


def processes(service: Service) -> list[dict[str, Any]]:
    """Of each process of the daemon {name, pid, memory [bytes], cpu [s], threads, files}."""
    found = []
    for name, pid in service.pids().items():
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                found.append(
                    {
                        "name": name,
                        "pid": process.pid,
                        "memory": process.memory_info().rss,
                        "cpu": round(times.user + times.system, 2),
                        "threads": process.num_threads(),
                        "files": process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
                    }
                )
        except psutil.Error:  # it has just ended
            continue
    return found


def _disk_free(service: Service) -> int:
    return shutil.disk_usage(service.config.takes).free


class _Collector:
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        state = service.state()
        yield InfoMetricFamily("realmaster", "The daemon", {"version": __version__, "model": service.config.model})
        yield _gauge("realmaster_sessions", "Bridges that are connected", len(state["sessions"]))
        yield _gauge("realmaster_recordings", "Takes being written", len(state["recording"]))
        yield _gauge("realmaster_takes", "Takes in the folder", len(state["takes"]))
        yield _gauge("realmaster_viewers", "Browsers that watch live pictures", service.viewers)
        yield _gauge("realmaster_disk_free_bytes", "Room in the folder of takes", _disk_free(service))
        yield _gauge("realmaster_problem", "1 while the daemon cannot receive", int(state["problem"] is not None))
        yield _count("realmaster_messages_refused", "Messages of bridges that were refused", state["refused"])
        yield _count(
            "realmaster_ingest_restarts", "Times that the receiving process was started again", service.restarts
        )
        yield _count("realmaster_frames_lifted", "Frames lifted", service.lifts.frames_lifted)
        yield from self._sessions(state["sessions"])
        lifts = GaugeMetricFamily("realmaster_lifts", "Lifts listed, by state", labels=["state"])
        for name, count in Counter(job["state"] for job in state["lifts"]).items():
            lifts.add_metric([name], count)
        yield lifts
        ends = CounterMetricFamily("realmaster_lift_process_ends", "Ends of the lifting process", labels=["kind"])
        for kind in ("crash", "memory", "hang", "cancel"):
            ends.add_metric([kind], service.lifts.ends[kind])
        yield ends
        for figure, help_text in (("lag", "Seconds that the lifted picture lags"), ("fps", "Frames lifted a second")):
            if state["live"][figure] is not None:
                yield _gauge(f"realmaster_live_{figure}", help_text, state["live"][figure])
        memory = GaugeMetricFamily("realmaster_process_memory_bytes", "Resident memory", labels=["process"])
        cpu = CounterMetricFamily("realmaster_process_cpu_seconds", "Processor time", labels=["process"])
        for process in processes(service):
            memory.add_metric([process["name"]], process["memory"])
            cpu.add_metric([process["name"]], process["cpu"])
        yield from (memory, cpu)

    def _sessions(self, sessions: list[dict[str, Any]]) -> Iterator[Metric]:
        labels = ["session", "engine", "game"]
        for figure, help_text in (
            ("frames", "Frames received"),
            ("dropped", "Frames that the bridge dropped or lost"),
            ("desync", "Frames whose channels disagreed"),
            ("recorded", "Frames that are safely on disk"),
        ):
            family = CounterMetricFamily(f"realmaster_session_{figure}", help_text, labels=labels)
            for session in sessions:
                family.add_metric([session[label if label != "session" else "id"] for label in labels], session[figure])
            yield family
        rates = GaugeMetricFamily("realmaster_session_fps", "Frames received a second", labels=labels)
        ring = GaugeMetricFamily("realmaster_session_replay_bytes", "Memory of the replay", labels=labels)
        for session in sessions:
            values = [session["id"], session["engine"], session["game"]]
            rates.add_metric(values, session["fps"])
            ring.add_metric(values, session["ring"]["bytes"])
        yield from (rates, ring)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _count(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)
