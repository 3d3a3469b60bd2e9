"""What a training will take, and what others have regretted, before it starts.

Works on numbers and names; runs nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from realmaster.lift.memory import BYTES_A_WEIGHT, Weights
from realmaster.lift.profiles import Profile
from realmaster.train.batches import Sample
from realmaster.train.dataset import Pair
from realmaster.train.families.family import Family
from realmaster.train.settings import Settings

FEW, GOOD, MANY = 25, 80, 150
"""Pairs: the least that a published in-context LoRA was made from (ATI on LTX-2.3), and what Lightricks advises."""


@dataclass
class Advice:
    """For people, and in the command's JSON."""

    pairs: int
    held_out: int
    samples: int
    """Windows of the pairs that are trained on."""
    epochs: float
    """How often each sample is seen."""
    trained: int
    """Weights of the adapter, of one expert."""
    memory: dict[str, int]
    """Bytes that training needs, by what for, in one process."""
    loading: int
    """Bytes of the whole model, which encodes before training begins."""
    warnings: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.memory.values())

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"memory_total": self.total}


def advise(
    family: Family,
    profile: Profile,
    settings: Settings,
    pairs: Sequence[Pair],
    held_out: int,
    samples: Sequence[Sample],
    processes: int,
    loading: int,
    free: int | None = None,
) -> Advice:
    """On the loaded model and the encoded samples. loading: bytes of the whole model. free: bytes of the device's own
    memory that are free, if it has one.
    """
    transformer = family.experts[0].transformer
    tokens = max(sample.tokens * len(sample.windows) for sample in samples)
    shown = 1 + len(settings.references)
    tokens += shown * tokens // settings.reference_downscale**2
    trained = adapter_size(transformer, settings.adapter.targets or family.targets, settings.adapter.rank)
    states = 2 if settings.optimizer.name == "adamw8bit" else 8
    advice = Advice(
        pairs=len(pairs),
        held_out=held_out,
        samples=len(samples),
        epochs=settings.steps * settings.batch_size * settings.accumulate * processes / len(samples),
        trained=trained,
        memory={
            "base": size_of(transformer, family.lifter.plan.weights) // (processes if settings.shard else 1)
            + size_of(family.pipeline.vae),
            "adapter and optimizer": trained * (4 + 4 + states + (4 if settings.average else 0)),
            "activations": activations(transformer, tokens * settings.batch_size, settings.gradient_checkpointing),
        },
        loading=loading,
    )
    advice.warnings = [
        *_of_data(pairs, advice),
        *_of_model(profile, settings),
        *_of_memory(advice, settings, free),
    ]
    return advice


def activations(transformer: nn.Module, tokens: int, checkpointing: bool) -> int:
    """Bytes that the backward pass keeps, roughly: 34 a token and channel in a layer at 16 bits, of which 2 are kept
    by every layer and the rest by one at a time where layers are computed twice.

    Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", equation 1, with an
    attention that keeps no matrix.
    """
    config: Any = transformer.config
    channels = config.num_attention_heads * config.attention_head_dim
    layers = config.num_layers
    return tokens * channels * (2 * layers + 34 if checkpointing else 34 * layers)


def adapter_size(transformer: nn.Module, targets: Sequence[str], rank: int) -> int:
    """Weights of an adapter on these layers."""
    return sum(
        rank * (module.in_features + module.out_features)
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and any(name == end or name.endswith(f".{end}") for end in targets)
    )


def size_of(module: nn.Module, weights: Weights = "plain") -> int:
    """Bytes of a module's weights, kept so."""
    tensors = module.state_dict().values()
    return sum(int(tensor.numel() * BYTES_A_WEIGHT.get(weights, tensor.element_size())) for tensor in tensors)


def _of_data(pairs: Sequence[Pair], advice: Advice) -> list[str]:
    said = []
    used = len(pairs) - advice.held_out
    if used < FEW:
        said.append(
            f"{used} pairs to train on are few: published in-context LoRAs were made from {FEW} and more, and "
            f"{GOOD} to {MANY} good ones are advised"
        )
    unscored = sum(not pair.scores for pair in pairs)
    if unscored:
        said.append(
            f"{unscored} of {len(pairs)} pairs have no scores: nobody filtered them, and an adapter learns their "
            "faults too (`realmaster pairs` filters)"
        )
    if len({pair.target.size for pair in pairs}) > 1 or len({pair.frames for pair in pairs}) > 1:
        said.append("the pairs are of several sizes or lengths: an update sees clips of one kind only")
    return said


def _of_model(profile: Profile, settings: Settings) -> list[str]:
    said = []
    named = f"{profile.name} {profile.base} {profile.description}".lower()
    if "distilled" in named and not settings.noise.pure:
        said.append(
            f"{profile.base} is a distilled model: train on the one that it was distilled from, and lift with either"
        )
    index = Path(profile.base) / "model_index.json"
    if index.is_file():
        made = str(json.loads(index.read_text(encoding="utf-8")).get("_diffusers_version", "0"))
        newer = _numbers(made) > _numbers(version("diffusers"))
        if newer:
            said.append(
                f"{profile.base} was saved by diffusers {made}, newer than the {version('diffusers')} installed here: "
                "what that one knows of the model and this one does not is not trained"
            )
    return said


def _numbers(version: str) -> tuple[int, ...]:
    """`0.42.1` or `0.43.0.dev0` as numbers that compare."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())


def _of_memory(advice: Advice, settings: Settings, free: int | None) -> list[str]:
    if free is None or advice.total <= free:
        return []
    ways = []
    if not settings.gradient_checkpointing:
        ways.append("gradient_checkpointing = true")
    if settings.batch_size > 1:
        ways.append("batch_size = 1 with accumulate")
    if settings.quantise is None:
        ways.append('quantise = "int8" or "nf4"')
    if settings.optimizer.name == "adamw":
        ways.append('optimizer.name = "adamw8bit"')
    ways.append("a smaller max_side or window")
    need, have = (math.ceil(size / 1e9) for size in (advice.total, free))
    return [f"training needs about {need} GB and {have} GB are free: set {', '.join(ways)}"]
