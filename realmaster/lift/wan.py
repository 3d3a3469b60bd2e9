"""The Wan family (2.1 and 2.2 text to video) in context: the render's clean tokens beside the noisy target's.

The pipeline and its mathematics are in `wan_in_context`; a profile adds the adapter, which the paper trains for each
of Wan 2.2's two experts.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor
from torch.nn import functional

from realmaster.lift.libraries import quiet
from realmaster.lift.lifter import LiftError, Progress
from realmaster.lift.memory import Mode
from realmaster.lift.pipeline_lifter import ModelClip, PipelineLifter, counting_steps
from realmaster.lift.profiles import Profile, Sampling
from realmaster.lift.prompts import Encoded
from realmaster.lift.wan_in_context import WanInContextPipeline, WanReference, encode_video

PROMPT_TOKENS = 512
"""To which the pipelines fill prompts up."""

SOLVERS = {"unipc": UniPCMultistepScheduler, "euler": FlowMatchEulerDiscreteScheduler}


class WanLifter(PipelineLifter):
    """A `Lifter` on `WanInContextPipeline`."""

    pipeline_class: ClassVar[type[DiffusionPipeline]] = WanInContextPipeline
    size_multiple = 16

    def __init__(self, profile: Profile, device: str | None = None, memory: Mode = "auto") -> None:
        super().__init__(profile, device, memory)
        with quiet():
            self.pipeline.vae.to(torch.float32)  # its range suffers visibly in 16 bits

    def adapt(self, profile: Profile) -> None:
        """See `PipelineLifter.adapt`."""
        super().adapt(profile)
        self.pipeline.scheduler = scheduler(self.own_scheduler, profile.sampling)

    def _compression(self) -> tuple[int, int]:
        return self.pipeline.vae_scale_factor_temporal, self.pipeline.vae_scale_factor_spatial

    def _encode(self, encoder: Any, text: str) -> Encoded:
        embeds, _ = encoder.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=PROMPT_TOKENS)
        return {"embeds": embeds}

    def _latents(self, video: Tensor) -> Tensor:
        pixels = video.permute(0, 3, 1, 2).to(self.device)
        return encode_video(self.pipeline.vae, pixels)[0]

    def _texts(self, prompt: Encoded | None, negative: Encoded | None) -> dict[str, Tensor | None]:
        """The pipeline's arguments for prompts."""
        if prompt is None:
            raise LiftError(f"The model {self.profile.base} has no text encoder, which the Wan family needs.")
        return {
            "prompt_embeds": prompt["embeds"].to(self.device),
            "negative_prompt_embeds": None if negative is None else negative["embeds"].to(self.device),
        }

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
        sampling = self.profile.sampling
        sigmas = sampling.sigmas if steps is None else None
        count = len(sigmas) if sigmas else steps or sampling.steps
        height, width = clip.size
        prefix = self._prefix(clip)
        lifted = self.pipeline(
            **self._texts(prompt, negative),
            references=[self._reference(shown) for shown in (clip.cue, *clip.references)],
            prefix=None if prefix is None else prefix.permute(0, 3, 1, 2),
            height=height,
            width=width,
            num_frames=len(clip),
            num_inference_steps=count,
            sigmas=sigmas,
            guidance_scale=sampling.guidance_scale,
            generator=generator,
            callback_on_step_end=counting_steps(progress, count),
            output_type="pt",
            return_dict=False,
        )[0][0]
        return lifted.float().cpu().permute(0, 2, 3, 1)

    def _prefix(self, clip: ModelClip) -> Tensor | None:
        """The known frames, or an anchor in the place of the first: for others the model has no tokens."""
        later = [place for place in clip.anchors if place > 0]
        if later:
            raise LiftError(
                f"The Wan models in context take an anchor at the first frame only, not at frame {later[0]}: "
                "leave it out, or lift with an LTX-2 or VACE model."
            )
        return clip.anchors[0][None] if 0 in clip.anchors else clip.known

    def _reference(self, video: Tensor) -> WanReference:
        """`video` `[T, H, W, 3]` at the size that the adapter was trained with."""
        _, height, width, _ = video.shape
        small = (height // self.reference_downscale, width // self.reference_downscale)
        reference = video.permute(0, 3, 1, 2)
        if small != (height, width):
            reference = functional.interpolate(reference, size=small, mode="bicubic", antialias=True).clamp(0, 1)
        return WanReference(reference, self.reference_downscale)


def scheduler(given: Any, sampling: Sampling) -> Any:
    """The scheduler that the profile asks for, else the one that the model came with."""
    cls = SOLVERS[sampling.solver] if sampling.solver else type(given)
    shift = "shift" if cls is FlowMatchEulerDiscreteScheduler else "flow_shift"
    values = dict(given.config)
    wanted = sampling.flow_shift
    if sampling.sigmas is not None:
        wanted = 1.0  # noise levels that are spelt out are meant as they stand
    if wanted is None:
        wanted = values.get("flow_shift", values.get("shift", 1.0))
    return cls.from_config(values, **{shift: wanted})
