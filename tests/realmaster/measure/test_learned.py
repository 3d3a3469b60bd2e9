"""Measures with weights, on small models with random ones: what they compare, and what they say when absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizerFast,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ViTConfig,
    ViTModel,
)

from capture.frame import Channel, Descriptor, Frame
from realmaster.measure import Scorer
from realmaster.measure.learned import (
    Cmmd,
    DinoStructure,
    FaceIdentity,
    Kid,
    NotHere,
    PhotoOdds,
    arcface,
    learned_measures,
)

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "image_size": 32, "patch_size": 8}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of a small ViT and a small CLIP."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    ViTModel(ViTConfig(**SMALL)).save_pretrained(folder / "vit")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**SMALL, projection_dim=16)).save_pretrained(folder / "clip")
    return str(folder / "vit"), str(folder / "clip")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of a small CLIP, both towers, with a tokenizer of single characters."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    small = SMALL | {"projection_dim": 16}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
            "vocab_size": 80, "bos_token_id": 78, "eos_token_id": 79, "max_position_embeddings": 64}  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=small, projection_dim=16)).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary |= {"<|startoftext|>": 78, "<|endoftext|>": 79}
    CLIPTokenizerFast(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return str(folder)


def frame(index: int) -> Frame:
    y, x = np.mgrid[:48, :64]
    color = np.stack([x * 3, y * 4, (x + 5 * index) % 64 * 3], axis=-1).astype(np.uint8)
    return Frame(index, index, 0.0, None, {"color": Channel(Descriptor("color", "uint8", color.shape), color, index)})


def scores(learned: list, change, reference=None) -> dict:
    scorer = Scorer(learned=learned)
    for index in range(6):
        color = frame(index).color
        scorer.add(frame(index), change(color), None if reference is None else reference(color))
    return scorer.result()


def noisy(color: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, color.shape).astype(np.uint8)


def test_dino_structure_is_zero_for_a_copy_and_grows(models: tuple[str, str]) -> None:
    copy = scores([DinoStructure(models[0])], lambda color: color)
    other = scores([DinoStructure(models[0])], noisy)
    assert copy["lifted"].dino_structure == pytest.approx(0, abs=1e-6)
    assert other["lifted"].dino_structure > 0.01 and other["render"].dino_structure == pytest.approx(0, abs=1e-6)


def test_cmmd_is_zero_for_the_reference_itself(models: tuple[str, str]) -> None:
    same = scores([Cmmd(models[1])], lambda color: color, reference=lambda color: color)
    other = scores([Cmmd(models[1])], noisy, reference=lambda color: color)
    assert same["lifted"].cmmd == pytest.approx(0, abs=1e-3)
    assert other["lifted"].cmmd > 10 * max(same["lifted"].cmmd, 1e-4)
    assert other["reference"].cmmd is None


def test_kid_tells_other_pictures_apart() -> None:
    class Pooled(torch.nn.Module):
        num_features = 48

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 4).flatten(1)

    same = scores([Kid(Pooled())], lambda color: color, reference=lambda color: color)
    other = scores([Kid(Pooled())], noisy, reference=lambda color: color)
    assert other["lifted"].kid > same["lifted"].kid + 0.01


def test_faces_are_matched_by_where_they_are() -> None:
    def faces(picture: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Two "faces": the mean colours of the left and of the right half."""
        boxes = [np.array([0.0, 0, 32, 48]), np.array([32.0, 0, 64, 48])]
        halves = [picture[:, :32], picture[:, 32:]]
        return [(box, half.mean((0, 1))) for box, half in zip(boxes, halves, strict=True)][
            :: picture[0, 0, 0] % 2 * 2 - 1
        ]

    same = scores([FaceIdentity(faces)], lambda color: color | 1)  # odd: its faces come in the other order
    assert same["lifted"].faces == pytest.approx(1.0, abs=1e-3)
    other = scores([FaceIdentity(faces)], lambda color: color * np.array([1, 0, 0], np.uint8))
    assert other["lifted"].faces < 0.95
    none = scores([FaceIdentity(lambda picture: [])], lambda color: color)
    assert none["lifted"].faces is None


def test_photographs_are_told_from_games_by_clip(clip: str) -> None:
    found = scores([PhotoOdds(clip)], noisy)
    assert found["lifted"].photo_odds != found["render"].photo_odds
    same = scores([PhotoOdds(clip)], lambda color: color)
    assert same["lifted"].photo_odds == same["render"].photo_odds is not None


def test_arcface_is_read_from_a_folder_of_onnx(tmp_path: Path) -> None:
    """Small models with random weights in the forms that insightface knows a detector and an embedder by."""
    pytest.importorskip("insightface")
    from tests.realmaster.measure.tiny_faces import save_tiny_faces

    faces = arcface(save_tiny_faces(tmp_path / "faces"))
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    seen = faces(picture)
    assert seen and all(box.shape == (4,) and embedding.shape == (32,) for box, embedding in seen)
    found = scores([FaceIdentity(faces)], lambda color: color)
    assert found["lifted"].faces == pytest.approx(1.0, abs=1e-5)
    assert scores([FaceIdentity(faces)], noisy)["lifted"].faces < 0.999
    (tmp_path / "faces" / "embedder.onnx").unlink()
    with pytest.raises(NotHere, match="detector and of ArcFace"):
        arcface(tmp_path / "faces")
    (tmp_path / "faces" / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(NotHere, match="broken.onnx does not load"):
        arcface(tmp_path / "faces")


def test_what_is_absent_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    measures, absent = learned_measures()
    assert measures == []
    assert [each.measure for each in absent] == [
        "DINO structure distance",
        "ArcFace",
        "Likeness to photographs",
        "LPIPS",
        "CMMD",
        "KID",
    ]
    assert all(str(each).startswith(f"{each.measure} is not scored: ") for each in absent)
    with pytest.raises(NotHere, match="--dino"):
        learned_measures(dino="nowhere/at-all")
