"""Qwen's processor of words and stills without torchvision, which transformers asks for on account of videos alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class StillProcessor(Qwen2VLProcessor):
    """A `Qwen2VLProcessor` that takes no videos."""

    def __init__(self, image_processor: Qwen2VLImageProcessorPil, tokenizer: Any) -> None:
        # Not the base's own: it would look for the class of a video processor.
        self.image_processor, self.tokenizer, self.chat_template = image_processor, tokenizer, None
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = (
            tokenizer.convert_tokens_to_ids(token) for token in (self.image_token, self.video_token)
        )

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    @classmethod
    def of(cls, model: Path) -> StillProcessor:
        """That of a folder in diffusers layout. Raises OSError, ValueError."""
        folder = str(model / "processor")
        return cls(Qwen2VLImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
