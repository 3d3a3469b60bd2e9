"""A dataset in the layouts of other people's trainers: files beside pairs.jsonl, in the columns that they look for.

No video is copied. Paths are relative where a trainer resolves them, absolute where it does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture.files import write_atomically
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.settings import PairsError

Pair = dict[str, Any]


def export(dataset: Dataset, trainer: str) -> Path:
    """Write the files of one of `TRAINERS`; returns the one to give to it. Raises `PairsError`, OSError."""
    pairs = dataset.pairs()
    if not pairs:
        raise PairsError(f"{dataset.path} has no pairs to export.")
    return TRAINERS[trainer](dataset.path, pairs)


def lightricks(folder: Path, pairs: list[Pair]) -> Path:
    """Lightricks' LTX trainer (`scripts/process_dataset.py`): columns video, reference_video, caption; paths from the
    file."""
    lines = [{"video": p["target"], "reference_video": p["render"], "caption": p["caption"]} for p in pairs]
    return _write_lines(folder / "lightricks.jsonl", lines)


def diffsynth(folder: Path, pairs: list[Pair]) -> Path:
    """DiffSynth-Studio (`--dataset_base_path FOLDER --dataset_metadata_path FILE --data_file_keys
    video,in_context_videos --extra_inputs in_context_videos,in_context_downsample_factor`)."""
    entries = [
        {
            "video": p["target"],
            "in_context_videos": [p["render"]],
            "in_context_downsample_factor": 1,
            "prompt": p["caption"],
        }
        for p in pairs
    ]
    return _write(folder / "diffsynth.json", json.dumps(entries, indent=1))


def musubi_tuner(folder: Path, pairs: list[Pair]) -> Path:
    """musubi-tuner (`--dataset_config FILE`): the target as the video, the render as its control video."""
    root = folder.resolve()
    lines = [
        {"video_path": str(root / p["target"]), "control_path": str(root / p["render"]), "caption": p["caption"]}
        for p in pairs
    ]
    listed = _write_lines(folder / "musubi-tuner.jsonl", lines)
    width, height = pairs[0]["size"]
    config = f"""[general]
resolution = [{width}, {height}]
batch_size = 1
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
video_jsonl_file = {_quoted(root / listed.name)}
cache_directory = {_quoted(root / "musubi-tuner-cache")}
target_frames = [{_common_frames(pairs)}]
frame_extraction = "head"
"""
    return _write(folder / "musubi-tuner.toml", config)


def simpletuner(folder: Path, pairs: list[Pair]) -> Path:
    """SimpleTuner (`--data_backend_config FILE`): the targets, with captions in text files beside them, and the renders
    as their references."""
    root = folder.resolve()
    for pair in pairs:
        _write((folder / pair["target"]).with_suffix(".txt"), pair["caption"] + "\n")
    frames, (width, height) = _common_frames(pairs), pairs[0]["size"]
    common = {
        "type": "local",
        "crop": False,
        "resolution": round(width * height / 1e6, 4),
        "resolution_type": "area",
        "minimum_image_size": 0,
        "metadata_backend": "discovery",
        "repeats": 0,
        "video": {"num_frames": frames, "min_frames": frames},
    }
    backends = [
        common
        | {
            "id": "target",
            "dataset_type": "video",
            "instance_data_dir": str(root / "target"),
            "caption_strategy": "textfile",
            "cache_dir_vae": str(root / "simpletuner-cache" / "target"),
            "conditioning_data": "render",
        },
        common
        | {
            "id": "render",
            "dataset_type": "conditioning",
            "conditioning_type": "reference_strict",
            "source_dataset_id": "target",
            "instance_data_dir": str(root / "render"),
            "caption_strategy": None,
            "cache_dir_vae": str(root / "simpletuner-cache" / "render"),
        },
        {
            "id": "captions",
            "type": "local",
            "dataset_type": "text_embeds",
            "default": True,
            "cache_dir": str(root / "simpletuner-cache" / "captions"),
        },
    ]
    return _write(folder / "simpletuner.json", json.dumps(backends, indent=2) + "\n")


TRAINERS: dict[str, Callable[[Path, list[Pair]], Path]] = {
    "lightricks": lightricks,
    "diffsynth": diffsynth,
    "musubi-tuner": musubi_tuner,
    "simpletuner": simpletuner,
}


def _common_frames(pairs: list[Pair]) -> int:
    """Frames that every pair has."""
    return min(last - first for first, last in (pair["provenance"]["frames"] for pair in pairs))


def _quoted(path: Path) -> str:
    """As a TOML string, which has JSON's escapes."""
    return json.dumps(str(path))


def _write_lines(path: Path, entries: list[dict[str, Any]]) -> Path:
    return _write(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def _write(path: Path, text: str) -> Path:
    write_atomically(path, text.encode())
    return path
