"""The lifting process: jobs one after the other, crashes that cost one job, and no lift that is half there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from capture.camera import Camera, Conventions
from capture.errors import TakeNotFoundError, UserError
from capture.frame import Channel, Descriptor, Frame
from capture.take import TakeWriter
from daemon.lifts import TRIES, LiftJob, LiftQueue
from realmaster.lift.profiles import load_profile

from . import lifters
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


def queue_of(takes: Path, **options: Any) -> LiftQueue:
    """A queue whose model does as the prompt says."""
    return LiftQueue(takes, load=lifters.load, **options)


def now(queue: LiftQueue, job: LiftJob) -> LiftJob:
    return next(known for known in queue.jobs() if known.id == job.id)


def finished(queue: LiftQueue, job: LiftJob, timeout: float = 240) -> LiftJob:
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


def test_a_lift_is_finished_however_often_its_process_is_killed(takes: Path, kills: int) -> None:
    queue = queue_of(takes)
    try:
        job = queue.submit("short", prompt="slow")
        for safe in range(-3, min(kills, 9)):  # at first more often at the same place than a lift may crash
            until(lambda safe=safe: now(queue, job).state == "running" and now(queue, job).done > safe, 120)
            os.kill(queue.pid or 0, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            until(lambda safe=safe: queue.ends["crash"] == safe + 4)
        assert finished(queue, job).state == "done"
    finally:
        queue.close()
    report = json.loads((takes / "short" / "lifts" / job.lift / "report.json").read_text())
    assert report["frames"] == [0, 10] and report["resumed"] >= min(kills, 9)


def test_a_clip_that_brings_the_process_down_twice_is_set_aside(takes: Path) -> None:
    trouble: list[str] = []
    with_poison = queue_of(takes, on_trouble=trouble.append)
    try:
        poisoned = with_poison.submit("short", prompt="die at 3")
        good = with_poison.submit("short", (0, 4))
        aside = finished(with_poison, poisoned)
        assert (aside.state, aside.tries, aside.done) == ("set aside", TRIES, 3)
        assert "exit code 9" in aside.sentence and "second time at the same place" in aside.sentence
        assert finished(with_poison, good).state == "done"  # the others go on
        assert with_poison.ends["crash"] == len(trouble) == TRIES
        retried = with_poison.retry(poisoned.id)
        assert (retried.state, retried.tries) == ("running", 0)
        until(lambda: now(with_poison, poisoned).done >= 3, 120)
        with_poison.cancel(poisoned.id)
        finished(with_poison, poisoned)
        with pytest.raises(UserError, match="is done: only one that failed"):
            with_poison.retry(good.id)
    finally:
        with_poison.close()
    assert [path.name for path in (takes / "short" / "lifts").iterdir()] == [good.lift]  # nothing unfinished is left


def test_a_lift_under_way_shows_what_its_model_expects(takes: Path) -> None:
    queue = queue_of(takes)
    try:
        job = queue.submit("short", prompt="slow")
        shown = until(lambda: (look := now(queue, job)).previews and look, 120)
        picture = Image.open(io.BytesIO(queue.preview(job.id)))
        assert picture.format == "JPEG" and picture.size == SIZE[::-1]
        assert shown.state == "running"
        until(lambda: now(queue, job).previews > shown.previews)  # it goes on
        other = queue.submit("short")
        with pytest.raises(TakeNotFoundError, match="no preview"):
            queue.preview(other.id)
        queue.cancel(other.id)
        assert now(queue, job).previews  # another one's end is none of its business
        finished(queue, job)
        assert now(queue, job).previews == 0
        with pytest.raises(TakeNotFoundError, match="no preview"):
            queue.preview(job.id)
        single = queue.submit("short", (0, 3), prompt="slow", steps=1)  # its only step is the result
        until(lambda: now(queue, single).done)
        assert finished(queue, single).state == "done" and queue._preview is None
    finally:
        queue.close()


def test_a_process_that_hangs_is_noticed_named_and_started_again(takes: Path) -> None:
    trouble: list[str] = []
    queue = queue_of(takes, still=5.0, on_trouble=trouble.append)
    try:
        job = finished(queue, queue.submit("short", prompt="hang once at 2"))
        assert (job.state, queue.ends["hang"]) == ("done", 1)
        assert len(trouble) == 1 and "did nothing for" in trouble[0]
    finally:
        queue.close()


def test_out_of_memory_is_named_and_the_model_is_held_smaller(takes: Path) -> None:
    queue = queue_of(takes)
    try:
        job = finished(queue, queue.submit("short", prompt="memory at 2"))
        assert (job.state, queue.ends["memory"]) == ("done", 1)  # the smaller one is enough
    finally:
        queue.close()


def test_another_model_is_loaded_for_a_job_and_the_own_one_again(takes: Path) -> None:
    queue = queue_of(takes)
    try:
        own, other = queue.submit("short", (0, 2)), queue.submit("short", (0, 2), model="other", lora="x.safetensors")
        assert [finished(queue, job).lift for job in (own, other)] == ["embedded-1", "other-1"]
        report = json.loads((takes / "short" / "lifts" / "other-1" / "report.json").read_text())
        assert (report["model"], report["lora"]) == ("other", "x.safetensors")
        assert queue.rules is not None
    finally:
        queue.close()


def test_what_a_killed_daemon_left_is_swept_when_it_is_old(takes: Path) -> None:
    old, new = (takes / "short" / "lifts" / f".{name}.lifting" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "job.json").write_text("{}")
    os.utime(old / "job.json", (1e9, 1e9))
    LiftQueue(takes).close()
    assert not old.exists() and new.exists()


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
    assert time.monotonic() - began < 10  # an orderly end has 3 s, then it is ended by force
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
        "from daemon.lifts import LiftQueue\n"
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
    until(lambda: not running(pid), 60, "the end of the lifting process")


def running(pid: int) -> bool:
    """Whether the process lives and is no zombie that nobody has asked about."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
