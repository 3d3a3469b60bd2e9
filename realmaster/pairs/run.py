"""Make the pairs of a plan: every stage of every clip, by whatever crew there is, until all are done.

Knows who is idle and what is to be done next; how a stage is done (`stages`) and by whom (`crew`) it does not know.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from realmaster.pairs.crew import Crew, ProcessCrew, RayCrew, ThreadCrew
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.plan import Plan
from realmaster.pairs.settings import PairsError
from realmaster.pairs.stages import STAGES, Clip, Job, Stage, Worker, next_stage

Progress = Callable[[int, int, str], None]
"""Called with clips done, clips in all, and a note."""

_SETTLE_SECONDS = 60.0
"""So often the lists are brought up to date while clips are made, for people who look on."""

_AHEAD = 2
"""Clips a worker that are edited but not propagated, or propagated but not scored: more would only fill the disk."""


@dataclass
class Result:
    """What came of a run."""

    pairs: int = 0
    rejected: int = 0
    made: int = 0
    """Clips that this run finished."""
    workers: int = 0
    deaths: int = 0
    """Workers that died and were replaced."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def make_pairs(
    plan: Plan, job: Job, *, workers: int = 1, ray: str | None = None, progress: Progress | None = None
) -> Result:
    """Make what is not made yet. Call it after `Dataset.begin`. Whatever ends it, what is made stays, and the lists
    are true. Raises `PairsError`, and `UserError` when a model does not load."""
    dataset = Dataset(job.dataset)
    waiting: dict[Stage, deque[Clip]] = {stage: deque() for stage in STAGES}
    for clip in plan.clips:
        if (stage := next_stage(dataset, clip)) is not None:
            waiting[stage].append(clip)
    todo = sum(map(len, waiting.values()))
    result, began = Result(), time.monotonic()
    try:
        if todo:
            crew = _crew(job, min(workers, todo), ray)
            try:
                result.workers = crew.size
                _Run(crew, job, waiting, len(plan.clips), todo, result, progress).until_done()
            finally:
                crew.close()
    finally:
        counts = dataset.settle(job.settings.filters)
        result.pairs, result.rejected = counts["pairs"], counts["rejected"]
        result.seconds = time.monotonic() - began
    return result


def _crew(job: Job, workers: int, ray: str | None) -> Crew:
    if ray is not None:
        return RayCrew(job, ray, workers if workers > 1 else 0)
    return ThreadCrew(job) if workers == 1 else ProcessCrew(job, workers)


class _Run:
    """One run, from the first clip sent to the last one done."""

    def __init__(
        self,
        crew: Crew,
        job: Job,
        waiting: dict[Stage, deque[Clip]],
        total: int,
        todo: int,
        result: Result,
        progress: Progress | None,
    ) -> None:
        self._crew, self._job, self._waiting, self._result = crew, job, waiting, result
        self._total, self._todo, self._tell = total, todo, progress or (lambda done, total, note: None)
        self._in_hand: dict[tuple[int, Stage], Clip] = {}
        self._ready: set[int] = set()
        self._tries: Counter[str] = Counter()
        self._deaths_in_a_row = 0
        self._began = self._settled = time.monotonic()

    def until_done(self) -> None:
        self._report()
        while self._result.made < self._todo:
            self._send()
            for event in self._crew.wait(1.0):
                if event.kind == "ready":
                    self._ready.add(event.worker)
                elif event.kind == "error":
                    raise PairsError(event.sentence)
                elif event.kind == "died":
                    self._bury(event.worker, event.sentence)
                else:
                    assert event.stage is not None and event.clip is not None
                    self._deaths_in_a_row = 0
                    self._in_hand.pop((event.worker, event.stage), None)
                    self._put(event.clip, event.next)
            if time.monotonic() - self._settled > _SETTLE_SECONDS:
                Dataset(self._job.dataset).settle(self._job.settings.filters)
                self._settled = time.monotonic()
                self._report()

    def _send(self) -> None:
        for worker in sorted(self._ready):
            for stage in reversed(STAGES):  # what is nearest to its end first
                if (worker, stage) in self._in_hand or not self._waiting[stage] or not self._may(worker, stage):
                    continue
                clip = self._waiting[stage].popleft()
                self._in_hand[worker, stage] = clip
                self._crew.send(worker, stage, clip)

    def _may(self, worker: int, stage: Stage) -> bool:
        if self._job.settings.workers.split and self._crew.size > 1 and stage != "finish":
            if STAGES.index(stage) != worker % 2:
                return False
        if stage == "finish":
            return True
        after = STAGES[STAGES.index(stage) + 1]
        under_way = sum(1 for _, doing in self._in_hand if doing == stage)
        return len(self._waiting[after]) + under_way < _AHEAD * self._crew.size

    def _put(self, clip: Clip, stage: Stage | None) -> None:
        if stage is None:
            self._result.made += 1
            self._report()
        else:
            self._waiting[stage].append(clip)

    def _bury(self, worker: int, sentence: str) -> None:
        """A worker died: what it had in hand is tried again, but not for ever."""
        self._ready.discard(worker)
        self._result.deaths += 1
        self._deaths_in_a_row += 1
        lost = {stage: clip for (number, stage), clip in self._in_hand.items() if number == worker}
        for stage, clip in lost.items():
            del self._in_hand[worker, stage]
            self._tries[clip.id] += 1
            if self._tries[clip.id] >= self._job.settings.workers.attempts:
                times = f"{self._tries[clip.id]} times"
                Worker(self._job).fail(clip, f"{stage}: the worker died {times} over it ({sentence})")
                self._put(clip, None)
            else:
                self._waiting[stage].appendleft(clip)
        if not lost and self._deaths_in_a_row > 3 * self._crew.size:
            raise PairsError(f"Workers die before they have done anything ({sentence}): try --workers 1 to see why.")

    def _report(self) -> None:
        made, spent = self._result.made, time.monotonic() - self._began
        note = f"{_readable(spent / made * (self._todo - made))} left" if made and made < self._todo else ""
        self._tell(self._total - self._todo + made, self._total, note)


def _readable(seconds: float) -> str:
    """A duration for people."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
