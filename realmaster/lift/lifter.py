"""What every lifter is. Knows nothing of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from capture.errors import UserError

Cue = Literal["color", "edges", "depth", "normals", "geometry"]
"""What a lifter is shown of a frame: the render, or a picture drawn from the geometry (`realmaster.lift.cues`)."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


Preview = Callable[[np.ndarray], None]
"""Is shown a clip as a model expects it while it samples, uint8 `[F, H, W, 3]`: small pictures in the order of their
frames, one for each that its codec keeps together."""


class LiftError(UserError):
    """A lift that cannot be done, in one sentence."""


class OutOfMemory(LiftError):
    """A model that does not fit the memory, however small it works."""


NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch says in plain RuntimeErrors: the card's driver, the processor on Windows and on Linux, CUDA's libraries
(CUBLAS_STATUS_ALLOC_FAILED and the like)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Python's MemoryError, torch's of the card (by its name: torch need not be loaded here), and whatever else says
    so."""
    named = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return named or any(words in str(error) for words in NO_MEMORY)


@dataclass(frozen=True)
class LiftRules:
    """The clips that a lifter takes in one piece."""

    window: int
    """Frames of one piece: `frame_step * k + 1`."""
    overlap: int
    """Frames at a window's start that the window before has lifted: `frame_step * k + 1`, less than `window`; or 0,
    and every window stands alone."""
    frame_step: int
    """Clip and prefix lengths are multiples of this, plus one."""
    size_multiple: int
    """Width and height are multiples of this, in pixels."""
    max_side: int
    """Longer side at which the model works, in pixels; larger pictures are lifted smaller and enlarged again."""

    frame_rate: float | None = None
    """Frames a second that the model believes it is shown; None: it has no notion of that."""

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The size, in pixels, to which a picture is brought for the model: smaller when it is large, in its shape."""
        scale = min(1.0, self.max_side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def filled_size(self, height: int, width: int) -> tuple[int, int]:
        """The working size, filled up at the right and the bottom to what the model takes."""
        height, width = self.working_size(height, width)
        return height + -height % self.size_multiple, width + -width % self.size_multiple

    def __post_init__(self) -> None:
        lengths = {"window": self.window} | ({"overlap": self.overlap} if self.overlap else {})
        for name, length in lengths.items():
            if length < 1 or (length - 1) % self.frame_step:
                raise LiftError(
                    f"A {name} of {length} frames does not fit this model: use {self.frame_step}k+1 frames, "
                    f"such as {self.frame_step * max(1, length // self.frame_step) + 1}."
                )
        if self.overlap >= self.window:
            raise LiftError(f"The overlap ({self.overlap} frames) must be shorter than the window ({self.window}).")


def check_stills(anchors: Mapping[int, np.ndarray], shape: tuple[int, ...]) -> None:
    """Raises `LiftError` unless every anchor is a uint8 picture of `shape` (height, width, 3)."""
    for place, still in anchors.items():
        if still.dtype != np.uint8 or still.shape != shape:
            raise LiftError(
                f"The anchor of frame {place} is {still.dtype} {list(still.shape)}: it must be uint8 {list(shape)}, "
                "as its frame is."
            )


class Guard(BaseModel):
    """What each lifted window must keep, and how often it is tried."""

    model_config = ConfigDict(extra="forbid")

    attempts: int = Field(2, ge=1, le=10, description="tries at a window, each with another seed")
    strengthen: float = Field(0.0, ge=0.0, le=1.0, description="what each further try adds to the adapter's weight")
    depth_edges: float = Field(0.8, ge=0.0, description="least depth-edge alignment, as a share of the render's")
    flicker: float | None = Field(None, gt=0.0, description="greatest flicker ratio")


class Lifter(Protocol):
    """Lifts one clip. Implementations hold a loaded model; they are not safe for threads."""

    name: str
    rules: LiftRules
    cue: Cue
    """What it is shown of each frame."""
    references: tuple[Cue, ...]
    """What it can be shown of each frame beside that."""
    guard: Guard | None
    """What each window of a take must keep; None: nothing is asked."""
    notes: list[str]
    """What was done for a lack of memory since it was loaded, in words for the user."""

    @property
    def settings(self) -> dict[str, Any]:
        """What makes its lifts what they are, as plain values: two lifters of equal settings lift alike."""
        ...

    def lanes(self) -> Sequence[Lifter]:
        """This lifter and others of the same weights, as many as can well lift at once, each in a thread of its own:
        itself alone, unless every frame is lifted by itself, on a processor."""
        ...

    def lift(
        self,
        clip: np.ndarray,
        prompt: str = "",
        seed: int = 0,
        prefix: np.ndarray | None = None,
        steps: int | None = None,
        progress: Progress | None = None,
        *,
        anchors: Mapping[int, np.ndarray] | None = None,
        references: Mapping[Cue, np.ndarray] | None = None,
        negative_prompt: str | None = None,
        strengthen: float = 0.0,
        preview: Preview | None = None,
    ) -> np.ndarray:
        """Lift `clip`, the frames' cues, uint8 `[T, H, W, 3]` sRGB with T up to `rules.window`, to the same shape.

        `prefix`, uint8 `[P, H, W, 3]`, is what the first P frames of this clip were lifted to before: they are kept,
        and the rest goes on from them. `anchors`: stills, uint8 `[H, W, 3]`, that frames of the clip (place, from 0)
        shall come close to; the model paints those frames too, so that they do not stand out. `references`: further
        cues of the same frames, each like `clip`; any of those in `self.references`, and what is not given is done
        without. `negative_prompt`: what guidance leads away from; by default the profile's. `strengthen` is added to
        the adapter's weight, where there is an adapter. `preview` is shown what the model expects at each step. `steps`
        overrides the profile's sampling steps. The same seed
        gives the same clip. Raises `LiftError`.
        """
        ...
