"""`realmaster train` on the command line: one command from a dataset to a folder that lifts, on one process or two."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from realmaster.cli import main
from realmaster.train.settings import TrainError
from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan
from tests.realmaster.train.tiny_dataset import make_dataset, read_rows, write_rows

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("train")
    return make_dataset(folder / "pairs", pairs=4), save_tiny_ltx2(folder / "model")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.toml"
    file.write_text(
        "trackers = []\nbatch_size = 2\n[validation]\nclips = 1\nsteps = 1\n[optimizer]\nlearning_rate = 1e-2\n"
    )
    return file


def test_one_command_and_then_more_of_it(
    folders: tuple[Path, Path], plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, model = folders
    out = tmp_path / "lora"
    command = ["train", str(dataset), "-o", str(out), "--json"]
    asked = ["--model", str(model), "--settings", str(plan), "--rank", "2", "--steps", "3"]
    assert main([*command, *asked]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["updates"], report["out"]) == (3, str(out))
    assert report["advice"]["pairs"] == 4 and any("few" in warning for warning in report["advice"]["warnings"])
    assert {row["update"] for row in report["scores"]} == {3}
    assert load_file(out / "pytorch_lora_weights.safetensors").popitem()[1].shape.count(2)  # of rank 2

    assert main([*command, *asked]) == 1
    assert "--resume" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    # What was asked before need not be said again.
    assert main([*command, "--resume", "--steps", "5"]) == 0
    assert [json.loads(line)["update"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]
    assert main([*command, "--resume", "--rank", "8"]) == 1
    assert "adapter" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_faults_are_all_named_before_anything_is_made(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, model = tmp_path / "pairs", folders[1]
    shutil.copytree(folders[0], dataset)
    rows = read_rows(dataset)
    (dataset / rows[0]["render"]).unlink()
    rows[1]["caption"] = ""
    write_rows(dataset, rows)
    assert main(["train", str(dataset), "-o", str(tmp_path / "lora"), "--model", str(model), "--json"]) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(report["faults"]) == 2 and all(fault in report["error"] for fault in report["faults"])
    assert not (tmp_path / "lora").exists()


@pytest.mark.parametrize("words", [["--model", "nothing"], ["--settings", "none.toml"], ["--model", "vace-1.3b"]])
def test_mistakes_are_one_sentence(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["train", str(folders[0]), "-o", str(tmp_path / "lora"), *words]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("realmaster: ") and said.endswith(".")
    assert issubclass(TrainError, Exception) and not (tmp_path / "lora").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", ["ltx2", "wan"])
def test_two_processes_are_one_with_the_doubled_batch(
    folders: tuple[Path, Path], plan: Path, tmp_path: Path, family: str
) -> None:
    """Of Wan 2.2, each expert."""
    dataset, model = folders
    experts = 1
    if family == "wan":
        model, experts = save_tiny_wan(tmp_path / "model", experts=2), 2
    plan.write_text(plan.read_text().replace("clips = 1", "clips = 0"))
    halved = tmp_path / "halved.toml"
    halved.write_text(plan.read_text().replace("batch_size = 2", "batch_size = 1"))
    command = ["train", str(dataset), "--model", str(model), "--steps", "4"]
    assert main([*command, "-o", str(tmp_path / "one"), "--settings", str(plan)]) == 0
    on_two(command, tmp_path / "two", halved)
    losses = [losses_of(tmp_path / name) for name in ("one", "two")]
    assert len(losses[0]) == 4 * experts and losses[1] == pytest.approx(losses[0], rel=1e-5)
    files = sorted(file.name for file in (tmp_path / "one").glob("*.safetensors"))
    assert len(files) == experts
    for file in files:
        one, two = (load_file(tmp_path / name / file) for name in ("one", "two"))
        for key, tensor in one.items():  # a tenth of an update: near a gradient of zero Adam makes much of its sign
            torch.testing.assert_close(two[key], tensor, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_base_that_is_spread_over_two_processes_trains_the_same(
    folders: tuple[Path, Path], plan: Path, tmp_path: Path
) -> None:
    """Checkpoints, previews and the adapter too, and one goes on where the other was."""
    dataset, model = folders
    plan.write_text(plan.read_text() + "every = 2\n[checkpoints]\nevery = 2\n".replace("every = 2\n", "", 1))
    spread = tmp_path / "spread.toml"
    spread.write_text("shard = true\n" + plan.read_text())
    command = ["train", str(dataset), "--model", str(model)]
    on_two([*command, "--steps", "4"], tmp_path / "whole", plan)
    on_two([*command, "--steps", "2"], tmp_path / "spread", spread)
    on_two([*command, "--steps", "4", "--resume"], tmp_path / "spread", spread)
    whole, spread_out = tmp_path / "whole", tmp_path / "spread"
    assert losses_of(spread_out)[:2] == pytest.approx(losses_of(whole)[:2], rel=1e-5)
    name = "pytorch_lora_weights.safetensors"
    one, two = (load_file(folder / name) for folder in (whole, spread_out))
    assert one.keys() == two.keys() and all(one[key].shape == two[key].shape for key in one)
    previews = [folder / "previews/adapter-000004/scores.json" for folder in (whole, spread_out)]
    assert len(json.loads(previews[0].read_text())) == len(json.loads(previews[1].read_text())) == 1


def on_two(command: list[str], out: Path, settings: Path) -> None:
    """On two processes, as `accelerate launch` would."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "realmaster"]
    subprocess.run([*start, *command, "-o", str(out), "--settings", str(settings)], cwd=ROOT, check=True, timeout=800)


def losses_of(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
