"""What pair making goes by: one validated value, read from TOML. `settings.toml` beside this file holds every default.

Knows no model and no take.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from capture.errors import UserError
from realmaster.lift.lifter import Cue
from realmaster.settings import Part, read_settings

SHIPPED = Path(__file__).with_name("settings.toml")


class PairsError(UserError):
    """Pairs that cannot be made, in one sentence."""


class ClipSettings(Part):
    frames: int = Field(ge=0)
    most: int = Field(ge=0)
    near_duplicate: float = Field(ge=0.0, le=1.0)
    still_frames: int = Field(ge=2)
    blank: float = Field(ge=0.0, le=1.0)
    jump: float = Field(gt=0.0)
    gap_seconds: float = Field(gt=0.0)


class StructureSettings(Part):
    """What stills and videos must keep of the render's geometry."""

    depth_edges: float = Field(ge=0.0)
    edges_shared: float = Field(ge=-1.0, le=1.0)
    offset: float = Field(ge=0.0)


class AnchorSettings(StructureSettings):
    attempts: int = Field(ge=1, le=20)
    instruction: str
    style_instruction: str


class PropagationSettings(Part):
    attempts: int = Field(ge=1, le=20)
    steps: int = Field(ge=0)


class FilterSettings(StructureSettings):
    lag: int = Field(ge=0)
    frame_order: float = Field(ge=0.0, le=1.0)
    flicker: float = Field(ge=0.0)
    warp_error: float = Field(ge=0.0)
    anchor_drift: float = Field(ge=0.0)
    identity: float = Field(ge=0.0)
    novelty: float = Field(ge=0.0)
    faces: float = Field(ge=-1.0, le=1.0)
    photographs: float


class ScorerSettings(Part):
    """Measures with trained weights of the user's: folders, empty where there are none."""

    faces: str
    photographs: str


class DatasetSettings(Part):
    cues: tuple[Cue, ...]
    crf: int = Field(ge=0, le=51)


class WorkerSettings(Part):
    gpus: float = Field(ge=0.0)
    split: bool
    offload: bool
    attempts: int = Field(ge=1)


class EditorSettings(Part):
    pipeline: Literal["Lifter", "QwenImageEditPlusPipeline", "Flux2KleinPipeline", "FluxKontextPipeline"]
    base: str
    licence: str = ""
    steps: int = Field(1, ge=1)
    guidance: float = Field(1.0, ge=0.0)
    negative_prompt: str = ""
    max_pixels: int = Field(1_048_576, ge=1024)
    parameters: float = Field(0.0, ge=0.0)
    attention: float = Field(0.0, ge=0.0)


class PropagatorSettings(Part):
    profile: str
    carry: bool = False
    parameters: float = Field(0.0, ge=0.0)
    attention: float = Field(0.0, ge=0.0)


class CostSettings(Part):
    tflops: float = Field(gt=0.0)


class Settings(Part):
    prompt: str
    clips: ClipSettings
    anchors: AnchorSettings
    propagation: PropagationSettings
    filters: FilterSettings
    scorers: ScorerSettings
    dataset: DatasetSettings
    workers: WorkerSettings
    editors: dict[str, EditorSettings]
    propagators: dict[str, PropagatorSettings]
    cost: CostSettings


def load_settings(path: Path | None = None) -> Settings:
    """The shipped settings, with those of the TOML file at `path` in their place. Raises `PairsError`."""
    return read_settings(Settings, tomllib.loads(SHIPPED.read_text(encoding="utf-8")), path, error=PairsError)


def with_steps(settings: Settings, steps: int) -> Settings:
    """The same, with so many sampling steps for every editor and propagator."""
    editors = {name: entry.model_copy(update={"steps": steps}) for name, entry in settings.editors.items()}
    propagation = settings.propagation.model_copy(update={"steps": steps})
    return settings.model_copy(update={"editors": editors, "propagation": propagation})


def keeping_all(settings: Settings) -> Settings:
    """The same, with thresholds that turn neither anchors nor pairs down."""
    structure = {"depth_edges": 0.0, "edges_shared": -1.0, "offset": 1.0}
    rest = {"frame_order": 0.0, "novelty": 0.0, "lag": 1_000_000, "faces": -1.0, "photographs": -1e9}
    rest |= dict.fromkeys(("flicker", "warp_error", "anchor_drift", "identity"), 1.0)
    return settings.model_copy(
        update={
            "anchors": settings.anchors.model_copy(update=structure),
            "filters": settings.filters.model_copy(update=structure | rest),
        }
    )
