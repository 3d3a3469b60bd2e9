"""What a lift is, whatever the model: the take's frames, size and times; its adapter matters, chance does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from capture.camera import Camera, Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.take import TakeWriter
from capture.video import read_video
from realmaster.cli import main
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan

FAMILIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ltx-2.3": (lambda folder: save_tiny_ltx2(folder, "2.3", channels=12, heads=2), "transformer_blocks.{}.attn1.to_q"),
    "ltx-2.5": (lambda folder: save_tiny_ltx2(folder, "2.5", channels=16, heads=2), "transformer_blocks.{}.attn1.to_q"),
    "wan-2.1": (lambda folder: save_tiny_wan(folder, experts=1), "blocks.{}.self_attn.q"),
    "wan-2.2": (lambda folder: save_tiny_wan(folder, experts=2), "blocks.{}.self_attn.q"),
}
"""How a model is made, and the layer that its adapter changes, as trainers name it."""

TIMES = np.cumsum([0.0, 0.02, 0.05, 0.011, 0.04, 0.4, 0.033, 0.033, 0.017, 0.09, 0.0333])
SIZE = (37, 51)


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_odd_take(tmp_path_factory.mktemp("odd") / "take")


def record_odd_take(path: Path) -> Path:
    """Eleven frames of an odd size at uneven times."""
    rng = np.random.default_rng(0)
    descriptor = Descriptor("color", "uint8", (*SIZE, 3))
    writer = TakeWriter(path, conventions=Conventions(), descriptors=[descriptor], engine="test", game="", fps=24.0)
    camera = Camera.from_vertical_fov(np.eye(4), 1.0, SIZE[1], SIZE[0])
    for index, time in enumerate(TIMES):
        color = Channel(descriptor, rng.integers(0, 255, (*SIZE, 3), np.uint8), index)
        writer.append(
            Frame(
                index=index, serial=index, time=5 + time, camera=camera, channels={"color": color},
                conventions=Conventions(),
            )
        )  # fmt: skip
    writer.close()
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_takes_frames_size_and_times(
    take: Path, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, layer = FAMILIES[family]
    base = make(tmp_path / "base")
    config = json.loads((base / "transformer" / "config.json").read_text())
    features = config["num_attention_heads"] * config["attention_head_dim"]
    torch.manual_seed(0)
    adapter = {
        f"diffusion_model.{layer.format(block)}.lora_{half}.weight": torch.randn(shape)
        for block in range(2)
        for half, shape in {"A": (3, features), "B": (features, 3)}.items()
    }
    save_file(adapter, tmp_path / "mine.safetensors")
    diffusers = {key.replace("self_attn.q", "attn1.to_q").replace("diffusion_model", "transformer"): value
                 for key, value in adapter.items()}  # fmt: skip
    save_file(diffusers, tmp_path / "diffusers.safetensors")
    save_file(adapter, tmp_path / "half.safetensors", metadata={"reference_downscale_factor": "2"})
    profile = tmp_path / "tiny.toml"
    profile.write_text(
        f'base = "{base.as_posix()}"\nwindow = 9\noverlap = {1 if "ltx" in family else 5}\nmax_side = 64\n'
        "[sampling]\nsigmas = [1.0, 0.5]\n"
    )
    lora = str(tmp_path / "mine.safetensors")
    given = {
        "none": ["none"],
        "off": [lora, "--lora-scale", "0"],
        "on": [lora],
        "again": [lora],
        "diffusers": [str(tmp_path / "diffusers.safetensors")],
        "half": [str(tmp_path / "half.safetensors")],
    }
    videos = {}
    for name, more in given.items():
        out = tmp_path / name
        arguments = ["lift", str(take), "-o", str(out), "--model", str(profile), "--seed", "3", "--lora", *more]
        assert main(arguments) == 0, capsys.readouterr().err
        images, times = read_video(out / "lifted.mp4")
        assert images.shape == (len(TIMES), *SIZE, 3)
        np.testing.assert_allclose(times, TIMES, atol=1e-4)
        videos[name] = (out / "lifted.mp4").read_bytes()
    assert videos["none"] == videos["off"] != videos["on"] == videos["again"] == videos["diffusers"]
    assert videos["half"] not in (videos["none"], videos["on"])  # shown a render of half the size
