"""Which way of holding a model fits the memory that is free. Knows sizes, torch devices and diffusers' switches; no
model family.

What a way needs is estimated (`Sizes`), not measured: an estimate that was too low ends in a lack of memory, which a
lifter answers by smaller work (`PipelineLifter.lift`).
"""

from __future__ import annotations

import gc
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import torch

from realmaster.lift.lifter import LiftError
from realmaster.lift.profiles import Profile, Quantisation

Mode = Literal["auto", "low", "full"]
"""auto: the fastest way that fits what is free. low: the least memory. full: nothing is saved."""
MODES: tuple[Mode, ...] = get_args(Mode)

GIB = 2**30
SPARE = 0.92
"""Share of the free memory that is planned with; the rest goes to what is not counted."""
BYTES_A_FEATURE = 24 * 2
"""What a block of a transformer holds at once for each feature of each token: two dozen numbers of 16 bits."""
BYTES_A_PIXEL, BYTES_A_PIXEL_TILED = 64, 8
"""What a codec holds at once for each pixel of the clip."""


Weights = Literal["plain", "fp8", "int8", "nf4"]
BYTES_A_WEIGHT = {"fp8": 1.0, "int8": 1.0, "nf4": 0.56}


@dataclass(frozen=True)
class Plan:
    """A way of holding a model."""

    weights: Weights = "plain"
    """How the transformer's are stored: as they are used; in 8 bits (float8_e4m3fn), cast layer by layer as they are
    used; or as the profile quantises them."""
    offload: bool = False
    """Transformer blocks stay in the machine's memory and come to the card one by one, as they are used."""
    tiling: bool = False
    """The codec works in tiles."""
    keep_encoder: bool = True
    """The text encoder stays once it has been loaded; else it goes as soon as a prompt is encoded."""

    def __str__(self) -> str:
        parts = [
            "weights as they are" if self.weights == "plain" else f"weights in {self.weights}",
            "blocks fetched from the machine's memory" if self.offload else "",
            "codec in tiles" if self.tiling else "",
            "" if self.keep_encoder else "text encoder dropped after use",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, and of what a window makes beside them."""

    transformer: int
    """Of all experts."""
    encoder: int
    """Of the text encoder."""
    rest: int
    tokens: int
    """Of the target and its references, in one window."""
    features: int
    """Width of the transformer."""
    pixels: int
    """Of one window."""
    blocks: int = 1
    """Of the transformer, all experts."""

    def bytes(self, plan: Plan, width: int) -> int:
        """What lies on the device at once, for weights of `width` bytes."""
        transformer = int(self.transformer * BYTES_A_WEIGHT.get(plan.weights, width))
        if plan.offload:
            transformer = 3 * transformer // self.blocks  # one at work, one on its way, one on its way out
        work = max(
            self.tokens * self.features * BYTES_A_FEATURE,
            self.pixels * (BYTES_A_PIXEL_TILED if plan.tiling else BYTES_A_PIXEL),
        )
        return transformer + width * (self.rest + self.encoder * plan.keep_encoder) + work


LADDER = (
    Plan(),
    Plan(keep_encoder=False),
    Plan(keep_encoder=False, tiling=True),
    Plan(keep_encoder=False, tiling=True, weights="fp8"),
    Plan(keep_encoder=False, tiling=True, offload=True),
    Plan(keep_encoder=False, tiling=True, weights="fp8", offload=True),
)
"""From the fastest to the smallest."""


def choose(
    sizes: Sizes, free: int, mode: Mode, device: torch.device, width: int, quantise: Quantisation | None = None
) -> tuple[Plan, bool]:
    """The plan of `mode` with `free` bytes on `device`, and whether it fits by the estimate.

    `width`: bytes of a weight as it is used. `quantise`: the weights are stored so in every plan. Blocks are only
    fetched to a card: on the processor they are where they work.
    """
    ladder = [plan for plan in LADDER if device.type == "cuda" or not plan.offload]
    if quantise is not None:
        ladder = list(dict.fromkeys(replace(plan, weights=quantise) for plan in ladder))
    wanted = {"full": ladder[:1], "low": ladder[-1:], "auto": ladder}[mode]
    for plan in wanted:
        if sizes.bytes(plan, width) <= free * SPARE:
            return plan, True
    return wanted[-1], False


def plan_for(
    profile: Profile, base: Path, device: torch.device, mode: Mode, free: int | None = None
) -> tuple[Plan, bool]:
    """The plan for a profile whose base lies in the folder `base`, and whether it fits by the estimate.

    `free`: bytes that are planned with; by default what is free on the device. Raises `LiftError`.
    """
    side = profile.max_side
    sizes = sizes_of(base, profile.window, round(side * 9 / 16), side, videos=2 + len(profile.references))
    width = 4 if device.type == "cpu" else 2
    return choose(sizes, free_memory(device) if free is None else free, mode, device, width, profile.quantise)


def smaller(plan: Plan, device: torch.device) -> Plan | None:
    """The next way that needs less while a model is loaded, or None: weights are not cast a second time."""
    if not plan.tiling:
        return replace(plan, tiling=True, keep_encoder=False)
    if device.type == "cuda" and not plan.offload:
        return replace(plan, offload=True)
    return None


def free_memory(device: torch.device) -> int:
    """Bytes that a program may still take on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def give_back(device: torch.device) -> None:
    """What nobody refers to any more, to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Python's MemoryError, and torch's of the card and of the processor (a plain RuntimeError)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error)


# -- sizes of a saved model


def sizes_of(folder: Path, frames: int, height: int, width: int, videos: int = 2) -> Sizes:
    """Of a folder in diffusers layout, for windows of so many frames of a size in pixels; `videos`: the target and its
    references. Reads the heads of its files only.

    Raises `LiftError` for files that are no safetensors.
    """
    parameters = {part.name: count_parameters(part) for part in sorted(folder.iterdir()) if part.is_dir()}
    experts = {name: count for name, count in parameters.items() if name in ("transformer", "transformer_2")}
    config = _config(folder / "transformer")
    heads, head = config.get("num_attention_heads", 1), config.get("attention_head_dim", 1)
    patch = config.get("patch_size", 1)
    step = 8 * (patch[-1] if isinstance(patch, list) else 1)  # Wan: codec 8, patch 2
    if "vae_scale_factors" in config:
        step = config["vae_scale_factors"][-1]
    latent_frames = 1 + (frames - 1) // (config.get("vae_scale_factors") or [4])[0]
    encoder = sum(count for name, count in parameters.items() if name.startswith("text_encoder"))
    return Sizes(
        transformer=sum(experts.values()),
        encoder=encoder,
        rest=sum(parameters.values()) - sum(experts.values()) - encoder,
        tokens=videos * latent_frames * math.ceil(height / step) * math.ceil(width / step),
        features=heads * head,
        pixels=frames * height * width,
        blocks=max(1, config.get("num_layers", 1) * len(experts)),
    )


def count_parameters(folder: Path) -> int:
    """Parameters in the safetensors files of one component."""
    return sum(math.prod(shape) for file in sorted(folder.glob("*.safetensors")) for shape in _shapes(file))


def _shapes(file: Path) -> Iterator[list[int]]:
    """A safetensors file begins with the length of its head (u64, little endian) and the head as JSON."""
    try:
        with file.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            head = json.loads(data.read(min(length, file.stat().st_size)))
        yield from (entry["shape"] for name, entry in head.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise LiftError(
            f"{file} does not load: it is no safetensors file, or was not copied whole; get it again."
        ) from error


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
