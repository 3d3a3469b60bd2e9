"""The LTX-2 family: diffusers' in-context pipeline with an IC-LoRA. The embedded model is a small one of this class.

The render is the reference: its clean tokens stand beside the noisy target tokens at the same coordinates, and the
adapter has learned what to make of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, LTX2InContextPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from realmaster.lift.lifter import LiftError, LiftRules, Progress
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


class LTX2Lifter:
    """A `Lifter` on `LTX2InContextPipeline`."""

    def __init__(self, profile: Profile, device: str | None = None) -> None:
        self.profile = profile
        self.name = profile.name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # 16-bit arithmetic is slower than 32-bit on most processors.
        dtype = torch.float32 if self.device.type == "cpu" else getattr(torch, profile.dtype)
        self.pipeline = load_pipeline(profile, dtype).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.reference_downscale = load_adapter(self.pipeline, profile)
        step, spatial = self.pipeline.vae_temporal_compression_ratio, self.pipeline.vae_spatial_compression_ratio
        self.rules = LiftRules(
            window=profile.window,
            overlap=profile.overlap,
            frame_step=step,
            # The pipeline asks for 32; a smaller reference must itself fall on whole latents.
            size_multiple=max(32, spatial) * self.reference_downscale,
            max_side=profile.max_side,
        )

    @torch.inference_mode()
    def lift(
        self,
        clip: np.ndarray,
        prompt: str = "",
        seed: int = 0,
        prefix: np.ndarray | None = None,
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """See `Lifter.lift`. Pads what the model needs padded (frames by repeating the last, sides by the border)
        and cuts it off again."""
        check_clip(clip, prefix, self.rules)
        frames, height, width, _ = clip.shape
        render = self._to_model(clip)
        conditions = None
        if prefix is not None:
            kept = len(prefix) - (len(prefix) - 1) % self.rules.frame_step
            pictures = (self._to_model(prefix[:kept]) * 255).round().to(torch.uint8).numpy()
            # A condition's still would be re-compressed by default; ours comes from a video already.
            conditions = [LTX2VideoCondition(frames=pictures, index=0, strength=1.0, crf=0)]
        sigmas = self._sigmas(steps)

        def step_end(_pipeline: object, step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            if progress is not None:
                progress(step + 1, len(sigmas))
            return kwargs

        lifted = self.pipeline(
            **self._prompt(prompt),
            reference_conditions=LTX2ReferenceCondition(render.numpy(), strength=1.0),
            reference_downscale_factor=self.reference_downscale,
            conditions=conditions,
            height=render.shape[1],
            width=render.shape[2],
            num_frames=len(render),
            frame_rate=FRAME_RATE,
            sigmas=sigmas,
            num_inference_steps=len(sigmas),
            generator=torch.Generator().manual_seed(seed),
            callback_on_step_end=step_end,
            output_type="np",
            return_dict=False,
            **(GUIDANCE_OFF | {"guidance_scale": self.profile.sampling.guidance_scale}),
        )[0][0]
        lifted = self._from_model(torch.from_numpy(lifted), frames, height, width)
        if prefix is not None:
            lifted[: len(prefix)] = prefix
        return lifted

    def _sigmas(self, steps: int | None) -> list[float]:
        """Noise levels: the profile's, or `steps` even ones."""
        sampling = self.profile.sampling
        if steps is None and sampling.sigmas is not None:
            return sampling.sigmas
        count = steps or sampling.steps
        return np.linspace(1.0, 1.0 / count, count).tolist()

    def _prompt(self, prompt: str) -> dict[str, Any]:
        if self.pipeline.text_encoder is None:  # one task, one learned prompt: see models.constant_prompt
            dim = self.pipeline.transformer.config.caption_channels
            embeds = torch.zeros(1, 1, dim, device=self.device, dtype=self.pipeline.transformer.dtype)
            return {"prompt_embeds": embeds, "prompt_attention_mask": torch.ones(1, 1, device=self.device)}
        words = (self.profile.trigger, prompt or self.profile.prompt)
        return {"prompt": " ".join(word for word in words if word)}

    def _working_size(self, height: int, width: int) -> tuple[int, int]:
        scale = min(1.0, self.rules.max_side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _to_model(self, clip: np.ndarray) -> Tensor:
        """uint8 `[T, H, W, 3]` -> float `[T', H', W', 3]` in [0, 1] of a length and size that the model takes."""
        video = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 255
        size = self._working_size(*clip.shape[1:3])
        if size != clip.shape[1:3]:
            video = functional.interpolate(video, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        multiple = self.rules.size_multiple
        video = functional.pad(video, (0, -size[1] % multiple, 0, -size[0] % multiple), mode="replicate")
        repeats = -(len(video) - 1) % self.rules.frame_step
        video = torch.cat([video, video[-1:].expand(repeats, -1, -1, -1)])
        return video.permute(0, 2, 3, 1).contiguous()

    def _from_model(self, video: Tensor, frames: int, height: int, width: int) -> np.ndarray:
        """The inverse of `_to_model`: float `[T', H', W', 3]` -> uint8 `[frames, height, width, 3]`."""
        working = self._working_size(height, width)
        video = video[:frames, : working[0], : working[1]].permute(0, 3, 1, 2)
        if working != (height, width):
            video = functional.interpolate(video, size=(height, width), mode="bicubic", antialias=True)
        return (video.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


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


def load_pipeline(profile: Profile, dtype: torch.dtype) -> LTX2InContextPipeline:
    """From a folder in diffusers layout, or from the hub (or its cache). Weights come from safetensors only, classes
    from diffusers, transformers and the two of ours imported above: diffusers imports no other module by name."""
    is_folder = Path(profile.base).is_dir()
    try:
        index = LTX2InContextPipeline.load_config(profile.base)
        # Parts saved as absent (the embedded model has no text encoder) must be said to be absent.
        absent = {name: None for name in ("text_encoder", "tokenizer") if index.get(name) == [None, None]}
        with quiet():
            pipeline = LTX2InContextPipeline.from_pretrained(
                profile.base, dtype=dtype, use_safetensors=True, **absent
            )
    except (OSError, ValueError, SafetensorError) as error:
        mend = "mend or replace the folder" if is_folder else "download it first or give a folder in diffusers layout"
        raise LiftError(
            f"The model {profile.base} of profile {profile.name} does not load ({first_line(error)}); {mend}."
        ) from error
    return pipeline


def first_line(error: Exception) -> str:
    """What a library said, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' progress bar and its remark that our codec is not the class it expected."""
    level, bars = diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        if bars:
            diffusers_logging.enable_progress_bar()


def load_adapter(pipeline: DiffusionPipeline, profile: Profile) -> int:
    """Load the profile's LoRA into the transformer; returns the reference downscale factor that it was trained with."""
    if profile.adapter is None:
        return 1
    adapter = Path(profile.adapter)
    try:
        pipeline.load_lora_weights(profile.adapter, adapter_name="lift", use_safetensors=True)
    except (OSError, SafetensorError) as error:
        raise LiftError(f"The adapter {profile.adapter} does not load ({first_line(error)}).") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise LiftError(
            f"The adapter {profile.adapter} was not made for {profile.base}: its layers do not fit."
        ) from error
    if not getattr(pipeline.transformer, "peft_config", None):
        raise LiftError(f"The adapter {profile.adapter} has no layer for this model's transformer.")
    pipeline.transformer.set_adapters(["lift"], [profile.adapter_weight])
    return reference_downscale(adapter)


def reference_downscale(adapter: Path) -> int:
    """The factor in the adapter's own safetensors metadata (Lightricks' trainer writes it when it is not 1)."""
    files = [adapter] if adapter.is_file() else sorted(adapter.glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="pt") as weights:
            metadata = weights.metadata() or {}
        for key in ("reference_downscale_factor", "reference_spatial_scale_factor"):
            if key in metadata:
                return max(1, round(float(metadata[key])))
    return 1
