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
def test_two_processes_are_one_with_the_doubled_batch(folders: tuple[Path, Path], plan: Path, tmp_path: Path) -> None:
    dataset, model = folders
    plan.write_text(plan.read_text().replace("clips = 1", "clips = 0"))
    halved = tmp_path / "halved.toml"
    halved.write_text(plan.read_text().replace("batch_size = 2", "batch_size = 1"))
    command = ["train", str(dataset), "--model", str(model), "--steps", "4"]
    assert main([*command, "-o", str(tmp_path / "one"), "--settings", str(plan)]) == 0
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "realmaster"]
    subprocess.run(
        [*start, *command, "-o", str(tmp_path / "two"), "--settings", str(halved)], cwd=ROOT, check=True, timeout=800
    )
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    one, two = (load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("one", "two"))
    for key, tensor in one.items():  # a tenth of an update: where a gradient is near zero, Adam makes much of its sign
        torch.testing.assert_close(two[key], tensor, rtol=0, atol=1e-3)
