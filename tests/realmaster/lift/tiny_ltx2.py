"""An LTX-2 model of real classes with random weights, a megabyte large: no network, no hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2InContextPipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from tests.realmaster.lift.tiny_wan import byte_tokenizer

Version = Literal["2.0", "2.3", "2.5"]


def tiny_ltx2(version: Version = "2.3", seed: int = 0, channels: int = 8, heads: int = 4) -> LTX2InContextPipeline:
    """The rules of the big ones (sides of 32, 8k + 1 frames); `channels` of the latents and `heads` are up to you."""
    torch.manual_seed(seed)
    new, dim = version != "2.0", heads * 8
    tokenizer = byte_tokenizer(padding_side="left")
    text = {
        "vocab_size": len(tokenizer), "hidden_size": dim, "intermediate_size": 37, "num_hidden_layers": 2,
        "num_attention_heads": heads, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
        "sliding_window": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    encoder = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text, vision_config=vision, mm_tokens_per_image=4, boi_token_index=250, eoi_token_index=251,
            image_token_index=252,
        )
    )  # fmt: skip
    transformer = LTX2VideoTransformer3DModel(
        in_channels=channels, out_channels=channels, num_attention_heads=heads, attention_head_dim=8,
        cross_attention_dim=dim, vae_scale_factors=(8, 32, 32), gated_attn=new, cross_attn_mod=new,
        audio_gated_attn=new, audio_cross_attn_mod=new, audio_in_channels=4, audio_out_channels=4,
        audio_num_attention_heads=heads, audio_attention_head_dim=4, audio_cross_attention_dim=dim // 2, num_layers=2,
        caption_channels=dim, rope_double_precision=False, rope_type="split", use_prompt_embeddings=not new,
        perturbed_attn=new, ff_bias=version != "2.5", use_keyframes_abs_pos_embedding=version == "2.5",
    )  # fmt: skip
    connectors = LTX2TextConnectors(
        caption_channels=dim, text_proj_in_factor=3, video_connector_num_attention_heads=heads,
        video_connector_attention_head_dim=8, video_connector_num_layers=1,
        video_connector_num_learnable_registers=16 if new else None, video_gated_attn=new,
        audio_connector_num_attention_heads=heads, audio_connector_attention_head_dim=4 if new else 8,
        audio_connector_num_layers=1, audio_connector_num_learnable_registers=16 if new else None,
        audio_gated_attn=new, connector_rope_base_seq_len=32, rope_double_precision=False, rope_type="split",
        per_modality_projections=new, video_hidden_dim=dim, audio_hidden_dim=dim // 2, proj_bias=new,
    )  # fmt: skip
    vae = AutoencoderKLLTX2Video(
        latent_channels=channels, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 4, spatio_temporal_scaling=(True,) * 4,
        decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4,
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"), upsample_residual=(False,) * 3,
        upsample_factor=(1, 1, 1), timestep_conditioning=False, patch_size=4, patch_size_t=1, encoder_causal=True,
        decoder_causal=False, spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
        mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], leaky_relu_negative_slope=0.1,
        output_sampling_rate=16000,
    )  # fmt: skip
    models = {
        "vae": vae,
        "audio_vae": audio_vae,
        "text_encoder": encoder,
        "connectors": connectors,
        "transformer": transformer,
        "vocoder": vocoder,
    }
    pipeline = LTX2InContextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift_terminal=None),
        tokenizer=tokenizer,
        **{name: model.eval() for name, model in models.items()},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_ltx2(folder: Path, version: Version = "2.3", **options: int) -> Path:
    tiny_ltx2(version, **options).save_pretrained(folder)
    return folder
