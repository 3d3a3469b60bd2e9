"""What is to be made, and what it will cost: clips chosen from takes, and an estimate of time and space.

Loads no weights.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from capture.files import write_atomically
from capture.take import Take
from realmaster.lift.profiles import load_profile
from realmaster.pairs import clips as choosing
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.editors import editor_settings, import_plugin
from realmaster.pairs.propagators import anchor_places, carries, load_propagator, propagator_facts, propagator_profile
from realmaster.pairs.settings import EditorSettings, PairsError, Settings
from realmaster.pairs.stages import Clip, Job, clip_id

COMPRESSION = {"ltx2": (8, 32), "wan": (4, 16), "vace": (4, 16)}
"""Of each model family: frames, and pixels along each side, that one token stands for."""

_FIRST_BITS, _FURTHER_BITS, _SHEET_BYTES = 2.5, 0.5, 200_000
"""Of a pixel in a video's first frame and in the others, and of a picture sheet; measured on pairs of the embedded
engine at the settings' quality."""

_TOLD = 3
"""So many reasons why there is no clip are told; of a hundred takes nobody reads a hundred."""

_VACE_EXTRA = 1.25
"""VACE's control blocks run beside a quarter of its layers."""


@dataclass(frozen=True)
class Plan:
    """The clips of a dataset."""

    clips: list[Clip]
    notes: list[str]
    """What was left out, and why, in sentences."""


def make_job(dataset: Path, editor: str, propagator: str, settings: Settings) -> Job:
    """Everything that workers need, checked as far as can be without loading weights. Raises `PairsError`,
    `LiftError`."""
    if import_plugin(editor):
        edits: dict[str, Any] = {"plugin": editor}
    else:
        edits = editor_settings(editor, settings).model_dump(exclude={"licence", "parameters", "attention"})
        if edits["pipeline"] == "Lifter":
            edits["model"] = propagator_facts(edits["base"], settings)
    if import_plugin(propagator):
        rules = load_propagator(propagator, settings).rules
        window, overlap = rules.window, rules.overlap
        licence = ""
    else:
        profile = propagator_profile(propagator, settings)
        window, overlap, licence = profile.window, profile.overlap, profile.licence
    licences = [settings.editors[editor].licence if editor in settings.editors else "", licence]
    made_with = {
        "editor": edits | settings.anchors.model_dump(),
        "propagator": propagator_facts(propagator, settings)
        | settings.propagation.model_dump()
        | {"carry": carries(propagator, settings)},
        "dataset": settings.dataset.model_dump(mode="json"),
        "licences": licences,
    }
    return Job(dataset, editor, propagator, settings, window, overlap, made_with)


def make_plan(
    takes: Sequence[Take], job: Job, seed: int = 0, progress: Callable[[int, int, str], None] | None = None
) -> Plan:
    """Choose the clips. A plan of the same takes, models and settings is taken from the dataset folder, where there is
    one. Raises `PairsError` when there is no clip at all."""
    settings = job.settings
    frames = settings.clips.frames or job.window
    asked = {
        "takes": [[take.manifest["id"], len(take)] for take in takes],
        "clips": settings.clips.model_dump(),
        "frames": frames,
        "prompt": settings.prompt,
        "seed": seed,
        "editor": job.about["editor"],
        "propagator": job.about["propagator"],
    }
    asked = json.loads(json.dumps(asked))
    kept = Dataset(job.dataset).work / "plan.json"
    paths = {take.manifest["id"]: str(take.path.resolve()) for take in takes}
    try:
        before = json.loads(kept.read_bytes())
        if before["asked"] == asked:
            clips = [Clip(**{**clip, "take": paths[clip["take_id"]]}) for clip in before["clips"]]
            return Plan(clips, before["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        pass

    notes: list[str] = []
    found, captions = [], []
    stride = max(1, frames // 2) if settings.clips.most else frames
    for number, take in enumerate(takes):
        captions.append(settings.prompt)
        try:
            if "color" not in take.channels:
                raise PairsError(f"take {take.name} has no colour.")

            def tell(done: int, total: int, name: str = take.name) -> None:
                if progress is not None:
                    progress(done, total, name)

            seen = choosing.survey(take, settings.clips, tell)
        except PairsError as error:
            notes.append(f"{str(error).rstrip('.')}: it is left out.")
            continue
        captions[number] = settings.prompt or choosing.caption(seen.classes)
        of_take = choosing.candidates(number, seen, frames, stride)
        found += of_take
        for why, count in Counter(seen.unfit.values()).items():
            notes.append(f"take {take.name}: {count} frames are left out ({why}).")
        if not of_take:
            longest = max((last - first for first, last in choosing.runs(seen)), default=0)
            notes.append(f"take {take.name} has no clip of {frames} frames: its longest unbroken run has {longest}.")
        if of_take and "depth" not in take.channels:
            notes.append(f"take {take.name} has no depth: its edges are drawn from the colours, textures and all.")
    chosen, duplicates = choosing.choose(found, settings.clips)
    if duplicates:
        notes.append(f"{duplicates} clips are left out that look like chosen ones.")
    if not chosen:
        more = f"; and {len(notes) - _TOLD} more" if len(notes) > _TOLD else ""
        raise PairsError(f"There is no clip: {'; '.join(note.rstrip('.') for note in notes[:_TOLD])}{more}.")
    facts = {name: asked[name] for name in ("prompt", "seed", "editor", "propagator")}
    clips = []
    for each in chosen:
        take = takes[each.take]
        identity = facts | {"take": take.manifest["id"], "first": each.first, "last": each.last}
        clips.append(
            Clip(
                clip_id(take.name, each.first, identity), paths[take.manifest["id"]], take.name, take.manifest["id"],
                each.first, each.last, captions[each.take], seed,
            )
        )  # fmt: skip
    if kept.parent.is_dir():
        plan = {"asked": asked, "clips": [clip.to_dict() for clip in clips], "notes": notes}
        write_atomically(kept, json.dumps(plan).encode())
    return Plan(clips, notes)


def estimate(plan: Plan, takes: Sequence[Take], job: Job) -> dict[str, Any]:
    """What the plan will cost, as far as can be known beforehand.

    GPU hours follow from the floating point operations of the transformers, tokens x (2 x parameters + 4 x tokens x
    width x layers) a forward pass (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1), at
    `cost.tflops`. Once the dataset holds clips that were made, what these took is taken instead.
    """
    todo = [clip for clip in plan.clips if Dataset(job.dataset).record(clip.id) is None]
    sizes = {take.manifest["id"]: _size(take) for take in takes}
    frames = sum(len(clip) for clip in plan.clips)
    done = [record for record in Dataset(job.dataset).records() if record.get("target")]
    if done:
        hours: float | None = len(todo) * sum(sum(record["seconds"].values()) for record in done) / len(done) / 3600
        how = f"as {len(done)} clips took that are made already"
    else:
        flops = [_flops(clip, *sizes[clip.take_id], job) for clip in todo]
        known = all(value is not None for value in flops)
        hours = sum(value or 0.0 for value in flops) / (job.settings.cost.tflops * 1e12) / 3600 if known else None
        how = f"reckoned at {job.settings.cost.tflops:g} TFLOP/s, loading apart" if known else "not known beforehand"
    videos = 2 + len(job.settings.dataset.cues)
    bits = videos * sum(
        prod(sizes[clip.take_id]) * (_FIRST_BITS + _FURTHER_BITS * (len(clip) - 1)) for clip in plan.clips
    )
    return {
        "clips": len(plan.clips),
        "clips_to_make": len(todo),
        "frames": frames,
        "gpu_hours": None if hours is None else round(hours, 6),
        "gpu_hours_are": how,
        "gigabytes": round((bits / 8 + _SHEET_BYTES * len(plan.clips)) / 1e9, 6),
    }


def _flops(clip: Clip, height: int, width: int, job: Job) -> float | None:
    """Of one clip: its anchors and its propagation; None when a model's size is not known."""
    settings = job.settings
    if import_plugin(job.editor) or import_plugin(job.propagator):
        return None
    places = anchor_places(len(clip), job.window, job.overlap)
    edit = _edit_flops(editor_settings(job.editor, settings), height, width, len(places), settings)
    profile = propagator_profile(job.propagator, settings)
    entry = settings.propagators.get(job.propagator)
    parameters = (entry.parameters if entry else 0.0) or count_parameters(profile.base)
    if edit is None or not parameters:
        return None
    step, side = COMPRESSION[profile.family or "ltx2"]
    scale = min(1.0, profile.max_side / max(height, width))
    tokens = ((min(len(clip), job.window) - 1) // step + 1) * (height * scale // side) * (width * scale // side)
    tokens *= 2 if profile.family in ("ltx2", "wan") else 1  # the cue's tokens stand beside the target's
    passes = (len(profile.sampling.sigmas or ()) or profile.sampling.steps) * (
        2 if profile.sampling.guidance_scale > 1 else 1
    )
    forward = tokens * (2 * parameters + 4 * tokens * (entry.attention if entry else 0.0))
    return edit + (len(places) - 1) * passes * forward * (_VACE_EXTRA if profile.family == "vace" else 1.0)


def _edit_flops(entry: EditorSettings, height: int, width: int, stills: int, settings: Settings) -> float | None:
    if entry.pipeline == "Lifter":
        profile = load_profile(entry.base)
        parameters = count_parameters(profile.base)
        tokens = 2 * height * width / 256
        return stills * 2 * tokens * parameters * (len(profile.sampling.sigmas or ()) or profile.sampling.steps)
    parameters = entry.parameters or count_parameters(entry.base)
    if not parameters:
        return None
    pixels = min(entry.max_pixels, height * width)
    shown = 1024**2 if entry.pipeline == "QwenImageEditPlusPipeline" else pixels  # it enlarges what it is shown
    passes = entry.steps * (2 if entry.guidance > 1 and entry.pipeline == "QwenImageEditPlusPipeline" else 1)
    total = 0.0
    for images in [1] + [2] * (stills - 1):
        tokens = (pixels + images * shown) / 256
        total += passes * tokens * (2 * parameters + 4 * tokens * entry.attention)
    return total


def count_parameters(base: str) -> float:
    """Of the transformer of a folder in diffusers layout, from the headers of its files; 0 where there is none."""
    total = 0
    for file in sorted((Path(base) / "transformer").glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return float(total)


def _size(take: Take) -> tuple[int, int]:
    """(height, width) of the colours, as the manifest says."""
    shape = next(channel["shape"] for channel in take.manifest["channels"] if channel["name"] == "color")
    return int(shape[0]), int(shape[1])
