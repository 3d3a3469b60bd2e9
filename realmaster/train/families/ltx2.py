"""The LTX-2 family in training: LTX-2.0, 2.3, 2.5 and the embedded model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import LTX2InContextPipeline
from torch import Tensor

from realmaster.lift.ltx2 import FRAME_RATE


def pack(transformer: Any, latents: Tensor) -> Tensor:
    """Latents `[B, C, F, H, W]` as tokens `[B, N, C]`, as the pipeline packs them."""
    config = transformer.config
    return LTX2InContextPipeline._pack_latents(latents, config.patch_size, config.patch_size_t)


def coordinates(transformer: Any, shape: Sequence[int], device: torch.device | str, downscale: int = 1) -> Tensor:
    """Places `[B, 3, N, 2]` (seconds, rows, columns; begin and end) of the tokens of latents of `shape`
    `[B, C, F, H, W]`. Those of a reference that is `downscale` times smaller fall on the target's."""
    coords: Tensor = transformer.rope.prepare_video_coords(shape[0], *shape[2:], device, fps=FRAME_RATE)
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
        fps=FRAME_RATE,
        video_coords=coords,
        isolate_modalities=True,
        use_cross_timestep=True,
        return_dict=False,
    )[0]
    return moved[:, :tokens]
