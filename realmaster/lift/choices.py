"""What there is to lift with on this machine: every known profile with whether it fits, and the adapters at hand.

Works on profiles, sizes of weights and what memory is free; loads no model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from capture.errors import UserError
from realmaster.lift.files import family_of_layers
from realmaster.lift.memory import GIB, free_memory, plan_for
from realmaster.lift.profiles import Profile, family_of, known_profiles, load_profile


@dataclass(frozen=True)
class ModelChoice:
    """A profile on this machine."""

    name: str
    description: str = ""
    licence: str = ""
    family: str = ""
    adapter: str | None = None
    """The profile's own."""
    live: bool = False
    """Whether it lifts from the render alone, as live lifting needs."""
    needs: str = ""
    """Memory, e.g. "17.2 GiB"."""
    here: bool = False
    """Whether its weights are on this machine."""
    fits: bool = False
    """Whether it fits the memory that is free."""
    verdict: str = ""
    """All that in a sentence."""

    @property
    def runs(self) -> bool:
        return self.here and self.fits

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"runs": self.runs}


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter in the adapters folder."""

    name: str
    reference: str
    """What --lora takes."""
    family: str | None
    """ltx2 or wan, by the names of its layers; None where they say neither."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def device_here() -> torch.device:
    """Where models are run: the card, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"


def model_choices() -> list[ModelChoice]:
    """Every known profile, the embedded one first, then by name."""
    device = device_here()
    room, where = free_memory(device), device_name(device)
    names = sorted(known_profiles(), key=lambda name: (name != "embedded", name))
    return [_model(name, device, room, where) for name in names]


def adapters_folder() -> Path:
    """Where adapters are looked for: `adapters` in the user's data folder."""
    return Path(platformdirs.user_data_dir("realmaster", appauthor=False)) / "adapters"


def adapter_choices(folder: Path | None = None) -> list[AdapterChoice]:
    """The safetensors files in the adapters folder, and its folders that hold one; by name. Broken ones are left
    out: a lift with one says what is wrong with it."""
    folder = folder or adapters_folder()
    try:
        inside = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError:
        return []
    found = []
    for path in inside:
        file = path if path.suffix == ".safetensors" else next(iter(sorted(path.glob("*.safetensors"))), None)
        if file is None or not file.is_file():
            continue
        try:
            with safe_open(file, framework="pt") as weights:
                family = family_of_layers(weights.keys())
        except (OSError, SafetensorError):
            continue
        found.append(AdapterChoice(path.stem if path.is_file() else path.name, str(path), family))
    return found


def folder_here(profile: Profile) -> Path | None:
    """Where the profile's base lies on this machine; None when the hub would have to be asked."""
    if Path(profile.base).is_dir():
        return Path(profile.base)
    try:
        return Path(snapshot_download(profile.base, local_files_only=True))
    except (OSError, ValueError):
        return None


def _model(name: str, device: torch.device, room: int, where: str) -> ModelChoice:
    try:
        profile = load_profile(name)
        base = folder_here(profile)
        plan, fits, needed = plan_for(profile, base, device, "auto", room)
        family = family_of(profile)
    except UserError as error:
        return ModelChoice(name, verdict=str(error))
    absent = "" if base else f"; its weights are not on this machine ({profile.base})"
    if not fits:
        verdict = f"too large even with {plan}: {where} has {room / GIB:.1f} GiB free{absent}"
    elif base is None:
        verdict = f"would fit {where} ({plan}){absent}"
    else:
        verdict = f"runs on {where} ({plan})"
    return ModelChoice(
        name,
        profile.description,
        profile.licence,
        family,
        profile.adapter,
        live=profile.cue == "color",
        needs=f"{needed / GIB:.1f} GiB" if needed > 0.1 * GIB else f"{needed / 2**20:.0f} MiB",
        here=base is not None,
        fits=fits,
        verdict=verdict,
    )
