"""The Wan family in training: 2.1, and 2.2 with an expert for high noise and one for low."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from realmaster.lift.prompts import encoder_identity
from realmaster.lift.wan_in_context import WanContext
from realmaster.train.batches import Batch
from realmaster.train.families.family import Expert, Family

TRAINERS_NAMES = {
    "attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o",
    "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "proj_out": "head.head",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
}  # fmt: skip
"""Parts of a layer's name in diffusers -> in Wan's own code."""


class WanFamily(Family):
    """On `WanLifter`: the forward pass is `WanInContextTransformer3DModel`'s own."""

    targets = (
        *(f"{attention}.{part}" for attention in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")),
        "ffn.net.0.proj",
        "ffn.net.2",
        # A patch of 2 x 2 latents has 64 numbers: a model that is narrower, as small ones are, can only ever say what
        # its last layer spans, and frozen that has little to do with what the first layer lets through.
        "proj_out",
    )

    @property
    def experts(self) -> list[Expert]:
        pipeline = self.pipeline
        if pipeline.transformer_2 is None:
            return super().experts
        boundary = float(pipeline.config.boundary_ratio)
        return [
            Expert("high_noise", pipeline.transformer, (boundary, 1.0)),
            Expert("low_noise", pipeline.transformer_2, (0.0, boundary)),
        ]

    @property
    def words_identity(self) -> str:
        return encoder_identity(self.lifter.base, self.lifter.dtype)

    def _encode_target(self, video: Tensor) -> Tensor:
        return self.pipeline.encode_video(video.permute(0, 3, 1, 2))

    def _encode_reference(self, video: Tensor) -> Tensor:
        return self.pipeline.encode_video(self.lifter._reference(video).video)

    def _decode(self, latents: Tensor) -> Tensor:
        """The inverse of the pipeline's `encode_video`."""
        vae = self.pipeline.vae
        mean, std = (
            torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return vae.decode((latents * std + mean).to(vae.dtype), return_dict=False)[0]

    @torch.inference_mode()
    def encode_caption(self, words: str) -> dict[str, Tensor]:
        said = self.lifter._texts(self.lifter._prompts([words])[0], None)
        return {"prompt": said["prompt_embeds"][0].cpu()}

    def tokens(self, shape: Sequence[int]) -> int:
        return math.prod(shape[1:]) // math.prod(self.pipeline.transformer.config.patch_size)

    def _velocity(self, transformer: Any, noisy: Tensor, batch: Batch) -> Tensor:
        # A transformer's context holds for all of a batch: clips with a first frame go apart from those without.
        places, parts = [], []
        for first_known in (True, False):
            chosen = (batch.first_known == first_known).nonzero().flatten()
            if len(chosen):
                places.append(chosen)
                parts.append(self._velocity_of(transformer, noisy[chosen], batch, chosen, first_known))
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _velocity_of(self, transformer: Any, noisy: Tensor, batch: Batch, chosen: Tensor, first_known: bool) -> Tensor:
        shown = tuple(each[chosen] for each in batch.references)
        context = WanContext(
            references=tuple((each, noisy.shape[-1] // each.shape[-1], 1.0) for each in shown),
            noise=shown,  # not mixed in: references are clean
            prefix=noisy[:, :, :1] if first_known else None,
        )
        with transformer.given(context):
            return transformer(
                hidden_states=noisy.to(transformer.dtype),
                timestep=batch.levels[chosen] * 1000,
                encoder_hidden_states=batch.words["prompt"][chosen].to(transformer.dtype),
                return_dict=False,
            )[0]

    def trainers_name(self, layer: str) -> str:
        for ours, theirs in TRAINERS_NAMES.items():
            layer = re.sub(rf"(^|\.){re.escape(ours)}(?=\.|$)", rf"\g<1>{theirs}", layer)
        return layer
