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

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from realmaster.lift.libraries import first_line, from_hub, quiet
from realmaster.lift.lifter import LiftError
from realmaster.lift.profiles import Profile

NAME = "lift"
"""Under this name an adapter is loaded."""

MOST = 2.0
"""An adapter of a greater weight leaves what the model knows."""

EXPERTS = ("high_noise", "low_noise")
"""What marks an expert's file, in the order of the transformers."""


def load_adapter(pipeline: Any, profile: Profile) -> int:
    """Load the profile's adapter into the pipeline; returns the reference downscale factor that it was trained with.

    Raises `LiftError`.
    """
    if profile.adapter is None or profile.adapter_weight == 0:  # the same to the bit
        return 1
    adapter = local_adapter(profile.adapter)
    transformers = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    factors = set()
    for place, transformer in enumerate(transformers):
        if transformer is None:
            continue
        file = expert_file(adapter, EXPERTS[place])
        check_file(file)
        options: dict[str, Any] = {"load_into_transformer_2": True} if place else {}
        try:
            with quiet():
                pipeline.load_lora_weights(str(file), adapter_name=NAME, use_safetensors=True, **options)
        except (OSError, SafetensorError) as error:
            raise LiftError(f"The adapter {file} does not load ({first_line(error)}).") from error
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise LiftError(_does_not_fit(file, profile)) from error
        if not getattr(transformer, "peft_config", None):
            raise LiftError(_does_not_fit(file, profile))
        transformer.set_adapters([NAME], [profile.adapter_weight])
        factors.add(reference_downscale(file))
    if len(factors) > 1:
        raise LiftError(f"The two files of the adapter {profile.adapter} name different reference downscale factors.")
    return factors.pop()


def _does_not_fit(file: Path, profile: Profile) -> str:
    with safe_open(file, framework="pt") as weights:
        keys = list(weights.keys())
    made_for = next((f", but for {name}" for mark, name in MARKS.items() if any(mark in key for key in keys)), "")
    return f"The adapter {file} was not made for {profile.base}{made_for}: its layers do not fit."


MARKS = {"transformer_blocks.": "LTX-2 or a model of another size", "blocks.": "Wan or a model of another size"}
"""What a layer's name has in it -> whose it is."""


def check_file(file: Path) -> None:
    """Raises `LiftError` for a file that is no safetensors, or a layer whose two halves are of different ranks."""
    if file.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        raise LiftError(
            f"The adapter {file} is a pickle, which can run anything when it is read: only safetensors are loaded; get "
            "it in that form."
        )
    try:
        with safe_open(file, framework="pt") as weights:
            shapes = {key: weights.get_slice(key).get_shape() for key in weights.keys()}
    except (OSError, SafetensorError) as error:
        raise LiftError(f"The adapter {file} does not load ({first_line(error)}).") from error
    for down, up in ((".lora_A.", ".lora_B."), (".lora_down.", ".lora_up.")):
        for key, shape in shapes.items():
            other = shapes.get(key.replace(down, up)) if down in key else None
            if other is not None and shape[0] != other[1]:
                layer = key.partition(down)[0]
                raise LiftError(f"The adapter {file} has two ranks, {shape[0]} and {other[1]}, in its layer {layer}.")


def local_adapter(reference: str) -> Path:
    """The file or folder of an adapter: where it stands, or where the hub's files are kept once they are here. A hub
    id may name its file: `owner/name:file.safetensors`. Raises `LiftError`."""
    if Path(reference).exists():
        return Path(reference)
    repository, _, file = reference.partition(":")
    with from_hub(f"The adapter {reference}"):
        folder = Path(snapshot_download(repository, allow_patterns=file or "*.safetensors"))
    return folder / file if file else folder


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


@contextmanager
def strengthened(pipeline: Any, usual: float, by: float) -> Iterator[None]:
    """The lift's adapter at the weight `usual + by`, `MOST` at most, and at `usual` again after."""
    adapted = [part for part in pipeline.components.values() if NAME in (getattr(part, "peft_config", None) or {})]
    if by == 0 or not adapted:
        yield
        return
    for part in adapted:
        part.set_adapters([NAME], [min(MOST, usual + by)])
    try:
        yield
    finally:
        for part in adapted:
            part.set_adapters([NAME], [usual])


def expert_file(adapter: Path, expert: str) -> Path:
    """The file of an adapter that belongs to this expert. Raises `LiftError`."""
    if not adapter.is_dir():
        return adapter
    files = sorted(adapter.glob("*.safetensors"))
    if not files:
        raise LiftError(f"The adapter {adapter} holds no safetensors file, and nothing else is loaded.")
    marked = [file for file in files if expert in file.stem.lower()]
    common = [file for file in files if not any(mark in file.stem.lower() for mark in EXPERTS)]
    if len(marked or common) != 1:
        names = ", ".join(file.name for file in files)
        raise LiftError(
            f"It is not clear which file of the adapter {adapter} to use ({names}): name one with --lora (on the hub "
            "owner/name:file.safetensors)."
        )
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
