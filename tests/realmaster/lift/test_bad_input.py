"""Models and adapters that cannot be used: each says what is wrong in one sentence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from realmaster.cli import main
from realmaster.lift import LiftError, load_lifter
from realmaster.lift.adapters import check_file
from realmaster.lift.libraries import from_hub
from tests.realmaster.lift.test_families import record_odd_take
from tests.realmaster.lift.test_ltx2_versions import diffusers_keys, trainer_keys
from tests.realmaster.lift.test_wan import trainer_keys as wan_keys
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"ltx2": save_tiny_ltx2(folder / "ltx2"), "wan": save_tiny_wan(folder / "wan")}


def sentence(call: Callable[[], object]) -> str:
    with pytest.raises(LiftError) as error:
        call()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


# -- models


def cut_to_a_shard(model: Path) -> None:
    weights = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = sorted(weights)
    save_file({name: weights[name] for name in names[::2]}, model / "transformer" / "part-1.safetensors")
    places = {name: f"part-{1 + number % 2}.safetensors" for number, name in enumerate(names)}
    index = {"metadata": {}, "weight_map": places}
    (model / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def pickle(model: Path) -> None:
    torch.save(load_file(model / WEIGHTS), (model / WEIGHTS).with_suffix(".bin"))
    (model / WEIGHTS).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_to_a_shard, "is not whole: transformer/part-2.safetensors is missing"),
        (pickle, "diffusion_pytorch_model.bin is a pickle"),
        (lambda model: shutil.rmtree(model / "vae"), "is not whole: its part vae is missing"),
        (lambda model: (model / WEIGHTS).write_bytes(b"\0" * 64), "does not load"),
        (lambda model: (model / "model_index.json").write_text("{"), "not known of which family"),
        (lambda model: (model / "transformer" / "config.json").write_text("{"), "does not load"),
    ],
)
def test_a_model_that_is_not_whole(
    models: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    model = tmp_path / "spoiled"
    shutil.copytree(models["ltx2"], model)
    spoil(model)
    assert said in sentence(lambda: load_lifter(model))


def test_what_is_wrong_beside_the_model_is_said_before_it_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take = str(record_odd_take(tmp_path / "take"))
    for option, wrong, said in (("anchor", "0=none.png", "anchor none.png"), ("preview", "x.gif", "preview x.gif")):
        assert main(["lift", take, "--model", "no-such-model", f"--{option}", wrong]) == 1
        assert f"The {said}" in capsys.readouterr().err


# -- adapters


@pytest.mark.parametrize(
    ("family", "keys", "said"),
    [
        ("ltx2", wan_keys, "not made for .*, but for Wan"),
        ("wan", diffusers_keys, "not made for .*, but for LTX-2"),
        ("wan", trainer_keys, "not made for .*, but for LTX-2"),
        ("ltx2", lambda: {"a.alpha": torch.zeros(1)}, "its layers do not fit"),
    ],
)
def test_an_adapter_of_another_family(
    models: dict[str, Path], tmp_path: Path, family: str, keys: Callable[[], dict[str, torch.Tensor]], said: str
) -> None:
    save_file(keys(), tmp_path / "mine.safetensors")

    assert re.search(said, sentence(lambda: load_lifter(models[family], str(tmp_path / "mine.safetensors"))))


@pytest.mark.parametrize("halves", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_an_adapter_of_two_ranks_names_the_layer(tmp_path: Path, halves: tuple[str, str]) -> None:
    down, up = halves
    layer = "diffusion_model.transformer_blocks.1.attn1.to_q"
    weights = {f"{layer}.{down}.weight": torch.zeros(4, 32), f"{layer}.{up}.weight": torch.zeros(32, 8)}
    save_file(weights, tmp_path / "mine.safetensors")
    assert f"two ranks, 4 and 8, in its layer {layer}." in sentence(lambda: check_file(tmp_path / "mine.safetensors"))


@pytest.mark.parametrize("name", ["mine.pt", "mine.bin", "mine.ckpt"])
def test_a_pickled_adapter_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    assert "is a pickle" in sentence(lambda: check_file(tmp_path / name))


def test_a_folder_without_safetensors(models: dict[str, Path], tmp_path: Path) -> None:
    assert "no safetensors file" in sentence(lambda: load_lifter(models["ltx2"], str(tmp_path)))


# -- the hub


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(models: dict[str, Path], tmp_path: Path) -> None:
    """In a process of its own: the address is read when its client is imported."""
    script = (
        "from realmaster.lift import LiftError, load_lifter\n"
        f"for model, lora in (('wan-2.1-1.3b', None), ({str(models['ltx2'])!r}, 'someone/something:a.safetensors')):\n"
        "    try:\n        load_lifter(model, lora)\n"
        "    except LiftError as error:\n        print(error)\n"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=250)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert all("is not on this machine, and the hub cannot be reached" in line for line in lines)


def test_a_full_disk_and_a_hub_that_refuses_are_told_apart() -> None:
    def full() -> None:
        with from_hub("The model a/b"):
            raise RuntimeError("cannot fetch") from OSError(28, "No space left on device")

    assert "does not fit on this disk" in sentence(full)
