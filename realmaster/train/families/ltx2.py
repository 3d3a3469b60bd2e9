"""The LTX-2 family in training: LTX-2.0, 2.3, 2.5 and the embedded model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import LTX2InContextPipeline
from torch import Tensor

from realmaster.lift.ltx2 import FRAME_RATE
from realmaster.lift.prompts import encoder_identity
from realmaster.train.batches import Batch
from realmaster.train.families.family import Family, fingerprint

TRAINERS_NAMES = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
}
"""The first part of a layer's name in diffusers -> in Lightricks' own code."""


def pack(transformer: Any, latents: Tensor) -> Tensor:
    """Latents `[B, C, F, H, W]` as tokens `[B, N, C]`, as the pipeline packs them."""
    config = transformer.config
    return LTX2InContextPipeline._pack_latents(latents, config.patch_size, config.patch_size_t)


def coordinates(
    transformer: Any,
    shape: Sequence[int],
    device: torch.device | str,
    downscale: int = 1,
    frame_rate: float = FRAME_RATE,
) -> Tensor:
    """Places `[B, 3, N, 2]` (seconds, rows, columns; begin and end) of the tokens of latents of `shape`
    `[B, C, F, H, W]`. Those of a reference that is `downscale` times smaller fall on the target's."""
    coords: Tensor = transformer.rope.prepare_video_coords(shape[0], *shape[2:], device, fps=frame_rate)
    coords[:, 1:] *= downscale
    return coords


def velocity(
    transformer: Any,
    noisy: Tensor,
    levels: Tensor,
    references: Tensor,
    coords: Tensor,
    prompt: Tensor,
    prompt_mask: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """The velocity of the target's tokens, `[B, N, C]`: one pass as the in-context pipeline makes it.

    noisy: the target's tokens `[B, N, C]` at noise levels `[B]`, those that are `known` (bool `[B, N]`) clean.
    references: clean tokens `[B, M, C]`; they are at timestep 0. coords: places `[B, 3, N + M, 2]` of both.
    prompt: `[B, L, D]` as the pipeline's connectors give it, with its mask `[B, L]` (1: there is a word).

    One silent audio token stands beside, kept apart: the same video as by a video-only model.
    """
    config = transformer.config
    count, tokens, _ = noisy.shape
    scale = config.timestep_scale_multiplier
    times = (levels * scale).unsqueeze(1).expand(-1, tokens)
    if known is not None:
        times = times.masked_fill(known, 0.0)
    audio_dim = config.caption_channels if config.use_prompt_embeddings else config.audio_cross_attention_dim
    if prompt_mask is None:
        prompt_mask = torch.ones(prompt.shape[:2], device=prompt.device)
    moved = transformer(
        hidden_states=torch.cat([noisy, references], dim=1).to(prompt.dtype),
        audio_hidden_states=prompt.new_zeros(count, 1, config.audio_in_channels),
        encoder_hidden_states=prompt,
        audio_encoder_hidden_states=prompt.new_zeros(count, 1, audio_dim),
        timestep=torch.cat([times, times.new_zeros(references.shape[:2])], dim=1),
        audio_timestep=times.new_zeros(count),
        sigma=levels * scale,
        audio_sigma=levels * scale,
        encoder_attention_mask=prompt_mask,
        audio_encoder_attention_mask=prompt_mask.new_ones(count, 1),
        audio_num_frames=1,
        video_coords=coords,
        isolate_modalities=True,
        use_cross_timestep=True,
        return_dict=False,
    )[0]
    return moved[:, :tokens]


class LTX2Family(Family):
    """On `LTX2Lifter`."""

    targets = (
        *(f"{attention}.{part}" for attention in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")),
        "ff.net.0.proj",
        "ff.net.2",
    )

    @property
    def words_identity(self) -> str:
        lifter = self.lifter
        return encoder_identity(lifter.base, lifter.dtype) + fingerprint(self.pipeline.connectors)

    def _encode_target(self, video: Tensor) -> Tensor:
        return self._encode(video, 1)

    def _encode_reference(self, video: Tensor) -> Tensor:
        return self._encode(video, self.lifter.reference_downscale)

    def _encode(self, video: Tensor, downscale: int) -> Tensor:
        """As the pipeline encodes a reference."""
        height, width = (side // downscale for side in video.shape[1:3])
        pixels = self.pipeline.video_processor.preprocess_video(video.numpy(), height, width, resize_mode="crop")
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return self.pipeline._normalize_latents(latents, vae.latents_mean, vae.latents_std)

    def _decode(self, latents: Tensor) -> Tensor:
        """As the pipeline decodes, at its decoder's timestep 0 where it has one."""
        vae = self.pipeline.vae
        mean, std = vae.latents_mean, vae.latents_std
        latents = self.pipeline._denormalize_latents(latents, mean, std, vae.config.scaling_factor).to(vae.dtype)
        timestep = latents.new_zeros(len(latents)) if vae.config.timestep_conditioning else None
        return vae.decode(latents, timestep, return_dict=False)[0]

    @torch.inference_mode()
    def encode_caption(self, words: str) -> dict[str, Tensor]:
        """The connectors' tokens for the video, with their mask; the audio is told nothing."""
        said = self.lifter._prompt(words)
        side = self.pipeline.tokenizer_padding_side
        prompt, _, mask = self.pipeline.connectors(
            said["prompt_embeds"], said["prompt_attention_mask"], padding_side=side
        )
        return {"prompt": prompt[0].cpu(), "mask": mask[0].cpu()}

    def tokens(self, shape: Sequence[int]) -> int:
        config = self.pipeline.transformer.config
        return math.prod(shape[1:]) // (config.patch_size_t * config.patch_size**2)

    def _velocity(self, transformer: Any, noisy: Tensor, batch: Batch) -> Tensor:
        shape, config = noisy.shape, transformer.config
        downscale = shape[-1] // batch.references[0].shape[-1]
        rate = self.lifter.profile.frame_rate or FRAME_RATE
        coords = [coordinates(transformer, shape, noisy.device, 1, rate)]
        coords += [coordinates(transformer, each.shape, noisy.device, downscale, rate) for each in batch.references]
        known = torch.zeros_like(noisy[:, :1], dtype=torch.bool)
        known[:, :, 0] = batch.first_known.view(-1, 1, 1, 1)
        moved = velocity(
            transformer,
            noisy=pack(transformer, noisy),
            levels=batch.levels,
            references=torch.cat([pack(transformer, each) for each in batch.references], dim=1),
            coords=torch.cat(coords, dim=2),
            prompt=batch.words["prompt"],
            prompt_mask=batch.words["mask"],
            known=pack(transformer, known)[..., 0],
        )
        return LTX2InContextPipeline._unpack_latents(moved, *shape[2:], config.patch_size, config.patch_size_t)

    def trainers_name(self, layer: str) -> str:
        head, _, rest = layer.partition(".")
        head = TRAINERS_NAMES.get(head, head)
        return f"{head}.{rest}" if rest else head
