"""Encodes a dataset once: videos to latents and captions to what the transformer is told, in a folder of safetensors.

A file's name is a hash of all that its content depends on (the video's bytes, the model's encoder, size, windows): what
is there is right, an interrupted encoding goes on, and another dataset or run with the same videos finds them made.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from capture.files import replacing
from capture.video import iterate_video
from realmaster.lift.lifter import Cue, Progress
from realmaster.train.batches import Sample
from realmaster.train.dataset import Pair, Video
from realmaster.train.families.family import Family, Role, fingerprint

T = TypeVar("T")

FORMAT = 1
"""Counts up when the same names would mean other content."""


@dataclass(frozen=True)
class _Work:
    """A file to be made: of a video in its role, or of words."""

    path: Path
    source: Video | str
    role: Role = "target"


class LatentsCache:
    """The encoded form of pairs under one model, in one folder."""

    def __init__(self, folder: Path, family: Family, cues: Sequence[Cue], window: int, trigger: str = "") -> None:
        """cues: what the model is shown. window: frames of a sample at most. trigger: word before every caption."""
        self.folder = folder
        self._family, self._cues, self._window, self._trigger = family, cues, window, trigger
        self._encoder = fingerprint(family.pipeline.vae)
        self._words = family.words_identity

    def encode(
        self, pairs: Sequence[Pair], process: int = 0, processes: int = 1, progress: Progress | None = None
    ) -> int:
        """Make what is missing of these pairs, this process's share of it; returns how many files it made.

        Videos are decoded while others are encoded. Raises OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = {work.path: work for work in self._all(pairs) if not work.path.exists()}
        share = [missing[path] for path in sorted(missing)][process::processes]
        done = 0
        for work, clips in ahead((work, self._clips(work)) for work in share):
            if isinstance(work.source, str):
                tensors = self._family.encode_caption(work.source)
            else:
                tensors = {start: self._family.encode(clip, work.role) for start, clip in clips}
            self._save(work.path, tensors)
            done += 1
            if progress is not None:
                progress(done, len(share))
        return done

    def samples(self, pairs: Sequence[Pair], neighbours: int = 1) -> list[Sample]:
        """The windows of pairs that are encoded, or so many in a row of them, as far as a pair has so many."""
        samples = []
        for pair in pairs:
            target = self._video(pair.target, "target")
            shown = tuple(self._video(pair.shown[cue], "reference") for cue in self._cues)
            with safe_open(target, framework="pt") as file:
                spans = windows(pair.frames, self._window, self._family.lifter.rules.frame_step)
                names = [str(start) for start, _ in spans]
                channels, frames, *sides = file.get_slice(names[0]).get_shape()  # the same of all
                words, tokens = self.words(pair.caption), self._family.tokens([channels, frames, *sides])
                for place in range(max(1, len(names) - neighbours + 1)):
                    row = tuple(names[place : place + neighbours])
                    shape = (channels, frames * len(row), *sides)
                    samples.append(Sample(row, target, shown, words, shape, tokens))
        return samples

    def text(self, caption: str) -> str:
        """What is encoded of a caption: as in lifting, with the trigger before it."""
        return " ".join(word for word in (self._trigger, caption) if word)

    def words(self, caption: str) -> Path:
        """The file of a caption, encoded."""
        return self._path("words", self._words, self.text(caption))

    def _all(self, pairs: Sequence[Pair]) -> Iterator[_Work]:
        for caption in {"", *(pair.caption for pair in pairs)}:
            yield _Work(self.words(caption), self.text(caption))
        for pair in pairs:
            yield _Work(self._video(pair.target, "target"), pair.target)
            for video in (pair.shown[cue] for cue in self._cues):
                yield _Work(self._video(video, "reference"), video, "reference")

    def _video(self, video: Video, role: Role) -> Path:
        lifter = self._family.lifter
        downscale = lifter.reference_downscale if role == "reference" else 1
        sizes = [lifter.rules.size_multiple, lifter.rules.max_side, downscale, self._window]
        return self._path("video", self._encoder, video.sha256, sizes)

    def _path(self, *content: Any) -> Path:
        name = hashlib.sha256(json.dumps([FORMAT, *content]).encode()).hexdigest()
        return self.folder / f"{name[:40]}.safetensors"

    def _clips(self, work: _Work) -> list[tuple[str, np.ndarray]]:
        """The windows of a video, by their first frames' numbers."""
        if isinstance(work.source, str):
            return []
        frames = np.stack([picture for _, picture in iterate_video(work.source.path)])
        spans = windows(len(frames), self._window, self._family.lifter.rules.frame_step)
        return [(str(start), frames[start : start + length]) for start, length in spans]

    def _save(self, path: Path, tensors: dict[str, Tensor]) -> None:
        with replacing(path) as growing:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, growing)


def windows(frames: int, window: int, step: int) -> list[tuple[int, int]]:
    """(first frame, length) of the pieces that a clip is trained in: as many whole windows as it has, or, of a shorter
    one, the longest start of step k + 1 frames."""
    whole = frames // window
    if whole:
        return [(number * window, window) for number in range(whole)]
    return [(0, (frames - 1) // step * step + 1)]


def ahead(items: Iterator[T], most: int = 2) -> Iterator[T]:
    """The same items, made by a thread, up to `most` of them before they are asked for."""
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(most)
    closed = threading.Event()

    def put(item: tuple[bool, Any]) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                return waiting.put(item, timeout=0.2)

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if closed.is_set():
                    return
            put((False, None))
        except BaseException as error:  # raised where the items are asked for
            put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            good, item = waiting.get()
            if good:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        closed.set()
        thread.join()
