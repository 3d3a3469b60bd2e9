"""How the embedded model is made, from paired clips to the folder that ships:

    realmaster train --recipe embedded -o OUT --minutes 60

makes the clips with the embedded engine, then runs these stages:

codec    principal components of the clips' patches.
base     learns what `reference` video looks like, in context: its reference tokens are a cue (geometry) or a degraded
         copy of the target, never the render. First and last frames may be given, so it fills in between anchors.
adapter  a LoRA on the frozen base learns the in-context task itself: render tokens in, reference video out; and the
         codec's decoder learns to take patch seams off. Trained on decoded pictures at the noise levels that few-step
         sampling visits, so that one step suffices.
decoder  the decoder alone, on what the adapter gives: cheap, so that it sees many more pictures.
pack     puts the parts together as a diffusers folder with the adapter in it.

`torchrun --standalone --nproc_per_node 2 -m realmaster train ...` trains on two processes. Every stage saves as it
goes and takes up where it was stopped; a model that was made is made better with `--from MODEL`, which keeps codec and
base and goes on with adapter and decoder. This file knows clips as arrays on disk, not the engine that drew them.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import shutil
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    FlowMatchEulerDiscreteScheduler,
    LTX2InContextPipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from realmaster.models.constant_prompt import ConstantPrompt
from realmaster.models.patch_codec import PatchCodec
from realmaster.train.families.ltx2 import coordinates, pack, velocity
from realmaster.train.flow import NoiseLevels, flow_loss, frames_apart, frames_together, noised
from realmaster.train.gradients import average_gradients
from realmaster.train.pictures import detail, picture_losses, ssim

PATCH = 16
"""Pixels along each side of a patch, which is a token."""

DOMAINS = ("render", "reference", "cue", "movers")  # as the clip files hold them: uint8 [4, F, H, W, 3]
LORA = {
    "r": 64,
    "lora_alpha": 64,
    "target_modules": r"proj_in|proj_out|"
    r"transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))",
}

Told = Callable[[str, float, float, str], None]
"""Called with (stage, minutes trained, of so many, what there is to say)."""


def make_transformer(channels: int) -> LTX2VideoTransformer3DModel:
    """LTX-2's transformer, small: 6 layers of heads x 32, 11 M parameters with 256 channels. It begins as a copier:
    untrained, from pure noise, it gives back its reference, so that training starts from there.
    """
    head_dim = 32
    heads = channels // head_dim + 1  # one more than latents fill: room for a constant beside them
    width = heads * head_dim
    transformer = LTX2VideoTransformer3DModel(
        in_channels=channels,
        out_channels=channels,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        cross_attention_dim=width,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=heads,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=heads * 8,
        num_layers=6,
        caption_channels=64,
        rope_type="split",
        rope_double_precision=False,
        vae_scale_factors=(1, PATCH, PATCH),
        # Positions turn so fast that every head tells a patch from its neighbours, and most a frame.
        base_height=4 * PATCH,
        base_width=4 * PATCH,
        pos_embed_max_pos=1,
    )
    with torch.no_grad():
        _begin_as_copier(transformer, channels, head_dim)
    return transformer


def _begin_as_copier(transformer: LTX2VideoTransformer3DModel, channels: int, head_dim: int) -> None:
    """Set weights so that from pure noise n beside a reference z the velocity is about n - z, that is, z is seen.

    Tokens enter as they are, beside a constant that keeps their contrast through normalisation. Queries and keys are
    one bias, which the rotary positions make an attention to the same place: half itself, half the reference. The
    first block takes that half-and-half away from the token, leaving c (n - z); the last layer stretches it to n - z.
    """
    constant, taken, stretch, sharpness = 14.0, 5.8, 10.2, 2.2
    eye = torch.eye(channels)
    transformer.proj_in.weight.zero_()[:channels] = eye
    transformer.proj_in.bias.zero_()[channels:] = constant * (1 - 2 * (torch.arange(head_dim) % 2))
    transformer.proj_out.weight.zero_()[:, :channels] = stretch * eye
    transformer.proj_out.bias.zero_()
    transformer.scale_shift_table.zero_()
    transformer.time_embed.linear.weight.mul_(0.1)
    transformer.time_embed.linear.bias.zero_()
    transformer.time_embed.emb.timestep_embedder.linear_2.weight.mul_(0.1)
    for block in transformer.transformer_blocks:
        block.scale_shift_table.zero_()
        block.scale_shift_table[[2, 5]] = 1.0  # the gates
        attention = block.attn1
        bias = torch.randn(attention.inner_dim).sign()
        for side, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)):
            side.bias.copy_(bias)
            side.weight.mul_(0.3)
            norm.weight.fill_(sharpness)
        for last in (attention.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            last.weight.mul_(0.1)
            last.bias.zero_()
    first = transformer.transformer_blocks[0].attn1
    first.to_v.weight.zero_()[head_dim:, :channels] = eye
    first.to_v.bias.zero_()
    first.to_out[0].weight.zero_()[:channels, head_dim:] = -taken * eye


# ---- clips


class Clips:
    """Paired clips in memory, uint8 `[domains, F, 3, H, W]` each, H and W padded by the border to whole patches.

    A few are kept apart, to watch by.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.npy"))
        if len(paths) < 2:
            raise SystemExit(f"There are no clips in {folder}: make some with python -m engine_bridges.city.clips.")
        apart = min(8, len(paths) // 2)
        clips = [self._load(path) for path in paths]
        self.all = clips[:-apart]
        self.longest = max(clip.shape[1] for clip in self.all)
        frames = min(2, *(clip.shape[1] for clip in clips[-apart:]))
        self.apart = torch.stack([as_video(clip[:, :frames]) for clip in clips[-apart:]])
        """Float `[N, domains, 3, F, H, W]` in [-1, 1], F of 2 if they have so many frames"""

    @staticmethod
    def _load(path: Path) -> Tensor:
        clip = torch.from_numpy(np.load(path)).permute(0, 1, 4, 2, 3)
        if len(clip) != len(DOMAINS):
            raise SystemExit(f"{path} was made by another version: take it away, then the clip is made anew.")
        height, width = clip.shape[-2:]
        padding = (0, -width % PATCH, 0, -height % PATCH)
        return functional.pad(clip.flatten(0, 1), padding, mode="replicate").unflatten(0, clip.shape[:2])

    def draw(self, count: int, frames: int) -> Tensor:
        """Float `[count, domains, 3, frames, H, W]` in [-1, 1], some mirrored."""
        source = [clip for clip in self.all if clip.shape[1] >= frames]
        chosen = []
        for index in torch.randint(len(source), (count,)):
            clip = source[int(index)]
            first = int(torch.randint(clip.shape[1] - frames + 1, ()))
            clip = as_video(clip[:, first : first + frames])
            chosen.append(mirrored(clip) if torch.rand(()) < 0.5 else clip)
        return torch.stack(chosen)


def as_video(clip: Tensor) -> Tensor:
    """uint8 `[domains, F, 3, H, W]` -> float `[domains, 3, F, H, W]` in [-1, 1]."""
    return clip.transpose(1, 2).float() / 127.5 - 1


def mirrored(clip: Tensor) -> Tensor:
    """The clip `[domains, 3, F, H, W]` seen in a mirror. The cue's red is the normals' x, which changes sign."""
    clip = clip.flip(-1).clone()
    clip[2, 0] *= -1
    return clip


def degraded(video: Tensor) -> Tensor:
    """`[B, 3, F, H, W]` in [-1, 1] made cheap: recoloured, flattened, blurred or posterised at random, each clip alike
    throughout. Without this the base would never have seen a reference of another appearance than a cue's."""
    count = len(video)

    def random(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, 1)

    frames = video.transpose(1, 2).flatten(0, 1)
    blurred = functional.avg_pool2d(frames, 9, stride=1, padding=4, count_include_pad=False)
    blurred = blurred.unflatten(0, (count, -1)).transpose(1, 2)
    picture = (blurred + (video - blurred) * random(0.4, 1.8) + 1) / 2  # detail faint or strong
    grey = picture.mean(1, keepdim=True)
    picture = (grey + (picture - grey) * random(0.3, 1.8)).clamp(1e-3, 1)
    picture = picture ** random(0.4, 1.8) * random(0.6, 1.1, 3) + random(-0.1, 0.35, 3)
    levels = random(4, 24)
    picture = torch.where(random(0, 1) < 0.15, (picture * levels).round() / levels, picture)
    return picture.clamp(0, 1) * 2 - 1


def codec_stage(clips: Clips, work: Path, told: Told) -> None:
    """Fit the codec on patches of renders, references and cues."""
    torch.manual_seed(0)
    codec = PatchCodec(patch_size=PATCH)
    patches = [codec.patchify(clips.draw(16, 1).flatten(0, 1)).flatten(0, 3) for _ in range(12)]
    deviations = codec.fit(torch.cat(patches))
    codec.save_pretrained(work / "codec")
    pictures = clips.draw(16, 1)[:, 1]
    error = (codec.decode_patches(codec.encode(pictures).latent_dist.mode()) - pictures).pow(2).mean()
    told(
        "codec",
        0,
        0,
        f"deviations {deviations[0]:.2f} to {deviations[-1]:.3f}, PSNR {10 * math.log10(4 / error):.1f} dB",
    )


# ---- one step in context


@dataclass
class Sample:
    """What the transformer is shown: latents `[B, C, F, h, w]`, and which frames `[B, F]` of the target are given."""

    target: Tensor
    reference: Tensor
    known: Tensor


def predict(
    transformer: LTX2VideoTransformer3DModel, prompt: Tensor, sample: Sample, noise: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor]:
    """The velocity of the target's tokens `[B, N, C]`, float32, and which of them were given `[B, N, 1]`."""
    shape = sample.target.shape
    target, reference, noise = (pack(transformer, x) for x in (sample.target, sample.reference, noise))
    known = sample.known.repeat_interleave(shape[-2] * shape[-1], dim=1)
    coords = coordinates(transformer, shape, "cpu")
    noisy = noised(target, noise, levels, known[..., None])
    words = prompt.expand(shape[0], -1, -1)
    both = torch.cat([coords, coords], dim=2)
    # Attention over few tokens as plain products: its fused form has a slow way back on processors.
    kernel = SDPBackend.MATH if both.shape[2] < 1000 else SDPBackend.FLASH_ATTENTION
    with half_precision(), sdpa_kernel([kernel, SDPBackend.MATH], set_priority=True):
        moved = velocity(transformer, noisy, levels, reference, both, words, known=known)
    return moved.float(), known[..., None]


def half_precision() -> torch.autocast:
    """bfloat16 where it is the faster one."""
    return torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16_faster())


@functools.cache
def multiplies_bfloat16_faster() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32. One that says it can may yet take longer over it,
    so it is tried; one that cannot would take hundreds of times as long."""
    if not (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return False

    def seconds(dtype: torch.dtype) -> float:
        tokens, weight = torch.ones(1152, 288, dtype=dtype), torch.ones(288, 288, dtype=dtype)
        return min(timeit.repeat(lambda: tokens @ weight, number=1, repeat=10))

    return seconds(torch.bfloat16) < seconds(torch.float32)


def train(
    step: Callable[[], Tensor],
    weights: dict[str, nn.Parameter],
    minutes: float,
    rate: float,
    state_file: Path,
    told: Told,
    watch: Callable[[], str] | None = None,
    save_every: float = 120.0,
) -> None:
    """Minimise `step()` over `weights`: AdamW with a cosine over the time budget, and an average of the weights, which
    they hold at the end.

    Saves its state every `save_every` seconds; a stopped run goes on from there with the time it had left. Several
    processes (torchrun) average their gradients. `watch` says more at every save.
    """
    distributed = torch.distributed.is_initialized()
    leads = not distributed or torch.distributed.get_rank() == 0
    parameters = list(weights.values())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-3, betas=(0.9, 0.95), fused=True)
    average = [p.detach().clone() for p in parameters]
    count, spent, smooth = 0, 0.0, None
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        count, spent, smooth, average = state["step"], state["spent"], state["loss"], state["average"]
        optimizer.load_state_dict(state["optimizer"])
        for p, saved_value in zip(parameters, state["weights"], strict=True):
            p.data.copy_(saved_value)
    if distributed:  # weights began alike; batches are to differ
        torch.manual_seed(torch.initial_seed() + 1000 * torch.distributed.get_rank() + count)
    budget, started, saved = minutes * 60, time.monotonic() - spent, spent
    while True:
        spent = _agreed(time.monotonic() - started)
        if spent >= budget:
            break
        for group in optimizer.param_groups:
            left = 0.5 * (1 + math.cos(math.pi * spent / budget))
            group["lr"] = rate * min(1.0, (count + 1) / 100) * (0.97 * left + 0.03)
        loss = step()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        count += 1
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        with torch.no_grad():
            decay = min(0.997, (1 + count) / (10 + count))
            torch._foreach_lerp_(average, [p.data for p in parameters], 1 - decay)
        if leads and count % 25 == 0:
            told(state_file.stem, spent / 60, minutes, f"step {count}, loss {smooth:.4f}")
        if leads and spent - saved > save_every:
            saved = spent
            state = {"step": count, "spent": spent, "loss": smooth, "average": average}
            state |= {"optimizer": optimizer.state_dict(), "weights": [p.data for p in parameters]}
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)
            if watch is not None:
                told(state_file.stem, spent / 60, minutes, watch())
    for p, value in zip(parameters, average, strict=True):
        p.data.copy_(value)
    if leads and watch is not None:
        told(state_file.stem, minutes, minutes, watch())


def _agreed(seconds: float) -> float:
    """The first process's clock."""
    if not torch.distributed.is_initialized():
        return seconds
    clock = torch.tensor([seconds], dtype=torch.float64)
    torch.distributed.broadcast(clock, 0)
    return clock.item()


# ---- stages


def base_stage(clips: Clips, work: Path, minutes: float, told: Told, pictures: int = 3) -> None:
    """Reference video from a cue (or a degraded copy) in context, with some frames given."""
    torch.manual_seed(0)
    codec = PatchCodec.from_pretrained(work / "codec")
    transformer = make_transformer(codec.config.latent_channels)
    prompt = nn.Parameter(torch.randn(1, 8, 64))
    levels = NoiseLevels(mean=1.0, uniform=0.2, pure=0.3)

    def step() -> Tensor:
        frames = min(5, clips.longest) if torch.rand(()) < 0.2 else 1
        count = max(1, pictures // frames)
        batch = clips.draw(count, frames)
        cheap = degraded(batch[:, 1])
        use_cue = torch.rand(count, 1, 1, 1, 1) < 0.25
        reference = torch.where(use_cue, batch[:, 2], cheap)
        known = torch.zeros(count, frames, dtype=torch.bool)
        if frames > 1:
            kind = torch.rand(count)
            known[:, 0] = kind < 0.7
            known[:, -1] = kind < 0.5
        target, reference = (codec.encode(x).latent_dist.mode() for x in (batch[:, 1], reference))
        noise, level = torch.randn_like(target), levels.draw(count, target[0, 0].numel())
        moved, given = predict(transformer, prompt, Sample(target, reference, known), noise, level)
        tokens = pack(transformer, target), pack(transformer, noise)
        return flow_loss(moved, *tokens, known=given).mean()

    named = {n: p for n, p in transformer.named_parameters() if "audio" not in n}
    train(step, named | {"prompt": prompt}, minutes, 1e-3, work / "base.state", told)
    with torch.no_grad():
        # Trained with audio isolated: in a pipeline that joins the two, audio must stay without a voice in the video.
        for block in transformer.transformer_blocks:
            block.audio_to_video_attn.to_out[0].weight.zero_()
            block.audio_to_video_attn.to_out[0].bias.zero_()
    if is_lead():
        transformer.save_pretrained(work / "base")
        connectors = ConstantPrompt()
        connectors.embedding.data.copy_(prompt.data)
        connectors.save_pretrained(work / "connectors")


def lifting_transformer(work: Path, adapter: Path | None = None) -> LTX2VideoTransformer3DModel:
    """The frozen base with the adapter to be trained, or with one that was."""
    transformer = LTX2VideoTransformer3DModel.from_pretrained(work / "base").requires_grad_(False)
    transformer.add_adapter(LoraConfig(**LORA), adapter_name="lift")
    if adapter is not None:
        layers = LTX2InContextPipeline.lora_state_dict(adapter)
        layers = {name.removeprefix("transformer."): weight for name, weight in layers.items()}
        set_peft_model_state_dict(transformer, layers, adapter_name="lift")
    return transformer


def adapter_stage(clips: Clips, work: Path, minutes: float, told: Told, pictures: int = 4) -> None:
    """The IC-LoRA: reference video from the render, on the frozen base; and the decoder that goes with it.

    The loss is that of decoded pictures, with a little of the latents' error; mostly from pure noise, as one step is
    what the lifter takes.
    """
    torch.manual_seed(1)
    begun = work / "begun"  # a model that is made better
    codec = PatchCodec.from_pretrained(begun / "vae" if begun.exists() else work / "codec")
    codec.refiner.requires_grad_(True)
    transformer = lifting_transformer(work, begun / "adapter" if begun.exists() else None)
    prompt = ConstantPrompt.from_pretrained(work / "connectors").embedding.detach()
    noise_levels = NoiseLevels(mean=1.0, uniform=0.2, pure=0.7)
    turns = itertools.cycle((1, 2) if clips.longest > 1 else (1,))  # alike in all processes: none waits for another

    def decoded(latents: Tensor) -> Tensor:
        with half_precision():
            return codec.decode(latents).sample.float()

    def step() -> Tensor:
        frames = next(turns)
        count = -(-pictures // frames)
        batch = clips.draw(count, frames)
        render, target = (codec.encode(batch[:, domain]).latent_dist.mode() for domain in (0, 1))
        levels = noise_levels.draw(count, target[0, 0, 0].numel())
        clean = seen_from(transformer, prompt, render, target, levels)
        error = (clean - target).abs().mean()
        truth, movers = batch[:, 1], batch[:, 3, :1] > 0
        if torch.rand(()) < 0.25:  # one more that is given whole: the decoder stays a decoder
            clean, truth = torch.cat([clean, target[:1]]), torch.cat([truth, truth[:1]])
            movers = torch.cat([movers, movers[:1]])
        return picture_losses(decoded(clean), truth, codec.config.patch_size, movers).mean() + 0.02 * error

    @torch.no_grad()
    def watch() -> str:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            latents = lifted(transformer, prompt, codec, clips.apart[:, 0])
        return held_out_line(decoded(latents), clips)

    weights = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    weights |= {f"refiner.{n}": p for n, p in codec.refiner.named_parameters()}
    rate = 4e-4 if begun.exists() else 1.2e-3  # at 6e-4, 1.4 dB are lost before any is won
    train(step, weights, minutes, rate, work / "adapter.state", told, watch)
    if is_lead():
        LTX2InContextPipeline.save_lora_weights(
            work / "adapter", transformer_lora_layers=get_peft_model_state_dict(transformer, adapter_name="lift")
        )
        codec.requires_grad_(False).save_pretrained(work / "vae")


def decoder_stage(clips: Clips, work: Path, minutes: float, told: Told, pictures: int = 8) -> None:
    """The refiner, on what the adapter makes of the clips' renders, each lifted once. Trained on squares of 8 x 8
    patches, anywhere on their grid, of single frames and of two that follow each other."""
    codec = PatchCodec.from_pretrained(work / "vae")
    rank, processes = 0, 1
    if torch.distributed.is_initialized():
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    kinds = _lifted_once(clips, codec, work, rank, processes, told)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        apart = lifted(*_lifting(work), codec, clips.apart[:, 0])
    torch.manual_seed(2)
    codec.refiner.requires_grad_(True)
    patch = codec.config.patch_size

    def step() -> Tensor:
        latents, truths, movers = kinds[int(torch.randint(len(kinds), ()))]
        given, wanted, stressed = [], [], []
        for index in torch.randint(len(latents), (pictures // latents.shape[2],)):
            row, column = (int(torch.randint(0, max(side - 8, 0) + 1, ())) for side in latents.shape[-2:])
            given.append(latents[index, ..., row : row + 8, column : column + 8].float())
            rows, columns = (slice(start * patch, (start + 8) * patch) for start in (row, column))
            wanted.append(truths[index, ..., rows, columns].float() / 127.5 - 1)
            stressed.append(movers[index, ..., rows, columns])
        with half_precision():
            seen = codec.decode(torch.stack(given)).sample.float()
        return picture_losses(seen, torch.stack(wanted), patch, torch.stack(stressed)).mean()

    @torch.no_grad()
    def watch() -> str:
        return held_out_line(codec.decode(apart).sample, clips)

    train(step, dict(codec.refiner.named_parameters()), minutes, 1e-3, work / "decoder.state", told, watch)
    if is_lead():
        codec.requires_grad_(False).save_pretrained(work / "decoder")


def _lifting(work: Path) -> tuple[LTX2VideoTransformer3DModel, Tensor]:
    """The base with the trained adapter in its weights, and the prompt."""
    transformer = lifting_transformer(work, work / "adapter")
    transformer.fuse_lora(adapter_names=["lift"])
    transformer.unload_lora()
    return transformer, ConstantPrompt.from_pretrained(work / "connectors").embedding.detach()


@torch.no_grad()
def _lifted_once(
    clips: Clips, codec: PatchCodec, work: Path, rank: int, processes: int, told: Told
) -> list[tuple[Tensor, ...]]:
    """Of this process's share of the clips, half of them mirrored, those of one frame and the first two frames of the
    others: latents of the lift, float16 `[N, C, F, h, w]`, the reference, uint8 `[N, 3, F, H, W]`, and where movers
    are, bool `[N, 1, F, H, W]`. Kept in a file, as they take some minutes."""
    path = work / f"lifted-{rank}-of-{processes}.safetensors"
    if not path.exists():
        torch.manual_seed(rank)
        transformer, prompt = _lifting(work)
        share = clips.all[rank::processes]
        made: dict[str, Tensor] = {}
        for frames in (1, 2):
            alike = [clip[:, :frames] for clip in share if min(clip.shape[1], 2) == frames]
            parts: dict[str, list[Tensor]] = {"latents": [], "truths": [], "movers": []}
            for start in range(0, len(alike), 4):
                batch = torch.stack([as_video(clip) for clip in alike[start : start + 4]])
                batch = batch.flip(-1) if torch.rand(()) < 0.5 else batch
                parts["latents"].append(lifted(transformer, prompt, codec, batch[:, 0]).half())
                parts["truths"].append((batch[:, 1] * 127.5 + 127.5).round().byte())
                parts["movers"].append(batch[:, 3, :1] > 0)
                if rank == 0:
                    told("lifting the clips", start, len(alike), "")
            if alike:
                made |= {f"{name}.{frames}": torch.cat(part).contiguous() for name, part in parts.items()}
        save_file(made, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    with safe_open(path, framework="pt") as file:
        kinds = sorted({name.partition(".")[2] for name in file.keys()})  # noqa: SIM118 (no mapping)
        return [tuple(file.get_tensor(f"{name}.{kind}") for name in ("latents", "truths", "movers")) for kind in kinds]


def seen_from(
    transformer: LTX2VideoTransformer3DModel, prompt: Tensor, render: Tensor, target: Tensor, levels: Tensor
) -> Tensor:
    """Latents of the target as the transformer sees them from noise levels `[B]`, `[B, C, F, h, w]` like those of
    render and target. Every frame by itself, but those of a clip with the same noise: as a lift does it."""
    count, _, frames = target.shape[:3]
    render, target = frames_apart(render), frames_apart(target)
    noise = torch.randn_like(target[::frames]).repeat_interleave(frames, 0)
    levels = levels.repeat_interleave(frames)
    known = torch.zeros(len(target), 1, dtype=torch.bool)
    moved, _ = predict(transformer, prompt, Sample(target, render, known), noise, levels)
    moved = moved.transpose(1, 2).unflatten(2, target.shape[2:])
    seen = noised(target, noise, levels) - levels.view(-1, 1, 1, 1, 1) * moved
    return frames_together(seen, count)


def lifted(transformer: LTX2VideoTransformer3DModel, prompt: Tensor, codec: PatchCodec, renders: Tensor) -> Tensor:
    """Latents of the lifts of `[B, 3, F, H, W]` in one step, from pure noise."""
    (posterior,) = codec.encode(renders, return_dict=False)
    render = posterior.mode()
    return seen_from(transformer, prompt, render, torch.zeros_like(render), torch.ones(len(renders)))


def held_out_line(lifts: Tensor, clips: Clips) -> str:
    """Scores of the lifts `[N, 3, F, H, W]` of the clips kept apart."""
    render, truth = clips.apart[:, 0], clips.apart[:, 1]
    return f"held out: lift {scores_line(lifts.clamp(-1, 1), truth)}; render {scores_line(render, truth)}"


def scores_line(video: Tensor, truth: Tensor) -> str:
    pictures, true = (each.transpose(1, 2).flatten(0, 1) for each in (video, truth))
    psnr = (10 * (4 / (pictures - true).pow(2).mean((1, 2, 3))).log10()).mean()
    share = detail(pictures).pow(2).mean() / detail(true).pow(2).mean()
    line = f"PSNR {psnr:.2f} dB, SSIM {ssim(pictures, true).mean():.3f}, fine detail {share:.2f}"
    if video.shape[2] > 1:
        line += f", change {video.diff(dim=2).abs().mean() / truth.diff(dim=2).abs().mean():.3f}"
    return line


def pack_stage(work: Path, out: Path) -> None:
    """Put the parts together as a diffusers folder of 16-bit safetensors with the adapter in it.

    The pipeline cannot be without audio parts; theirs are untrained, and what they say is thrown away.
    """
    torch.manual_seed(0)
    audio = AutoencoderKLLTX2Audio(
        base_channels=8, output_channels=2, ch_mult=(1, 2, 4), num_res_blocks=1, in_channels=2, resolution=32,
        latent_channels=2, norm_type="pixel", causality_axis="height", mel_bins=16,
    )  # fmt: skip
    vocoder = LTX2Vocoder(
        in_channels=32, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
    )  # fmt: skip
    pipeline = LTX2InContextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift_terminal=None),
        vae=PatchCodec.from_pretrained(work / "decoder"),
        audio_vae=audio,
        text_encoder=None,
        tokenizer=None,
        connectors=ConstantPrompt.from_pretrained(work / "connectors"),
        transformer=LTX2VideoTransformer3DModel.from_pretrained(work / "base"),
        vocoder=vocoder,
    )
    pipeline.to(torch.float16).save_pretrained(out)
    for config in out.glob("*/config.json"):  # where its part was made concerns nobody
        kept = json.loads(config.read_text()) | {"_name_or_path": None}
        config.write_text(json.dumps({key: kept[key] for key in kept if kept[key] is not None}, indent=2) + "\n")
    (out / "adapter").mkdir(exist_ok=True)
    name = "pytorch_lora_weights.safetensors"
    with safe_open(work / "adapter" / name, framework="pt") as adapter:
        layers = {key: adapter.get_tensor(key).half() for key in adapter.keys()}  # noqa: SIM118 (no mapping)
        save_file(layers, out / "adapter" / name, metadata=adapter.metadata())


def begin_with(model: Path, work: Path) -> None:
    """Lay out a finished model as the codec and base of another, and what its adapter and decoder begin with."""
    for part, place in (("vae", "codec"), ("transformer", "base"), ("connectors", "connectors"), ("vae", "begun/vae"),
                        ("adapter", "begun/adapter")):  # fmt: skip
        shutil.copytree(model / part, work / place, dirs_exist_ok=True)


def make(clips: Path, out: Path, minutes: float, told: Told, begin: Path | None = None) -> Path:
    """Run the stages that are not done yet, in OUT/work; returns the folder OUT/model, ready for `realmaster lift`.
    With `begin`, a folder that this made before, only adapter and decoder are trained, from there.

    `minutes` of training in all: a fifth for the base, the rest in halves for adapter and decoder. Processes launched
    together work together.
    """
    if "LOCAL_RANK" in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    work, model = out / "work", out / "model"
    work.mkdir(parents=True, exist_ok=True)
    paired = Clips(clips)
    if is_lead() and begin is not None and not (work / "begun").exists():
        begin_with(begin, work)
    if is_lead() and not (work / "codec").exists():
        codec_stage(paired, work, told)
    _together()
    for_base = 0 if begin else minutes / 5
    half = (minutes - for_base) / 2
    if not (work / "base").exists():
        base_stage(paired, work, for_base, told)
    _together()
    if not (work / "adapter").exists():
        adapter_stage(paired, work, half, told)
    _together()
    if not (work / "decoder").exists():
        decoder_stage(paired, work, half, told)
    _together()
    if is_lead():
        pack_stage(work, model)
    return model


def is_lead() -> bool:
    """Whether this is the process that writes and speaks."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _together() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
