"""What a training leaves behind: an adapter that everyone's tools load, a profile to lift with, a card.

    OUT/pytorch_lora_weights.safetensors   the adapter in diffusers' keys; of a model with two experts
                                           high_noise.safetensors and low_noise.safetensors
    OUT/comfyui/NAME.safetensors           the same in the keys of ComfyUI and the models' own trainers
    OUT/profile.toml, README.md            for `realmaster lift --model OUT`, and for people

Knows adapters as named matrices; knows no training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from capture.files import write_atomically
from realmaster.lift.profiles import Profile
from realmaster.settings import to_toml

PROFILE, CARD = "profile.toml", "README.md"
Weights = Mapping[str, Tensor]
"""`LAYER.lora_A.weight` `[r, in]` and `LAYER.lora_B.weight` `[out, r]` by diffusers' names of layers."""


def adapter_file(mark: str) -> str:
    """The name of an expert's file; diffusers finds the one without a mark by itself."""
    return f"{mark or 'pytorch_lora_weights'}.safetensors"


def write_adapter(
    folder: Path,
    mark: str,
    weights: Weights,
    scale: float,
    metadata: Mapping[str, str],
    trainers_name: Callable[[str], str],
) -> None:
    """Write one expert's adapter in both kinds of keys. scale: what the product of the matrices is multiplied by; it
    is put into the second, so that no reader needs to know of it. Raises OSError."""
    diffusers, trainers = {}, {}
    for name, tensor in weights.items():
        layer, matrix = name.split(".lora_")
        tensor = tensor.detach().float().cpu()
        tensor = (tensor * scale if matrix.startswith("B") else tensor).contiguous()
        diffusers[f"transformer.{name}"] = tensor
        trainers[f"diffusion_model.{trainers_name(layer)}.lora_{matrix}"] = tensor
    said = {"format": "pt", **metadata}
    write_atomically(folder / adapter_file(mark), save(diffusers, metadata=said))
    (folder / "comfyui").mkdir(exist_ok=True)
    name = f"{folder.resolve().name}{f'-{mark}' if mark else ''}.safetensors"
    write_atomically(folder / "comfyui" / name, save(trainers, metadata=said))


def write_profile(folder: Path, profile: Profile, file: str = PROFILE) -> None:
    """A profile, with its defaults left out."""
    values = profile.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    write_atomically(folder / file, to_toml(values).encode())


def write_card(
    folder: Path, profile: Profile, facts: Mapping[str, Any], scores: list[dict[str, Any]], settings: Mapping[str, Any]
) -> None:
    """A model card in the hub's form."""
    name = folder.resolve().name
    base = Path(profile.base)
    shown = base.name if base.is_dir() else profile.base
    front = {"library_name": "diffusers", "base_model": shown, "tags": ["lora", "ic-lora", "video-to-video"]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", "", f"# {name}", ""]
    lines += [
        f"An in-context LoRA on {shown}: it is shown {_words(profile)} of each frame and makes photorealistic video of "
        "the same geometry. Trained with realmaster.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
    ]
    if profile.licence:
        lines.append(f"| licence of the base | {profile.licence} |")
    if scores:
        columns = list(dict.fromkeys(column for row in scores for column in row))
        lines += ["", "## Held-out clips", "", "Lifted as training went on; `render` is the untouched render.", ""]
        lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in scores]
    trigger = f" Put `{profile.trigger}` before every prompt." if profile.trigger else ""
    load = f'pipeline.load_lora_weights("{name}")'
    if (folder / adapter_file("high_noise")).exists():
        load = (
            f'pipeline.load_lora_weights("{name}", weight_name="high_noise.safetensors")\n'
            f'pipeline.load_lora_weights("{name}", weight_name="low_noise.safetensors", load_into_transformer_2=True)'
        )
    lines += [
        "",
        "## Use",
        "",
        f"`realmaster lift TAKE --model {name}`, or in diffusers, with this folder beside you:",
        "",
        f"```python\n{load}\n```",
        "",
        f"`comfyui/` holds the same weights in ComfyUI's keys.{trigger}",
        "",
        "## Settings",
        "",
        f"```toml\n{to_toml(settings)}```",
        "",
    ]
    write_atomically(folder / CARD, "\n".join(lines).encode())


def _words(profile: Profile) -> str:
    names = {"color": "the render", "edges": "the edges", "depth": "the depth", "normals": "the normals"}
    shown = [names[cue] for cue in (profile.cue, *profile.references)]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def zero_weights(weights: Weights) -> dict[str, Tensor]:
    """An adapter of the same form that changes nothing."""
    return {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
