"""Who does the work: threads of this process, processes of this machine, or actors of a Ray cluster.

A crew has workers (`stages.Worker`), each of which does one stage of each kind at a time, so that one clip is edited
while another is propagated and a third is scored. A crew knows who is alive; what is to be done next it does not know
(`run`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol

from capture.errors import UserError
from realmaster.pairs.settings import PairsError
from realmaster.pairs.stages import STAGES, Clip, Job, Stage, Worker


@dataclass(frozen=True)
class Event:
    """Something that became known of a worker."""

    kind: str
    """ "ready": it can be sent work; "done": `stage` of `clip` is; "error": nothing can go on; "died": what it had in
    hand is not done, and another takes its place."""
    worker: int
    stage: Stage | None = None
    clip: Clip | None = None
    next: Stage | None = None
    """Done: the clip's next stage."""
    sentence: str = ""


class Crew(Protocol):
    """Some workers, numbered from 0."""

    size: int

    def send(self, worker: int, stage: Stage, clip: Clip) -> None:
        """Have a worker that is ready do a stage that it is not doing."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What happened, after that time at most."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


def outcome(worker: Worker, number: int, stage: Stage, clip: Clip) -> Event:
    """Have it done, and tell."""
    try:
        return Event("done", number, stage, clip, next=worker.run(stage, clip))
    except UserError as error:
        return Event("error", number, stage, clip, sentence=str(error))
    except Exception as error:
        return Event("error", number, stage, clip, sentence=f"{type(error).__name__}: {error}")


def devices() -> list[str | None]:
    """The GPUs of this machine, as torch names them; [None] without any."""
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or [None]


class ThreadCrew:
    """One worker in this process."""

    size = 1

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)
        self._threads = ThreadPoolExecutor(len(STAGES), thread_name_prefix="pairs")
        self._events: queue.Queue[Event] = queue.Queue()
        self._events.put(Event("ready", 0))

    def send(self, worker: int, stage: Stage, clip: Clip) -> None:
        self._threads.submit(lambda: self._events.put(outcome(self._worker, 0, stage, clip)))

    def wait(self, seconds: float) -> list[Event]:
        try:
            return [self._events.get(timeout=seconds)]
        except queue.Empty:
            return []

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


class ProcessCrew:
    """Workers in processes of their own, each on a GPU where there are any; one that dies is replaced."""

    def __init__(self, job: Job, size: int) -> None:
        self.size, self._job = size, job
        self._context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._devices = devices()
        self._members: dict[int, tuple[Any, Any]] = {}
        for number in range(size):
            self._start(number)

    def send(self, worker: int, stage: Stage, clip: Clip) -> None:
        try:
            self._members[worker][1].send((stage, clip))
        except OSError:
            pass  # it has just died; `wait` tells

    def wait(self, seconds: float) -> list[Event]:
        connections: dict[Any, int] = {connection: number for number, (_, connection) in self._members.items()}
        events: list[Event] = []
        heard: list[Any] = wait_for(list(connections), timeout=seconds)
        for connection in heard:
            number = connections[connection]
            try:
                events.append(connection.recv())
            except (EOFError, OSError):
                process, _ = self._members[number]
                process.join(10)
                events.append(Event("died", number, sentence=f"exit code {process.exitcode}"))
                connection.close()
                self._start(number)
        return events

    def close(self) -> None:
        for process, connection in self._members.values():
            connection.close()  # a worker whose parent hangs up ends
            process.terminate()
        for process, _ in self._members.values():
            process.join(10)
            if process.is_alive():
                process.kill()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process, _ in self._members.values()]

    def _start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.size)
        device = self._devices[number % len(self._devices)]
        process = self._context.Process(
            target=_process_main, args=(theirs, self._job, number, device, threads), name=f"pairs-{number}", daemon=True
        )
        process.start()
        theirs.close()
        self._members[number] = (process, ours)


def _process_main(connection: Any, job: Job, number: int, device: str | None, threads: int) -> None:
    """What a worker's process does."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    torch.set_num_threads(threads)
    worker, lock = Worker(job, device), threading.Lock()

    def do(stage: Stage, clip: Clip) -> None:
        event = outcome(worker, number, stage, clip)
        with lock:
            connection.send(event)

    connection.send(Event("ready", number))
    with ThreadPoolExecutor(len(STAGES)) as pool:
        try:
            while True:
                pool.submit(do, *connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: nobody waits for what is in hand


@dataclass
class _Actor:
    handle: Any
    ready: Any
    is_ready: bool = False
    in_hand: dict[Any, tuple[Stage, Clip]] = field(default_factory=dict)


class RayCrew:
    """Workers as actors of a Ray cluster, whose nodes all see the takes and the dataset folder under the same paths.

    address: as `ray.init` takes it. size: workers; 0: one for each share of a GPU, else one a node. One that dies is
    replaced as soon as the cluster has room. Raises `PairsError`.
    """

    def __init__(self, job: Job, address: str, size: int = 0) -> None:
        try:
            import ray
        except ImportError:
            raise PairsError("Ray is not installed: `pip install 'realmaster[ray]'` brings it.") from None
        self._ray, self._job = ray, job
        host, colon, port = address.removeprefix("ray://").rpartition(":")
        try:
            if colon and port.isdecimal():
                socket.create_connection((host, int(port)), timeout=5).close()  # Ray itself would try for minutes
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PairsError(
                f"No Ray cluster answers at {address} ({reason}): `ray start --head` begins one."
            ) from None
        resources = ray.cluster_resources()
        share = job.settings.workers.gpus if resources.get("GPU") else 0.0
        nodes = sum(node["Alive"] for node in ray.nodes())
        self.size = size or (int(resources["GPU"] / share) if share else nodes)
        # An actor that takes a GPU with it needs no core of its own to be placed; without, one each spreads them out.
        self._options = {"num_gpus": share, "num_cpus": 1, "max_concurrency": len(STAGES), "max_restarts": 0}
        self._actor: Any = ray.remote(_RayWorker)
        self._actors = {number: self._started(number) for number in range(self.size)}

    def send(self, worker: int, stage: Stage, clip: Clip) -> None:
        actor = self._actors[worker]
        actor.in_hand[actor.handle.run.remote(stage, clip)] = (stage, clip)

    def wait(self, seconds: float) -> list[Event]:
        ray = self._ray
        owners = {
            reference: number
            for number, actor in self._actors.items()
            for reference in [*actor.in_hand, *([] if actor.is_ready else [actor.ready])]
        }
        if not owners:
            time.sleep(seconds)
            return []
        events: list[Event] = []
        for reference in ray.wait(list(owners), num_returns=1, timeout=seconds)[0]:
            number = owners[reference]
            actor = self._actors[number]
            try:
                event = ray.get(reference)
            except ray.exceptions.RayError as error:
                sentence = " ".join(str(error).split())[:200]
                events.append(Event("died", number, sentence=sentence))
                self._actors[number] = self._started(number)
                continue
            actor.in_hand.pop(reference, None)
            actor.is_ready = True
            events.append(event)
        return events

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor.handle)
        self._ray.shutdown()

    def _started(self, number: int) -> _Actor:
        handle: Any = self._actor.options(**self._options, scheduling_strategy="SPREAD").remote(self._job, number)
        return _Actor(handle, handle.ready.remote())


class _RayWorker:
    """A worker as an actor. Ray shows it only the GPUs that it asked for."""

    def __init__(self, job: Job, number: int) -> None:
        import torch

        if not torch.cuda.is_available():
            torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self._worker, self._number = Worker(job), number

    def ready(self) -> Event:
        return Event("ready", self._number)

    def run(self, stage: Stage, clip: Clip) -> Event:
        return outcome(self._worker, self._number, stage, clip)
