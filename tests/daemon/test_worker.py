"""The lifting process: jobs one after the other, crashes that cost one job, and no lift that is half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from capture.camera import Camera, Conventions
from capture.errors import TakeNotFoundError, UserError
from capture.frame import Channel, Descriptor, Frame
from capture.take import TakeWriter
from daemon.worker import LiftJob, LiftQueue
from realmaster.lift.profiles import load_profile

from .engines import until

EMBEDDED = Path(str(load_profile("embedded").base))
needs_model = pytest.mark.skipif(not (EMBEDDED / "model_index.json").is_file(), reason="the embedded model is not here")

SIZE = (32, 64)


@pytest.fixture
def takes(tmp_path: Path) -> Path:
    """A folder with one take `short` of 10 small frames."""
    height, width = SIZE
    descriptors = (Descriptor("color", "uint8", (height, width, 3)), Descriptor("depth", "float32", (height, width)))
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, width, height)
    path = tmp_path / "takes" / "short"
    with TakeWriter(path, conventions=Conventions(), descriptors=descriptors, engine="test", preview=False) as writer:
        for i in range(10):
            images = {"color": np.full((height, width, 3), 20 * i, np.uint8), "depth": np.full(SIZE, 5, np.float32)}
            channels = {d.name: Channel(d, images[d.name], i) for d in descriptors}
            writer.append(Frame(i, i, i / 24, camera, channels))
    return path.parent


@pytest.fixture
def lifts(takes: Path) -> Iterator[LiftQueue]:
    queue = LiftQueue(takes)
    yield queue
    queue.close()
    assert queue._child is None or not queue._child.alive


def finished(queue: LiftQueue, job: LiftJob, timeout: float = 120) -> LiftJob:
    def look() -> LiftJob | None:
        (now,) = (j for j in queue.jobs() if j.id == job.id)
        return now if now.finished else None

    return until(look, timeout, f"the end of lift {job.id}")


@needs_model
@pytest.mark.slow
def test_lifts_a_take_and_a_live_clip(lifts: LiftQueue, takes: Path) -> None:
    job = finished(lifts, lifts.submit("short", (0, 5), prompt="street", seed=3, steps=1))
    assert (job.state, job.sentence) == ("done", "")
    assert job.done == job.total == 5
    folder = takes / "short" / "lifts" / job.lift
    report = json.loads((folder / "report.json").read_text())
    assert report["frames"] == [0, 5] and report["seed"] == 3 and (folder / "lifted.mp4").stat().st_size > 0
    assert [path.name for path in (takes / "short" / "lifts").iterdir()] == [job.lift]  # nothing unfinished is left

    assert lifts.rules is not None
    clip = np.zeros((lifts.rules["window"], *SIZE, 3), np.uint8)
    lifted = lifts.lift_live(clip, steps=1).result(120)
    assert lifted.shape == clip.shape and lifted.dtype == np.uint8


def test_a_killed_process_fails_its_job_only_and_is_started_again(lifts: LiftQueue, takes: Path) -> None:
    first, second = lifts.submit("short"), lifts.submit("short", (0, 99))
    assert (first.state, second.state) == ("running", "queued")
    pid = until(lambda: lifts.pid)
    time.sleep(1.0)  # somewhere in its imports, or later
    os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    lost = finished(lifts, first)
    assert lost.state == "failed" and "ended" in lost.sentence and lost.sentence.endswith(".")
    assert until(lambda: lifts.pid) != pid
    until(lambda: {job.id: job.state for job in lifts.jobs()}[second.id] != "queued")
    lifts.cancel(second.id)
    assert finished(lifts, second, 30).state in ("cancelled", "failed")
    assert not list((takes / "short").glob("lifts/*"))


def test_a_model_that_does_not_exist_is_one_sentence(takes: Path) -> None:
    queue = LiftQueue(takes, model="no-such-model")
    try:
        job = finished(queue, queue.submit("short"))
        assert job.state == "failed" and "no-such-model" in job.sentence and "\n" not in job.sentence
        queue.load()
        until(lambda: queue.problem)
        assert "no-such-model" in str(queue.problem)
    finally:
        queue.close()


def test_queued_jobs_can_be_cancelled_and_names_do_not_collide(lifts: LiftQueue) -> None:
    jobs = [lifts.submit("short") for _ in range(3)]
    assert len({job.lift for job in jobs}) == 3
    assert lifts.cancel(jobs[2].id).state == "cancelled"
    assert lifts.cancel(jobs[1].id).state == "cancelled"
    with pytest.raises(UserError, match="no lift with the number"):
        lifts.cancel("77")
    with pytest.raises(UserError, match="busy"):
        lifts.lift_live(np.zeros((9, *SIZE, 3), np.uint8)).result(30)


def test_closing_cancels_everything_at_once(lifts: LiftQueue) -> None:
    jobs = [lifts.submit("short") for _ in range(2)]
    began = time.monotonic()
    lifts.close()
    assert time.monotonic() - began < 4
    assert [finished(lifts, job, 1).state for job in jobs] == ["cancelled", "cancelled"]
    with pytest.raises(UserError, match="stopping"):
        lifts.submit("short")


@pytest.mark.parametrize("name", ["../short", "nothing", ""])
def test_only_takes_can_be_lifted(lifts: LiftQueue, name: str) -> None:
    with pytest.raises(TakeNotFoundError):
        lifts.submit(name)
    assert lifts.pid is None


@pytest.mark.skipif(sys.platform == "win32", reason="reads /proc or ps")
def test_the_process_ends_when_the_daemon_is_killed(takes: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from daemon.worker import LiftQueue\n"
        "if __name__ == '__main__':\n"
        "    queue = LiftQueue(Path(sys.argv[1]))\n"
        "    queue.load()\n"
        "    print(queue.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = takes.parent / "parent.py"
    script.write_text(code)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script), str(takes)], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait(60)
    until(lambda: not running(pid), 15, "the end of the lifting process")


def running(pid: int) -> bool:
    """Whether the process lives and is no zombie that nobody has asked about."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
