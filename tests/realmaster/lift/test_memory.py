"""Models held as what is free allows: which way is chosen, that every way lifts, and what happens when it ends."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models import attention_dispatch
from safetensors.torch import save_file

from realmaster.lift import LiftError, lift_long, load_lifter, pipeline_lifter, pipelines
from realmaster.lift.lifter import OutOfMemory, is_out_of_memory
from realmaster.lift.ltx2 import LTX2Lifter
from realmaster.lift.memory import GIB, LADDER, Plan, Sizes, Weights, choose, plan_for, sizes_of
from realmaster.lift.pipelines import place, store
from realmaster.lift.profiles import known_profiles, load_profile
from realmaster.lift.prompts import PromptCache
from realmaster.lift.wan_in_context import WanInContextPipeline
from tests.realmaster.lift.test_ltx2_versions import diffusers_keys
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2, tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan, tiny_wan

CARD, PROCESSOR = torch.device("cuda"), torch.device("cpu")
BIG = Sizes(22 * 10**9, 12 * 10**9, 2 * 10**9, tokens=28160, features=4096, pixels=121 * 704 * 1280, blocks=48)
"""LTX-2.3."""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LTX-2.3 with an adapter."""
    folder = tmp_path_factory.mktemp("memory")
    base = save_tiny_ltx2(folder / "base")
    save_file(diffusers_keys(), folder / "mine.safetensors")
    path = folder / "mine.toml"
    path.write_text(
        f'base = "{base.as_posix()}"\nadapter = "mine.safetensors"\nwindow = 17\noverlap = 9\nmax_side = 640\n'
        "[sampling]\nsigmas = [1.0, 0.6]\n"
    )
    return path


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def usual(profile: Path, clip: np.ndarray) -> np.ndarray:
    return load_lifter(profile).lift(clip, "a street")


# -- choosing


@pytest.mark.parametrize(
    ("gigabytes", "plan"),
    [
        (200, Plan()),
        (74, Plan(keep_encoder=False)),
        (55, Plan(keep_encoder=False, tiling=True)),
        (40, Plan(keep_encoder=False, tiling=True, weights="fp8")),
        (24, Plan(keep_encoder=False, tiling=True, offload=True)),
        (12, Plan(keep_encoder=False, tiling=True, weights="fp8", offload=True)),
    ],
)
def test_the_fastest_way_that_fits_is_chosen(gigabytes: int, plan: Plan) -> None:
    assert choose(BIG, gigabytes * GIB, "auto", CARD, 2) == (plan, True)


def test_each_way_needs_less_than_the_one_before() -> None:
    needs = [BIG.bytes(plan, 2) for plan in LADDER]
    assert needs == sorted(needs, reverse=True) and len(set(needs)) == len(LADDER)


def test_what_fits_nowhere_is_tried_the_smallest_way_and_said() -> None:
    assert choose(BIG, 2 * GIB, "auto", CARD, 2) == (LADDER[-1], False)


def test_low_and_full_ask_nobody() -> None:
    assert choose(BIG, 500 * GIB, "low", CARD, 2)[0] == LADDER[-1]
    assert choose(BIG, 2 * GIB, "full", CARD, 2) == (Plan(), False)


def test_blocks_are_not_fetched_to_where_they_are() -> None:
    assert all(not choose(BIG, free * GIB, "auto", PROCESSOR, 4)[0].offload for free in (1, 40, 90, 200))


def test_a_quantised_model_stays_so_in_every_plan() -> None:
    plans = {choose(BIG, free * GIB, "auto", CARD, 2, "nf4")[0] for free in range(5, 100)}
    assert {plan.weights for plan in plans} == {"nf4"} and len(plans) == 4


@pytest.mark.parametrize("family", ["ltx2", "wan"])
def test_sizes_are_read_off_the_files(family: str, tmp_path: Path) -> None:
    pipeline = tiny_ltx2() if family == "ltx2" else tiny_wan(experts=2)
    pipeline.save_pretrained(tmp_path)
    sizes = sizes_of(load_profile(tmp_path), tmp_path)

    def parameters(*names: str) -> int:
        return sum(tensor.numel() for name in names for tensor in getattr(pipeline, name).state_dict().values())

    experts = ["transformer"] if family == "ltx2" else ["transformer", "transformer_2"]
    others = ["vae", "connectors", "audio_vae"] if family == "ltx2" else ["vae"]
    assert sizes.transformer == parameters(*experts)
    assert abs(sizes.encoder - parameters("text_encoder")) < 0.5 * sizes.encoder  # embeddings may be stored once
    assert sizes.rest == parameters(*others)
    assert (sizes.features, sizes.blocks) == (
        32 if family == "ltx2" else 24,
        2 * len(experts),
    )


def test_every_shipped_profile_says_how_large_its_base_is() -> None:
    for name in set(known_profiles()) - {"embedded", "embedded-base"}:
        plan, fits, needs = plan_for(load_profile(name), None, CARD, "auto", 24 * GIB)
        assert fits and 2 * GIB < needs < 24 * GIB, (name, plan, needs / GIB)


# -- every way lifts


def test_weights_in_fp8_lift_nearly_the_same_and_the_adapter_stays_exact(
    profile: Path, clip: np.ndarray, usual: np.ndarray
) -> None:
    low = load_lifter(profile, memory="low")
    layer = low.pipeline.transformer.transformer_blocks[0].attn1.to_q
    assert layer.base_layer.weight.dtype == torch.float8_e4m3fn
    assert torch.equal(
        layer.lora_A["lift"].weight, diffusers_keys()["transformer.transformer_blocks.0.attn1.to_q.lora_A.weight"]
    )
    assert low.pipeline.vae.use_tiling
    lifted = low.lift(clip, "a street")
    difference = np.abs(lifted.astype(int) - usual).mean()
    bare = np.abs(load_lifter(profile, "none").lift(clip, "a street").astype(int) - usual).mean()
    assert 0 < difference < 0.3 * bare


def test_fp8_leaves_in_32_bits_what_the_model_keeps_so(tmp_path: Path) -> None:
    folder = save_tiny_wan(tmp_path / "wan")
    pipeline = WanInContextPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    store(pipeline, Plan(weights="fp8"), torch.bfloat16)
    transformer = pipeline.transformer
    assert transformer.blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    times = transformer.condition_embedder.time_embedder.linear_1.weight
    assert times.dtype == transformer.rope.freqs_cos.dtype == torch.float32


@pytest.mark.parametrize("family", ["ltx2", "wan"])
def test_blocks_that_are_fetched_give_the_same_to_the_bit(
    family: str, profile: Path, clip: np.ndarray, usual: np.ndarray, tmp_path: Path
) -> None:
    if family == "ltx2":
        lifter, wanted = load_lifter(profile), usual
    else:
        lifter = load_lifter(save_tiny_wan(tmp_path / "wan", experts=2))
        wanted = lifter.lift(clip, "a street", steps=2)
    place(lifter.pipeline, Plan(offload=True), PROCESSOR)
    blocks = lifter.pipeline.transformer
    assert any(hasattr(module, "_diffusers_hook") for module in blocks.modules())
    assert np.array_equal(lifter.lift(clip, "a street", steps=None if family == "ltx2" else 2), wanted)


@pytest.mark.parametrize(("weights", "moves"), [("plain", ["cpu"]), ("int8", ["cpu"]), ("nf4", [])])
def test_what_bitsandbytes_keeps_beside_its_weights_stays_on_the_card(weights: Weights, moves: list[str]) -> None:
    done: list[str] = []
    transformer = SimpleNamespace(
        to=done.append, modules=list, enable_group_offload=lambda **how: done.append("fetched")
    )
    pipeline = SimpleNamespace(transformer=transformer, components={}, vae=None)
    place(pipeline, Plan(weights=weights, offload=True), CARD)
    assert done == [*moves, "fetched"]


def test_full_holds_the_whole_pipeline(profile: Path, clip: np.ndarray, usual: np.ndarray) -> None:
    full, auto = load_lifter(profile, memory="full"), load_lifter(profile)
    assert full.pipeline.text_encoder is not None and auto.pipeline.text_encoder is None
    assert np.array_equal(full.lift(clip, "a street"), usual)


def test_int8_by_torchao(profile: Path, clip: np.ndarray, usual: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    quantised = profile.with_name("int8.toml")
    quantised.write_text('quantise = "int8"\n' + profile.read_text())
    lifter = load_lifter(quantised)
    assert "int8" in str(lifter.plan)
    difference = np.abs(lifter.lift(clip, "a street").astype(int) - usual).mean()
    assert 0 < difference < 4


def test_nf4_by_bitsandbytes(
    profile: Path, clip: np.ndarray, usual: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers asks for a card before it lets bitsandbytes work, which needs none."""
    pytest.importorskip("bitsandbytes")
    from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer as Quantizer

    monkeypatch.setattr(Quantizer, "validate_environment", lambda self, *args, **kwargs: None)
    monkeypatch.setattr(Quantizer, "update_device_map", lambda self, device_map: device_map or {"": "cpu"})
    monkeypatch.setattr(pipelines, "has_card", lambda: True)
    quantised = profile.with_name("nf4.toml")
    quantised.write_text('quantise = "nf4"\n' + profile.read_text())
    lifter = load_lifter(quantised, device="cpu")
    assert "nf4" in str(lifter.plan)
    layer = lifter.pipeline.transformer.transformer_blocks[0].attn1.to_q
    assert type(layer.base_layer).__name__ == "Linear4bit" and layer.base_layer.weight.dtype == torch.uint8
    assert torch.equal(
        layer.lora_A["lift"].weight, diffusers_keys()["transformer.transformer_blocks.0.attn1.to_q.lora_A.weight"]
    )
    difference = np.abs(lifter.lift(clip, "a street").astype(int) - usual).mean()
    bare = np.abs(load_lifter(profile, "none").lift(clip, "a street").astype(int) - usual).mean()
    assert 0 < difference < bare


@pytest.mark.parametrize("family", ["ltx2", "wan"])
def test_blocks_are_compiled_whole_and_lift_the_same(
    family: str, profile: Path, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as for any compiler, in one piece; run as traced, since a real one takes minutes."""
    traced: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> object:
        traced.append(graph.code)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    plain = profile if family == "ltx2" else tmp_path / "wan.toml"
    if family == "wan":
        base = save_tiny_wan(tmp_path / "base")
        plain.write_text(f'base = "{base.as_posix()}"\nwindow = 17\noverlap = 9\nmax_side = 96\n')
    compiled = tmp_path / "compiled.toml"
    compiled.write_text("compile = true\n" + plain.read_text().replace("mine.safe", f"{profile.parent}/mine.safe"))
    lifter = load_lifter(compiled)
    prefix = clip[:5] if family == "wan" else clip[:1]
    for given in ({}, {"prefix": prefix}):  # of another number of segments
        lifted = lifter.lift(clip, "a street", steps=2, **given)
        assert np.abs(lifted.astype(int) - load_lifter(plain).lift(clip, "a street", steps=2, **given)).max() <= 1
    assert traced


@pytest.mark.parametrize("plan", [Plan(weights="fp8"), Plan(offload=True)])
def test_blocks_whose_weights_are_cast_or_fetched_are_not_compiled_and_that_is_said(
    plan: Plan, profile: Path, clip: np.ndarray, usual: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_lifter, "plan_for", lambda *_: (plan, True, 0))
    compiled = profile.with_name("compiled.toml")
    compiled.write_text("compile = true\n" + profile.read_text())
    lifter = load_lifter(compiled, device="cpu")
    assert lifter.notes == [f"blocks are not compiled: that cannot be done with {plan}"]
    assert lifter.lift(clip, "a street").shape == usual.shape


def test_compiled_blocks_that_must_be_fetched_after_all_are_so(
    profile: Path, clip: np.ndarray, usual: np.ndarray
) -> None:
    compiled = profile.with_name("compiled.toml")
    compiled.write_text("compile = true\n" + profile.read_text())
    lifter = load_lifter(compiled)
    place(lifter.pipeline, Plan(offload=True), PROCESSOR)
    assert np.array_equal(lifter.lift(clip, "a street"), usual)


@pytest.mark.parametrize(("how", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_missing_extra_is_named(how: str, package: str, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    quantised = profile.with_name(f"{how}-missing.toml")
    quantised.write_text(f'quantise = "{how}"\n' + profile.read_text())
    with pytest.raises(LiftError, match=rf"pip install \"realmaster\[{package}\]\""):
        load_lifter(quantised)


def test_an_attention_kernel_is_set_for_the_videos_self_attention_alone(
    profile: Path, clip: np.ndarray, usual: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = profile.with_name("kernel.toml")
    chosen.write_text('attention = "_native_math"\n' + profile.read_text())
    lifter = load_lifter(chosen)
    block = lifter.pipeline.transformer.transformer_blocks[0]
    backends = [getattr(block, name).processor._attention_backend for name in ("attn1", "attn2", "audio_attn1")]
    assert [str(backend and backend.value) for backend in backends] == ["_native_math", "None", "None"]
    assert np.abs(lifter.lift(clip, "a street").astype(int) - usual).max() <= 1
    assert np.array_equal(load_lifter(profile).lift(clip, "a street"), usual)  # nothing of it stays in the process
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", False)
    monkeypatch.setattr(attention_dispatch, "is_kernels_available", lambda: False)
    missing = {"no_such_kernel": "must be one of", "flash": "flash-attn", "sage_hub": "pip install kernels"}
    for kernel, said in missing.items():
        chosen.write_text(f'attention = "{kernel}"\n' + profile.read_text())
        with pytest.raises(LiftError, match=rf"The attention '{kernel}' of profile kernel cannot be used.*{said}"):
            load_lifter(chosen)


def test_an_attention_kernel_of_the_hub_is_fetched(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(attention_dispatch, "_check_attention_backend_requirements", lambda _: None)
    monkeypatch.setattr(
        attention_dispatch, "_maybe_download_kernel_for_backend", lambda kernel: fetched.append(kernel.value)
    )
    chosen = profile.with_name("hub.toml")
    chosen.write_text('attention = "sage_hub"\n' + profile.read_text())
    load_lifter(chosen)
    assert fetched == ["sage_hub"]


# -- prompts


def test_the_text_encoder_is_loaded_once_for_all_windows_and_goes(
    profile: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = pipeline_lifter.load_encoder
    monkeypatch.setattr(pipeline_lifter, "load_encoder", lambda *args: loads.append(args) or load(*args))
    low = load_lifter(profile, memory="low")
    assert low.pipeline.text_encoder is None
    assert len(list(lift_long(low, np.concatenate([clip] * 3), "once", steps=1))) == 27
    assert len(loads) == 1 and low._encoder is None
    load_lifter(profile, memory="low").lift(clip, "once", steps=1)  # from the disk
    assert len(loads) == 1
    auto = load_lifter(profile)
    auto.lift(clip, "another", steps=1)
    assert len(loads) == 2 and auto._encoder is not None


def test_words_go_where_the_text_encoder_is(profile: Path) -> None:
    encoder = pipeline_lifter.load_encoder(LTX2Lifter.pipeline_class, load_profile(str(profile)), torch.float32)
    assert encoder._execution_device == torch.device("cpu")
    encoder.text_encoder.to("meta")  # as to a card
    assert encoder._execution_device == torch.device("meta")


def test_another_text_encoder_does_not_hear_this_ones_words(profile: Path, clip: np.ndarray, tmp_path: Path) -> None:
    base = save_tiny_ltx2(tmp_path / "base", seed=1)
    other = tmp_path / "other.toml"
    other.write_text(
        profile.read_text()
        .replace(load_profile(profile).base, base.as_posix())
        .replace('adapter = "mine.safetensors"\n', "")
    )
    first = load_lifter(other)._prompt("a street")["prompt_embeds"]
    save_tiny_ltx2(base, seed=2)
    assert not torch.equal(first, load_lifter(other)._prompt("a street")["prompt_embeds"])


def test_a_cache_that_cannot_be_written_or_read_costs_nothing_but_time(tmp_path: Path) -> None:
    asked: list[str] = []

    def encode(texts):
        asked.extend(texts)
        return [{"embeds": torch.full((2,), float(len(text)))} for text in texts]

    (tmp_path / "file").write_text("")
    cache = PromptCache(encode, "mine", tmp_path / "file")
    assert [said["embeds"][0].item() for said in cache(["one", "four"])] == [3.0, 4.0]
    assert cache(["four", "four"])[1]["embeds"][0] == 4.0 and asked == ["one", "four"]
    kept = PromptCache(encode, "mine", tmp_path / "kept")
    kept(["one"])
    next((tmp_path / "kept").iterdir()).write_bytes(b"not whole")
    assert PromptCache(encode, "mine", tmp_path / "kept")(["one"])[0]["embeds"][0] == 3.0
    assert asked == ["one", "four", "one", "one"]


# -- when memory ends


@pytest.fixture
def scarce(profile: Path):
    """A lifter whose transformer takes no more than so many tokens."""

    def scarce(most: int):
        lifter = load_lifter(profile)

        def check(_module, _args, kwargs):
            if kwargs["hidden_states"].shape[1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

        lifter.pipeline.transformer.register_forward_pre_hook(check, with_kwargs=True)
        return lifter

    return scarce


def test_out_of_memory_is_tried_again_smaller_and_said(scarce) -> None:
    clip = np.random.default_rng(0).integers(0, 255, (9, 320, 640, 3), np.uint8)
    lifter = scarce(2 * 2 * 8 * 16)  # 512x256 and its reference
    lifted = lifter.lift(clip)
    assert lifted.shape == clip.shape and lifter.pipeline.vae.use_tiling
    assert [note.partition(":")[0] for note in lifter.notes] == [
        "out of memory, tried again with less", "out of memory at 640 pixels, tried again at 480",
    ]  # fmt: skip
    assert lifter.rules.max_side == 480
    lifter.lift(clip, prefix=lifted[:1])
    assert len(lifter.notes) == 2  # what was learned is not learned again


def test_when_nothing_smaller_is_left_it_is_one_sentence(scarce) -> None:
    with pytest.raises(OutOfMemory, match="does not fit this machine's memory, even at 256 pixels") as error:
        scarce(1).lift(np.zeros((1, 320, 640, 3), np.uint8))
    assert "\n" not in str(error.value)


def test_a_model_that_does_not_fit_as_planned_is_held_smaller_when_it_loads(
    profile: Path, clip: np.ndarray, usual: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(pipeline: object, plan: Plan, device: torch.device) -> None:
        if not plan.tiling:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        place(pipeline, plan, device)

    monkeypatch.setattr(pipeline_lifter, "place", full)
    for mode in ("auto", "full"):
        lifter = load_lifter(profile, memory=mode)
        assert lifter.plan.tiling and lifter.pipeline.text_encoder is None
        assert [note.partition(":")[0] for note in lifter.notes] == ["out of memory, tried again with less"]
        assert np.array_equal(lifter.lift(clip, "a street"), usual)

    def none(*_: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(pipeline_lifter, "place", none)
    with pytest.raises(OutOfMemory, match=r"^The model mine does not fit this machine's memory: [^\n]*\.$"):
        load_lifter(profile)


def test_lacks_of_memory_are_told_from_other_errors() -> None:
    assert is_out_of_memory(MemoryError())
    for said in (
        "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",  # Windows
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(said))
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 48)  # a petabyte, of this system's own allocator
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
