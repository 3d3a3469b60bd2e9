"""How the embedded model was made, from paired clips to the folder that ships. Run one stage after another:

    python -m engine_bridges.city.clips clips --seeds 0:600          # render, reference and cue of the same frames
    python -m realmaster.models.recipe codec   clips work            # fit the patch codec, encode every clip
    python -m realmaster.models.recipe base    clips work --minutes 40
    python -m realmaster.models.recipe adapter clips work --minutes 40
    python -m realmaster.models.recipe refiner clips work --minutes 8
    python -m realmaster.models.recipe pack    clips work realmaster/models/embedded

base     learns what `reference` video looks like, in context: its reference tokens are a cue (geometry) or a degraded
         copy of the target, never the render.
adapter  a LoRA on the frozen base learns the in-context task itself: render tokens in, reference video out.
refiner  the codec's decoder learns to take patch seams off what the model makes.

Every stage saves as it goes and takes up where it was stopped. This file knows clips as arrays on disk, not the
engine that drew them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from realmaster.models.constant_prompt import ConstantPrompt
from realmaster.models.patch_codec import PatchCodec

DOMAINS = ("render", "reference", "cue")  # as the clip files hold them: uint8 [3, F, H, W, 3]
FPS = 24.0
LORA = {
    "r": 64,
    "lora_alpha": 64,
    "target_modules": r"proj_in|proj_out|"
    r"transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))",
}


def make_transformer() -> LTX2VideoTransformer3DModel:
    """LTX-2's transformer, small: 6 layers of 8 heads x 32, 8.6 M parameters."""
    heads, head_dim = 8, 32
    return LTX2VideoTransformer3DModel(
        in_channels=128,
        out_channels=128,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        cross_attention_dim=heads * head_dim,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=heads,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=heads * 8,
        num_layers=6,
        caption_channels=64,
        rope_type="split",
        rope_double_precision=False,
        vae_scale_factors=(4, 16, 16),
        base_height=256,
        base_width=256,
        pos_embed_max_pos=4,
    )


# ---- clips and latents


def load_clip(path: Path) -> Tensor:
    """One clip file as float `[3 domains, 3, F, H, W]` in [-1, 1], H padded with its last row to a multiple of 32."""
    clip = torch.from_numpy(np.load(path)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pad_to_multiple(clip, 32)


def pad_to_multiple(video: Tensor, multiple: int) -> Tensor:
    """`[B, 3, F, H, W]` padded at the bottom and right by repeating the border."""
    height, width = video.shape[-2:]
    padded = functional.pad(video, (0, -width % multiple, 0, -height % multiple, 0, 0), mode="replicate")
    return padded


def mirrored(clip: Tensor) -> Tensor:
    """The clip seen in a mirror. The cue's red is the normals' x, which changes sign."""
    clip = clip.flip(-1).clone()
    clip[2, 0] *= -1
    return clip


def degraded(video: Tensor, generator: torch.Generator) -> Tensor:
    """`[3, F, H, W]` in [-1, 1] made cheap: blurred, posterised, recoloured at random. Without this the base would
    never have seen a reference of another appearance than a cue's."""
    random = torch.rand(8, generator=generator)
    blurred = functional.avg_pool2d(video.transpose(0, 1), 5, stride=1, padding=2, count_include_pad=False)
    levels = 3 + int(random[0] * 5)
    flat = (((blurred + 1) / 2 * levels).round() / levels).clamp(0, 1).transpose(0, 1)
    gamma, gain = 0.6 + 1.0 * random[1], 0.75 + 0.5 * random[2:5]
    grey = flat.mean(0, keepdim=True)
    saturation = 0.4 + 1.4 * random[5]
    coloured = (grey + (flat - grey) * saturation).clamp(0, 1) ** gamma * gain[:, None, None, None]
    return coloured.clamp(0, 1) * 2 - 1


@torch.no_grad()
def codec_stage(clips: Path, work: Path) -> None:
    """Fit the codec on clips' patches, then encode all clips and their mirror images."""
    paths = sorted(clips.glob("*.npy"))
    generator = torch.Generator().manual_seed(0)
    codec = PatchCodec()
    if (work / "codec").exists():
        codec = PatchCodec.from_pretrained(work / "codec")
    else:
        sample = [codec.patchify(load_clip(path)[:2]).flatten(0, 3) for path in paths[:: max(1, len(paths) // 150)]]
        patches = torch.cat([p[torch.randperm(len(p), generator=generator)[:400]] for p in sample])
        deviations = codec.fit(patches)
        codec.save_pretrained(work / "codec")
        print(f"codec: {len(patches)} patches, first and last deviation {deviations[0]:.2f} {deviations[-1]:.3f}")
    done = {path.stem for path in (work / "latents").glob("*.pt")}
    (work / "latents").mkdir(exist_ok=True)
    for path in paths:
        if path.stem in done:
            continue
        clip, views = load_clip(path), []
        for view in (clip, mirrored(clip)):
            view = torch.cat([view, degraded(view[1], generator)[None]])
            views.append(codec.encode(view).latent_dist.mode().half())
        torch.save(torch.stack(views), work / "latents" / f"{path.stem}.pt")
    print(f"latents: {len(paths)} clips")


def load_latents(work: Path) -> Tensor:
    """`[N, 4 domains, C, f, h, w]` float16: render, reference, cue, degraded."""
    return torch.cat([torch.load(path, weights_only=True) for path in sorted((work / "latents").glob("*.pt"))])


# ---- the in-context flow-matching step


@dataclass
class Batch:
    """Tokens `[B, N, C]` and their coordinates `[B, 3, N, 2]`; `known` `[B, N]` marks target tokens given clean."""

    target: Tensor
    reference: Tensor
    coords: Tensor
    known: Tensor
    size: tuple[int, int, int]


def batches(latents: Tensor, choose: Callable[[Tensor], tuple[Tensor, Tensor]], rope: Any) -> Iterator[Batch]:
    """Endless batches of about 720 target tokens: four crops or one whole frame, at their true coordinates.

    Crops make steps varied and attention cheap; whole frames keep the model at home where it will be used.
    """
    frames, height, width = latents.shape[3:]
    grid = rope.prepare_video_coords(1, frames, height, width, "cpu", fps=FPS)
    grid = grid.unflatten(2, (frames, height, width))
    while True:
        count, h, w = (1, height, width) if torch.rand(()) < 0.4 else (4, height // 2, width // 2)
        items, coords = [], []
        for index in torch.randint(len(latents), (count,)):
            y, x = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
            window = (..., slice(y, y + h), slice(x, x + w))
            items.append(choose(latents[index][window].float()))
            coords.append(grid[:, :, :, y : y + h, x : x + w].flatten(2, 4))
        target, reference = (pack(torch.stack(side)) for side in zip(*items, strict=True))
        known = torch.zeros(target.shape[:2], dtype=torch.bool)
        known[:, : h * w] = torch.rand(count, 1) < 0.3  # first-frame conditioning: windows chain by it
        yield Batch(target, reference, torch.cat(coords), known, (frames, h, w))


def pack(latents: Tensor) -> Tensor:
    """`[B, C, f, h, w]` -> tokens `[B, f * h * w, C]`."""
    return latents.flatten(2).transpose(1, 2)


def velocity(
    transformer: LTX2VideoTransformer3DModel, noisy: Tensor, timesteps: Tensor, batch: Batch, prompt: Tensor
) -> Tensor:
    """The model's velocity of the target tokens `[B, N, C]`.

    `[target | reference]` tokens share coordinates; reference tokens are clean, at timestep 0. One silent audio
    token, isolated: the same video as LTX-2's video-only path.
    """
    count, tokens, _ = noisy.shape
    prompt = prompt.expand(count, -1, -1)
    mask = torch.ones(prompt.shape[:2])
    return transformer(
        hidden_states=torch.cat([noisy, batch.reference], dim=1),
        audio_hidden_states=torch.zeros(count, 1, transformer.config.audio_in_channels),
        encoder_hidden_states=prompt,
        audio_encoder_hidden_states=prompt,
        timestep=torch.cat([timesteps, torch.zeros_like(timesteps)], dim=1) * 1000,
        audio_timestep=torch.zeros(count),
        sigma=timesteps.amax(1) * 1000,
        encoder_attention_mask=mask,
        audio_encoder_attention_mask=mask,
        num_frames=batch.size[0],
        height=batch.size[1],
        width=batch.size[2],
        fps=FPS,
        audio_num_frames=1,
        video_coords=torch.cat([batch.coords, batch.coords], dim=2),
        isolate_modalities=True,
        return_dict=False,
    )[0][:, :tokens]


def draw_sigmas(count: int) -> Tensor:
    """Noise levels `[count, 1, 1]`: logit-normal towards noise, some uniform, some pure noise (few-step sampling
    asks most of the first step)."""
    sigmas = torch.sigmoid(torch.randn(count, 1, 1) + 0.4)
    kind = torch.rand(count, 1, 1)
    sigmas = torch.where(kind < 0.25, torch.rand(count, 1, 1), sigmas)
    return torch.where(kind > 0.88, torch.ones(()), sigmas)


def flow_loss(transformer: LTX2VideoTransformer3DModel, batch: Batch, prompt: Tensor) -> Tensor:
    """Mean squared error of the velocity `noise - target` over the target tokens that are not given."""
    sigmas = draw_sigmas(len(batch.target))
    noise = torch.randn_like(batch.target)
    given = batch.known[..., None]
    noisy = torch.where(given, batch.target, (1 - sigmas) * batch.target + sigmas * noise)
    timesteps = torch.where(batch.known, torch.zeros(()), sigmas[:, :, 0])
    with torch.autocast("cpu", torch.bfloat16):  # a fifth faster here; weights and loss stay 32-bit
        predicted = velocity(transformer, noisy, timesteps, batch, prompt)
    error = (predicted.float() - (noise - batch.target)).pow(2).masked_fill(given, 0)
    return error.sum() / ((~given).sum() * error.shape[-1])


def train(
    transformer: LTX2VideoTransformer3DModel,
    prompt: Tensor,
    source: Iterator[Batch],
    minutes: float,
    rate: float,
    state_file: Path,
    save_every: float = 120.0,
) -> None:
    """AdamW with a cosine over the time budget and an average of the weights, which the transformer holds at the end.

    Saves its state every `save_every` seconds; a stopped run goes on from there with the time it had left.
    """
    weights = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    if prompt.requires_grad:
        weights["prompt"] = prompt
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, weight_decay=1e-3, betas=(0.9, 0.95), fused=True)
    average = {name: p.detach().clone() for name, p in weights.items()}
    step, spent, smooth = 0, 0.0, None
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        step, spent, smooth, average = state["step"], state["spent"], state["loss"], state["average"]
        optimizer.load_state_dict(state["optimizer"])
        for name, p in weights.items():
            p.data.copy_(state["weights"][name])
    budget, started, saved = minutes * 60, time.monotonic() - spent, spent
    while (spent := time.monotonic() - started) < budget:
        warm, left = min(1.0, (step + 1) / 150), 0.5 * (1 + math.cos(math.pi * spent / budget))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.97 * left + 0.03)
        loss = flow_loss(transformer, next(source), prompt)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        step += 1
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        with torch.no_grad():
            decay = min(0.997, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.values()), [p.data for p in weights.values()], 1 - decay)
        if step % 50 == 0:
            print(f"step {step}  {spent / 60:.1f} of {minutes:g} min  loss {smooth:.4f}", flush=True)
        if spent - saved > save_every:
            saved = spent
            state = {"step": step, "spent": spent, "loss": smooth, "average": average}
            state |= {"optimizer": optimizer.state_dict(), "weights": {n: p.data for n, p in weights.items()}}
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)
    for name, p in weights.items():
        p.data.copy_(average[name])


# ---- stages


def base_stage(work: Path, minutes: float) -> None:
    """Reference video from a cue (or a degraded copy) in context."""

    def choose(item: Tensor) -> tuple[Tensor, Tensor]:
        _, reference, cue, cheap = item
        return reference, cue if torch.rand(()) < 0.5 else cheap

    torch.manual_seed(0)
    transformer = make_transformer()
    prompt = torch.nn.Parameter(torch.randn(1, 8, 64))
    source = batches(load_latents(work), choose, transformer.rope)
    train(transformer, prompt, source, minutes, 8e-4, work / "base.state")
    with torch.no_grad():
        # Trained with audio isolated: in a pipeline that joins the two, audio must stay without a voice in the video.
        for block in transformer.transformer_blocks:
            block.audio_to_video_attn.to_out[0].weight.zero_()
            block.audio_to_video_attn.to_out[0].bias.zero_()
    transformer.save_pretrained(work / "base")
    connectors = ConstantPrompt()
    connectors.embedding.data.copy_(prompt.data)
    connectors.save_pretrained(work / "connectors")


def adapter_stage(work: Path, minutes: float) -> None:
    """The IC-LoRA: reference video from the render, on the frozen base."""
    torch.manual_seed(1)
    transformer = LTX2VideoTransformer3DModel.from_pretrained(work / "base").requires_grad_(False)
    transformer.add_adapter(LoraConfig(**LORA), adapter_name="lift")
    prompt = ConstantPrompt.from_pretrained(work / "connectors").embedding.detach()
    source = batches(load_latents(work), lambda item: (item[1], item[0]), transformer.rope)
    train(transformer, prompt, source, minutes, 1.5e-3, work / "adapter.state")
    LTX2InContextPipeline.save_lora_weights(
        work / "adapter", transformer_lora_layers=get_peft_model_state_dict(transformer, adapter_name="lift")
    )


def load_lifting_transformer(work: Path) -> LTX2VideoTransformer3DModel:
    transformer = LTX2VideoTransformer3DModel.from_pretrained(work / "base").requires_grad_(False).eval()
    transformer.add_adapter(LoraConfig(**LORA), adapter_name="lift")
    layers = LTX2InContextPipeline.lora_state_dict(work / "adapter")
    layers = {name.removeprefix("transformer."): weight for name, weight in layers.items()}
    set_peft_model_state_dict(transformer, layers, adapter_name="lift")
    return transformer


@torch.no_grad()
def sample(
    transformer: LTX2VideoTransformer3DModel, render: Tensor, prompt: Tensor, sigmas: list[float], seed: int
) -> Tensor:
    """Euler steps from noise to latents like `render` `[B, C, f, h, w]`, as the pipeline takes them."""
    count, _, frames, height, width = render.shape
    size = (frames, height, width)
    coords = transformer.rope.prepare_video_coords(count, *size, "cpu", fps=FPS)
    reference = pack(render)
    batch = Batch(reference, reference, coords, torch.zeros(reference.shape[:2], dtype=torch.bool), size)
    tokens = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    for now, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        tokens = tokens + (after - now) * velocity(
            transformer, tokens, torch.full(tokens.shape[:2], now), batch, prompt
        )
    return tokens.transpose(1, 2).unflatten(2, size)


def refiner_stage(clips: Path, work: Path, minutes: float, sigmas: list[float]) -> None:
    """Fit the decoder's refiner to lifted stills of training clips, with true latents mixed in so that it stays a
    decoder. The loss is L1 with SSIM (Zhao et al. 2017, "Loss Functions for Image Restoration with Neural Networks").

    Prints the loss beside that of the pictures as they went in, both smoothed.
    """
    torch.manual_seed(2)
    codec = PatchCodec.from_pretrained(work / "codec")
    transformer = load_lifting_transformer(work)
    prompt = ConstantPrompt.from_pretrained(work / "connectors").embedding.detach()
    paths = sorted(clips.glob("*.npy"))
    seen, truths = [], []
    for number, path in enumerate(paths[:: max(1, len(paths) // 200)]):
        render, truth = load_clip(path)[:2, :, ::4].transpose(1, 2)[:, :, :, None]  # stills, as clips of one frame
        with torch.no_grad():
            source = truth if number % 8 == 0 else render
            latents = codec.encode(source).latent_dist.mode()
            if source is render:
                latents = sample(transformer, latents, prompt, sigmas, seed=number)
            seen.append(codec.decode_patches(latents)[:, :, 0].half())
        truths.append(truth[:, :, 0].half())
    pictures, targets = torch.cat(seen), torch.cat(truths)
    print(f"refiner: {len(pictures)} frames")
    refiner = codec.refiner.requires_grad_(True)
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=5e-4)
    budget, started, step = minutes * 60, time.monotonic(), 0
    smooth = np.zeros(2)
    height, width = pictures.shape[-2:]
    while (spent := time.monotonic() - started) < budget:
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * (0.485 * (1 + math.cos(math.pi * spent / budget)) + 0.03)
        chosen = torch.randint(len(pictures), (8,))
        # Crops start on whole patches: where the seams lie is what the refiner has to know.
        y, x = (16 * int(torch.randint((side - crop) // 16 + 1, ())) for side, crop in ((height, 96), (width, 160)))
        window = (..., slice(y, y + 96), slice(x, x + 160))
        plain, truth = pictures[chosen][window].float(), targets[chosen][window].float()
        loss = picture_loss(refiner(plain), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 10 == 0:
            smooth = 0.9 * smooth + 0.1 * np.array([loss.item(), picture_loss(plain, truth).item()])
        if step % 100 == 0:
            losses = f"loss {smooth[0]:.4f}  plain {smooth[1]:.4f}"
            print(f"step {step}  {spent / 60:.1f} of {minutes:g} min  {losses}", flush=True)
    codec.requires_grad_(False).save_pretrained(work / "vae")


def picture_loss(pictures: Tensor, truth: Tensor) -> Tensor:
    """Of `[N, 3, H, W]` in [-1, 1]."""
    ssim = structural_similarity_index_measure(pictures, truth, data_range=2.0)
    return (pictures - truth).abs().mean() + 0.2 * (1 - ssim)


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
        vae=PatchCodec.from_pretrained(work / "vae"),
        audio_vae=audio,
        text_encoder=None,
        tokenizer=None,
        connectors=ConstantPrompt.from_pretrained(work / "connectors"),
        transformer=LTX2VideoTransformer3DModel.from_pretrained(work / "base"),
        vocoder=vocoder,
    )
    pipeline.to(torch.float16).save_pretrained(out)
    (out / "adapter").mkdir(exist_ok=True)
    name = "pytorch_lora_weights.safetensors"
    with safe_open(work / "adapter" / name, framework="pt") as adapter:
        layers = {key: adapter.get_tensor(key).half() for key in adapter.keys()}  # noqa: SIM118 (no mapping)
        save_file(layers, out / "adapter" / name, metadata=adapter.metadata())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("codec", "base", "adapter", "refiner", "pack"))
    parser.add_argument("clips", type=Path, help="folder of clip files: uint8 [3 domains, F, H, W, 3] .npy each")
    parser.add_argument("work", type=Path, help="folder for latents, states and parts")
    parser.add_argument("out", type=Path, nargs="?", help="pack: the folder to write")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[1.0], help="refiner: noise levels")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    match args.stage:
        case "codec":
            codec_stage(args.clips, args.work)
        case "base":
            base_stage(args.work, args.minutes)
        case "adapter":
            adapter_stage(args.work, args.minutes)
        case "refiner":
            refiner_stage(args.clips, args.work, args.minutes, args.sigmas)
        case "pack":
            pack_stage(args.work, args.out or Path(__file__).parent / "embedded")


if __name__ == "__main__":
    main()
