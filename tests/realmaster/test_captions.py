"""Captions: a real vision-language model class with tiny random weights, loaded from a folder as a user's would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.take import Take, TakeWriter
from realmaster.captions import Captioner, CaptionError, caption_take
from realmaster.cli import main
from tests.realmaster.lift.tiny_wan import byte_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA, a few kilobytes large."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("captions") / "llava"
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=len(tokenizer) - 1, image_seq_length=4
    )
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    template = (
        "{% for message in messages %}{% for part in message.content %}"
        "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}), tokenizer,
        patch_size=14, vision_feature_select_strategy="default", chat_template=template, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def take(tmp_path: Path) -> Take:
    descriptor = Descriptor("color", "uint8", (32, 48, 3))
    writer = TakeWriter(
        tmp_path / "drive", conventions=Conventions(), descriptors=[descriptor], engine="test", game="", fps=30.0
    )
    for index in range(5):
        picture = np.full((32, 48, 3), 40 * index, np.uint8)
        camera = Camera.from_vertical_fov(np.eye(4), 1.0, 48, 32)
        writer.append(
            Frame(index, index, index / 30, camera, {"color": Channel(descriptor, picture, index)}, Conventions())
        )
    writer.close()
    return Take(tmp_path / "drive")


def test_the_model_is_shown_first_middle_and_last_and_its_words_are_the_takes_prompt(model: Path, take: Take) -> None:
    captioner, shown = Captioner(str(model)), []

    def spy(pictures, *args):
        shown.extend(int(picture[0, 0, 0]) for picture in pictures)
        return captioner(pictures, *args)

    said = caption_take(take, spy)
    assert shown == [0, 80, 160] and said and "\n" not in said
    assert (take.path / "prompt.txt").read_text() == f"{said}\n"
    assert captioner([np.zeros((32, 48, 3), np.uint8)], words=3) != captioner(
        [np.zeros((32, 48, 3), np.uint8)], words=30
    )


def test_a_prompt_that_is_there_is_not_lost(model: Path, take: Take, capsys: pytest.CaptureFixture[str]) -> None:
    (take.path / "prompt.txt").write_text("mine")
    arguments = ["takes", "caption", str(take.path), "--caption-model", str(model), "--json"]
    assert main(arguments) == 1 and (take.path / "prompt.txt").read_text() == "mine"
    capsys.readouterr()
    assert main([*arguments, "--replace"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["prompt"]
    assert (take.path / "prompt.txt").read_text() == f"{said}\n" and said != "mine"


def test_a_model_that_is_not_there_or_asks_for_no_question_is_one_sentence(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match="There is no vision-language model ./missing"):
        Captioner("./missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptionError, match="cannot be loaded") as error:
        Captioner(str(tmp_path / "empty"))
    assert "\n" not in str(error.value)
