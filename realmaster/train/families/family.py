"""What training asks of a model family. Each stands on its lifter: a pair is encoded, and a velocity predicted, by the
very code that lifts."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from realmaster.lift.pipeline_lifter import PipelineLifter
from realmaster.train.batches import Batch
from realmaster.train.flow import flow_loss, frames_together, noised
from realmaster.train.pictures import picture_losses
from realmaster.train.settings import LossSettings

Role = Literal["target", "reference"]
"""What a video is to the model."""


@dataclass(frozen=True)
class Expert:
    """A transformer with the noise levels that it is asked at."""

    mark: str
    """`high_noise` or `low_noise`; empty where a model has one transformer."""
    transformer: Any
    span: tuple[float, float]

    @property
    def name(self) -> str:
        return self.mark or "adapter"


class Family(ABC):
    """A model to train on, loaded by its lifter."""

    targets: ClassVar[tuple[str, ...]]
    """Layers that an adapter changes, by the ends of their names: the video's attention and feed-forward layers, of Wan
    the last layer too."""

    def __init__(self, lifter: PipelineLifter) -> None:
        self.lifter: Any = lifter
        self.pipeline = lifter.pipeline
        self.device = lifter.device
        self.loss = LossSettings()

    @property
    def experts(self) -> list[Expert]:
        return [Expert("", self.pipeline.transformer, (0.0, 1.0))]

    @property
    @abstractmethod
    def words_identity(self) -> str:
        """Tells what encodes captions from every other."""

    def encode(self, clip: np.ndarray, role: Role) -> Tensor:
        """uint8 `[T, H, W, 3]`, T = frame_step k + 1 -> normalised latents `[C, f, h, w]`, float32 on the CPU.

        Sized as the lifter sizes a clip, and a reference smaller by the lifter's `reference_downscale`.
        """
        encode = self._encode_target if role == "target" else self._encode_reference
        with torch.inference_mode():
            return encode(self.lifter._to_model(clip))[0].float().cpu()

    @abstractmethod
    def _encode_target(self, video: Tensor) -> Tensor:
        """Float `[T, H, W, 3]` in [0, 1], as the model takes it -> latents `[1, C, f, h, w]`."""

    @abstractmethod
    def _encode_reference(self, video: Tensor) -> Tensor:
        """As `_encode_target`, of a video that is shown."""

    @abstractmethod
    def encode_caption(self, words: str) -> dict[str, Tensor]:
        """What the transformer is told, by name, each `[L, ...]` on the CPU, in the precision that it is used in."""

    @abstractmethod
    def tokens(self, shape: Sequence[int]) -> int:
        """The number of tokens of latents `[C, f, h, w]`."""

    def losses(self, transformer: Any, batch: Batch) -> Tensor:
        """The loss of each sample, `[B]`."""
        count = len(batch.target)
        if self.lifter.rules.window == 1:
            batch = batch.frame_by_frame()
        known = None
        if batch.first_known.any():
            known = torch.zeros_like(batch.target[:, :1], dtype=torch.bool)
            known[:, :, 0] = batch.first_known.view(-1, 1, 1, 1)
        noisy = noised(batch.target, batch.noise, batch.levels, known)
        velocity = self._velocity(transformer, noisy, batch)
        if self.loss.pictures:
            clean = noisy - batch.levels.view(-1, 1, 1, 1, 1) * velocity.float()
            if known is not None:
                clean = torch.where(known, batch.target, clean)
            return self._picture_losses(frames_together(clean, count), frames_together(batch.target, count))
        return flow_loss(velocity, batch.target, batch.noise, known).view(count, -1).mean(1)

    def _picture_losses(self, clean: Tensor, target: Tensor) -> Tensor:
        """Of the pictures that one step from the noise level would give, of latents `[B, C, f, h, w]`, against the
        target as the codec gives it."""
        with torch.no_grad():
            truth = self.decode(target)
        patch = truth.shape[-1] // target.shape[-1] if self.loss.seams else None
        error = (clean - target).abs().flatten(1).mean(1)
        return picture_losses(self.decode(clean), truth, patch) + self.loss.latents * error

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents `[B, C, f, h, w]` -> video `[B, 3, T, H, W]`, float32 in about [-1, 1]; gradients pass."""
        self.pipeline.vae.requires_grad_(False)
        return self._decode(latents).float()

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """As `decode`, in any precision."""

    @abstractmethod
    def _velocity(self, transformer: Any, noisy: Tensor, batch: Batch) -> Tensor:
        """Of `noisy` `[B, C, f, h, w]`, whose first latent frame is clean where the batch says so; the same shape."""

    @abstractmethod
    def trainers_name(self, layer: str) -> str:
        """The name of a diffusers layer in the models' original code, which ComfyUI and other trainers go by."""


def fingerprint(*modules: nn.Module) -> str:
    """Tells models apart by shapes and samples of their weights, in the time that reading all of 20 GB would take
    a hundred times of."""
    total = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            flat = tensor.detach().flatten()
            some = flat[:: max(1, len(flat) // 256)][:256].float().cpu().numpy()
            total.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode() + some.tobytes())
    return total.hexdigest()
