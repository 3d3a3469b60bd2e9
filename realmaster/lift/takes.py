"""Lift a recording: from a take to a video, with a report of how it was made and what it scores.

A lift that was interrupted goes on at the window where it stopped, to the same result: each lifted window is kept in
the lift's folder until the video is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from PIL import Image

from capture.files import write_atomically
from capture.frame import Frame
from capture.pictures import tile
from capture.take import Take
from capture.video import VideoError, write_video
from realmaster.lift.cues import draw_cue, has_cue
from realmaster.lift.guard import guarded
from realmaster.lift.lifter import Lifter, LiftError, Progress, check_stills
from realmaster.lift.memory import tidy_heap
from realmaster.lift.windows import KEPT, Shown, Window, count_windows, lift_windows
from realmaster.measure import Scorer

PROMPT = "prompt.txt"
"""In a take's folder: what its lifts shall look like."""

TIDIED = 16
"""Frames after which memory is given back: often enough to stay flat, seldom enough to cost nothing."""

JOB = "job.json"
"""What an unfinished lift is a lift of; the last that goes when it is whole."""


def lift_take(
    take: Take,
    out: str | Path,
    lifter: Lifter,
    frames: tuple[int, int] | None = None,
    prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
    anchors: Mapping[int, np.ndarray] | None = None,
    negative_prompt: str | None = None,
    preview: Callable[[int, np.ndarray], None] | None = None,
) -> dict:
    """Lift frames `[a, b)` of `take` (default: all) into the folder `out`: `lifted.mp4` at the take's own times,
    `report.json`, and stills. Returns the report.

    `prompt`: by default the take's own (`own_prompt`), else the lifter's. `anchors`: enhanced stills, uint8
    `[H, W, 3]`, by the index of their frame in the take; see `Lifter.lift`.

    `preview(frame, pictures)` is shown, while a window is sampled, what its model expects (`lifter.Preview`); `frame`
    is the window's first, in the take.

    When `out` holds an unfinished lift of the same job, it is gone on with; one of another job is refused. A cut in
    the take (flag `cut`) starts afresh. Windows that lost the geometry are tried again where the lifter has a guard.
    Raises `LiftError`, `TakeError`.
    """
    first, last = (0, len(take)) if frames is None else frames
    if not 0 <= first < last <= len(take):
        raise LiftError(f"Frames {first}:{last} are not in this take: it has {len(take)}, counted from 0.")
    out, guard, prompt = Path(out), lifter.guard, prompt or own_prompt(take)
    started = time.monotonic()
    chosen = take[first:last]
    # A lost frame is known now, not after an hour of lifting.
    times, sizes, cut_marks = zip(*((frame.time, frame.shape, "cut" in frame.flags) for frame in chosen), strict=True)
    cuts = [place for place, cut in enumerate(cut_marks) if cut]
    if len(set(sizes)) > 1:
        several = " and ".join(f"{width}x{height}" for height, width in sorted(set(sizes)))
        raise LiftError(
            f"Frames {first}:{last} are of several sizes ({several}): lift a part of one size with --frames."
        )
    anchors = dict(anchors or {})
    if outside := sorted(set(anchors) - set(range(first, last))):
        raise LiftError(f"There is an anchor for frame {outside[0]}, but frames {first}:{last} are lifted.")
    check_stills(anchors, (*sizes[0], 3))
    references = [cue for cue in lifter.references if has_cue(chosen[0], cue)]
    store = _WindowStore(out, lift_job(take, lifter, (first, last), prompt, seed, steps, anchors, negative_prompt))
    stills = sorted({0, (last - first) // 2, last - first - 1})
    scorer = Scorer()
    under_way: deque[Frame] = deque()  # read, not yet lifted: a frame is decoded once
    attempts: list[dict[str, Any]] = []
    one_by_one = threading.Lock()  # what lanes have in common

    def shown() -> Iterator[Shown]:
        for place, frame in enumerate(chosen, first):
            under_way.append(frame)
            further = {cue: draw_cue(frame, cue) for cue in references}
            yield Shown(draw_cue(frame, lifter.cue), further, anchors.get(place))

    def show(frame: int, pictures: np.ndarray) -> None:
        assert preview is not None
        with one_by_one:
            preview(frame, pictures)

    def lift_window(lane: Lifter, window: Window, step: Progress) -> np.ndarray:
        def lift(seed: int, strengthen: float = 0.0) -> np.ndarray:
            wanted: dict[str, Any] = {"strengthen": strengthen} if strengthen else {}
            if preview is not None:
                wanted["preview"] = partial(show, first + window.start - window.kept)
            return lane.lift(
                window.frames,
                prompt,
                seed,
                window.prefix,
                steps,
                step,
                anchors=window.anchors,
                references=window.references,
                negative_prompt=negative_prompt,
                **wanted,
            )

        with one_by_one:
            done = store.load(window)
        if done is None:
            # With a guard there is one lane: what was read and not yet given out are the window's fresh frames.
            pictures, tried = (lift(seed), []) if guard is None else guarded(guard, list(under_way), seed, lift)
            store.save(window, pictures, tried, str(lane.settings.get("memory", "")))
        else:
            pictures, tried, before = done
            memory = str(lane.settings.get("memory", ""))
            note = f"windows lifted before it was interrupted: {before}; from there on: {memory}"
            with one_by_one:
                if before != memory and note not in lifter.notes:
                    lifter.notes.append(note)
        if window.start // TIDIED < (window.start + window.fresh) // TIDIED:
            tidy_heap()
        if tried:
            attempts.append({"window": window.index, "first_frame": first + window.start, "attempts": tried})
        return pictures

    def lifted() -> Iterator[np.ndarray]:
        lanes = [partial(lift_window, lane) for lane in lifter.lanes()]
        pictures = lift_windows(lifter.rules, shown(), lanes, total=last - first, progress=progress, cuts=cuts)
        for index, picture in enumerate(pictures):
            frame = under_way.popleft()
            scorer.add(frame, picture)
            if index in stills:
                side_by_side = tile([frame.color, picture], labels=["render", "lifted"])
                Image.fromarray(side_by_side).save(out / f"still-{first + index:05d}.png")
            yield picture

    with _room(out):
        write_video(out / "lifted.mp4", lifted(), times=times, keep_odd=True)
    seconds = time.monotonic() - started
    report = {
        "model": lifter.name,
        "cue": lifter.cue,
        "references": references,
        "anchors": sorted(anchors),
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "steps": steps,
        "conversion": conversion(take, lifter),
        "frames": [first, last],
        "frames_lifted": scorer.count,
        "size": [sizes[0][1], sizes[0][0]],
        "windows": count_windows(last - first, lifter.rules, cuts),
        "windows_resumed": store.loaded,
        "window_frames": lifter.rules.window,
        "cuts": [first + cut for cut in cuts],
        "guard": "off" if guard is None else "on" if "depth" in chosen[0].channels else "off: the take has no depth",
        "attempts": attempts,
        "lifter": lifter.settings,
        "memory": lifter.notes,
        "seconds": round(seconds, 2),
        "frames_per_second": round((last - first) / seconds, 2),
        "scores": {name: scores.to_dict() for name, scores in scorer.result().items()},
    }
    with _room(out):
        write_atomically(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    store.close()
    return report


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """A full disk, in one sentence: the windows are kept, so that nothing is lifted twice."""
    try:
        yield
    except (VideoError, OSError) as error:
        cause = error.__context__ if isinstance(error, VideoError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise LiftError(
                f"The lift cannot be written to {out}: the disk is full; make room, then lift again, and it goes on "
                "from there."
            ) from None
        raise


def lift_job(
    take: Take,
    lifter: Lifter,
    frames: tuple[int, int],
    prompt: str = "",
    seed: int = 0,
    steps: int | None = None,
    anchors: Mapping[int, np.ndarray] | None = None,
    negative_prompt: str | None = None,
) -> dict[str, Any]:
    """What a lift is a lift of, as plain values: lifts of equal jobs are equal, but for what the model's memory costs
    (tiles, 8 bits): how much is free when a lift goes on is not the user's doing."""
    asked = {
        "take": take.manifest["id"],
        "frames": list(frames),
        "prompt": prompt or own_prompt(take),
        "negative_prompt": negative_prompt,
        "seed": seed,
        "steps": steps,
        "anchors": {place: hashlib.sha256(still.tobytes()).hexdigest() for place, still in (anchors or {}).items()},
    }
    guard = None if lifter.guard is None else lifter.guard.model_dump()
    settings = {name: value for name, value in lifter.settings.items() if name != "memory"}
    return json.loads(json.dumps(asked | {"lifter": settings, "guard": guard}))


def own_prompt(take: Take) -> str:
    """The take's own prompt, a line or more of text in its folder; empty where it has none."""
    try:
        return " ".join((take.path / PROMPT).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return ""


def conversion(take: Take, lifter: Lifter) -> dict[str, Any]:
    """What the take has, what the model is given, what comes out; sizes are [width, height] in pixels."""
    height, width = take[0].shape
    worked, filled = (size(height, width)[::-1] for size in (lifter.rules.working_size, lifter.rules.filled_size))
    rate = round(take.fps, 3)
    return {
        "take": {"size": [width, height], "frames_per_second": rate},
        "model": {
            "size": list(worked),
            "filled_to": list(filled),
            "window": lifter.rules.window,
            "overlap": lifter.rules.overlap,
            "told_frames_per_second": lifter.rules.frame_rate,
        },
        "result": {"size": [width, height], "frames_per_second": rate, "times": "the take's"},
    }


def is_unfinished(folder: Path, job: dict[str, Any]) -> bool:
    """Whether `folder` holds an unfinished lift of this job, which `lift_take` would go on with."""
    try:
        return bool(json.loads((folder / JOB).read_text(encoding="utf-8")) == job)
    except (OSError, ValueError):
        return False


class _WindowStore:
    """The windows that an unfinished lift has lifted, without loss, in its folder."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.loaded = 0
        self._folder = folder / KEPT
        self._job = folder / JOB
        try:
            if self._job.exists() and not is_unfinished(folder, job):
                raise LiftError(
                    f"{folder} holds an unfinished lift with other settings: finish that one with its own, "
                    "delete the folder, or choose another with -o."
                )
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._job, json.dumps(job, indent=2).encode())
        except OSError as error:
            raise LiftError(
                f"The folder {folder} cannot be written ({error.strerror}); choose another with -o."
            ) from error

    def load(self, window: Window) -> tuple[np.ndarray, list[dict[str, Any]], str] | None:
        """A window's pictures, tries, and how the model was held for it, if it was saved whole."""
        try:
            head, _, data = self._file(window).read_bytes().partition(b"\n")
            about = json.loads(head)
            pixels = zstandard.ZstdDecompressor().decompress(data)
            pictures = np.frombuffer(pixels, np.uint8).reshape(window.frames.shape).copy()
            attempts, memory = about["attempts"], about["memory"]
        except (OSError, ValueError, KeyError, zstandard.ZstdError):
            return None
        self.loaded += 1
        return pictures, attempts, memory

    def save(self, window: Window, pictures: np.ndarray, attempts: list[dict[str, Any]], memory: str) -> None:
        data = zstandard.ZstdCompressor(1).compress(np.ascontiguousarray(pictures).tobytes())
        try:
            about = json.dumps({"attempts": attempts, "memory": memory}).encode()
            write_atomically(self._file(window), about + b"\n" + data)
        except OSError as error:
            raise LiftError(
                f"Window {window.index} of the lift cannot be kept in {self._folder} ({error.strerror}): "
                "make room, then lift again, and it goes on from there."
            ) from error

    def close(self) -> None:
        """The lift is whole: nothing is left to go on with."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._job.unlink(missing_ok=True)

    def _file(self, window: Window) -> Path:
        return self._folder / f"{window.index:06d}.rgb.zst"
