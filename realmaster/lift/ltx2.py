"""The LTX-2 family: diffusers' in-context pipeline with an IC-LoRA. The embedded model is a small one of this class.

The render is the reference: its clean tokens stand beside the noisy target tokens at the same coordinates, and the
adapter has learned what to make of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import LTX2InContextPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.utils import resolve_default_image_crf
from torch import Tensor

from realmaster.lift.lifter import Progress
from realmaster.lift.pipeline_lifter import ModelClip, PipelineLifter, counting_steps
from realmaster.lift.profiles import Profile
from realmaster.models import constant_prompt, patch_codec  # noqa: F401  (the embedded model's parts, loaded by name)

# Without all of these a pass for audio guidance runs beside every step of the video, doubled.
GUIDANCE_OFF: dict[str, Any] = {
    "guidance_scale": 1.0,
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_scale": 1.0,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
    "audio_guidance_rescale": 0.0,
    "spatio_temporal_guidance_blocks": None,
}
FRAME_RATE = 24.0  # what the model believes; a take keeps its own times


class LTX2Lifter(PipelineLifter):
    """A `Lifter` on `LTX2InContextPipeline`."""

    pipeline_class = LTX2InContextPipeline
    size_multiple = 32

    def __init__(self, profile: Profile, device: str | None = None) -> None:
        super().__init__(profile, device)
        encoder = self.pipeline.text_encoder
        # The models were trained on stills compressed like video; ours without a text encoder was not.
        self.still_crf = 0 if encoder is None else resolve_default_image_crf(encoder)

    def _compression(self) -> tuple[int, int]:
        return self.pipeline.vae_temporal_compression_ratio, self.pipeline.vae_spatial_compression_ratio

    def _sample(
        self, clip: ModelClip, *, prompt: str, generator: torch.Generator, steps: int | None, progress: Progress
    ) -> Tensor:
        sigmas = self._sigmas(steps)
        height, width = clip.size
        lifted = self.pipeline(
            **self._prompt(prompt),
            reference_conditions=[LTX2ReferenceCondition(shown.numpy()) for shown in (clip.cue, *clip.references)],
            reference_downscale_factor=self.reference_downscale,
            conditions=self._conditions(clip) or None,
            height=height,
            width=width,
            num_frames=len(clip),
            frame_rate=FRAME_RATE,
            sigmas=sigmas,
            num_inference_steps=len(sigmas),
            generator=generator,
            callback_on_step_end=counting_steps(progress, len(sigmas)),
            output_type="np",
            return_dict=False,
            **(GUIDANCE_OFF | {"guidance_scale": self.profile.sampling.guidance_scale}),
        )[0][0]
        return torch.from_numpy(lifted)

    def _conditions(self, clip: ModelClip) -> list[LTX2VideoCondition]:
        """The known frames in the place of the first target tokens, anchors as keyframes.

        A keyframe's `index` counts latent frames, of which the first shows one picture and every other `frame_step`
        pictures; the pipeline counts back to a picture, so that a fraction names any of them.
        """

        def pictures(video: Tensor) -> np.ndarray:
            return (video * 255).round().to(torch.uint8).numpy()

        conditions = []
        if clip.known is not None:
            # A condition's still would be re-compressed by default; ours comes from a video already.
            conditions.append(LTX2VideoCondition(frames=pictures(clip.known), index=0, crf=0))
        for place, still in clip.anchors.items():
            index = 0 if place == 0 else 1 + (place - 1) / self.rules.frame_step
            conditions.append(LTX2VideoCondition(frames=pictures(still[None]), index=index, crf=self.still_crf))
        return conditions

    def _sigmas(self, steps: int | None) -> list[float]:
        """Noise levels: the profile's, or `steps` even ones."""
        sampling = self.profile.sampling
        if steps is None and sampling.sigmas is not None:
            return sampling.sigmas
        count = steps or sampling.steps
        return np.linspace(1.0, 1.0 / count, count).tolist()

    def _prompt(self, prompt: str) -> dict[str, Any]:
        if self.pipeline.text_encoder is not None:
            return {"prompt": prompt}
        # One task, one learned prompt: see models.constant_prompt.
        dim = self.pipeline.transformer.config.caption_channels
        embeds = torch.zeros(1, 1, dim, device=self.device, dtype=self.pipeline.transformer.dtype)
        return {"prompt_embeds": embeds, "prompt_attention_mask": torch.ones(1, 1, device=self.device)}
