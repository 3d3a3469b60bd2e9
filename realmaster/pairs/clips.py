"""Which parts of a take become clips: runs without a break, of the length that is wanted, as different as possible.

Works on takes; knows no model. A take is read once, frame by frame, into a few numbers for each (`survey`); everything
after that is arithmetic on these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from capture.errors import TakeDamagedError
from capture.frame import Frame
from capture.health import read_health
from capture.take import Take
from realmaster.pairs.settings import ClipSettings, PairsError

THUMBNAIL = (18, 32)
"""Rows and columns of the small grey pictures by which frames are compared."""

_LEAST_INSTANCE = 0.001
"""Share of a picture from which a thing counts."""


@dataclass
class Survey:
    """What is known of every frame of a take. Arrays are `[N, ...]`."""

    thumbnails: np.ndarray
    """uint8 `[N, 18, 32]`, grey."""
    numbers: np.ndarray
    """float32 `[N, 5]`: metres moved, radians turned, nearest and farthest depth (metres, logarithm), things seen;
    nan where unknown."""
    breaks: dict[int, str] = field(default_factory=dict)
    """Frames with which something new begins, and why."""
    unfit: dict[int, str] = field(default_factory=dict)
    """Frames that belong to no clip, and why."""
    classes: Counter[str] = field(default_factory=Counter)
    """Names of what was seen, by frames times share of the picture."""

    def __len__(self) -> int:
        return len(self.thumbnails)


@dataclass(frozen=True)
class Candidate:
    """A possible clip: frames [first, last) of the take at place `take` of a list."""

    take: int
    first: int
    last: int
    features: np.ndarray
    """float32 `[6]`: speed, turn, near, far, things, light."""
    pictures: np.ndarray
    """float32 `[3, 18, 32]` in [0, 1]: its first, middle and last thumbnail."""

    def overlaps(self, other: Candidate) -> bool:
        return self.take == other.take and self.first < other.last and other.first < self.last

    def differs(self, other: Candidate) -> float:
        """Mean difference of their thumbnails, in [0, 1]."""
        return float(np.abs(self.pictures - other.pictures).mean())


def survey(take: Take, settings: ClipSettings, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Read a take once. Raises `PairsError` when its channels do not belong together."""
    _check_health(take)
    count = len(take)
    found = Survey(np.zeros((count, *THUMBNAIL), np.uint8), np.full((count, 5), np.nan, np.float32))
    before: Frame | None = None
    still = 0
    gap = max(settings.gap_seconds, 2.5 / take.fps)
    legend = take.legend.get("segmentation", {})
    for place in range(count):
        try:
            frame = take[place]
            color = frame.color
        except TakeDamagedError:
            found.unfit[place] = "damaged"
            before, still = None, 0
            continue
        found.thumbnails[place] = thumbnail(color)
        found.numbers[place] = _numbers(frame, before)
        _count_classes(found.classes, frame, legend)
        if why := _unfit(frame, found.thumbnails[place], settings):
            found.unfit[place] = why
        if before is not None and (why := _break(frame, before, gap)):
            found.breaks[place] = why
        if before is not None and place not in found.breaks and _same_moment(frame, before):
            still += 1
            if still >= settings.still_frames - 1:
                found.unfit |= dict.fromkeys(range(place - still, place + 1), "nothing moves")
        else:
            still = 0
        before = frame
        if progress is not None:
            progress(place + 1, count)
    found.breaks |= {place: "another scene" for place in _jumps(found, settings.jump) if place not in found.breaks}
    return found


def runs(found: Survey) -> list[tuple[int, int]]:
    """Frames [first, last) between which there is no break and no unfit frame."""
    runs, first = [], 0
    for place in range(len(found) + 1):
        ends = place == len(found) or place in found.unfit
        if (ends or place in found.breaks) and place > first:
            runs.append((first, place))
            first = place
        if ends:
            first = place + 1
    return runs


def candidates(take: int, found: Survey, frames: int, stride: int) -> list[Candidate]:
    """All clips of that many frames, `stride` apart in each run."""
    clips = []
    for start, end in runs(found):
        for first in range(start, end - frames + 1, stride):
            last = first + frames
            # Of the first frame it is unknown how far it moved, and after a cut it means nothing.
            moved = found.numbers[first + 1 : last]
            with np.errstate(all="ignore"):
                features = np.array(
                    [*_means(np.log1p(moved[:, :2])), *_means(moved[:, 2:4]), *_means(np.log1p(moved[:, 4:])),
                     found.thumbnails[first:last].mean() / 255],
                    np.float32,
                )  # fmt: skip
            places = [first, (first + last) // 2, last - 1]
            clips.append(Candidate(take, first, last, features, found.thumbnails[places].astype(np.float32) / 255))
    return clips


def choose(clips: Sequence[Candidate], settings: ClipSettings) -> tuple[list[Candidate], int]:
    """The clips to make pairs of, in the order of the takes, and how many were left out as near-duplicates.

    Farthest-first traversal (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"): each next clip
    is the one that lies farthest from all chosen ones in camera speed, turn, depth, things and light, every feature
    scaled by its spread. Clips that overlap a chosen one, or look like one, are passed over.
    """
    if not clips:
        return [], 0
    features = np.stack([clip.features for clip in clips])
    features = np.where(np.isfinite(features), features, _means(features))  # what is unknown is as usual
    features = np.nan_to_num((features - features.mean(0)) / np.maximum(features.std(0), 1e-3))
    distance = np.full(len(clips), np.inf)
    distance[int(np.abs(features).sum(1).argmax())] = np.finfo(float).max  # the most unusual one is the first
    distance[np.isinf(distance)] = np.finfo(float).max / 2
    chosen: list[Candidate] = []
    duplicates = 0
    while distance.max() >= 0 and not (settings.most and len(chosen) == settings.most):
        best = int(distance.argmax())
        clip = clips[best]
        distance[best] = -1.0
        if any(clip.overlaps(other) for other in chosen):
            continue
        if any(clip.differs(other) < settings.near_duplicate for other in chosen):
            duplicates += 1
            continue
        chosen.append(clip)
        nearer = np.linalg.norm(features - features[best], axis=1)
        distance = np.where(distance < 0, -1.0, np.minimum(distance, nearer))
    return sorted(chosen, key=lambda clip: (clip.take, clip.first)), duplicates


def caption(classes: Counter[str], most: int = 6) -> str:
    """A sentence of what is to be seen, from the take's own names of things, the largest first."""
    total = sum(classes.values())
    names = [name for name, share in classes.most_common() if share > 0.005 * total][:most]
    if not names:
        return "A photorealistic video, natural light, sharp, detailed materials."
    listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
    return f"A photorealistic video of {listed}, natural light, sharp, detailed materials."


def thumbnail(color: np.ndarray) -> np.ndarray:
    """uint8 `[18, 32]` of uint8 `[H, W, 3]`: grey, averaged over equal parts."""
    height, width = color.shape[:2]
    rows = np.linspace(0, height, THUMBNAIL[0] + 1).astype(int)[:-1]
    columns = np.linspace(0, width, THUMBNAIL[1] + 1).astype(int)[:-1]
    grey = color.sum(-1, dtype=np.uint32)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, 0), columns, 1)
    areas = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return np.rint(sums / (3 * areas)).astype(np.uint8)


def _check_health(take: Take) -> None:
    health = read_health(take.path) or {}
    for check in health.get("checks", ()):
        if check.get("name") == "in step" and check.get("verdict") == "wrong":
            raise PairsError(f"take {take.name}: {check.get('summary') or check.get('sentence')}.")


def _unfit(frame: Frame, small: np.ndarray, settings: ClipSettings) -> str | None:
    if "desync" in frame.flags or not frame.in_sync:
        return "channels out of step"
    if small.std() / 255 < settings.blank:
        return "blank"
    if "depth" in frame.channels and not np.isfinite(frame.depth[::4, ::4]).any():
        return "blank"
    return None


def _break(frame: Frame, before: Frame, gap: float) -> str | None:
    if "cut" in frame.flags:
        return "cut"
    if frame.shape != before.shape:
        return "another size"
    if frame.dropped_before:
        return "frames lost"
    if not 0 < frame.time - before.time <= gap:
        return "the clock stood still or jumped"
    return None


def _same_moment(frame: Frame, before: Frame) -> bool:
    """Whether nothing moved: a pause, or a menu over a world that stands still."""
    for name in ("depth", "color"):
        if name in frame.channels and name in before.channels:
            return bool(np.array_equal(getattr(frame, name)[::4, ::4], getattr(before, name)[::4, ::4]))
    return False


def _jumps(found: Survey, least: float) -> list[int]:
    """Frames that differ from the one before by far more than their neighbours do."""
    small = found.thumbnails.astype(np.int16)
    change = np.abs(np.diff(small, axis=0)).mean((1, 2)) / 255
    jumps = []
    for place in np.flatnonzero(change > least):
        around = np.r_[change[max(0, place - 3) : place], change[place + 1 : place + 4]]
        if not around.size or change[place] > 4 * np.median(around):
            jumps.append(int(place) + 1)
    return jumps


def _numbers(frame: Frame, before: Frame | None) -> tuple[float, float, float, float, float]:
    moved = turned = near = far = things = np.nan
    if before is not None and frame.has_pose and before.has_pose:
        assert frame.camera is not None and before.camera is not None
        step = before.camera.world_to_camera @ frame.camera.pose
        moved = float(np.linalg.norm(step[:3, 3]))
        turned = float(np.arccos(np.clip((np.trace(step[:3, :3]) - 1) / 2, -1, 1)))
    if "depth" in frame.channels:
        depth = frame.depth[::4, ::4]
        depth = depth[np.isfinite(depth) & (depth > 0)]
        if depth.size:
            near, far = (float(v) for v in np.log(np.percentile(depth, (10, 90))))
    if "instance" in frame.channels:
        ids, counts = np.unique(frame.instance[::4, ::4], return_counts=True)
        things = float(((ids != 0) & (counts > _LEAST_INSTANCE * counts.sum())).sum())
    return moved, turned, near, far, things


def _count_classes(classes: Counter[str], frame: Frame, legend: dict[int, str]) -> None:
    if legend and "segmentation" in frame.channels:
        ids, counts = np.unique(frame.segmentation[::4, ::4], return_counts=True)
        for number, share in zip(ids, counts / counts.sum(), strict=True):
            if name := legend.get(int(number)):
                classes[name] += float(share)  # type: ignore[assignment]


def _means(columns: np.ndarray) -> np.ndarray:
    """Mean of each column over what is known of it."""
    known = np.isfinite(columns)
    return np.where(known.any(0), np.where(known, columns, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
