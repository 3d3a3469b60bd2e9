"""Adapters: LoRA files into a pipeline's transformers. Knows diffusers' loaders and safetensors; knows no model family.

An adapter is a safetensors file, a hub id, or a folder: of one file, or, for a model of two experts (Wan 2.2), of one
for each, told apart by `high_noise` and `low_noise` in their names. A file without either serves both experts. Keys in
diffusers' form and in the trainers' (`diffusion_model.*`) are both read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open

from realmaster.lift.files import expert_file, family_of_layers, local_weights
from realmaster.lift.libraries import first_line, quiet
from realmaster.lift.lifter import LiftError
from realmaster.lift.profiles import Profile

NAME = "lift"
"""Under this name an adapter is loaded."""

MOST = 2.0
"""An adapter of a greater weight leaves what the model knows."""


def load_adapter(pipeline: Any, profile: Profile) -> int:
    """Load the profile's adapter into the pipeline; returns the reference downscale factor that it was trained with.

    Raises `LiftError`.
    """
    if profile.adapter is None or profile.adapter_weight == 0:  # the same to the bit
        return 1
    adapter = local_weights(profile.adapter)
    transformers = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    factors = set()
    for place, transformer in enumerate(transformers):
        if transformer is None:
            continue
        file = expert_file(adapter, place)
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
        family = family_of_layers(weights.keys())
    made_for = f", but for {NAMES[family]} or a model of another size" if family else ""
    return f"The adapter {file} was not made for {profile.base}{made_for}: its layers do not fit."


NAMES = {"ltx2": "LTX-2", "wan": "Wan"}
"""Of families, for people."""


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
def strengthened(pipeline: Any, usual: float, by: float, taken_out: Sequence[LoraLayer] = ()) -> Iterator[None]:
    """The lift's adapter at the weight `usual + by`, `MOST` at most, and at `usual` again after. `taken_out`: what
    `fuse` returned."""
    if by == 0:
        yield
        return
    weight = min(MOST, usual + by)
    adapted = _adapted(pipeline)
    for part in adapted:
        part.set_adapters([NAME], [weight])
    with ExitStack() as hooks:
        for layer in taken_out:
            layer.set_scale(NAME, weight - usual)
            hooks.callback(layer.get_base_layer().register_forward_hook(_adding(layer)).remove)
        try:
            yield
        finally:
            for part in adapted:
                part.set_adapters([NAME], [usual])


def _adding(layer: LoraLayer) -> Callable[..., torch.Tensor]:
    """A hook that adds to what a layer gives what the adapter, at its scale, makes of the same input."""

    def add(_base: object, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
        down, up = (matrices[NAME].to(result.device) for matrices in (layer.lora_A, layer.lora_B))
        return result + up(down(given[0])) * layer.scaling[NAME]

    return add


def fuse(pipeline: Any) -> list[LoraLayer]:
    """Add the loaded adapter to the weights that it changes, if it can be, and take its layers out of the pipeline: a
    forward pass then costs what it costs without an adapter, and so do diffusers' walks over all modules. Returns these
    layers, for `strengthened`; none where it was not done.

    Only weights of 32 bits, since a sum in 16 bits or fewer would lose what is small of the adapter.
    """
    layers = _lora_layers(pipeline)
    if not _add_to_weights(layers):
        return []
    for part in _adapted(pipeline):
        part.unload_lora()
    return layers


def _add_to_weights(layers: Sequence[LoraLayer]) -> bool:
    """Add the adapter to the weights of its layers, if every one takes it; returns whether it was done."""
    if not all(_takes_sum(layer) for layer in layers):
        return False
    for layer in layers:
        layer.get_base_layer().weight.data += layer.get_delta_weight(NAME)
    return bool(layers)


@contextmanager
def fused(pipeline: Any) -> Iterator[None]:
    """The adapter in the weights as `fuse` puts it, and the weights as they were again after: to the bit, as they are
    kept meanwhile. Its layers stay where they are, switched off."""
    layers = _lora_layers(pipeline)
    weights = [layer.get_base_layer().weight for layer in layers if _takes_sum(layer)]
    kept = [weight.data.clone() for weight in weights]
    done = _add_to_weights(layers)
    if done:
        for part in _adapted(pipeline):
            part.disable_adapters()
    try:
        yield
    finally:
        if done:
            for weight, before in zip(weights, kept, strict=True):
                weight.data.copy_(before)
            for part in _adapted(pipeline):
                part.enable_adapters()


def _adapted(pipeline: Any) -> list[Any]:
    """The parts that have the lift's adapter."""
    return [part for part in pipeline.components.values() if NAME in (getattr(part, "peft_config", None) or {})]


def _lora_layers(pipeline: Any) -> list[LoraLayer]:
    """The layers of these parts that it changes."""
    return [layer for part in _adapted(pipeline) for layer in part.modules() if isinstance(layer, LoraLayer)]


def _takes_sum(layer: LoraLayer) -> bool:
    """Whether the adapter can be added to the layer's weight: a whole, plain one (FSDP's are parts), and no variant of
    adapters (DoRA is no sum, a bias is not its matrices' product)."""
    weight = layer.get_base_layer().weight
    plain = type(weight.data) is torch.Tensor and weight.dtype == torch.float32
    return plain and not layer.lora_variant and not layer.lora_bias.get(NAME)


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
