"""Adapters: LoRA files into a pipeline's transformers. Knows diffusers' loaders and safetensors; knows no model family.

An adapter is a safetensors file, a hub id, or a folder: of one file, or, for a model of two experts (Wan 2.2), of one
for each, told apart by `high_noise` and `low_noise` in their names. A file without either serves both experts. Keys in
diffusers' form and in the trainers' (`diffusion_model.*`) are both read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from realmaster.lift.lifter import LiftError
from realmaster.lift.profiles import Profile

NAME = "lift"
"""Under this name an adapter is loaded."""

EXPERTS = ("high_noise", "low_noise")
"""What marks an expert's file, in the order of the transformers."""


def load_adapter(pipeline: Any, profile: Profile) -> int:
    """Load the profile's adapter into the pipeline; returns the reference downscale factor that it was trained with.

    Raises `LiftError`.
    """
    if profile.adapter is None or profile.adapter_weight == 0:  # the same to the bit
        return 1
    transformers = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    factors = set()
    for place, transformer in enumerate(transformers):
        if transformer is None:
            continue
        file = expert_file(Path(profile.adapter), EXPERTS[place])
        options: dict[str, Any] = {"load_into_transformer_2": True} if place else {}
        try:
            pipeline.load_lora_weights(str(file or profile.adapter), adapter_name=NAME, use_safetensors=True, **options)
        except (OSError, SafetensorError) as error:
            raise LiftError(f"The adapter {profile.adapter} does not load ({first_line(error)}).") from error
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise LiftError(
                f"The adapter {profile.adapter} was not made for {profile.base}: its layers do not fit."
            ) from error
        if not getattr(transformer, "peft_config", None):
            raise LiftError(f"The adapter {profile.adapter} has no layer for this model's transformer.")
        transformer.set_adapters([NAME], [profile.adapter_weight])
        if file is not None:
            factors.add(reference_downscale(file))
    if len(factors) > 1:
        raise LiftError(f"The two files of the adapter {profile.adapter} name different reference downscale factors.")
    return factors.pop() if factors else 1


@contextmanager
def without_adapter(pipeline: Any) -> Iterator[None]:
    """The pipeline's transformers as they were before an adapter was loaded."""
    adapted = [part for part in pipeline.components.values() if getattr(part, "peft_config", None)]
    for part in adapted:
        part.disable_adapters()
    try:
        yield
    finally:
        for part in adapted:
            part.enable_adapters()


def expert_file(adapter: Path, expert: str) -> Path | None:
    """The file of a local adapter that belongs to this expert; None for a hub id. Raises `LiftError`."""
    if adapter.is_file():
        return adapter
    if not adapter.is_dir():
        return None
    files = sorted(adapter.glob("*.safetensors"))
    if not files:
        raise LiftError(f"The adapter {adapter} holds no safetensors file.")
    marked = [file for file in files if expert in file.stem.lower()]
    common = [file for file in files if not any(mark in file.stem.lower() for mark in EXPERTS)]
    if len(marked or common) != 1:
        names = ", ".join(file.name for file in files)
        raise LiftError(f"It is not clear which file of the adapter {adapter} to use ({names}): name one with --lora.")
    return (marked or common)[0]


def reference_downscale(file: Path) -> int:
    """The factor in the adapter's own safetensors metadata (Lightricks' trainer writes it when it is not 1)."""
    with safe_open(file, framework="pt") as weights:
        metadata = weights.metadata() or {}
    for key in ("reference_downscale_factor", "reference_spatial_scale_factor"):
        if key in metadata:
            return max(1, round(float(metadata[key])))
    return 1


def digest(adapter: str | None) -> str | None:
    """SHA-256 over the files of a local adapter; None for none or a hub id."""
    path = Path(adapter) if adapter else None
    if path is None or not path.exists():
        return None
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with file.open("rb") as data:
            total.update(hashlib.file_digest(data, "sha256").digest())
    return total.hexdigest()


def first_line(error: Exception) -> str:
    """What a library said, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
