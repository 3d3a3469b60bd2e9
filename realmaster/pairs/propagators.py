"""Propagators: from a few anchors to every frame of a clip, along the engine's geometry.

A propagator is a lifter that is shown geometry instead of the render and keeps to given stills: VACE, LTX-2 with a
control adapter, or the base of the embedded model. Knows no take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from realmaster.lift import Lifter, load_lifter
from realmaster.lift.adapters import digest
from realmaster.lift.lifter import Cue, LiftRules
from realmaster.lift.profiles import Profile, check_paths, family_of, load_profile
from realmaster.pairs.editors import import_plugin
from realmaster.pairs.settings import Settings


class Propagator(Protocol):
    """Makes videos between anchors. Implementations hold a loaded model; they are not safe for threads."""

    rules: LiftRules
    cue: Cue
    """What it is shown of each frame."""
    references: tuple[Cue, ...]
    """What it can be shown beside that."""

    def propagate(
        self,
        cues: Mapping[Cue, np.ndarray],
        anchors: Mapping[int, np.ndarray],
        caption: str,
        seed: int,
    ) -> np.ndarray:
        """A video, uint8 `[T, H, W, 3]`, of what `cues[self.cue]`, of that shape, shows, that goes through `anchors`:
        place -> uint8 `[H, W, 3]`, for each of `anchor_places`."""
        ...


def load_propagator(name: str, settings: Settings, device: str | None = None) -> Propagator:
    """The propagator of a name in the settings, of any model profile, of a folder in diffusers layout, or, as
    `module:attribute`, whatever that callable returns. Raises `LiftError`, `PairsError`."""
    if plugin := import_plugin(name):
        return plugin()
    lifter = load_lifter(_profile_name(name, settings), device=device)
    return LifterPropagator(lifter, settings.propagation.steps or None)


def propagator_profile(name: str, settings: Settings) -> Profile:
    """Its profile, checked; loads no weights. Raises `LiftError`."""
    profile = load_profile(_profile_name(name, settings))
    check_paths(profile)
    return profile.model_copy(update={"family": family_of(profile)})


def propagator_facts(name: str, settings: Settings) -> dict[str, Any]:
    """What makes its videos what they are, as plain values: two of equal facts make the same. Loads no weights."""
    if import_plugin(name):
        return {"plugin": name}
    profile = propagator_profile(name, settings)
    return profile.model_dump(exclude={"name", "description", "licence", "guard"}, mode="json") | {
        "adapter_digest": digest(profile.adapter)
    }


def carries(name: str, settings: Settings) -> bool:
    """Whether it is shown the anchors carried along the geometry (`carrying`) and paints what these do not show."""
    return name in settings.propagators and settings.propagators[name].carry


def _profile_name(name: str, settings: Settings) -> str:
    return settings.propagators[name].profile if name in settings.propagators else name


def anchor_places(frames: int, window: int, overlap: int) -> list[int]:
    """The frames of a clip that need an anchor: the first, and the last of every window."""
    places, end = [0], min(frames, window)
    while end < frames:
        places.append(end - 1)
        end = min(frames, end + window - max(1, overlap))
    return sorted({*places, end - 1})


class LifterPropagator:
    """A `Propagator` on a lifter. Clips longer than its window are chained: each window goes on from the last frames
    of the one before, and ends in an anchor of its own, so that nothing drifts."""

    def __init__(self, lifter: Lifter, steps: int | None = None) -> None:
        self.lifter, self._steps = lifter, steps
        self.rules, self.cue, self.references = lifter.rules, lifter.cue, lifter.references

    def propagate(
        self, cues: Mapping[Cue, np.ndarray], anchors: Mapping[int, np.ndarray], caption: str, seed: int
    ) -> np.ndarray:
        shown = cues[self.cue]
        result = np.empty_like(shown)
        done = 0  # frames that are made
        for last in anchor_places(len(shown), self.rules.window, self.rules.overlap)[1:] or [0]:
            kept = min(done, max(1, self.rules.overlap)) if done else 0
            start = done - kept
            window = slice(start, last + 1)
            ends = {place - start: anchors[place] for place in (0, last) if place >= done}
            video = self.lifter.lift(
                shown[window],
                caption,
                seed,
                prefix=result[start:done].copy() if kept else None,
                steps=self._steps,
                anchors=ends,
                references={cue: cues[cue][window] for cue in self.references if cue in cues},
            )
            video = match_ends(video, ends.get(0) if not kept else None, ends[last - start])
            result[done : last + 1] = video[kept:]
            done = last + 1
        return result


def match_ends(video: np.ndarray, first: np.ndarray | None, last: np.ndarray) -> np.ndarray:
    """`video`, uint8 `[T, H, W, 3]`, in the colours of the stills that it begins (if given) and ends with.

    A model's picture of its own anchor comes back a little off. Mean and spread of each channel give a correction,
    x a + b, at each end, of which a stays within a tenth of 1; between the ends it changes evenly.
    """
    same = np.stack([np.ones(3), np.zeros(3)])
    ends = [same if first is None else colour_correction(video[0], first), colour_correction(video[-1], last)]
    shares = np.linspace(0, 1, len(video))[:, None, None] if len(video) > 1 else np.ones((1, 1, 1))
    gains, offsets = (((1 - shares) * ends[0][k] + shares * ends[1][k])[:, 0] for k in (0, 1))
    if np.abs(gains - 1).max() < 1e-3 and np.abs(offsets).max() < 0.1:
        return video
    levels = np.arange(256)[None, :, None] * gains[:, None] + offsets[:, None]  # [T, 256, 3]
    tables = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.stack([np.stack([t[:, c][p[..., c]] for c in range(3)], -1) for t, p in zip(tables, video, strict=True)])


def colour_correction(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """float64 `[2, 3]`, gain and offset of each channel, that bring `made`, uint8 `[..., 3]`, to the mean of `wanted`
    and, within a tenth, to its spread."""
    a, b = (picture.reshape(-1, 3).astype(np.float64) for picture in (made, wanted))
    gain = np.clip((b.std(0) + 1) / (a.std(0) + 1), 0.9, 1.1)
    return np.stack([gain, b.mean(0) - a.mean(0) * gain])
