"""A Wan model of real classes with random weights, a few kilobytes large: no network, no hub."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel


def tiny_wan(experts: int = 1, seed: int = 0, head_dim: int = 12) -> WanPipeline:
    """Wan 2.1 (one expert) or 2.2 (two)."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4,
        relative_attention_num_buckets=8, dropout_rate=0.0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformers = [
        WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=head_dim, text_dim=32, freq_dim=256, ffn_dim=32, num_layers=2,
            rope_max_seq_len=32,
        )
        for _ in range(experts)
    ]  # fmt: skip
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=vae.eval(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=transformers[0].eval(),
        transformer_2=transformers[1].eval() if experts == 2 else None,
        boundary_ratio=0.5 if experts == 2 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_wan(folder: Path, experts: int = 1, seed: int = 0, head_dim: int = 12) -> Path:
    tiny_wan(experts, seed, head_dim).save_pretrained(folder)
    return folder


def byte_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """One token a byte: a vocabulary that needs no training."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
        model_max_length=512, padding_side=padding_side,
    )  # fmt: skip


def save_tiny_vace(folder: Path, seed: int = 0) -> Path:
    """Wan 2.1 VACE."""
    plain = tiny_wan(seed=seed)
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=32, freq_dim=256, ffn_dim=32, num_layers=3,
        rope_max_seq_len=32, vace_layers=[0, 2], vace_in_channels=96,
    )  # fmt: skip
    parts = {name: getattr(plain, name) for name in ("tokenizer", "text_encoder", "vae", "scheduler")}
    WanVACEPipeline(transformer=transformer.eval(), **parts).save_pretrained(folder)
    return folder
