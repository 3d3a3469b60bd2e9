"""The LTX-2 family: diffusers' in-context pipeline with an IC-LoRA. The embedded model is a small one of this class.

The render is the reference: its clean tokens stand beside the noisy target tokens at the same coordinates, and the
adapter has learned what to make of them.

LTX-2 makes sound with its video. Adapters are trained on video alone, and so it is lifted: one silent token stands
where sound would be, attention between the two is off, and nothing of sound is decoded. Only guidance by modality,
which measures what sound adds to the video, has both do their part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline, LTX2LatentUpsamplePipeline
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.utils import DEFAULT_IMAGE_CRF, LTX2_5_IMAGE_CRF
from torch import Tensor
from torch.nn import functional

from realmaster.lift.adapters import without_adapter
from realmaster.lift.lifter import LiftError, Progress
from realmaster.lift.memory import Mode
from realmaster.lift.pipeline_lifter import ModelClip, PipelineLifter, counting_steps
from realmaster.lift.pipelines import load_part
from realmaster.lift.profiles import Profile
from realmaster.lift.prompts import Encoded
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
FRAME_RATE = 24.0  # what the model believes where a profile says nothing else; a take keeps its own times
PROMPT_TOKENS = 1024
"""To which the pipeline fills prompts up, from the left."""


class InContextPipeline(LTX2InContextPipeline):
    """diffusers' pipeline for small models too: sizes of whole latents, where its own asks for multiples of 32 pixels
    however fine the codec is; and without the walks through all modules that it makes at every call, which take a small
    model as long as a layer, and hold up all other lanes meanwhile.
    """

    device_of_lifts: torch.device | None = None
    """Where it runs; None: wherever its parts are, which one that only encodes prompts has to look up."""

    @property
    def _execution_device(self) -> torch.device:
        return self.device_of_lifts or super()._execution_device

    def maybe_free_model_hooks(self) -> None:
        """Nothing: this project's plans hook neither whole models nor anything that keeps a state from call to call."""

    def check_inputs(self, *, height: int, width: int, **others: Any) -> None:
        grid = self.vae_spatial_compression_ratio
        if height % grid or width % grid:
            raise ValueError(f"{width}x{height} are no multiples of {grid}, the pixels of a latent")
        super().check_inputs(height=32, width=32, **others)


class LTX2Lifter(PipelineLifter):
    """A `Lifter` on `LTX2InContextPipeline`."""

    pipeline_class = InContextPipeline
    size_multiple = 1
    unused_parts = ("vocoder", "processor", "prompt_enhancer")

    def __init__(self, profile: Profile, device: str | None = None, memory: Mode = "auto") -> None:
        super().__init__(profile, device, memory)
        self.pipeline.device_of_lifts = self.device
        self.pipeline.transformer.register_forward_pre_hook(self._keep_apart, with_kwargs=True)
        self._grid = (0, 0, 0)
        """Frames, rows and columns of the target's latents."""
        # Stills are compressed like the video that the models were trained on; a model without a text encoder was not.
        encoder = self.encoder_class or ""
        self.still_crf = LTX2_5_IMAGE_CRF if encoder.startswith("Gemma4") else DEFAULT_IMAGE_CRF if encoder else 0
        if profile.upscale is not None:
            upsampler = load_part(LTX2LatentUpsamplerModel, profile.upscale.model, self.base, self.dtype)
            self._upsample = LTX2LatentUpsamplePipeline(self.pipeline.vae, upsampler.to(self.device))

    def adapt(self, profile: Profile) -> None:
        """See `PipelineLifter.adapt`."""
        super().adapt(profile)
        sampling, blocks = profile.sampling, len(self.pipeline.transformer.transformer_blocks)
        if sampling.stg_scale > 0 and max(sampling.stg_blocks) >= blocks:
            raise LiftError(
                f"Profile {profile.name} asks for guidance by block {max(sampling.stg_blocks)}, but the model has only "
                f"{blocks} blocks, counted from 0."
            )
        self.sounds = sampling.modality_scale > 1
        self.pipeline.scheduler = self.own_scheduler
        if sampling.sigmas is not None:  # noise levels that are spelt out are meant as they stand
            self.pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
                self.own_scheduler.config, use_dynamic_shifting=False, shift_terminal=None, shift=1.0
            )

    def _keep_apart(self, _transformer: object, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A forward pass in which video and sound do not attend to each other, unless sound is wanted."""
        return args, kwargs if self.sounds else {**kwargs, "isolate_modalities": True}

    def _compression(self) -> tuple[int, int]:
        # Two stages: the first works at half the size.
        stages = 1 if self.profile.upscale is None else 2
        return self.pipeline.vae_temporal_compression_ratio, stages * self.pipeline.vae_spatial_compression_ratio

    def _frame_rate(self, profile: Profile) -> float:
        return profile.frame_rate or FRAME_RATE

    def _encode(self, encoder: Any, text: str) -> Encoded:
        embeds, mask, _, _ = encoder.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=PROMPT_TOKENS
        )
        # The rest is filling, which the connectors mask out: hundreds of megabytes for a prompt of the big models.
        return {"embeds": embeds[:, mask[0].bool()]}

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
        texts = self._texts(prompt, "") | (self._texts(negative, "negative_") if negative else {})
        sigmas = self._sigmas(steps)
        upscale = self.profile.upscale
        total = len(sigmas) + (0 if upscale is None else len(upscale.sigmas))
        step = counting_steps(progress, total)
        if upscale is None:
            return self._decode(self._denoise(clip, texts, sigmas, generator, step), generator)
        latents = self._denoise(_halved(clip), texts, sigmas, generator, step)
        larger = self._upsample(latents=latents, output_type="latent", return_dict=False)[0]
        # The adapter has learned to follow a render from pure noise; from here on the video itself is followed.
        with without_adapter(self.pipeline):
            latents = self._denoise(
                clip,
                texts,
                upscale.sigmas,
                generator,
                counting_steps(progress, total, len(sigmas)),
                start=larger,
            )
        return self._decode(latents, generator)

    def _denoise(
        self,
        clip: ModelClip,
        texts: dict[str, Tensor],
        sigmas: list[float],
        generator: torch.Generator,
        step: Any,
        start: Tensor | None = None,
    ) -> Tensor:
        """Latents `[1, C, F, h, w]`, as the codec takes them; from `start` (without references), else from noise."""
        height, width = clip.size
        pixels = self.pipeline.vae_spatial_compression_ratio
        self._grid = (1 + (len(clip) - 1) // self.rules.frame_step, height // pixels, width // pixels)
        shown = (clip.cue, *clip.references) if start is None else ()
        return self.pipeline(
            **texts,
            reference_conditions=[LTX2ReferenceCondition(video.numpy()) for video in shown] or None,
            reference_downscale_factor=self.reference_downscale,
            conditions=self._conditions(clip) or None,
            height=height,
            width=width,
            num_frames=len(clip),
            frame_rate=self.rules.frame_rate,
            sigmas=sigmas,
            num_inference_steps=len(sigmas),
            generator=generator,
            latents=start,
            audio_latents=None if self.sounds else self._silence(),
            callback_on_step_end=step,
            output_type="latent",
            return_dict=False,
            **(GUIDANCE_OFF | self._guidance()),
        )[0]

    def _guidance(self) -> dict[str, Any]:
        sampling = self.profile.sampling
        return {
            "guidance_scale": sampling.guidance_scale,
            "guidance_rescale": sampling.guidance_rescale,
            "stg_scale": sampling.stg_scale,
            "spatio_temporal_guidance_blocks": sampling.stg_blocks if sampling.stg_scale > 0 else None,
            "modality_scale": sampling.modality_scale,
        }

    def _latents(self, video: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = (2 * video - 1).permute(3, 0, 1, 2)[None].to(self.device, vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode()
        return self.pipeline._normalize_latents(latents, vae.latents_mean, vae.latents_std)[0]

    def _unpacked(self, latents: Tensor) -> Tensor:
        """See `PipelineLifter._unpacked`. Behind the target's tokens are those of keyframes and references."""
        target = latents[:, : math.prod(self._grid)]
        return self.pipeline._unpack_latents(target, *self._grid)[0]

    def _decode(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        vae = self.pipeline.vae
        timestep = torch.zeros(1, device=latents.device, dtype=vae.dtype) if vae.config.timestep_conditioning else None
        video = vae.decode(latents.to(vae.dtype), timestep, return_dict=False)[0]
        return (video[0].float().cpu().permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)

    def _silence(self) -> Tensor:
        """One audio latent `[1, C, 1, bins]`."""
        bins = self.pipeline.audio_mel_bins // self.pipeline.audio_vae_mel_compression_ratio
        return torch.zeros(1, self.pipeline.audio_latent_channels, 1, bins, device=self.device)

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
        """Noise levels: the profile's; when fewer steps are asked for, so many of them; else `steps` even ones."""
        levels = self.profile.sampling.sigmas
        count = steps or (len(levels) if levels else self.profile.sampling.steps)
        if levels and count <= len(levels):
            return [levels[round(place)] for place in np.linspace(0, len(levels) - 1, count)]
        return np.linspace(1.0, 1.0 / count, count).tolist()

    def _prompt(self, prompt: str) -> dict[str, Tensor]:
        """The pipeline's arguments for a prompt, as a lift gives them: what training encodes captions by."""
        return self._texts(None if self._prompts is None else self._prompts([prompt])[0], "")

    def _texts(self, encoded: Encoded | None, kind: str) -> dict[str, Tensor]:
        """The pipeline's arguments for a prompt, or (`kind` "negative_") for what guidance leads away from."""
        if encoded is None:
            # One task, one learned prompt: see models.constant_prompt.
            width = self.pipeline.transformer.config.caption_channels
            embeds = torch.zeros(1, 1, width, dtype=self.dtype, device=self.device)
            return {f"{kind}prompt_embeds": embeds, f"{kind}prompt_attention_mask": torch.ones(1, 1).to(self.device)}
        said = encoded["embeds"].to(self.device)
        filling = PROMPT_TOKENS - said.shape[1]
        mask = functional.pad(torch.ones(1, said.shape[1], dtype=torch.int64), (filling, 0)).to(self.device)
        return {
            f"{kind}prompt_embeds": functional.pad(said, (0, 0, filling, 0)),
            f"{kind}prompt_attention_mask": mask,
        }


def _halved(clip: ModelClip) -> ModelClip:
    """The clip at half its size in pixels."""

    def half(video: Tensor) -> Tensor:
        pictures = video.reshape(-1, *video.shape[-3:]).permute(0, 3, 1, 2)
        return functional.avg_pool2d(pictures, 2).permute(0, 2, 3, 1).reshape(*video.shape[:-3], *_half_size(video), 3)

    return ModelClip(
        cue=half(clip.cue),
        references=tuple(map(half, clip.references)),
        known=None if clip.known is None else half(clip.known),
        anchors={place: half(still) for place, still in clip.anchors.items()},
    )


def _half_size(video: Tensor) -> tuple[int, int]:
    return video.shape[-3] // 2, video.shape[-2] // 2
