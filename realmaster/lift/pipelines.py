"""From a folder in diffusers layout, or a hub id, to a pipeline that is held as a memory plan says.

Weights come from safetensors only, classes from diffusers, transformers and modules of ours that are imported already:
diffusers imports no other by name. Knows diffusers; nothing of pictures or of what a family's pipeline is called with.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, PipelineQuantizationConfig
from diffusers.models import attention_dispatch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from realmaster.lift.files import expert_file, local_weights
from realmaster.lift.gguf import load_gguf
from realmaster.lift.libraries import first_line, from_hub, quiet
from realmaster.lift.lifter import LiftError
from realmaster.lift.memory import Plan
from realmaster.lift.profiles import Profile, Quantisation

TEXT_PARTS = ("text_encoder", "tokenizer")
EXPERTS = ("transformer", "transformer_2")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def local_folder(cls: type[DiffusionPipeline], profile: Profile) -> Path:
    """The folder of the profile's base: where it stands, or where the hub's files are kept once they are here.

    Raises `LiftError`.
    """
    if Path(profile.base).is_dir():
        return Path(profile.base)
    with from_hub(f"The model {profile.base} of profile {profile.name}"), quiet():
        # What a GGUF file stands for is not fetched, but for its configuration.
        elsewhere = dict.fromkeys(EXPERTS if profile.gguf else ())
        folder = Path(cls.download(profile.base, use_safetensors=True, **elsewhere))
        if elsewhere:
            snapshot_download(profile.base, allow_patterns=[f"{name}/config.json" for name in EXPERTS])
        return folder


def load_pipeline(
    cls: type[DiffusionPipeline], profile: Profile, dtype: torch.dtype, without: Collection[str] = ()
) -> Any:
    """The profile's base on the CPU, without the parts named. Raises `LiftError`."""
    folder = local_folder(cls, profile)
    try:
        parts = parts_of(cls, folder)
        experts = [name for name in EXPERTS if parts.get(name) and name not in without]
        for name, part in parts.items():
            if part is not None and name not in without and not (profile.gguf and name in experts):
                check_whole(folder / name)
        options: dict[str, Any] = {}
        if profile.gguf is not None and experts:
            options = _from_gguf(profile.gguf, folder, {name: parts[name] for name in experts}, dtype)
        elif profile.quantise is not None and experts:
            config = quantisation_config(profile.quantise, dtype)
            options["quantization_config"] = PipelineQuantizationConfig(quant_mapping=dict.fromkeys(experts, config))
        # Parts that the index says are absent (the embedded model has no text encoder) must be said to be absent.
        absent = {
            name: None for name, part in parts.items() if name in without or (part is None and name in TEXT_PARTS)
        }
        with quiet():
            pipeline = cls.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, **absent, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise LiftError(
            f"The model {profile.base} of profile {profile.name} does not load ({first_line(error)}); "
            "mend or replace it."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _from_gguf(gguf: str, base: Path, classes: Mapping[str, str | None], dtype: torch.dtype) -> dict[str, Any]:
    """Each transformer, by its name, from the file that is its own; `classes` as in the base. Raises `LiftError`."""
    weights = local_weights(gguf, "transformer", "gguf")
    loaded = {}
    for name, cls in classes.items():
        file = expert_file(weights, EXPERTS.index(name), "transformer", "gguf", "in the profile")
        loaded[name] = load_gguf(file, base, name, cls, dtype)
    return loaded


def check_whole(part: Path) -> None:
    """Raises `LiftError` when a part of a model is not there, has not all its files, or is a pickle."""
    if not part.is_dir():
        raise LiftError(f"The model {part.parent} is not whole: its part {part.name} is missing; get it again.")
    for index in part.glob("*.safetensors.index.json"):
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(file for file in files if not (part / file).is_file()):
            raise LiftError(f"The model {part.parent} is not whole: {part.name}/{missing[0]} is missing; get it again.")
    pickles = sorted(file for pattern in PICKLES for file in part.glob(pattern))
    if pickles and not any(part.glob("*.safetensors")):
        raise LiftError(
            f"{pickles[0]} is a pickle, which can run anything when it is read: only safetensors are loaded; get the "
            "model in that form."
        )


def load_encoder(cls: type[DiffusionPipeline], profile: Profile, dtype: torch.dtype) -> Any:
    """Nothing but the text encoder and its tokenizer, as a pipeline. Raises `LiftError`."""
    parts = parts_of(cls, local_folder(cls, profile))
    return load_pipeline(cls, profile, dtype, parts.keys() - {*TEXT_PARTS})


def encoder_class(cls: type[DiffusionPipeline], folder: Path) -> str | None:
    """Name of the text encoder's class; None for a model without one, as the embedded one."""
    return parts_of(cls, folder).get("text_encoder")


def parts_of(cls: type[DiffusionPipeline], folder: Path) -> dict[str, str | None]:
    """Name -> class of each part that the folder's index lists; None for a part that it says is absent."""
    index = cls.load_config(str(folder))
    return {name: value[1] for name, value in index.items() if isinstance(value, list | tuple) and len(value) == 2}


def load_part(cls: type[ModelMixin], reference: str, base: Path, dtype: torch.dtype) -> Any:
    """One model: a part of the base, a folder, or a hub id. Raises `LiftError`."""
    place = base / reference if (base / reference).is_dir() else reference
    try:
        return cls.from_pretrained(str(place), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise LiftError(f"The {cls.__name__} {reference} does not load ({first_line(error)}).") from error


def quantisation_config(how: Quantisation, dtype: torch.dtype) -> Any:
    """How diffusers stores weights in fewer bits as it loads them. Raises `LiftError` where that cannot be."""
    package = {"int8": "torchao", "nf4": "bitsandbytes"}[how]
    if importlib.util.find_spec(package) is None:
        raise LiftError(f'quantise = "{how}" needs {package}: pip install "realmaster[{package}]".')
    if how == "int8":
        from diffusers import TorchAoConfig
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    from diffusers import BitsAndBytesConfig

    if not has_card():
        raise LiftError('quantise = "nf4" needs an NVIDIA card: use "int8", or leave it out.')
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def has_card() -> bool:
    """Whether there is an NVIDIA card, without which diffusers does not let bitsandbytes work."""
    return torch.cuda.is_available()


def store(pipeline: Any, plan: Plan, dtype: torch.dtype) -> None:
    """Cast what the plan stores in 8 bits. After an adapter is loaded: it stays in `dtype`, but beside layers of 8 bits
    it would be made of 8 bits itself."""
    if plan.weights == "fp8":
        for transformer in transformers(pipeline):
            # An adapter comes in the type of its file, and layers of mixed types would not be cast back alike. What the
            # model itself keeps in 32 bits (rotary tables, times) stays so: it is never cast.
            for name, weight in transformer.named_parameters():
                if ".lora_" in name:
                    weight.data = weight.data.to(dtype)
            transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)


def place(pipeline: Any, plan: Plan, device: torch.device) -> None:
    """Bring a pipeline's parts to `device`, or to where the plan keeps them. May be called again with a smaller one."""
    moving = transformers(pipeline) if plan.offload else []
    for transformer in moving:  # first: what is on the device already may be what fills it
        if plan.weights != "nf4":  # what bitsandbytes keeps beside a weight would go too, and nobody fetches it back
            transformer.to("cpu")
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and not any(part is each for each in moving):
            part.to(device)
    for transformer in moving:
        for module in transformer.modules():
            module._compiled_call_impl = None  # see `may_compile`
        transformer.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
        )
    if plan.tiling and hasattr(pipeline.vae, "enable_tiling"):  # the embedded model's codec is too small to need it
        pipeline.vae.enable_tiling()


def may_compile(plan: Plan) -> bool:
    """Whether blocks can be compiled in one piece: not where something steps in to cast their weights or to fetch
    them."""
    return plan.weights != "fp8" and not plan.offload


def speed_up(pipeline: Any, profile: Profile, plan: Plan, device: torch.device) -> None:
    """What the profile asks for: an attention kernel, compiled blocks where they can be. After the adapter is loaded.
    And on a processor, whose convolutions of pictures are faster so, the codec's channels lie side by side.

    The kernel is set for the video's self-attention alone (layers named `attn1`): cross-attention to the text carries a
    mask that fast kernels refuse, and set for a whole model it would become the default of the process.

    Raises `LiftError` for a kernel that diffusers does not know or cannot have here.
    """
    if device.type == "cpu":
        for module in pipeline.vae.modules():
            if isinstance(module, torch.nn.Conv2d):  # those of video gain nothing
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    for transformer in transformers(pipeline):
        if profile.attention is not None:
            try:
                _set_attention(transformer, profile.attention)
            except Exception as error:  # fetching a kernel ends in whatever its packages stumble on
                raise LiftError(
                    f"The attention {profile.attention!r} of profile {profile.name} cannot be used here "
                    f"({first_line(error)})."
                ) from error
        if profile.compile and may_compile(plan):
            transformer.compile_repeated_blocks(fullgraph=True)


def _set_attention(transformer: Any, kernel: str) -> None:
    for name, module in transformer.named_modules():
        if name.rpartition(".")[2] == "attn1":
            module.set_attention_backend(kernel)
    # What diffusers does where a kernel is set for a whole model, and not where it is for a layer: see that its package
    # is there, and fetch it if it comes from the hub.
    backend = attention_dispatch.AttentionBackendName(kernel.lower())
    attention_dispatch._check_attention_backend_requirements(backend)
    attention_dispatch._maybe_download_kernel_for_backend(backend)


def transformers(pipeline: Any) -> list[Any]:
    """The transformer of each expert."""
    return [part for name in EXPERTS if (part := getattr(pipeline, name, None)) is not None]
