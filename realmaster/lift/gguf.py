"""Transformers from GGUF files: weights that somebody has stored in fewer bits already, and that stay so.

Knows diffusers' loader of single files, which reads the layer names of the models' authors and its own, for the
transformers of LTX-2, Wan and VACE. Such a file holds a transformer alone; everything else comes from the base.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import GGUFQuantizationConfig

from realmaster.lift.libraries import first_line, quiet
from realmaster.lift.lifter import LiftError

CLASSES = {
    "LTX2VideoTransformer3DModel": "LTX2VideoTransformer3DModel",
    "WanTransformer3DModel": "WanTransformer3DModel",
    "WanInContextTransformer3DModel": "WanTransformer3DModel",  # the pipeline makes the one of the other
    "WanVACETransformer3DModel": "WanVACETransformer3DModel",
}
"""Class of a base's transformer -> the one that is read from a GGUF file in its place."""


def load_gguf(file: Path, base: Path, part: str, cls: str | None, dtype: torch.dtype) -> Any:
    """The transformer in `file`, as the base's part `part` is configured, whose class is named `cls`; it computes in
    `dtype`. Raises `LiftError`."""
    if importlib.util.find_spec("gguf") is None:
        raise LiftError(f'{file} needs the package gguf: pip install "realmaster[gguf]".')
    if cls not in CLASSES:
        raise LiftError(f"The transformer of {base} is a {cls}, which no GGUF file can stand for.")
    _check_head(file)
    try:
        with quiet():
            transformer = getattr(diffusers, CLASSES[cls]).from_single_file(
                str(file),
                config=str(base),
                subfolder=part,
                quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
                dtype=dtype,
            )
    except NotImplementedError as error:  # "Cannot copy out of meta tensor": no weights came for it
        raise LiftError(f"The GGUF file {file} was not made for {base}: weights of its {part} are missing.") from error
    except Exception as error:  # a broken file ends in whatever its reader stumbles on
        raise LiftError(
            f"The GGUF file {file} does not load as the {part} of {base} ({first_line(error)}): get it whole, and of "
            "the same model."
        ) from error
    _unpack_others(transformer, dtype)
    return transformer


def _check_head(file: Path) -> None:
    """Raises `LiftError` for what is no GGUF file: it begins with these four letters."""
    try:
        with file.open("rb") as data:
            head = data.read(4)
    except OSError as error:
        raise LiftError(f"The GGUF file {file} cannot be read ({error.strerror}).") from error
    if head != b"GGUF":
        raise LiftError(f"{file} is no GGUF file: give one, or leave gguf out of the profile.")


def _unpack_others(transformer: Any, dtype: torch.dtype) -> None:
    """diffusers unpacks the weights of linear layers as they are used; those of others (a convolution's in bfloat16, a
    bias) are unpacked here, once."""
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor

    for module in transformer.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(weight, GGUFParameter) and not (isinstance(module, GGUFLinear) and name == "weight"):
                plain = dequantize_gguf_tensor(weight).as_subclass(torch.Tensor).to(dtype)
                setattr(module, name, torch.nn.Parameter(plain, requires_grad=False))
