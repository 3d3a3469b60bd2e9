"""Prompts to what a transformer reads of them. The text encoder, often a third of a model, is loaded when a new text
comes and may go again when it is encoded; what it said is kept on disk, so that for a known text it is never loaded.

Works on folders in diffusers layout and tensors; what encoding means is each family's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from capture.files import write_atomically

Encoded = dict[str, Tensor]
"""By the names of a pipeline's arguments."""

KEPT_BYTES = 2 * 2**30
"""Of the cache on disk; the oldest go first."""


class PromptCache:
    """Encodes each text once."""

    def __init__(
        self, encode: Callable[[Sequence[str]], list[Encoded]], encoder: str, folder: Path | None = None
    ) -> None:
        """`encode` does the work; `encoder` tells one text encoder from every other. `folder`: by default the user's
        cache folder."""
        self._encode = encode
        self._encoder = encoder
        self._folder = folder or Path(platformdirs.user_cache_dir("realmaster")) / "prompts"
        self._known: dict[str, Encoded] = {}

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """What the transformer reads of each text, on the CPU."""
        found: dict[str, Encoded] = {}
        for text in texts:
            encoded = self._known.get(text) or self._read(text)
            if encoded is not None:
                found[text] = encoded
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for text, encoded in zip(missing, self._encode(missing) if missing else (), strict=True):
            found[text] = self._keep(text, encoded)
        self._known = found  # the next window asks for the same
        return [found[text] for text in texts]

    def _file(self, text: str) -> Path:
        return self._folder / (hashlib.sha256(f"{self._encoder} {text}".encode()).hexdigest() + ".safetensors")

    def _read(self, text: str) -> Encoded | None:
        file = self._file(text)
        try:
            encoded = load(file.read_bytes())
            file.touch()  # lately used
        except (OSError, SafetensorError):
            return None
        return encoded

    def _keep(self, text: str, encoded: Encoded) -> Encoded:
        encoded = {name: tensor.detach().cpu().contiguous() for name, tensor in encoded.items()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(text), save(encoded))
            self._prune()
        except OSError:
            pass  # a cache that cannot be written costs time, not the lift
        return encoded

    def _prune(self) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > KEPT_BYTES:
                file.unlink(missing_ok=True)


def encoder_identity(base: Path, dtype: torch.dtype) -> str:
    """Changes whenever a folder's text encoder or tokenizer does: their small files by content, weights by place, size
    and time."""
    total = hashlib.sha256(str(dtype).encode())
    for file in sorted(file for part in ("text_encoder", "tokenizer") for file in (base / part).rglob("*")):
        if file.suffix == ".safetensors":
            about = file.stat()
            total.update(f"{file.resolve()} {about.st_size} {about.st_mtime_ns}".encode())
        elif file.is_file():
            total.update(file.read_bytes())
    return total.hexdigest()
