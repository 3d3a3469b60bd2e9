"""Model profiles: which pipeline, which adapter, how it samples, which clips it takes. Knows no model code.

A profile is a TOML file. `embedded` and the others that ship lie in `profiles/`; users keep theirs in their
configuration folder or beside an adapter (`realmaster train` writes one). Paths in a profile are relative to it.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from realmaster.lift.lifter import Cue, Guard, LiftError

Family = Literal["ltx2", "wan", "vace"]
"""Model families, each with a file of its own."""

Quantisation = Literal["int8", "nf4"]
"""int8: torchao, weights only. nf4: bitsandbytes, 4 bits, on a card only."""

PIPELINES: dict[str, Family] = {
    "LTX2InContextPipeline": "ltx2",
    "LTX2ConditionPipeline": "ltx2",
    "LTX2Pipeline": "ltx2",
    "WanInContextPipeline": "wan",
    "WanPipeline": "wan",
    "WanVACEPipeline": "vace",
}
"""The family of a folder in diffusers layout, by the pipeline class that it names."""

SHIPPED = Path(__file__).parent / "profiles"


class Sampling(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = Field(8, ge=1, le=1000, description="denoising steps where no sigmas are given")
    sigmas: list[float] | None = Field(None, min_length=1, description="noise levels, falling, each in (0, 1]")
    solver: Literal["unipc", "euler"] | None = Field(None, description="Wan only; by default the model's own")
    flow_shift: float | None = Field(None, gt=0.0, description="Wan only; by default the model's own")
    guidance_scale: float = Field(1.0, ge=1.0, le=30.0, description="classifier-free guidance; 1 is off")
    guidance_rescale: float = Field(0.0, ge=0.0, le=1.0, description="LTX-2 only; against guidance's harsh contrast")
    stg_scale: float = Field(0.0, ge=0.0, le=30.0, description="LTX-2 only; spatio-temporal guidance; 0 is off")
    stg_blocks: list[int] = Field([28], min_length=1, description="LTX-2 only; blocks that this guidance disturbs")
    modality_scale: float = Field(1.0, ge=1.0, le=30.0, description="LTX-2 only; guidance by sound; 1 is off")

    @model_validator(mode="after")
    def _sigmas_fall(self) -> Sampling:
        levels = self.sigmas or []
        if any(not 0 < s <= 1 for s in levels) or any(b >= a for a, b in zip(levels, levels[1:], strict=False)):
            raise ValueError("sigmas must fall and lie in (0, 1]")
        return self


class Training(BaseModel):
    """What adapters for a distilled base are trained on: the model that it was distilled from."""

    model_config = ConfigDict(extra="forbid")

    base: str = Field(description="folder in diffusers layout (relative to the profile) or a hub id")
    sampling: Sampling = Field(Sampling(steps=30, guidance_scale=3.0), description="how that model samples")


class Parameters(BaseModel):
    """How large a base from the hub is, so that `realmaster doctor` can say what fits before it is fetched."""

    model_config = ConfigDict(extra="forbid")

    transformer: float = Field(gt=0.0, description="billions of parameters, of all experts")
    encoder: float = Field(gt=0.0, description="billions, of the text encoder")
    rest: float = Field(0.5, ge=0.0, description="billions, of everything else")
    features: int = Field(ge=1, description="width of the transformer")
    blocks: int = Field(ge=1, description="of the transformer, all experts")


class Upscale(BaseModel):
    """LTX-2 only: lift at half the size, enlarge the latents, and sample on from there without adapter and render."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("latent_upsampler", description="latent upsampler: a part of the base, a folder, or a hub id")
    sigmas: list[float] = Field([0.909375, 0.725, 0.421875], min_length=1, description="noise levels after enlarging")


class Profile(BaseModel):
    """How a lifter is set up."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", description="filled in from the file's name")
    description: str = ""
    licence: str = Field("", description="of base and adapter, in one line; shown before a lift")
    family: Family | None = Field(None, description="by default that of the base, where that is a folder")
    base: str = Field(description="folder in diffusers layout (relative to the profile) or a hub id")
    adapter: str | None = Field(None, description="LoRA: a safetensors file, a folder, or a hub id (:file)")
    adapter_weight: float = Field(1.0, ge=0.0, le=2.0)
    prompt: str = Field("", description="prompt where the user gives none")
    negative_prompt: str = Field("", description="what guidance leads away from; without guidance it has no effect")
    cue: Cue = Field("color", description="what the model is shown of each frame")
    references: list[Cue] = Field([], description="further cues that the adapter was trained to see beside that one")
    trigger: str = Field("", description="word that the adapter was trained with; put before every prompt")
    window: int = Field(121, ge=1, description="frames lifted in one piece")
    overlap: int = Field(9, ge=0, description="frames that a window takes over from the one before")
    max_side: int = Field(1280, ge=64, description="longer side at which the model works, in pixels")
    frame_rate: float | None = Field(None, gt=0.0, description="LTX-2 only; what it is told; a take keeps its times")
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    quantise: Quantisation | None = Field(None, description="store the transformer's weights in fewer bits")
    gguf: str | None = Field(None, description="transformer in place of the base's: a GGUF file, a folder, a hub id")
    preview: str | None = Field(None, description="tiny VAE for previews: a part of the base, a folder, or a hub id")
    attention: str | None = Field(None, description="kernel of the self-attention, as diffusers names it (sage_hub)")
    compile: bool = Field(False, description="compile the transformer's blocks: slow to start, faster after")
    sampling: Sampling = Sampling()
    training: Training | None = Field(None, description="where another base is trained on than lifted with")
    upscale: Upscale | None = Field(None, description="without it the model works in one stage")
    parameters: Parameters | None = Field(None, description="of a base from the hub")
    guard: Guard | None = Field(None, description="without it no window is judged before the next")

    @model_validator(mode="after")
    def _quantised_once(self) -> Profile:
        if self.gguf is not None and self.quantise is not None:
            raise ValueError("a GGUF file is quantised already: leave quantise out")
        return self

    @property
    def stored(self) -> Literal["int8", "nf4", "gguf"] | None:
        """How the transformer's weights are stored in fewer bits; None: as they are."""
        return self.quantise if self.gguf is None else "gguf"


FAMILY_DEFAULTS: dict[Family, dict[str, Any]] = {
    "ltx2": {},
    "wan": {"window": 81, "max_side": 832, "sampling": Sampling(steps=50, guidance_scale=5.0)},
    "vace": {"cue": "edges", "window": 81, "max_side": 832, "sampling": Sampling(steps=50, guidance_scale=5.0)},
}
"""What a bare folder of a family is run with, where that differs from a profile's defaults."""


def family_of(profile: Profile) -> Family:
    """The profile's family; where it names none, the one of its base. Raises `LiftError`."""
    if profile.family is not None:
        return profile.family
    try:
        index = json.loads((Path(profile.base) / "model_index.json").read_text(encoding="utf-8"))
        pipeline = str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LiftError(
            f"It is not known of which family {profile.base} is: "
            'write family = "ltx2", "wan" or "vace" into the profile.'
        ) from None
    if pipeline not in PIPELINES:
        raise LiftError(f"{profile.base} is a {pipeline}, which cannot lift: {', '.join(PIPELINES)} can.")
    return PIPELINES[pipeline]


def profile_folders() -> list[Path]:
    return [SHIPPED, Path(platformdirs.user_config_dir("realmaster")) / "profiles"]


def known_profiles() -> dict[str, Path]:
    """Name -> file; a user's profile goes before a shipped one of the same name."""
    return {path.stem: path for folder in profile_folders() for path in sorted(folder.glob("*.toml"))}


def load_profile(model: str | Path) -> Profile:
    """The profile of that name, in that TOML file, or for that folder (its `profile.toml`, else sound defaults).

    Raises `LiftError` naming what exists.
    """
    known, path = known_profiles(), Path(model)
    if str(model) in known:
        return _read(known[str(model)])
    if path.suffix == ".toml" and path.is_file():
        return _read(path)
    if path.suffix == ".gguf":
        raise LiftError(
            f"{path} can be a model's transformer alone: write a profile that names it (gguf = ...) and the base that "
            "everything else comes from."
        )
    if path.is_dir():
        if (path / "profile.toml").is_file():
            return _read(path / "profile.toml")
        if (path / "model_index.json").is_file():
            bare = Profile(name=path.name, base=str(path.resolve()))
            return bare.model_copy(update={"family": (family := family_of(bare)), **FAMILY_DEFAULTS[family]})
        raise LiftError(f"{path} is not a model: it holds neither a profile.toml nor diffusers' model_index.json.")
    close = difflib.get_close_matches(str(model), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise LiftError(
        f"There is no model profile named {str(model)!r}: {hint}known profiles are {', '.join(sorted(known))}, "
        "or give a folder in diffusers layout."
    )


def check_paths(profile: Profile) -> None:
    """Raises `LiftError` when base or adapter is written as a path and nothing is there: only what can be a hub id is
    looked for on the hub."""
    if _is_path(profile.base) and not Path(profile.base).is_dir():
        raise LiftError(
            f"There is no folder {profile.base}, the base of profile {profile.name}: "
            "give a folder in diffusers layout or a hub id."
        )
    if profile.gguf is not None and not Path(profile.gguf).exists() and not _hub_file(profile.gguf, "gguf"):
        raise LiftError(
            f"There is no GGUF file {profile.gguf}, which profile {profile.name} names: give a file, a folder, or a "
            "hub id with its file (owner/name:file.gguf)."
        )
    adapter = profile.adapter
    if adapter is None or Path(adapter).exists() or _hub_file(adapter, "safetensors"):
        return
    if _is_path(adapter) or adapter.endswith(".safetensors"):
        raise LiftError(f"There is no adapter {adapter}: --lora takes a safetensors file, a folder, or a hub id.")


def _hub_file(reference: str, suffix: str) -> bool:
    """Whether it names a file on the hub: `owner/name:file.suffix`."""
    return re.fullmatch(rf"[\w.-]+/[\w.-]+:[\w./-]+\.{suffix}", reference) is not None


def _is_path(reference: str) -> bool:
    """Whether it cannot be a hub id (`name` or `owner/name`): absolute on any system, or relative and longer."""
    absolute = PurePosixPath(reference).is_absolute() or PureWindowsPath(reference).is_absolute()
    return absolute or reference.startswith((".", "~")) or "\\" in reference or reference.count("/") > 1


def _read(path: Path) -> Profile:
    try:
        profile = Profile(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LiftError(f"The profile {path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the profile"
        raise LiftError(f"The profile {path} is wrong at {where}: {first['msg']}.") from error
    profile.name = path.parent.name if path.name == "profile.toml" else path.stem
    profile.base = resolve(path.parent, profile.base)
    if profile.adapter:
        profile.adapter = resolve(path.parent, profile.adapter)
    if profile.gguf:
        profile.gguf = resolve(path.parent, profile.gguf)
    if profile.training:
        profile.training.base = resolve(path.parent, profile.training.base)
    return profile


def resolve(folder: Path, reference: str) -> str:
    """A path beside the profile if there is one, else the reference as it stands (an absolute path or a hub id)."""
    beside = folder / reference
    return str(beside.resolve()) if beside.exists() else reference
