"""Transformers from GGUF files: real ones, written by the format's own package from tiny models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.memory import GIB, choose, sizes_of
from realmaster.lift.profiles import load_profile
from tests.realmaster.lift.test_ltx2_versions import diffusers_keys
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan

LTX2_NAMES = (
    ("proj_in", "patchify_proj"),
    ("audio_time_embed", "audio_adaln_single"),
    ("time_embed", "adaln_single"),
    ("av_cross_attn_video_scale_shift", "av_ca_video_scale_shift_adaln_single"),
    ("av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"),
    ("av_cross_attn_audio_scale_shift", "av_ca_audio_scale_shift_adaln_single"),
    ("av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"),
    ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
    ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
)
WAN_NAMES = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm2", "norm_"),
    ("norm3", "norm2"),
    ("norm_.", "norm3."),
    ("proj_out", "head.head"),
)
"""diffusers' names -> those of the models' authors, in which GGUF files come."""


def authors_name(family: str, name: str) -> str:
    for ours, theirs in LTX2_NAMES if family == "ltx2" else WAN_NAMES:
        name = name.replace(ours, theirs)
    if family == "wan" and "scale_shift_table" in name:
        name = name.replace("scale_shift_table", "modulation" if "blocks" in name else "head.modulation")
    return name


def write_gguf(file: Path, weights: Mapping[str, torch.Tensor], family: str, kind: Kind = Kind.Q8_0) -> Path:
    """Matrices of whole blocks in `kind`, all else as such files have it: in 32 bits, convolutions in bfloat16."""
    writer = gguf.GGUFWriter(file, "ltxv" if family == "ltx2" else "wan")
    for name, weight in weights.items():
        values = weight.float().numpy()
        packs = weight.ndim == 2 and weight.shape[1] % 32 == 0 and "table" not in name
        how = kind if packs else Kind.BF16 if weight.ndim == 5 else None
        data = values if how is None else gguf.quants.quantize(values, how)
        writer.add_tensor(authors_name(family, name), data, raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def transformer_weights(base: Path, part: str = "transformer") -> dict[str, torch.Tensor]:
    return load_file(base / part / "diffusion_pytorch_model.safetensors")


MODELS: dict[str, Callable[[Path], Path]] = {
    "ltx2": save_tiny_ltx2,
    "wan": lambda folder: save_tiny_wan(folder, experts=2, head_dim=16),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A family, a base, and a folder with the GGUF files of its transformers."""
    folder = tmp_path_factory.mktemp(request.param)
    base = MODELS[request.param](folder / "base")
    (folder / "files").mkdir()
    names = {"transformer": "T2V-HighNoise-Q8_0"} if request.param == "wan" else {"transformer": "Q8_0"}
    if request.param == "wan":
        names["transformer_2"] = "T2V-LowNoise-Q8_0"
    for part, name in names.items():
        write_gguf(folder / "files" / f"{name}.gguf", transformer_weights(base, part), request.param)
    return request.param, base, folder / "files"


def profile_of(base: Path, weights: Path, more: str = "") -> Path:
    path = weights.parent / "mine.toml"
    named = f'gguf = "{weights.as_posix()}"\n'
    path.write_text(
        f'base = "{base.as_posix()}"\n{named}{more}window = 9\noverlap = 1\nmax_side = 96\n[sampling]\n'
        "sigmas = [1.0, 0.5]\n"
    )
    return path


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), np.uint8)


def test_a_transformer_in_eight_bits_lifts_nearly_as_the_one_it_was_made_of(
    model: tuple[str, Path, Path], clip: np.ndarray
) -> None:
    family, base, files = model
    packed = load_lifter(profile_of(base, files))
    assert type(packed.pipeline.transformer.transformer_blocks[0].attn1.to_q if family == "ltx2"
                else packed.pipeline.transformer_2.blocks[0].attn1.to_q).__name__ == "GGUFLinear"  # fmt: skip
    plain = files.parent / "plain.toml"
    plain.write_text("".join(line for line in (files.parent / "mine.toml").open() if not line.startswith("gguf")))
    whole = load_lifter(plain)
    difference = np.abs(packed.lift(clip, "a street").astype(int) - whole.lift(clip, "a street"))
    assert 0 < difference.mean() < 2
    assert "gguf" in str(packed.plan) and "plain" not in packed.plan.weights


def test_an_adapter_stands_beside_packed_weights(model: tuple[str, Path, Path], clip: np.ndarray) -> None:
    family, base, files = model
    if family != "ltx2":
        pytest.skip("the same code")
    save_file(diffusers_keys(), files.parent / "mine.safetensors")
    bare = load_lifter(profile_of(base, files))
    adapted = load_lifter(profile_of(base, files, 'adapter = "mine.safetensors"\n'))
    off = load_lifter(profile_of(base, files, 'adapter = "mine.safetensors"\nadapter_weight = 0.0\n'))
    lifted = bare.lift(clip, "a street")
    assert not np.array_equal(adapted.lift(clip, "a street"), lifted)
    assert np.array_equal(off.lift(clip, "a street"), lifted)


def test_memory_is_planned_with_the_files_own_size(model: tuple[str, Path, Path]) -> None:
    _, base, files = model
    profile = load_profile(profile_of(base, files))
    sizes = sizes_of(profile, base)
    assert sizes.packed == sum(file.stat().st_size for file in files.iterdir())
    plan, _ = choose(sizes, 80 * GIB, "full", torch.device("cuda"), 2, profile.stored)
    assert plan.weights == "gguf"
    of_plain = sizes.bytes(plan.__class__(), 2) - sizes.bytes(plan, 2)
    assert of_plain == 2 * sizes.transformer - sizes.packed


def spoilt(file: Path, how: str) -> None:
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-2000])
    elif how == "text":
        file.write_text("not weights")
    elif how == "less":
        weights = {name: value for name, value in read_as_authors(file).items() if ".0." not in name}
        write_raw(file, weights)


def read_as_authors(file: Path) -> dict[str, tuple[np.ndarray, Kind]]:
    return {tensor.name: (tensor.data.copy(), tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}


def write_raw(file: Path, weights: Mapping[str, tuple[np.ndarray, Kind]]) -> None:
    writer = gguf.GGUFWriter(file, "any")
    for name, (data, kind) in weights.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [("cut", "get it whole"), ("text", "is no GGUF file"), ("less", "was not made for .* are missing")],
)
def test_a_file_that_is_not_whole_is_one_sentence(tmp_path: Path, how: str, said: str) -> None:
    base = save_tiny_wan(tmp_path / "base", head_dim=16)
    file = write_gguf(tmp_path / "mine.gguf", transformer_weights(base), "wan")
    spoilt(file, how)
    with pytest.raises(LiftError, match=said) as error:
        load_lifter(profile_of(base, file))
    assert "\n" not in str(error.value)


def test_a_file_of_another_model_is_one_sentence(tmp_path: Path) -> None:
    base, other = save_tiny_wan(tmp_path / "base", head_dim=16), save_tiny_wan(tmp_path / "other", head_dim=32)
    wider = write_gguf(tmp_path / "wider.gguf", transformer_weights(other), "wan")
    foreign = write_gguf(tmp_path / "foreign.gguf", transformer_weights(save_tiny_ltx2(tmp_path / "ltx")), "ltx2")
    for file in (wider, foreign):
        with pytest.raises(LiftError, match=f"{file.name} .*(does not load as|was not made for)") as error:
            load_lifter(profile_of(base, file))
        assert "\n" not in str(error.value)


def test_a_file_alone_is_no_model_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    base = save_tiny_wan(tmp_path / "base", head_dim=16)
    with pytest.raises(LiftError, match="write a profile that names it"):
        load_lifter(tmp_path / "mine.gguf")
    with pytest.raises(LiftError, match="There is no GGUF file .*/missing.gguf"):
        load_lifter(profile_of(base, tmp_path / "missing.gguf"))
    with pytest.raises(LiftError, match="quantised already"):
        load_lifter(profile_of(base, tmp_path / "missing.gguf", 'quantise = "int8"\n'))
