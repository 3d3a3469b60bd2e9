"""VACE (Wan 2.1 and 2.2-Fun): photoreal video from cues alone, without an adapter. The baseline that everyone can run.

It is shown edges or depth instead of the render, so it keeps the geometry but chooses matter and light by the prompt.
"""

from __future__ import annotations

import torch
from diffusers import WanVACEPipeline
from PIL import Image
from torch import Tensor

from realmaster.lift.lifter import LiftError, Progress
from realmaster.lift.memory import Mode
from realmaster.lift.pipeline_lifter import ModelClip, counting_steps
from realmaster.lift.profiles import Profile
from realmaster.lift.prompts import Encoded
from realmaster.lift.wan import WanLifter


class VACELifter(WanLifter):
    """A `Lifter` on `WanVACEPipeline`, which has Wan's VAE, schedulers and sizes."""

    pipeline_class = WanVACEPipeline

    def __init__(self, profile: Profile, device: str | None = None, memory: Mode = "auto") -> None:
        if profile.references:
            raise LiftError(f"A VACE model is shown one cue: leave the references out of profile {profile.name}.")
        super().__init__(profile, device, memory)

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
        count = steps or self.profile.sampling.steps
        height, width = clip.size
        kept = dict(enumerate(() if clip.known is None else clip.known)) | dict(clip.anchors)
        shown = clip.cue.clone()
        for place, picture in kept.items():
            shown[place] = picture
        # White is made, black is kept as it is shown.
        mask = [Image.new("L", (width, height), 0 if place in kept else 255) for place in range(len(clip))]
        lifted = self.pipeline(
            **self._texts(prompt, negative),
            video=[Image.fromarray(picture) for picture in (shown * 255).round().to(torch.uint8).numpy()],
            mask=mask,
            height=height,
            width=width,
            num_frames=len(clip),
            num_inference_steps=count,
            guidance_scale=self.profile.sampling.guidance_scale,
            generator=generator,
            callback_on_step_end=counting_steps(progress, count),
            output_type="pt",
            return_dict=False,
        )[0][0]
        return lifted.float().cpu().permute(0, 2, 3, 1)
