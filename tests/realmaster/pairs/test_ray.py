"""Pairs on a Ray cluster of two local nodes, of which one loses its worker, and then goes altogether."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from realmaster.pairs.dataset import Dataset
from realmaster.pairs.plan import make_job, make_plan
from realmaster.pairs.run import make_pairs
from realmaster.pairs.settings import PairsError, load_settings
from tests.realmaster.pairs import plugins
from tests.realmaster.pairs.city_takes import city_take
from tests.realmaster.pairs.test_run import EDITOR, PROPAGATOR

pytest.importorskip("ray")
ROOT = Path(__file__).parents[3]
CLIPS = 6


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where model calls are noted, by the actors too: a node hands its environment on."""
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv(plugins.LOG, str(folder))
    monkeypatch.setenv("PAIRS_TEST_SECONDS", "1.5")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return folder


@pytest.fixture
def cluster(log: Path) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


def kill_a_worker(log: Path, killed: list[int]) -> None:
    """Kill the first process that has begun its second propagation."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not killed:
        pids = [int(path.name.split("-")[1]) for path in log.glob("propagate-*")]
        for pid in set(pids):
            if pids.count(pid) == 2 and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_costs_no_clip_and_no_clip_is_made_twice(
    cluster: Any, log: Path, tmp_path: Path
) -> None:
    take = city_take(tmp_path / "take", 9 * CLIPS, size=(96, 64))
    job = make_job(tmp_path / "d", EDITOR, PROPAGATOR, load_settings())
    Dataset(tmp_path / "d").begin(job.about, resume=False)
    plan = make_plan([take], job)
    assert len(plan.clips) == CLIPS
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(log, killed))
    killer.start()
    result = make_pairs(plan, job, ray=cluster.address)
    killer.join()
    assert len(killed) == 1 and (result.workers, result.deaths) == (2, 1)
    assert result.pairs + result.rejected == CLIPS and result.rejected == 0
    pairs = Dataset(tmp_path / "d").pairs()
    assert sorted(pair["provenance"]["frames"][0] for pair in pairs) == [9 * i for i in range(CLIPS)]
    assert len({pair["id"] for pair in pairs}) == CLIPS
    calls = list(log.glob("propagate-*"))
    assert CLIPS <= len(calls) <= CLIPS + 1  # one was in hand
    assert len({path.name.split("-")[1] for path in calls}) >= 2  # both worked


def test_an_address_where_no_cluster_answers(tmp_path: Path) -> None:
    take = city_take(tmp_path / "take", 9, size=(96, 64))
    job = make_job(tmp_path / "d", EDITOR, PROPAGATOR, load_settings())
    Dataset(tmp_path / "d").begin(job.about, resume=False)
    with pytest.raises(PairsError, match="No Ray cluster answers at 127.0.0.1:1"):
        make_pairs(make_plan([take], job), job, ray="127.0.0.1:1")
