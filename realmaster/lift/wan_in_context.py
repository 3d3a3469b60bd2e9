"""Wan 2.1 and 2.2 (text to video) with in-context reference tokens: the base of the RealMaster paper, in diffusers.

Works on diffusers' Wan transformer, scheduler and VAE; knows nothing of takes or profiles. Plain Wan weights load into
these classes unchanged: nothing here has a parameter of its own. What a reference means is learned by an adapter.

The mathematics. Let x_s be the noisy target at noise level s in (0, 1], in latents (B, C, F, H, W), and r a clean
reference encoded by the same VAE. Both are cut into patches; the transformer's tokens are the concatenation
[x_s | r_1 | r_2 ...] over which every self-attention runs in full. A token has

- a timestep: 1000 s for the target, 0 for references, since they are clean (AdaLN modulation follows it);
- a position (t, y, x) for the rotary embedding: a reference token has the position of the target patch that it shows.
  A reference of 1/d of the target's height and width (`downscale` d) therefore counts its rows and columns in steps of
  d. Attention without an order of its own sees positions only, so the order of the concatenation does not matter.

The velocity is read from the target's tokens alone. Leading target frames that are already known (a *prefix*, lifted
by the window before) take part as clean tokens at timestep 0, and their velocity is defined so that every solver's
estimate of the clean latents is the prefix itself: v = (x_s - prefix) / s, because x_0 = x_s - s v.

Source of the scheme: RealMaster (arXiv 2603.23462), whose text leaves positions open; shared positions and the
downscale are those of LTX-2's in-context LoRAs (diffusers, `LTX2InContextPipeline`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from diffusers import ModelMixin, WanPipeline, WanTransformer3DModel  # noqa: F401  (see WanInContextTransformer3DModel)
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor


@dataclass(frozen=True)
class WanReference:
    """A video that shows, frame for frame, what the target is to follow."""

    video: Tensor
    """Float `(T, 3, h, w)` in [0, 1], sRGB; T the target's frames, h and w the target's divided by `downscale`."""
    downscale: int = 1
    """Target pixels per reference pixel, along each side."""
    strength: float = 1.0
    """1 gives clean tokens at timestep 0. Less mixes noise in: level (1 - strength) s at the target's level s."""


@dataclass(frozen=True)
class WanContext:
    """What a transformer attends to beside its target, all in normalised latents."""

    references: tuple[tuple[Tensor, int, float], ...] = ()
    """(latents `(B, C, F, h, w)`, downscale, strength) of each reference."""
    noise: tuple[Tensor, ...] = ()
    """Per reference, the noise that a strength below 1 mixes in; of the shape of its latents."""
    prefix: Tensor | None = None
    """Latents `(B, C, P, H, W)` of the target's first P latent frames, P >= 1."""


class WanInContextBlock(WanTransformerBlock):
    """A block whose token segments have timesteps of their own.

    diffusers' block takes one timestep for all tokens or one for each; the latter builds six modulation vectors for
    every token (8 GB for a window of the 14B model), where a handful of segments share them.
    """

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor | tuple[Tensor, list[int]],
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        """`temb`: as in the base class, or (modulation `(B, S, 6, D)`, tokens in each of the S segments)."""
        if isinstance(temb, Tensor):
            return super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        modulation, lengths = temb
        shift_msa, scale_msa, gate_msa, c_shift, c_scale, c_gate = (
            self.scale_shift_table.unsqueeze(0) + modulation.float()
        ).unbind(2)

        norm = _modulate(self.norm1(hidden_states.float()), lengths, 1 + scale_msa, shift_msa)
        attention = self.attn1(norm.type_as(hidden_states), None, None, rotary_emb)
        hidden_states = (hidden_states.float() + _modulate(attention, lengths, gate_msa)).type_as(hidden_states)

        norm = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(norm, encoder_hidden_states, None, None)

        norm = _modulate(self.norm3(hidden_states.float()), lengths, 1 + c_scale, c_shift).type_as(hidden_states)
        fed = _modulate(self.ffn(norm).float(), lengths, c_gate)
        return (hidden_states.float() + fed).type_as(hidden_states)


class WanInContextTransformer3DModel(WanTransformer3DModel):
    """Wan's transformer, which can be given a context; without one it is the base class to the bit.

    diffusers loads a saved one by this module's name, and asks the module for `ModelMixin` to learn how.
    """

    _no_split_modules = ["WanInContextBlock"]
    _repeated_blocks = ["WanInContextBlock"]

    _context: WanContext | None = None

    # diffusers reads a model's configuration off this signature
    @functools.wraps(WanTransformer3DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        in_context(self)

    @contextmanager
    def given(self, context: WanContext) -> Iterator[None]:
        """Attend to `context` in every forward pass within."""
        self._context = context
        try:
            yield
        finally:
            self._context = None

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """As in the base class: velocity `(B, C, F, H, W)` at `timestep` `(B,)` in [0, 1000]."""
        if self._context is None:
            return super().forward(
                hidden_states,
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image,
                return_dict=return_dict,
                attention_kwargs=attention_kwargs,
            )
        velocity = self._forward_in_context(
            hidden_states, timestep, encoder_hidden_states, self._context, attention_kwargs=attention_kwargs
        )
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    @apply_lora_scale("attention_kwargs")
    def _forward_in_context(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        context: WanContext,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        if timestep.ndim != 1:
            raise ValueError(f"in context a timestep is one number per video, not {list(timestep.shape)}")
        target, known = hidden_states, 0
        if context.prefix is not None:
            known = context.prefix.shape[2]
            if known >= target.shape[2]:
                raise ValueError(f"a prefix of {known} latent frames leaves nothing of {target.shape[2]} to make")
            prefix = context.prefix.to(target).expand(len(target), -1, -1, -1, -1)
            target = torch.cat([prefix, target[:, :, known:]], dim=2)

        clean = torch.zeros_like(timestep)
        per_frame = target.shape[3] // self.config.patch_size[1] * (target.shape[4] // self.config.patch_size[2])
        frames = target.shape[2] // self.config.patch_size[0]
        tokens = [self._tokens(target)]
        positions = [self.positions(target.shape)]
        segments = [(known * per_frame, clean), ((frames - known) * per_frame, timestep)]
        level = (timestep.float() / 1000).view(-1, 1, 1, 1, 1)
        for (latents, downscale, strength), noise in zip(context.references, context.noise, strict=True):
            latents = latents.to(target).expand(len(target), -1, -1, -1, -1)
            if strength < 1:
                mixed = ((1 - strength) * level).to(target)
                latents = (1 - mixed) * latents + mixed * noise.to(target)
            tokens.append(self._tokens(latents))
            positions.append(self.positions(latents.shape, downscale))
            segments.append((tokens[-1].shape[1], (1 - strength) * timestep))
        segments = [segment for segment in segments if segment[0]]
        lengths = [length for length, _ in segments]
        rotary = tuple(torch.cat(parts, dim=1) for parts in zip(*positions, strict=True))

        times = torch.stack([time for _, time in segments], dim=1)
        temb, modulation, text, _ = self.condition_embedder(
            times.flatten(), encoder_hidden_states, None, timestep_seq_len=len(segments)
        )
        modulated = (modulation.unflatten(2, (6, -1)), lengths)
        states = torch.cat(tokens, dim=1)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                states = self._gradient_checkpointing_func(block, states, text, modulated, rotary)
            else:
                states = block(states, text, modulated, rotary)

        at = 1 if known else 0  # the segment of the noisy target
        start = sum(lengths[:at])
        shift, scale = (self.scale_shift_table.to(temb.device) + temb[:, at].unsqueeze(1)).to(states.device).chunk(2, 1)
        states = states[:, start : start + lengths[at]]
        states = self.proj_out((self.norm_out(states.float()) * (1 + scale) + shift).type_as(states))
        velocity = self._unpatchify(states, frames - known, target.shape)
        if not known:
            return velocity
        settled = (hidden_states[:, :, :known].float() - prefix.float()) / level.clamp(min=1e-6)
        return torch.cat([settled.to(velocity), velocity], dim=2)

    def positions(self, shape: Sequence[int], downscale: int = 1) -> tuple[Tensor, Tensor]:
        """Rotary cosines and sines, each `(1, tokens, 1, head_dim)`, of latents of `shape` `(B, C, F, H, W)` whose
        rows and columns count in steps of `downscale`."""
        rope = self.rope
        sides = [size // patch for size, patch in zip(shape[2:], self.config.patch_size, strict=True)]
        steps = (1, downscale, downscale)
        longest = len(rope.freqs_cos)
        if any((side - 1) * step >= longest for side, step in zip(sides, steps, strict=True)):
            raise ValueError(f"latents of {list(shape)} exceed the model's {longest} positions")

        def grid(table: Tensor) -> Tensor:
            parts = []
            for axis, part in enumerate(table.split([rope.t_dim, rope.h_dim, rope.w_dim], dim=1)):
                rows = part[: sides[axis] * steps[axis] : steps[axis]]
                view = [1, 1, 1, rows.shape[1]]
                view[axis] = sides[axis]
                parts.append(rows.view(view).expand(*sides, -1))
            return torch.cat(parts, dim=-1).reshape(1, -1, 1, table.shape[1])

        return grid(rope.freqs_cos), grid(rope.freqs_sin)

    def _tokens(self, latents: Tensor) -> Tensor:
        return self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()

    def _unpatchify(self, states: Tensor, frames: int, shape: Sequence[int]) -> Tensor:
        p_t, p_h, p_w = self.config.patch_size
        grid = states.reshape(len(states), frames, shape[3] // p_h, shape[4] // p_w, p_t, p_h, p_w, -1)
        return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def in_context(transformer: WanTransformer3DModel) -> WanInContextTransformer3DModel:
    """The same transformer, able to take a context: it has the same parameters, so only its classes change."""
    transformer.__class__ = WanInContextTransformer3DModel
    for block in transformer.blocks:
        block.__class__ = WanInContextBlock
    return cast(WanInContextTransformer3DModel, transformer)


class WanInContextPipeline(WanPipeline):
    """`WanPipeline` that follows reference videos; without any it gives what `WanPipeline` gives, to the bit.

    Loads any folder of `WanPipeline`, and one of its own. Both experts of Wan 2.2 (`transformer`, `transformer_2`) get
    the same context.
    """

    @functools.wraps(WanPipeline.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for expert in self.experts:
            in_context(expert)

    @property
    def experts(self) -> list[WanInContextTransformer3DModel]:
        """The transformers: one, or of Wan 2.2 that for high noise and that for low."""
        return [expert for expert in (self.transformer, self.transformer_2) if expert is not None]

    def check_inputs(self, *args: Any, **kwargs: Any) -> None:
        super().check_inputs(*args, **kwargs)
        if self.config.expand_timesteps:
            raise ValueError("Wan 2.2 TI2V (expand_timesteps) has timesteps of its own and takes no context.")

    @torch.no_grad()
    def __call__(
        self,
        *args: Any,
        references: Sequence[WanReference] = (),
        prefix: Tensor | None = None,
        sigmas: Sequence[float] | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `WanPipeline.__call__`, and

        references: see `WanReference`.
        prefix: float `(P, 3, H, W)` in [0, 1], the first P frames of the result; P is 4k + 1. They shape the rest;
            put them back over the decoded result, which only comes close to them.
        sigmas: noise levels to sample at, which the scheduler still shifts; as many as `num_inference_steps`.
        """
        encoded = tuple((self.encode_video(ref.video), ref.downscale, ref.strength) for ref in references)
        # From a generator of its own: references must not change the target's noise.
        own = torch.Generator().manual_seed(0 if generator is None else generator.initial_seed())
        noise = tuple(torch.randn(latents.shape, generator=own).to(latents) for latents, _, _ in encoded)
        with ExitStack() as settings:
            if encoded or prefix is not None:
                context = WanContext(encoded, noise, None if prefix is None else self.encode_video(prefix))
                for expert in self.experts:
                    settings.enter_context(expert.given(context))
            if sigmas is not None:
                settings.enter_context(_sampling_at(self.scheduler, sigmas))
            return super().__call__(*args, generator=generator, **kwargs)

    def encode_video(self, video: Tensor) -> Tensor:
        """See the function of this name."""
        return encode_video(self.vae, video.to(self._execution_device))


def encode_video(vae: Any, video: Tensor) -> Tensor:
    """Float `(T, 3, H, W)` in [0, 1] -> normalised latents `(1, C, F, H / 8, W / 8)`, the mode of the posterior."""
    pixels = (2 * video - 1).permute(1, 0, 2, 3).unsqueeze(0).to(vae.dtype)
    latents = vae.encode(pixels).latent_dist.mode().float()
    mean, std = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std


@contextmanager
def _sampling_at(scheduler: Any, sigmas: Sequence[float]) -> Iterator[None]:
    """`WanPipeline` tells its scheduler the number of steps only; the schedulers take noise levels too."""
    scheduler.set_timesteps = functools.partial(scheduler.set_timesteps, sigmas=np.array(sigmas))
    try:
        yield
    finally:
        del scheduler.set_timesteps


def _modulate(states: Tensor, lengths: list[int], scale: Tensor, shift: Tensor | None = None) -> Tensor:
    """`states` `(B, N, D)` times scale plus shift, `(B, S, D)` each: one row for each segment of `lengths` tokens."""
    parts = states.split(lengths, dim=1)
    moved = [part * scale[:, i : i + 1] for i, part in enumerate(parts)]
    if shift is not None:
        moved = [part + shift[:, i : i + 1] for i, part in enumerate(moved)]
    return torch.cat(moved, dim=1)
