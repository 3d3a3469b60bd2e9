"""The embedded model has one task and no text encoder: a learned constant stands where prompts would be."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ConstantPrompt(ModelMixin, ConfigMixin):
    """Takes the place of `LTX2TextConnectors`: whatever the prompt embedding `[B, L, D]`, gives the same tokens."""

    @register_to_config
    def __init__(self, tokens: int = 8, dim: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, tokens, dim))

    def forward(
        self, text_hidden_states: Tensor, attention_mask: Tensor, padding_side: str = "left"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns video tokens `[B, tokens, dim]`, audio tokens of the same shape, and a mask `[B, tokens]` of ones."""
        tokens = self.embedding.expand(text_hidden_states.shape[0], -1, -1)
        return tokens, tokens, torch.ones(tokens.shape[:2], dtype=torch.int64, device=tokens.device)
