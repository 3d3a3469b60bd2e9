"""What an update sees follows from its number: over processes, parts and interruptions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from realmaster.train.batches import Batch, Batches, Sample, Schedule
from realmaster.train.latents import ahead
from realmaster.train.settings import load_settings


def test_an_epoch_shows_every_sample_once_in_groups_of_one_shape() -> None:
    shapes = ["wide"] * 6 + ["tall"] * 4
    schedule = Schedule(shapes, group=2, seed=0)
    assert schedule.updates_per_epoch == 5
    epochs = [[schedule.samples(update + 5 * epoch) for update in range(5)] for epoch in range(2)]
    for groups in epochs:
        assert sorted(itertools.chain(*groups)) == list(range(10))
        assert all(len({shapes[index] for index in group}) == 1 for group in groups)
    assert epochs[0] != epochs[1]
    assert Schedule(shapes, 2, 1).samples(0) != schedule.samples(0) or Schedule(shapes, 2, 1)._groups(0) != epochs[0]


def test_groups_are_whole() -> None:
    schedule = Schedule(["one"] * 3, group=4, seed=0)
    assert len(schedule.samples(0)) == 4 and set(schedule.samples(0)) == {0, 1, 2}


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    made = []
    for number in range(6):
        paths = [tmp_path / f"{number}-{role}.safetensors" for role in ("target", "shown", "words")]
        save_file({"0": torch.full((2, 3, 4, 4), float(number))}, paths[0])
        save_file({"0": torch.full((2, 3, 2, 2), -float(number))}, paths[1])
        save_file({"prompt": torch.full((5, 3), float(number))}, paths[2])
        made.append(Sample(("0",), paths[0], (paths[1],), paths[2], (2, 3, 4, 4), 48))
    save_file({"prompt": torch.full((5, 3), -1.0)}, tmp_path / "none.safetensors")
    return made


def together(batches: list[Batch]) -> list[torch.Tensor]:
    """The parts of several batches as if they were one."""
    names = ("target", "noise", "levels", "first_known")
    whole = [torch.cat([getattr(batch, name) for batch in batches]) for name in names]
    return [*whole, torch.cat([b.references[0] for b in batches]), torch.cat([b.words["prompt"] for b in batches])]


@pytest.mark.parametrize(("processes", "size", "accumulate"), [(2, 1, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2)])
def test_processes_and_parts_make_up_the_same_update(
    samples: list[Sample], tmp_path: Path, processes: int, size: int, accumulate: int
) -> None:
    none, span = tmp_path / "none.safetensors", (0.0, 1.0)
    total = processes * size * accumulate
    one = Batches(samples, none, load_settings(overrides={"batch_size": total}), span)
    plan = load_settings(overrides={"batch_size": size, "accumulate": accumulate})
    several = [Batches(samples, none, plan, span, process, processes) for process in range(processes)]
    for update in range(8):
        parts = [batches.make(update, part) for part in range(accumulate) for batches in several]
        for whole, wanted in zip(together(parts), together([one.make(update, 0)]), strict=True):
            assert torch.equal(whole, wanted)


def test_a_sample_keeps_its_pair_together(samples: list[Sample], tmp_path: Path) -> None:
    plan = load_settings(overrides={"batch_size": 3, "caption_dropout": 0.5, "first_frame": 0.5})
    batches = Batches(samples, tmp_path / "none.safetensors", plan, (0.0, 1.0))
    wordless, known = [], []
    for update in range(30):
        batch = batches.make(update, 0)
        assert batch.target.shape == (3, 2, 3, 4, 4) and batch.references[0].shape == (3, 2, 3, 2, 2)
        number = batch.target[:, 0, 0, 0, 0]
        assert torch.equal(batch.references[0][:, 0, 0, 0, 0], -number)
        words = batch.words["prompt"][:, 0, 0]
        assert torch.equal(words[words >= 0], number[words >= 0])
        wordless += (words < 0).tolist()
        known += batch.first_known.tolist()
    assert 0.3 < sum(wordless) / 90 < 0.7 and 0.3 < sum(known) / 90 < 0.7
    assert wordless != known


def test_a_still_is_never_given(samples: list[Sample], tmp_path: Path) -> None:
    stills = [Sample(("0",), s.target, s.shown, s.words, (2, 1, 4, 4), 16) for s in samples]
    plan = load_settings(overrides={"first_frame": 1.0, "batch_size": 6})
    assert not Batches(stills, tmp_path / "none.safetensors", plan, (0.0, 1.0)).make(0, 0).first_known.any()


def test_the_stream_goes_on_anywhere(samples: list[Sample], tmp_path: Path) -> None:
    batches = Batches(samples, tmp_path / "none.safetensors", load_settings(overrides={"accumulate": 2}), (0.0, 1.0))
    whole = list(itertools.islice(batches.from_update(0), 10))
    rest = list(itertools.islice(batches.from_update(3), 4))
    for batch, again in zip(whole[6:], rest, strict=True):
        assert torch.equal(batch.noise, again.noise) and torch.equal(batch.levels, again.levels)


def test_ahead_gives_the_same_items_and_errors_and_ends() -> None:
    assert list(ahead(iter(range(10)))) == list(range(10))

    def failing() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    stream = ahead(failing())
    assert next(stream) == 1
    with pytest.raises(OSError, match="gone"):
        next(stream)
    endless = ahead(itertools.count())
    assert next(endless) == 0
    begun = time.monotonic()
    endless.close()
    assert time.monotonic() - begun < 2
