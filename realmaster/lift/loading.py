"""From a model's name to a loaded lifter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from realmaster.lift.lifter import Lifter
from realmaster.lift.profiles import Profile, check_paths, family_of, load_profile

if TYPE_CHECKING:
    from realmaster.lift.pipeline_lifter import PipelineLifter


def load_lifter(model: str | Path = "embedded", lora: str | None = None, device: str | None = None) -> Lifter:
    """Load the lifter of a profile name, a profile file, or a folder in diffusers layout.

    `lora` (a safetensors file, a folder, or a hub id) takes the place of the profile's adapter; "none" leaves it out.
    `device` is a torch device; by default the first GPU, else the CPU. Raises `LiftError`.
    """
    profile = load_profile(model)
    if lora is not None:
        profile.adapter = None if lora == "none" else lora
    return lifter_of(profile, device)


def lifter_of(profile: Profile, device: str | None = None) -> PipelineLifter:
    """As `load_lifter`, from the profile itself."""
    check_paths(profile)  # at once, not after the pipeline has loaded
    # Families are imported when asked for: each brings its pipeline's imports with it.
    family = family_of(profile)
    if family == "wan":
        from realmaster.lift.wan import WanLifter

        return WanLifter(profile, device)
    if family == "vace":
        from realmaster.lift.vace import VACELifter

        return VACELifter(profile, device)
    from realmaster.lift.ltx2 import LTX2Lifter

    return LTX2Lifter(profile, device)
