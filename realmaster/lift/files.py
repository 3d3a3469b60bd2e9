"""Where files of weights lie: adapters and transformers, here or on the hub, one for all experts or one for each.

Knows names only; what is in a file is for those who read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download

from realmaster.lift.libraries import from_hub
from realmaster.lift.lifter import LiftError

EXPERTS = ("high_noise", "low_noise")
"""What marks an expert's file, in the order of the transformers."""


def local_weights(reference: str, what: str = "adapter", suffix: str = "safetensors") -> Path:
    """The file or folder of weights: where it stands, or where the hub's files are kept once they are here. A hub id
    may name its file: `owner/name:file.suffix`. Raises `LiftError`."""
    if Path(reference).exists():
        return Path(reference)
    repository, _, file = reference.partition(":")
    with from_hub(f"The {what} {reference}"):
        folder = Path(snapshot_download(repository, allow_patterns=file or f"*.{suffix}"))
    return folder / file if file else folder


def expert_file(
    weights: Path, expert: int, what: str = "adapter", suffix: str = "safetensors", name_one: str = "with --lora"
) -> Path:
    """The file that belongs to the transformer in this place (0 or 1): of a folder, the one with the expert's mark in
    its name, else the only one without any. `name_one`: how the user says which. Raises `LiftError`."""
    if not weights.is_dir():
        return weights
    files = sorted(weights.glob(f"*.{suffix}"))
    if not files:
        raise LiftError(f"The {what} {weights} holds no {suffix} file, and nothing else is loaded.")
    marked = [file for file in files if EXPERTS[expert] in _plain(file)]
    common = [file for file in files if not any(mark in _plain(file) for mark in EXPERTS)]
    if len(marked or common) != 1:
        names = ", ".join(file.name for file in files)
        raise LiftError(
            f"It is not clear which file of the {what} {weights} to use ({names}): name one {name_one} (on the hub "
            f"owner/name:file.{suffix})."
        )
    return (marked or common)[0]


def family_of_layers(names: Iterable[str]) -> Literal["ltx2", "wan"] | None:
    """Whose layers these are, by their names: LTX-2 calls them transformer_blocks.N, Wan blocks.N; None where they say
    neither."""
    names = list(names)
    if any("transformer_blocks." in name for name in names):
        return "ltx2"
    return "wan" if any("blocks." in name for name in names) else None


def _plain(file: Path) -> str:
    """`T2V-HighNoise-Q4.gguf` and `high_noise.safetensors` are marked alike."""
    return file.stem.lower().replace("highnoise", "high_noise").replace("lownoise", "low_noise")
