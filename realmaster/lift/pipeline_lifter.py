"""What lifters on a diffusers pipeline have in common: pictures in and out of the model's form, prompts, and what to do
when memory runs out.

Knows profiles and pipelines; what a family's pipeline is called with stands in that family's file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional

from realmaster.lift.adapters import digest, fuse, load_adapter, strengthened
from realmaster.lift.lifter import (
    Cue,
    LiftError,
    LiftRules,
    OutOfMemory,
    Preview,
    Progress,
    check_stills,
    is_out_of_memory,
)
from realmaster.lift.memory import Mode, free_memory, give_back, plan_for, smaller
from realmaster.lift.pipelines import (
    TEXT_PARTS,
    encoder_class,
    load_encoder,
    load_part,
    load_pipeline,
    local_folder,
    may_compile,
    place,
    speed_up,
    store,
)
from realmaster.lift.previews import Decoder, linear_decoder, tiny_decoder, watching
from realmaster.lift.profiles import Profile
from realmaster.lift.prompts import Encoded, PromptCache, encoder_identity

LEAST_SIDE = 256
"""Pixels; a picture that is worked at smaller than this shows nothing."""

MOST_LANES = 8
"""Lifts at once; more would only wait for each other, as Python does one thing at a time."""


@dataclass(frozen=True)
class ModelClip:
    """A clip as a model takes it: pictures are float `[..., H, W, 3]` in [0, 1], of a length and size that it takes."""

    cue: Tensor
    """`[T, H, W, 3]`."""
    references: tuple[Tensor, ...]
    """Further cues, each of the same shape."""
    known: Tensor | None
    """`[P, H, W, 3]`, the first frames of the result, P = frame_step k + 1."""
    anchors: Mapping[int, Tensor]
    """Place -> `[H, W, 3]`, what a frame after the known ones shall come close to."""

    def __len__(self) -> int:
        return len(self.cue)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.cue.shape[1], self.cue.shape[2]


class PipelineLifter(ABC):
    """A `Lifter` on a diffusers pipeline."""

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    size_multiple: ClassVar[int]
    """Width and height that the pipeline takes are multiples of this."""
    unused_parts: ClassVar[tuple[str, ...]] = ()
    """Parts of the pipeline that a lift has no use for; they are not loaded."""

    def __init__(self, profile: Profile, device: str | None = None, memory: Mode = "auto") -> None:
        self.notes: list[str] = []
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # 16-bit arithmetic is slower than 32-bit on most processors.
        self.dtype = torch.float32 if self.device.type == "cpu" else getattr(torch, profile.dtype)
        self.base = local_folder(self.pipeline_class, profile)
        self.plan = plan_for(profile, self.base, self.device, memory)[0]
        whole = memory == "full"
        without = self.unused_parts if whole else (*self.unused_parts, *TEXT_PARTS)
        self.pipeline = load_pipeline(self.pipeline_class, profile, self.dtype, without)
        self.encoder_class = encoder_class(self.pipeline_class, self.base)
        self._encoder: Any = self.pipeline if whole else None
        self._prompts: PromptCache | None = None
        if self.encoder_class is not None:
            self._prompts = PromptCache(self._encode_texts, encoder_identity(self.base, self.dtype))
        self.own_scheduler = self.pipeline.scheduler
        """The one that the model came with."""
        self._decoder: Decoder | None = None  # of previews, once one is wanted
        self._fused: list[LoraLayer] = []  # of the adapter, when it is part of the weights
        self.adapt(profile)
        if self.may_fuse:
            self._fused = fuse(self.pipeline)
        store(self.pipeline, self.plan, self.dtype)
        self._place()
        speed_up(self.pipeline, profile, self.plan, self.device)
        if profile.compile and not may_compile(self.plan):
            self.notes.append(f"blocks are not compiled: that cannot be done with {self.plan}")

    @property
    def may_fuse(self) -> bool:
        """Whether the adapter may become part of the weights: a second stage has to do without it, and weights of few
        bits cannot take it in."""
        return self.plan.weights == "plain" and self.profile.upscale is None

    def adapt(self, profile: Profile) -> None:
        """Lift as a profile of the same base says, with its adapter if it has one. For a lifter that was loaded without
        an adapter: one that is part of the weights cannot be taken out again. Raises `LiftError`."""
        assert not self._fused
        self.profile = profile
        self.name = profile.name
        self.guard = profile.guard
        if self.guard is not None and (profile.adapter is None or profile.adapter_weight == 0):
            self.guard = self.guard.model_copy(update={"strengthen": 0.0})  # nothing to strengthen
        self.cue = profile.cue
        self.references = tuple(profile.references)
        self.reference_downscale = load_adapter(self.pipeline, profile)
        self._adapter_digest = digest(profile.adapter)
        step, spatial = self._compression()
        self.rules = LiftRules(
            window=profile.window,
            overlap=profile.overlap,
            frame_step=step,
            # A smaller reference must itself fall on whole patches.
            size_multiple=max(self.size_multiple, spatial) * self.reference_downscale,
            max_side=profile.max_side,
            frame_rate=self._frame_rate(profile),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """See `Lifter.settings`."""
        profile = self.profile.model_dump(exclude={"name", "description", "licence", "guard", "training", "parameters"})
        return {
            **profile,
            "adapter_digest": self._adapter_digest,
            "device": self.device.type,
            "memory": str(self.plan),
        }

    def lanes(self) -> list[PipelineLifter]:
        """See `Lifter.lanes`. One frame at a time is too little work for several cores to share: each has its own.

        A guard's further tries and a second stage change the adapter, which all lanes have in common, as they go.
        """
        alone = self.rules.window == 1 and self.guard is None and self.profile.upscale is None
        if self.device.type != "cpu" or not alone or self.plan.tiling:
            return [self]
        return [self, *(self._beside() for _ in range(min(MOST_LANES, torch.get_num_threads()) - 1))]

    def _beside(self) -> PipelineLifter:
        """This lifter again, of the same weights; what changes during a lift, it has for itself."""
        other = copy(self)
        other.pipeline = copy(self.pipeline)
        other.pipeline.scheduler = deepcopy(self.pipeline.scheduler)
        return other

    @torch.inference_mode()
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
        """See `Lifter.lift`. Pads what the model needs padded (frames by repeating the last, sides by the border)
        and cuts it off again."""
        check_clip(clip, prefix, self.rules)
        anchors, references = anchors or {}, references or {}
        check_stills(anchors, clip.shape[1:])
        check_references(references, clip, self.references)
        if outside := [place for place in anchors if not 0 <= place < len(clip)]:
            raise LiftError(f"There is no frame {outside[0]} for an anchor in a clip of {len(clip)} frames.")
        words = (self.profile.trigger, prompt or self.profile.prompt)
        texts = [" ".join(word for word in words if word)]
        if self.profile.sampling.guidance_scale > 1:
            texts.append(self.profile.negative_prompt if negative_prompt is None else negative_prompt)
        encoded = [None, None] if self._prompts is None else [*self._prompts(texts), None]

        while True:
            kept = 0 if prefix is None else len(prefix)
            known = None if prefix is None else self._to_model(prefix[: kept - (kept - 1) % self.rules.frame_step])
            asked = ModelClip(
                cue=self._to_model(clip),
                references=tuple(self._to_model(references[cue]) for cue in self.references if cue in references),
                known=known,
                anchors={place: self._to_model(still[None])[0] for place, still in anchors.items() if place >= kept},
            )
            try:
                with (
                    strengthened(self.pipeline, self.profile.adapter_weight, strengthen, self._fused),
                    self._previewing(preview, *clip.shape[1:3]),
                ):
                    lifted = self._sample(
                        asked,
                        prompt=encoded[0],
                        negative=encoded[1],
                        generator=torch.Generator().manual_seed(seed),
                        steps=steps,
                        progress=progress or (lambda done, total: None),
                    )
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the handler: the error holds all that the failed try had made.
            self._work_smaller()
        result = self._from_model(lifted, *clip.shape[:3])
        if prefix is not None:
            result = match_colour(result, prefix)
            result[: len(prefix)] = prefix
        return result

    @contextmanager
    def _previewing(self, preview: Preview | None, height: int, width: int) -> Iterator[None]:
        """Show `preview` what is expected of a clip of this size, at every step within."""
        if preview is None:
            yield
            return
        if self._decoder is None:
            if self.profile.preview is None:
                self._decoder = linear_decoder(self._latents, 1 + self.rules.frame_step)
            else:
                tiny = load_part(AutoencoderTiny, self.profile.preview, self.base, self.dtype)
                self._decoder = tiny_decoder(tiny.to(self.device))
        decode = self._decoder
        working, filled = self.rules.working_size(height, width), self.rules.filled_size(height, width)

        def show(latents: Tensor) -> None:
            pictures = decode(self._unpacked(latents))
            rows, columns = (
                max(1, round(side * part / whole))
                for side, part, whole in zip(pictures.shape[1:3], working, filled, strict=True)
            )
            preview((pictures[:, :rows, :columns].clamp(0, 1) * 255).round().to(torch.uint8).numpy())

        with watching(self.pipeline.scheduler, show):
            yield

    def _place(self) -> None:
        """Bring the parts to where the plan keeps them; where they do not fit, as a smaller one does. Raises
        `OutOfMemory`."""
        while True:
            try:
                return place(self.pipeline, self.plan, self.device)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the handler, which holds what the failed try had made.
            if not self._hold_smaller():
                raise OutOfMemory(
                    f"The model {self.name} does not fit this machine's memory: close other programs, or choose a "
                    "smaller model."
                )

    def _hold_smaller(self) -> bool:
        """Take the next smaller plan, if there is one, and note it; the parts are yet to be placed."""
        give_back(self.device)
        plan = smaller(self.plan, self.device)
        if plan is None:
            return False
        self.plan, self._encoder = plan, None
        self.pipeline.register_modules(**dict.fromkeys(TEXT_PARTS))  # with `full` it is the encoder
        self.notes.append(f"out of memory, tried again with less: {plan}")
        return True

    def _work_smaller(self) -> None:
        """Need less memory from now on, and note how. Raises `OutOfMemory` when nothing is left to be done."""
        if self._hold_smaller():
            self._place()
            return
        least = max(LEAST_SIDE, self.rules.size_multiple)
        if self.rules.max_side <= least:
            raise OutOfMemory(
                f"The model {self.name} does not fit this machine's memory, even at {self.rules.max_side} pixels: lift "
                "shorter windows, close other programs, or choose a smaller model."
            )
        side = max(least, int(self.rules.max_side * 0.75))
        self.notes.append(f"out of memory at {self.rules.max_side} pixels, tried again at {side}")
        self.rules = replace(self.rules, max_side=side)

    def _encode_texts(self, texts: Sequence[str]) -> list[Encoded]:
        """Load the text encoder where there is room for it, and let it go again if the plan says so."""
        encoder = self._encoder
        if encoder is None:
            encoder = load_encoder(self.pipeline_class, self.profile, self.dtype)
            needed = 1.1 * sum(weight.nbytes for weight in encoder.text_encoder.parameters())
            encoder.text_encoder.to(self.device if free_memory(self.device) > needed else "cpu")
        encoded = [self._encode(encoder, text) for text in texts]
        if self.plan.keep_encoder:
            self._encoder = encoder
        else:
            del encoder
            give_back(self.device)
        return encoded

    @abstractmethod
    def _compression(self) -> tuple[int, int]:
        """Frames, and pixels along each side, that one latent stands for."""

    def _frame_rate(self, profile: Profile) -> float | None:
        """See `LiftRules.frame_rate`."""
        return None

    @abstractmethod
    def _encode(self, encoder: Any, text: str) -> Encoded:
        """What the text encoder, in a pipeline that holds nothing else, makes of a text."""

    @abstractmethod
    def _latents(self, video: Tensor) -> Tensor:
        """Normalised latents `[C, F, h, w]` of pictures `[T, H, W, 3]` in [0, 1], of a length and size that the codec
        takes."""

    def _unpacked(self, latents: Tensor) -> Tensor:
        """The target's latents `[C, F, h, w]`, of those that the scheduler has."""
        return latents[0]

    @abstractmethod
    def _sample(
        self,
        clip: ModelClip,
        *,
        prompt: Encoded | None,
        negative: Encoded | None,
        generator: torch.Generator,
        steps: int | None,
        progress: Progress,
    ) -> Tensor:
        """Lift a clip to float `[T, H, W, 3]` in [0, 1], on the CPU, of its length and size. `prompt`: None where the
        model has no text encoder; `negative`: None without guidance."""

    def _to_model(self, clip: np.ndarray) -> Tensor:
        """uint8 `[T, H, W, 3]` -> float `[T', H', W', 3]` in [0, 1] of a length and size that the model takes."""
        video = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 255
        size = self.rules.working_size(*clip.shape[1:3])
        filled = self.rules.filled_size(*clip.shape[1:3])
        if size != clip.shape[1:3]:
            video = functional.interpolate(video, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        video = functional.pad(video, (0, filled[1] - size[1], 0, filled[0] - size[0]), mode="replicate")
        repeats = -(len(video) - 1) % self.rules.frame_step
        video = torch.cat([video, video[-1:].expand(repeats, -1, -1, -1)])
        return video.permute(0, 2, 3, 1).contiguous()

    def _from_model(self, video: Tensor, frames: int, height: int, width: int) -> np.ndarray:
        """The inverse of `_to_model`: float `[T', H', W', 3]` -> uint8 `[frames, height, width, 3]`."""
        working = self.rules.working_size(height, width)
        video = video[:frames, : working[0], : working[1]].permute(0, 3, 1, 2)
        if working != (height, width):
            video = functional.interpolate(video, size=(height, width), mode="bicubic", antialias=True)
        return (video.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def counting_steps(progress: Progress, steps: int, before: int = 0) -> Callable[..., dict[str, Any]]:
    """A pipeline's `callback_on_step_end` that tells `progress(done, steps)`, of which `before` were done already."""

    def step_end(_pipeline: object, step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
        progress(before + step + 1, steps)
        return kwargs

    return step_end


def check_clip(clip: np.ndarray, prefix: np.ndarray | None, rules: LiftRules) -> None:
    """Raises `LiftError` unless `clip` and `prefix` are what `Lifter.lift` takes."""
    for name, video in (("clip", clip), ("prefix", prefix)):
        if video is not None and (video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3):
            raise LiftError(f"A {name} must be uint8 [T, H, W, 3], not {video.dtype} {list(video.shape)}.")
    if not 1 <= len(clip) <= rules.window:
        raise LiftError(f"This model lifts 1 to {rules.window} frames in one piece, not {len(clip)}; use lift_long.")
    if prefix is not None and not (0 < len(prefix) < len(clip) and prefix.shape[1:] == clip.shape[1:]):
        raise LiftError(
            f"A prefix of {list(prefix.shape)} does not begin a clip of {list(clip.shape)}: "
            "it must be shorter and of one size."
        )


def check_references(references: Mapping[Cue, np.ndarray], clip: np.ndarray, taken: tuple[Cue, ...]) -> None:
    """Raises `LiftError` unless `references` are what a lifter that takes `taken` is given with `clip`."""
    for cue, video in references.items():
        if cue not in taken:
            raise LiftError(f"This model takes no reference {cue!r}: its profile names {', '.join(taken) or 'none'}.")
        if video.dtype != np.uint8 or video.shape != clip.shape:
            raise LiftError(
                f"The reference {cue} must be uint8 {list(clip.shape)}, as the clip is, "
                f"not {video.dtype} {list(video.shape)}."
            )


def match_colour(lifted: np.ndarray, prefix: np.ndarray) -> np.ndarray:
    """`lifted`, uint8 `[T, H, W, 3]`, in the colours in which its first frames were lifted before (`prefix`).

    A window's picture of its own prefix comes back a little off, by the model's taste and the codec's loss, and window
    after window that adds up. Mean and spread of each channel over the overlap give the correction, x a + b, of which
    a stays within a tenth of 1: content that changed is not to be stretched.
    """
    made, wanted = (video.reshape(-1, 3).astype(np.float64) for video in (lifted[: len(prefix)], prefix))
    gain = np.clip((wanted.std(0) + 1) / (made.std(0) + 1), 0.9, 1.1)
    offset = wanted.mean(0) - made.mean(0) * gain
    if np.abs(gain - 1).max() < 1e-3 and np.abs(offset).max() < 0.1:
        return lifted
    levels = np.arange(256)[:, None] * gain + offset  # one look-up a channel instead of arithmetic on every pixel
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.stack([table[:, channel][lifted[..., channel]] for channel in range(3)], axis=-1)
