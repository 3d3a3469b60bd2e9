"""A take's own prompt, written by a model that looks at it.

Works on takes and on vision-language models of transformers (Qwen-VL, SmolVLM, LLaVA and others that answer to pictures
in a chat). Knows nothing of lifting but where a take's prompt lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.errors import UserError
from capture.files import write_atomically
from capture.take import Take
from realmaster.lift.takes import PROMPT, own_prompt
from realmaster.model_folders import found

QUESTION = (
    "These are moments of one video. Describe it in one paragraph as if it had been filmed with a camera in the real "
    "world: the place, what is there, materials, light, weather. Do not mention games, rendering or the question."
)
EXAMPLE = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
LOOKS = 3
"""Pictures that a model is shown of a take."""


class CaptionError(UserError):
    """A model that cannot be loaded, or a take that cannot be described."""


class Captioner:
    """A vision-language model; weights come from safetensors files only.

    model: a folder in transformers' layout, or the id of such a repository on the Hugging Face hub. device: a torch
        device; by default the first GPU, else the CPU.

    Raises CaptionError.
    """

    def __init__(self, model: str, device: str | None = None) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if self._device == "cpu" else torch.bfloat16
        with found(model, "vision-language model", EXAMPLE, CaptionError) as source:
            self._processor: Any = AutoProcessor.from_pretrained(source)
            self._model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True)
        if not getattr(self._processor, "chat_template", None):
            raise CaptionError(
                f"The vision-language model {model} has no chat template: choose one that takes questions."
            )
        self._model.to(self._device).eval()

    def __call__(self, pictures: Sequence[NDArray[np.uint8]], question: str = QUESTION, words: int = 160) -> str:
        """What the model answers, in one line, to pictures (H, W, 3) uint8 sRGB; at most so many tokens."""
        import torch
        from PIL import Image

        shown = [{"type": "image", "image": Image.fromarray(picture)} for picture in pictures]
        chat = [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]
        inputs = self._processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._device, self._model.dtype)
        with torch.inference_mode():
            answer = self._model.generate(**inputs, max_new_tokens=words, do_sample=False)
        said = self._processor.batch_decode(answer[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        return " ".join(said.split())


def caption_take(take: Take, captioner: Captioner, replace: bool = False) -> str:
    """Describe a take and keep that as its own prompt, `prompt.txt` in its folder; returns it.

    Raises CaptionError when it has one and `replace` is off, when it has no colour, or when the model says nothing.
    """
    check_wanted(take, replace)
    frames = take.readable
    places = sorted({round(place) for place in np.linspace(0, len(frames) - 1, LOOKS)})
    said = captioner([take[frames[place]].color for place in places])
    if not said:
        raise CaptionError(f"The model had nothing to say of take {take.name}: write its {PROMPT} yourself.")
    write_atomically(take.path / PROMPT, f"{said}\n".encode())
    return said


def check_wanted(take: Take, replace: bool) -> None:
    """Raises CaptionError; see `caption_take`."""
    if not replace and own_prompt(take):
        raise CaptionError(f"Take {take.name} has a prompt already, in {PROMPT}: edit it, or say --replace.")
    if "color" not in take.channels or not len(take.readable):
        raise CaptionError(f"Take {take.name} has no pictures to describe.")
