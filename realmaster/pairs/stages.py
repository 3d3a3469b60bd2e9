"""The three stages of a clip, each of which leaves in the dataset folder what the next one takes up.

    edit        anchors: stills of the clip, edited, checked against the engine's edges, tried again or given up
    propagate   the target: every frame of the clip, between the anchors, along the engine's geometry
    finish      scores, videos, the picture sheet and the record

Knows takes, editors, propagators and the dataset folder; knows nothing of who calls it (`run`, `crew`). What a stage
has made is never made again: a worker that dies loses the stage that it was in, no more.
"""

from __future__ import annotations

import errno
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from capture.errors import TakeError
from capture.files import replacing
from capture.frame import Frame
from capture.pictures import shrink, tile
from capture.take import Take
from capture.video import VideoError, write_video
from realmaster.lift.cues import draw_cue, edges_of_color, has_cue
from realmaster.lift.lifter import Cue
from realmaster.pairs.carrying import can_carry, carry_anchors, complete
from realmaster.pairs.dataset import SHEET, VIDEO, Dataset, model_name
from realmaster.pairs.editors import Editor, load_editor
from realmaster.pairs.filters import learned_scorers, score_anchor, score_pair
from realmaster.pairs.propagators import Propagator, anchor_places, carries, load_propagator
from realmaster.pairs.settings import PairsError, Settings
from realmaster.pairs.verdicts import PairScores, reasons, structure_reasons

Stage = Literal["edit", "propagate", "finish"]
STAGES: tuple[Stage, ...] = ("edit", "propagate", "finish")

SEED_STRIDE = 1_000_003
"""Seeds of further tries lie so far apart that nobody asks for them by hand."""

_SHEET_COLUMNS, _SHEET_WIDTH = 5, 320
_OPEN_TAKES = 8


@dataclass(frozen=True)
class Clip:
    """Frames [first, last) of a take, of which a pair is to be made."""

    id: str
    take: str
    """Path of the take folder."""
    take_name: str
    take_id: str
    first: int
    last: int
    caption: str
    seed: int

    def __len__(self) -> int:
        return self.last - self.first

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    dataset: Path
    editor: str
    propagator: str
    settings: Settings
    window: int
    """Frames that the propagator makes in one piece."""
    overlap: int
    about: dict[str, Any]
    """Of editor and propagator, for the records."""


class DatasetFull(PairsError):
    """The dataset folder cannot be written: nothing can go on, and nothing that is made is lost."""


class _GivenUp(Exception):
    """A clip of which no pair can be made; the sentence goes to the ledger."""

    def __init__(self, sentence: str, **known: Any) -> None:
        super().__init__(sentence)
        self.known = known


def clip_id(take_name: str, first: int, facts: dict[str, Any]) -> str:
    """An id that says where the clip is from, and that two clips share only if their pairs are the same."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in take_name)[:60]
    return f"{plain}-{first:06d}-{digest}"


def next_stage(dataset: Dataset, clip: Clip) -> Stage | None:
    """What is to be done next of a clip; None when it is done. One that failed for reasons that may pass is
    tried again."""
    record = dataset.record(clip.id)
    if record is not None and not record.get("retry"):
        return None
    if dataset.has_arrays(clip.id, "target"):
        return "finish"
    return "propagate" if dataset.has_arrays(clip.id, "anchors") else "edit"


class Worker:
    """Does stages of clips. Models are loaded when first needed, and once. Safe for threads: one stage of each kind
    runs at a time at most, and models take turns on their device."""

    def __init__(self, job: Job, device: str | None = None) -> None:
        self.job, self._device = job, device
        self.dataset = Dataset(job.dataset)
        self._model_turn = threading.Lock()
        self._takes: OrderedDict[str, Take] = OrderedDict()
        self._takes_lock = threading.Lock()
        self._editor: Editor | None = None
        self._propagator: Propagator | None = None
        self._learned: list[Any] | None = None

    def run(self, stage: Stage, clip: Clip) -> Stage | None:
        """Do one stage; returns the next one, None when the clip is done. What is wrong with the clip alone goes into
        its record. Raises `DatasetFull`, and `UserError` when a model does not load."""
        self._load(stage)
        doing: Callable[[Clip], None] = getattr(self, f"_{stage}")
        try:
            doing(clip)
        except DatasetFull:
            raise
        except _GivenUp as given_up:
            self._give_up(clip, str(given_up), **given_up.known)
            return None
        except Exception as error:  # of models and takes anything may come; the other clips go on
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self._give_up(clip, f"{stage}: failed ({reason})", retry=True)
            return None
        return next_stage(self.dataset, clip)

    def fail(self, clip: Clip, sentence: str) -> None:
        """Put a clip into the ledger that could not be worked on; another run tries it again. Raises `DatasetFull`."""
        self._give_up(clip, sentence, retry=True)

    def _load(self, stage: Stage) -> None:
        with self._model_turn:
            if self._learned is None:
                self._learned = learned_scorers(self.job.settings.scorers)
            if stage == "edit" and self._editor is None:
                self._editor = load_editor(self.job.editor, self.job.settings, self._device)
            if stage == "propagate" and self._propagator is None:
                self._propagator = load_propagator(self.job.propagator, self.job.settings, self._device)

    # -- stages

    def _edit(self, clip: Clip) -> None:
        wanted = self.job.settings.anchors
        editor, frames = self._editor, self._take(clip)
        assert editor is not None
        anchors: dict[int, np.ndarray] = {}
        about: dict[str, Any] = {"seeds": {}, "scores": {}, "seconds": 0.0}
        for place in anchor_places(len(clip), self.job.window, self.job.overlap):
            frame = frames[clip.first + place]
            why: list[str] = []
            for attempt in range(wanted.attempts):
                seed = clip.seed + attempt * SEED_STRIDE
                edited, seconds = self._in_turn(editor.edit, frame.color, clip.caption, seed, anchors.get(0))
                about["seconds"] += seconds
                still = _as_large_as(frame.color, edited)
                if still is None:
                    why = [f"the editor returned {_size(edited)} for {_size(frame.color)}"]
                    continue
                scores = score_anchor(frame, still)
                about["seeds"][str(place)], about["scores"][str(place)] = seed, scores.to_dict()
                why = structure_reasons(scores, wanted)
                if not why:
                    anchors[place] = still
                    break
            if why:
                raise _GivenUp(f"anchors: frame {clip.first + place}: {'; '.join(why)}", anchors=about)
        with self._writing():
            arrays = {f"at{place}": still for place, still in anchors.items()}
            self.dataset.save_arrays(clip.id, "anchors", about, **arrays)

    def _propagate(self, clip: Clip) -> None:
        about, anchors = self._anchors(clip)
        frames = list(self._take(clip)[clip.first : clip.last])
        propagator, attempts = self._propagator, self.job.settings.propagation.attempts
        assert propagator is not None
        shown, known = {propagator.cue, *propagator.references}, None
        if carries(self.job.propagator, self.job.settings) and can_carry(frames):
            carried, known = carry_anchors(frames, anchors)
            shown.remove(propagator.cue)
        cues, from_color = draw_cues(frames, shown - {"color"})
        if "color" in shown:
            cues["color"] = np.stack([frame.color for frame in frames])
        if known is not None:
            cues[propagator.cue] = carried
        about |= {"edges_from_color": from_color, "propagation_seconds": 0.0}
        shape = (len(clip), *frames[0].shape, 3)
        for attempt in range(attempts):
            seed = clip.seed + attempt * SEED_STRIDE
            video, seconds = self._in_turn(propagator.propagate, cues, anchors, clip.caption, seed)
            about["propagation_seconds"] += seconds
            if video.shape != shape or video.dtype != np.uint8:
                raise _GivenUp(
                    f"propagate: the propagator returned {video.dtype} {list(video.shape)} for {list(shape)}"
                )
            if known is not None:
                video = complete(video, carried, known)
            about["propagation_seed"] = seed
            if attempt + 1 == attempts or not reasons(self._scores(frames, video), self.job.settings.filters):
                break
        with self._writing():
            self.dataset.save_arrays(clip.id, "target", about, target=video)

    def _finish(self, clip: Clip) -> None:
        kept = self.dataset.load_arrays(clip.id, "target")
        if kept is None:
            raise _GivenUp("finish: what was propagated cannot be read")
        about, target = kept[0], kept[1]["target"]
        frames = list(self._take(clip)[clip.first : clip.last])
        scores = self._scores(frames, target)
        kinds = self.job.settings.dataset.cues
        cues, from_color = draw_cues(frames, kinds)
        files: dict[str, Any] = {
            "render": f"render/{clip.id}{VIDEO}",
            "target": f"target/{clip.id}{VIDEO}",
            "cues": {kind: f"cues/{kind}/{clip.id}{VIDEO}" for kind in cues},
            "sheet": f"sheets/{clip.id}{SHEET}",
        }
        fps = _fps(frames, self._take(clip).fps)
        with self._writing():
            self._write_video(files["render"], [frame.color for frame in frames], fps)
            self._write_video(files["target"], target, fps)
            for kind, video in cues.items():
                self._write_video(files["cues"][kind], video, fps)
            self._write_sheet(files["sheet"], frames, target, cues)
            notes = ["edges are drawn from the colours: the take has no depth"] if from_color else []
            self._record(clip, about, scores, files, frames[0].shape, fps, notes)
            self.dataset.clear_work(clip.id)

    # -- parts

    def _scores(self, frames: Sequence[Frame], target: np.ndarray) -> PairScores:
        return score_pair(frames, target, self._learned or ())

    def _record(
        self, clip: Clip, about: dict[str, Any], scores: PairScores, files: dict[str, Any], shape: tuple[int, int],
        fps: float, notes: list[str],
    ) -> None:  # fmt: skip
        seconds = {"edit": round(about.pop("seconds"), 3), "propagate": round(about.pop("propagation_seconds"), 3)}
        self.dataset.save_record(
            {
                "id": clip.id,
                **files,
                "caption": clip.caption,
                "size": [shape[1], shape[0]],
                "fps": round(fps, 3),
                "scores": scores.to_dict(),
                "notes": notes,
                "anchors": about["scores"],
                "provenance": self._provenance(clip, {**about["seeds"], "propagation": about["propagation_seed"]}),
                "seconds": seconds,
            }
        )

    def _give_up(self, clip: Clip, sentence: str, *, retry: bool = False, **known: Any) -> None:
        anchors = known.get("anchors", {})
        with self._writing():
            self.dataset.save_record(
                {
                    "id": clip.id,
                    "caption": clip.caption,
                    "failure": sentence,
                    "retry": retry,
                    "scores": {},
                    "anchors": anchors.get("scores", {}),
                    "provenance": self._provenance(clip, anchors.get("seeds", {})),
                }
            )

    def _provenance(self, clip: Clip, seeds: dict[str, int]) -> dict[str, Any]:
        return {
            "take": clip.take_name,
            "take_id": clip.take_id,
            "frames": [clip.first, clip.last],
            "editor": model_name(self.job.about["editor"]),
            "propagator": model_name(self.job.about["propagator"]),
            "seeds": seeds,
        }

    def _anchors(self, clip: Clip) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
        kept = self.dataset.load_arrays(clip.id, "anchors")
        if kept is None:
            raise _GivenUp("propagate: the anchors cannot be read")
        return kept[0], {int(name.removeprefix("at")): still for name, still in kept[1].items()}

    def _take(self, clip: Clip) -> Take:
        with self._takes_lock:
            if clip.take in self._takes:
                self._takes.move_to_end(clip.take)
                return self._takes[clip.take]
            try:
                take = Take(clip.take)
            except TakeError as error:
                raise _GivenUp(f"the take cannot be read: {error}") from error
            self._takes[clip.take] = take
            while len(self._takes) > _OPEN_TAKES:
                self._takes.popitem(last=False)[1].close()
            return take

    def _in_turn(self, model: Callable[..., np.ndarray], *args: Any) -> tuple[np.ndarray, float]:
        """(What a model makes, its seconds); one model at a time."""
        with self._model_turn:
            began = time.perf_counter()
            made = model(*args)
            return made, time.perf_counter() - began

    def _writing(self) -> _Writing:
        return _Writing(self.job.dataset)

    def _write_video(self, name: str, pictures: Sequence[np.ndarray] | np.ndarray, fps: float) -> None:
        write_video(self.job.dataset / name, pictures, fps=fps, crf=self.job.settings.dataset.crf)

    def _write_sheet(self, name: str, frames: Sequence[Frame], target: np.ndarray, cues: dict[Cue, np.ndarray]) -> None:
        """Render, target and the first cue, at a few moments from the first to the last."""
        places = np.unique(np.linspace(0, len(frames) - 1, min(_SHEET_COLUMNS, len(frames))).round().astype(int))
        rows = [[frames[p].color for p in places], [target[p] for p in places]]
        rows += [[video[p] for p in places] for video in list(cues.values())[:1]]
        pictures = [shrink(picture, _SHEET_WIDTH) for row in rows for picture in row]
        path = self.job.dataset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            Image.fromarray(tile(pictures, columns=len(places), gap=4)).save(partial, quality=88)


class _Writing:
    """A block in which every error that files give is the folder's, not the clip's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, OSError | VideoError):
            return
        reason = "the disk is full" if _is_full(error) else getattr(error, "strerror", None) or str(error).rstrip(".")
        raise DatasetFull(
            f"{self._folder} cannot be written ({reason}): what is made is kept; mend that, then --resume goes on."
        ) from error


def draw_cues(frames: Sequence[Frame], kinds: Sequence[Cue] | set[Cue]) -> tuple[dict[Cue, np.ndarray], bool]:
    """{kind: uint8 `[T, H, W, 3]`} of those that the frames have something to draw from, and whether the edges had to
    be drawn from the colours, for want of depth."""
    drawn: dict[Cue, np.ndarray] = {}
    from_color = False
    for kind in kinds:
        if has_cue(frames[0], kind):
            drawn[kind] = np.stack([_fitted(draw_cue(frame, kind), frame) for frame in frames])
        elif kind == "edges":
            drawn[kind], from_color = np.stack([edges_of_color(frame.color) for frame in frames]), True
    return drawn, from_color


def _fitted(picture: np.ndarray, frame: Frame) -> np.ndarray:
    """A cue at the size of the colours: depth may have been sent at another."""
    if picture.shape[:2] == frame.shape:
        return picture
    height, width = frame.shape
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _as_large_as(render: np.ndarray, edited: np.ndarray) -> np.ndarray | None:
    """An edited still at the render's size; None when it has another shape, so that scaling would distort it."""
    if edited.dtype != np.uint8 or edited.ndim != 3 or edited.shape[2] != 3:
        return None
    (height, width), (h, w) = render.shape[:2], edited.shape[:2]
    if (h, w) == (height, width):
        return edited
    if abs(w / h / (width / height) - 1) > 0.02:
        return None
    return np.asarray(Image.fromarray(edited).resize((width, height), Image.Resampling.LANCZOS))


def _fps(frames: Sequence[Frame], announced: float) -> float:
    """Frames per second that really were, over the clip."""
    spent = frames[-1].time - frames[0].time
    return (len(frames) - 1) / spent if len(frames) > 1 and spent > 0 else announced


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, however it was wrapped."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            return True
        if "no space left" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(picture: np.ndarray) -> str:
    """For people: width and height of a picture, the shape of what is none."""
    is_picture = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    return f"{picture.shape[1]}x{picture.shape[0]}" if is_picture else f"{picture.dtype} {list(picture.shape)}"
