"""What a training is asked to do: one validated value, read from TOML. Knows no model and no dataset.

Defaults are the published recipe of LTX-2's in-context LoRAs (Lightricks' trainer, `v2v_ic_lora`): rank 32, attention
and feed-forward layers, AdamW at 2e-4, 3000 steps, a first frame given in a fifth of them. A model that wants another
has a file of its profile's name in `recipes/`; a user's file goes over that, the command line over all.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from capture.errors import UserError
from realmaster.lift.lifter import Cue
from realmaster.lift.profiles import Quantisation
from realmaster.settings import Part, read_settings
from realmaster.train.flow import NoiseLevels

RECIPES = Path(__file__).parent / "recipes"


class TrainError(UserError):
    """A training that cannot be done, in one sentence."""


class AdapterSettings(Part):
    rank: int = Field(32, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0.0, description="by default the rank")
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: tuple[str, ...] | None = Field(None, description="names of layers; by default the family's")

    @property
    def scale(self) -> float:
        """What the product of an adapter's two matrices is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class LossSettings(Part):
    pictures: bool = Field(
        False,
        description="judge decoded pictures, by absolute error, SSIM, the strength of detail and the change between "
        "frames, rather than the velocity; for models whose decoder is cheap and few-step sampling",
    )
    seams: bool = Field(False, description="judge the borders of the codec's patches in pictures too")
    latents: float = Field(0.02, ge=0.0, description="share of the latents' absolute error beside that of pictures")


class OptimizerSettings(Part):
    name: Literal["adamw", "adamw8bit"] = Field("adamw", description="8 bits save 6 bytes a parameter")
    learning_rate: float = Field(2e-4, gt=0.0, le=1.0)
    schedule: Literal["linear", "constant", "cosine"] = Field("linear", description="falls to a tenth, not, to a 30th")
    warmup: int = Field(0, ge=0, description="steps over which the rate rises")
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0, description="longer gradients are shortened to this")


class CheckpointSettings(Part):
    every: int = Field(250, ge=1, description="steps")
    keep: int = Field(3, ge=1, description="older ones are deleted")


class ValidationSettings(Part):
    every: int = Field(500, ge=0, description="steps between liftings of held-out clips; 0: none")
    clips: int = Field(2, ge=0, description="pairs that are held out of training")
    frames: int | None = Field(None, ge=1, description="first so many frames of each; by default all")
    steps: int | None = Field(None, ge=1, description="sampling steps; by default the profile's")
    seed: int = Field(0, ge=0)


class Settings(Part):
    """All of it. Fields that begin a table in TOML are the parts above."""

    steps: int = Field(3000, ge=1, description="updates, of each expert where a model has two")
    batch_size: int = Field(1, ge=1, description="clips a process sees at once")
    accumulate: int = Field(1, ge=1, description="batches to an update")
    seed: int = Field(0, ge=0)

    cue: Cue = Field("color", description="what the model is shown of each frame; color is the render")
    references: tuple[Cue, ...] = Field((), description="further cues beside that one")
    reference_downscale: int = Field(1, ge=1, le=8, description="a reference is so many times smaller than its target")
    window: int | None = Field(None, ge=1, description="frames of a clip; by default the profile's window")
    neighbours: int = Field(
        1,
        ge=1,
        description="frames in a row that are judged together, each lifted by itself from the same noise; for models "
        "whose window is one frame",
    )
    max_side: int | None = Field(
        None, ge=64, description="larger pictures are trained smaller; by default the profile's"
    )
    first_frame: float = Field(
        0.2, ge=0.0, le=1.0, description="share of clips whose first frame is given, as in windows"
    )
    trigger: str = Field("", description="a word of its own for the adapter, put before every caption")
    caption: str = Field("", description="for pairs without one")
    caption_dropout: float = Field(0.1, ge=0.0, le=1.0, description="share of clips without words, as takes are lifted")

    experts: tuple[Literal["high_noise", "low_noise"], ...] = Field(
        ("high_noise", "low_noise"), min_length=1, description="of models that have two, which are trained, one by one"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="of the arithmetic; auto: fp32 on processors"
    )
    quantise: Quantisation | None = Field(None, description="keep the frozen weights in fewer bits, for small cards")
    shard: bool = Field(False, description="spread the frozen base over the processes; accelerate's --use_fsdp sets it")
    gradient_checkpointing: bool = Field(True, description="layers are computed twice, and need far less memory")
    average: float = Field(
        0.0, ge=0.0, lt=1.0, description="decay of the weights' running average; 0: the last weights"
    )
    trackers: tuple[str, ...] | None = Field(None, description="of Accelerate; by default tensorboard where installed")

    adapter: AdapterSettings = AdapterSettings()
    noise: NoiseLevels = NoiseLevels()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _cues_differ(self) -> Settings:
        shown = (self.cue, *self.references)
        if len(set(shown)) < len(shown):
            raise ValueError("cue and references name one thing twice")
        return self

    def learning_rate(self, step: int) -> float:
        """At an update, counted from 0."""
        plan, done = self.optimizer, min(1.0, step / self.steps)
        rise = min(1.0, (step + 1) / plan.warmup) if plan.warmup else 1.0
        fall = 1.0
        if plan.schedule == "linear":
            fall = 1 - 0.9 * done
        elif plan.schedule == "cosine":
            fall = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))
        return plan.learning_rate * rise * fall


def load_settings(
    path: Path | None = None,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    under: Mapping[str, Any] | None = None,
) -> Settings:
    """The defaults; over them the recipe of that name if one ships, `under`, the TOML file at `path`, and `overrides`
    (both nested, as in TOML). Raises `TrainError`."""
    values: Mapping[str, Any] = under or {}
    shipped = {path.stem: path for path in RECIPES.glob("*.toml")}
    if recipe in shipped:
        values = tomllib.loads(shipped[recipe].read_text(encoding="utf-8"))
    return read_settings(Settings, values, path, overrides, TrainError)
