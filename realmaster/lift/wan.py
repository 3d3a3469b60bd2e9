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

from realmaster.lift.lifter import Progress
from realmaster.lift.pipeline_lifter import PipelineLifter, counting_steps
from realmaster.lift.profiles import Profile, Sampling
from realmaster.lift.wan_in_context import WanInContextPipeline, WanReference

SOLVERS = {"unipc": UniPCMultistepScheduler, "euler": FlowMatchEulerDiscreteScheduler}


class WanLifter(PipelineLifter):
    """A `Lifter` on `WanInContextPipeline`."""

    pipeline_class: ClassVar[type[DiffusionPipeline]] = WanInContextPipeline
    size_multiple = 16

    def __init__(self, profile: Profile, device: str | None = None) -> None:
        super().__init__(profile, device)
        self.pipeline.vae.to(torch.float32)  # its range suffers visibly in 16 bits
        self.pipeline.scheduler = scheduler(self.pipeline.scheduler, profile.sampling)

    def _compression(self) -> tuple[int, int]:
        return self.pipeline.vae_scale_factor_temporal, self.pipeline.vae_scale_factor_spatial

    def _sample(
        self,
        render: Tensor,
        known: Tensor | None,
        *,
        prompt: str,
        generator: torch.Generator,
        steps: int | None,
        progress: Progress,
    ) -> Tensor:
        sampling = self.profile.sampling
        sigmas = sampling.sigmas if steps is None else None
        count = len(sigmas) if sigmas else steps or sampling.steps

        frames, height, width, _ = render.shape
        small = (height // self.reference_downscale, width // self.reference_downscale)
        reference = render.permute(0, 3, 1, 2)
        if small != (height, width):
            reference = functional.interpolate(reference, size=small, mode="bicubic", antialias=True).clamp(0, 1)
        lifted = self.pipeline(
            prompt,
            negative_prompt=self.profile.negative_prompt,
            references=[WanReference(reference, self.reference_downscale)],
            prefix=None if known is None else known.permute(0, 3, 1, 2),
            height=height,
            width=width,
            num_frames=frames,
            num_inference_steps=count,
            sigmas=sigmas,
            guidance_scale=sampling.guidance_scale,
            generator=generator,
            callback_on_step_end=counting_steps(progress, count),
            output_type="pt",
            return_dict=False,
        )[0][0]
        return lifted.float().cpu().permute(0, 2, 3, 1)


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
