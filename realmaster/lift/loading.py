"""From a model's name to a loaded lifter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from realmaster.lift.lifter import Lifter
from realmaster.lift.profiles import Profile, check_paths, family_of, load_profile

if TYPE_CHECKING:
    from realmaster.lift.memory import Mode
    from realmaster.lift.pipeline_lifter import PipelineLifter


def load_lifter(
    model: str | Path = "embedded",
    lora: str | None = None,
    device: str | None = None,
    *,
    lora_scale: float | None = None,
    memory: Mode = "auto",
) -> Lifter:
    """Load the lifter of a profile name, a profile file, or a folder in diffusers layout.

    `lora` (a safetensors file, a folder, or a hub id) takes the place of the profile's adapter; "none" leaves it out.
    `lora_scale`: its strength, by default the profile's; 0 is the same as none. `device` is a torch device; by default
    the first GPU, else the CPU. `memory`: see `realmaster.lift.memory`. Raises `LiftError`.
    """
    profile = load_profile(model)
    if lora is not None:
        profile.adapter = None if lora == "none" else lora
    if lora_scale is not None:
        profile.adapter_weight = lora_scale
    return lifter_of(profile, device, memory)


def lifter_of(profile: Profile, device: str | None = None, memory: Mode = "full") -> PipelineLifter:
    """As `load_lifter`, from the profile itself. By default nothing is saved: for those who work with its pipeline."""
    check_paths(profile)  # at once, not after the pipeline has loaded
    # Families are imported when asked for: each brings its pipeline's imports with it.
    family = family_of(profile)
    if family == "wan":
        from realmaster.lift.wan import WanLifter

        return WanLifter(profile, device, memory)
    if family == "vace":
        from realmaster.lift.vace import VACELifter

        return VACELifter(profile, device, memory)
    from realmaster.lift.ltx2 import LTX2Lifter

    return LTX2Lifter(profile, device, memory)
