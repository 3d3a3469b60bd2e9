"""Editors: a rendered still in, a photograph of the same place out. They make the anchors of a clip.

Each is a diffusers pipeline, or the embedded lifter. Knows no take and no folder but the model's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import diffusers
import numpy as np
import torch
from PIL import Image
from transformers.utils import is_torchvision_available

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.adapters import first_line
from realmaster.lift.lifter import is_out_of_memory
from realmaster.lift.memory import give_back
from realmaster.lift.pipelines import load_pipeline, local_folder
from realmaster.lift.profiles import Profile, check_paths
from realmaster.pairs.settings import EditorSettings, PairsError, Settings


class Editor(Protocol):
    """Edits stills. Implementations hold a loaded model; they are not safe for threads."""

    def edit(self, picture: np.ndarray, caption: str, seed: int, style: np.ndarray | None = None) -> np.ndarray:
        """A photograph, uint8 `[H, W, 3]` sRGB, of what `picture`, of the same kind, renders.

        `caption` says what is to be seen. `style`: another edited still, uint8 `[H, W, 3]`, whose light, weather and
        materials this one shall share; what a model cannot be shown, it is not shown. The same seed gives the same.
        """
        ...


def load_editor(name: str, settings: Settings, device: str | None = None) -> Editor:
    """The editor of a name in the settings, of a folder in diffusers layout, or, as `module:attribute`, whatever that
    callable returns. Raises `PairsError`."""
    if plugin := import_plugin(name):
        return plugin()
    entry = editor_settings(name, settings)
    if entry.pipeline == "Lifter":
        return LifterEditor(entry, device)
    return PipelineEditor(entry, settings, device)


def editor_settings(name: str, settings: Settings) -> EditorSettings:
    """The entry of that name; of a folder, the first entry of its pipeline class with the folder as its base. Raises
    `PairsError`. Loads nothing."""
    if name in settings.editors:
        return settings.editors[name]
    index = Path(name) / "model_index.json"
    known = ", ".join(settings.editors)
    if not index.is_file():
        raise PairsError(f"There is no editor {name!r}: known are {known}, or give a folder in diffusers layout.")
    try:
        pipeline = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PairsError(f"{index} is not an index of diffusers: mend or replace the folder {name}.") from None
    for entry in settings.editors.values():
        if entry.pipeline == pipeline:
            return entry.model_copy(update={"base": str(Path(name).resolve()), "licence": "", "parameters": 0.0})
    raise PairsError(f"{name} is a {pipeline}, which edits no pictures here: known are {known}.")


def import_plugin(name: str) -> Any:
    """What `module:attribute` names, else None. Raises `PairsError`."""
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), attribute]):
        return None
    import importlib

    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PairsError(f"{name} cannot be imported ({error}): give it as module:attribute.") from error


class LifterEditor:
    """An `Editor` that lifts single stills. It takes neither words nor a style: its look is the one it learned."""

    def __init__(self, entry: EditorSettings, device: str | None = None) -> None:
        self._lifter = load_lifter(entry.base, device=device)

    def edit(self, picture: np.ndarray, caption: str, seed: int, style: np.ndarray | None = None) -> np.ndarray:
        return self._lifter.lift(picture[None].copy(), caption, seed)[0]  # a take's pictures are read-only


class PipelineEditor:
    """An `Editor` on a diffusers pipeline that takes an image and an instruction."""

    def __init__(self, entry: EditorSettings, settings: Settings, device: str | None = None) -> None:
        self._entry, self._words = entry, settings.anchors
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        profile = Profile(name="editor", base=entry.base)
        try:
            check_paths(profile)
            dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
            cls, ours = getattr(diffusers, entry.pipeline), self._ours()
            self.pipeline = load_pipeline(cls, profile, dtype, without=ours)
            if ours:
                from realmaster.pairs.qwen_processor import StillProcessor

                self.pipeline.register_modules(processor=StillProcessor.of(local_folder(cls, profile)))
        except LiftError as error:
            raise PairsError(str(error).replace(" of profile editor", "")) from error
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise PairsError(f"The editor {entry.base} does not load ({first_line(error)}).") from error
        offload = settings.workers.offload and place.type == "cuda"
        if offload or not self._fits(place):
            self.pipeline.to("cpu")
            give_back(place)
            self.pipeline.enable_model_cpu_offload(device=place)
        self.pipeline.set_progress_bar_config(disable=True)

    def _fits(self, place: torch.device) -> bool:
        """Bring the pipeline there, and tell whether there was room; if not, a part of it may be there."""
        try:
            self.pipeline.to(place)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    @torch.inference_mode()
    def edit(self, picture: np.ndarray, caption: str, seed: int, style: np.ndarray | None = None) -> np.ndarray:
        height, width = picture.shape[:2]
        size = self._working_size(height, width)
        images = [_resized(picture, size)]
        if style is not None and self._entry.pipeline != "FluxKontextPipeline":  # which takes one image
            images.append(_resized(style, size))
        instruction = self._words.instruction if len(images) == 1 else self._words.style_instruction
        edited = self.pipeline(
            image=images if len(images) > 1 else images[0],
            prompt=f"{instruction} {caption}",
            width=size[0],
            height=size[1],
            num_inference_steps=self._entry.steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="pil",
            **self._guidance(size),
        ).images[0]
        return np.asarray(edited.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))

    def _ours(self) -> tuple[str, ...]:
        """The parts that diffusers does not load here, and we do."""
        needs_videos = self._entry.pipeline == "QwenImageEditPlusPipeline" and not is_torchvision_available()
        return ("processor",) if needs_videos else ()

    def _guidance(self, size: tuple[int, int]) -> dict[str, Any]:
        """What the pipelines name differently."""
        if self._entry.pipeline == "QwenImageEditPlusPipeline":
            negative = self._entry.negative_prompt or " "
            guided = self._entry.guidance > 1
            return {"true_cfg_scale": self._entry.guidance, "negative_prompt": negative if guided else None}
        if self._entry.pipeline == "FluxKontextPipeline":
            # Its own choice of sizes would move the picture against the render by some pixels.
            return {"guidance_scale": self._entry.guidance, "max_area": size[0] * size[1], "_auto_resize": False}
        return {"guidance_scale": self._entry.guidance}

    def _working_size(self, height: int, width: int) -> tuple[int, int]:
        """(width, height) in pixels, at most `max_pixels`, both multiples of what the pipeline asks for."""
        multiple = 2 * self.pipeline.vae_scale_factor
        scale = min(1.0, (self._entry.max_pixels / (height * width)) ** 0.5)
        w, h = (max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))
        return w, h


def _resized(picture: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
