"""Which samples an update sees, and what is drawn for them. Everything follows from the seed and the update's number:
a run that is taken up again, or spread over other processes, sees the same.

Knows encoded samples; knows no model.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from realmaster.train.flow import frames_apart
from realmaster.train.settings import Settings


@dataclass(frozen=True)
class Sample:
    """A window of a pair, or several in a row that are lifted each by itself, encoded: the files of its latents and
    words, and the windows' names in them."""

    windows: tuple[str, ...]
    target: Path
    shown: tuple[Path, ...]
    words: Path
    shape: tuple[int, ...]
    """Of the target's latents, `[C, f, h, w]`, of all its windows."""
    tokens: int
    """Of the target, in one window."""

    def latents(self) -> list[Tensor]:
        """The target's, then those of what is shown: float32 `[C, f, h, w]` each."""
        return [
            torch.cat([_tensors(path, name)[name] for name in self.windows], dim=1)
            for path in (self.target, *self.shown)
        ]


@functools.lru_cache(maxsize=256)
def _tensors(path: Path, name: str | None = None) -> dict[str, Tensor]:
    """One tensor of a file, or all. Kept in memory: small datasets are read once, large ones cost 2 GB of it at most,
    and reading takes time from the Python of a small model's step."""
    if name is None:
        return load_file(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name)}


@dataclass
class Batch:
    """What a forward pass is given, in the model's latents."""

    target: Tensor
    """Clean, `[B, C, f, h, w]`."""
    references: tuple[Tensor, ...]
    """Clean, `[B, C, f, h / d, w / d]` each, d the reference downscale."""
    words: Mapping[str, Tensor]
    """What the family's `encode_caption` gave, `[B, ...]` each."""
    noise: Tensor
    """As `target`."""
    levels: Tensor
    """Noise levels `[B]`."""
    first_known: Tensor
    """bool `[B]`: the first latent frame is given clean."""

    def frame_by_frame(self) -> Batch:
        """Each frame as a clip of its own: `[B f, ...]`, f = 1."""
        frames = self.target.shape[2]
        return Batch(
            target=frames_apart(self.target),
            references=tuple(frames_apart(each) for each in self.references),
            words={name: each.repeat_interleave(frames, 0) for name, each in self.words.items()},
            noise=frames_apart(self.noise),
            levels=self.levels.repeat_interleave(frames),
            first_known=self.first_known.repeat_interleave(frames),
        )

    def to(self, device: torch.device) -> Batch:
        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple):
                return tuple(moved(item) for item in value)
            return {name: moved(item) for name, item in value.items()}

        return Batch(**{each.name: moved(getattr(self, each.name)) for each in fields(self)})


class Schedule:
    """The samples of every update: epoch after epoch each sample once, in a new order, those of one update all of one
    shape. A shape's last group is filled up from its first."""

    def __init__(self, shapes: Sequence[Any], group: int, seed: int) -> None:
        """`shapes`: something for each sample that is equal where samples go together. group: samples an update."""
        self.group = group
        self._seed = seed
        buckets: dict[Any, list[int]] = {}
        for index, shape in enumerate(shapes):
            buckets.setdefault(shape, []).append(index)
        self.buckets = list(buckets.values())
        self.updates_per_epoch = sum(-(-len(bucket) // group) for bucket in self.buckets)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def samples(self, update: int) -> list[int]:
        """The places of an update's samples, `group` of them."""
        epoch, place = divmod(update, self.updates_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._groups(epoch))
        return self._epoch[1][place]

    def _groups(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng([self._seed, epoch])
        groups = []
        for bucket in self.buckets:
            order = [bucket[place] for place in random.permutation(len(bucket))]
            filled = np.resize(order, -(-len(order) // self.group) * self.group)
            groups += filled.reshape(-1, self.group).tolist()
        return [groups[place] for place in random.permutation(len(groups))]


class Batches:
    """The batches of one process."""

    def __init__(
        self,
        samples: Sequence[Sample],
        no_words: Path,
        settings: Settings,
        span: tuple[float, float],
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """no_words: the file of an empty caption. span: noise levels that are drawn."""
        self.samples = samples
        self.settings = settings
        self.schedule = Schedule(
            [sample.shape for sample in samples],
            settings.batch_size * settings.accumulate * processes,
            settings.seed,
        )
        self._no_words, self._span = no_words, span
        self._process, self._processes = process, processes

    def make(self, update: int, part: int) -> Batch:
        """The batch of this process in an update's part (of `accumulate`)."""
        size = self.settings.batch_size
        first = (part * self._processes + self._process) * size
        chosen = self.schedule.samples(update)[first : first + size]
        drawn = [self._draw(self.samples[index], update, first + i) for i, index in enumerate(chosen)]
        latents, noise, levels, first_known, words = zip(*drawn, strict=True)
        target, *references = (torch.stack(each) for each in zip(*latents, strict=True))
        return Batch(
            target=target,
            references=tuple(references),
            words={name: torch.stack([each[name] for each in words]) for name in words[0]},
            noise=torch.stack(noise),
            levels=torch.cat(levels),
            first_known=torch.tensor(first_known),
        )

    def _draw(self, sample: Sample, update: int, place: int) -> tuple[Any, ...]:
        """What one sample brings, and what is drawn for it, in its place of an update."""
        random = generator(self.settings.seed, update, place)
        latents = sample.latents()
        first_known, no_words = (torch.rand(2, generator=random) < self._shares(sample)).tolist()
        level = self.settings.noise.draw(1, sample.tokens, self._span, random)
        channels, frames, *sides = sample.shape
        count = len(sample.windows)
        noise = torch.randn([channels, frames // count, *sides], generator=random).repeat(1, count, 1, 1)
        return latents, noise, level, first_known, _tensors(self._no_words if no_words else sample.words)

    def _shares(self, sample: Sample) -> Tensor:
        more_than_one = sample.shape[1] > len(sample.windows)  # a still that is given leaves nothing to learn
        return torch.tensor([self.settings.first_frame * more_than_one, self.settings.caption_dropout])

    def from_update(self, first: int) -> Iterator[Batch]:
        """All batches from an update on, in order, without an end."""
        for update in itertools.count(first):
            for part in range(self.settings.accumulate):
                yield self.make(update, part)


def generator(*numbers: int) -> torch.Generator:
    """One of its own for these numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
