"""Which way of holding a model fits the memory that is free. Knows sizes, torch devices and diffusers' switches; no
model family.

What a way needs is estimated (`Sizes`), not measured: an estimate that was too low ends in a lack of memory, which a
lifter answers by smaller work (`PipelineLifter.lift`).
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import torch

from realmaster.lift.lifter import LiftError
from realmaster.lift.profiles import Profile, family_of

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


Weights = Literal["plain", "fp8", "int8", "nf4", "gguf"]
BYTES_A_WEIGHT = {"fp8": 1.0, "int8": 1.0, "nf4": 0.56, "gguf": 1.06}
"""For each way of storing them; of a GGUF file that is not here yet, the most that one of fewer bits takes (Q8_0)."""


@dataclass(frozen=True)
class Plan:
    """A way of holding a model."""

    weights: Weights = "plain"
    """How the transformer's are stored: as they are used; in 8 bits (float8_e4m3fn), cast layer by layer as they are
    used; or as the profile's quantisation or GGUF file has them."""
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
    packed: int | None = None
    """Bytes of the GGUF files that take the transformer's place, where they are here."""

    def bytes(self, plan: Plan, width: int) -> int:
        """What lies on the device at once, for weights of `width` bytes."""
        if plan.weights == "gguf" and self.packed is not None:
            transformer = self.packed
        else:
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
    sizes: Sizes, free: int, mode: Mode, device: torch.device, width: int, stored: Weights | None = None
) -> tuple[Plan, bool]:
    """The plan of `mode` with `free` bytes on `device`, and whether it fits by the estimate.

    `width`: bytes of a weight as it is used. `stored`: the weights are stored so in every plan. Blocks are only
    fetched to a card: on the processor they are where they work.
    """
    ladder = [plan for plan in LADDER if device.type == "cuda" or not plan.offload]
    if stored is not None:
        ladder = list(dict.fromkeys(replace(plan, weights=stored) for plan in ladder))
    wanted = {"full": ladder[:1], "low": ladder[-1:], "auto": ladder}[mode]
    for plan in wanted:
        if sizes.bytes(plan, width) <= free * SPARE:
            return plan, True
    return wanted[-1], False


def plan_for(
    profile: Profile, base: Path | None, device: torch.device, mode: Mode, free: int | None = None
) -> tuple[Plan, bool, int]:
    """The plan for a profile whose base lies in the folder `base` (None: as large as the profile says it is), whether
    it fits by the estimate, and the bytes that it needs.

    `free`: bytes that are planned with; by default what is free on the device. Raises `LiftError`.
    """
    sizes = sizes_of(profile, base)
    width = 4 if device.type == "cpu" else 2
    room = free_memory(device) if free is None else free
    plan, fits = choose(sizes, room, mode, device, width, profile.stored)
    return plan, fits, sizes.bytes(plan, width)


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
    """What nobody refers to any more, to the device and to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    tidy_heap()


def tidy_heap() -> None:
    """Give the free pages of the heap back to the system, where the C library can (glibc).

    It keeps them by itself, in gaps between what stays, and takes new ones where no gap is large enough: over a long
    take a tenth more memory.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


# -- sizes of a model

COMPRESSION = {"ltx2": (8, 32), "wan": (4, 16), "vace": (4, 16)}
"""Frames, and pixels along each side, of one token."""


def sizes_of(profile: Profile, base: Path | None) -> Sizes:
    """Of the folder `base` in diffusers layout, of which it reads the heads of files only; of None: what the profile
    says of its own base. Raises `LiftError` for files that are no safetensors, and without either."""
    side = profile.max_side
    frames, height, width = profile.window, round(side * 9 / 16), side
    step, pixels = COMPRESSION[family_of(profile)]
    videos = 2 + len(profile.references)
    tokens = videos * (1 + (frames - 1) // step) * math.ceil(height / pixels) * math.ceil(width / pixels)
    work = {"tokens": tokens, "pixels": frames * height * width}
    packed = _packed(profile)
    known = profile.parameters
    if base is None:
        if known is None:
            raise LiftError(f"How large {profile.base} is, its profile does not say, and it is not on this machine.")
        transformer, encoder, rest = (int(1e9 * part) for part in (known.transformer, known.encoder, known.rest))
        return Sizes(transformer, encoder, rest, features=known.features, blocks=known.blocks, packed=packed, **work)
    parameters = {part.name: count_parameters(part) for part in sorted(base.iterdir()) if part.is_dir()}
    transformer = sum(count for name, count in parameters.items() if name in ("transformer", "transformer_2"))
    encoder = parameters.get("text_encoder", 0)
    config = _config(base / "transformer")
    return Sizes(
        transformer,
        encoder,
        # Other parts that a repository may hold (a second transformer, upsamplers) are not loaded.
        rest=sum(parameters.get(name, 0) for name in ("vae", "connectors", "audio_vae")),
        features=config.get("num_attention_heads", 1) * config.get("attention_head_dim", 1),
        blocks=max(1, config.get("num_layers", 1) * (1 + ("transformer_2" in parameters))),
        packed=packed,
        **work,
    )


def _packed(profile: Profile) -> int | None:
    """Bytes of the profile's GGUF file, or of those in its folder; None where it has none here."""
    if profile.gguf is None or not Path(profile.gguf).exists():
        return None
    place = Path(profile.gguf)
    return sum(file.stat().st_size for file in (sorted(place.glob("*.gguf")) if place.is_dir() else [place]))


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
