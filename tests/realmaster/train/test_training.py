"""Whole trainings of tiny models of the real classes: they learn, touch nothing but the adapter, go on after any end,
and leave behind what everyone's tools load."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTX2InContextPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from capture.video import read_video
from realmaster import load_lifter
from realmaster.lift import lift_long
from realmaster.lift.profiles import load_profile
from realmaster.train import loop, run
from realmaster.train.batches import Batch
from realmaster.train.families.family import Expert, Family
from realmaster.train.run import Training, asked_settings, held_out
from realmaster.train.settings import TrainError
from tests.realmaster.train.tiny_dataset import make_dataset, read_rows

ROOT = Path(__file__).parents[3]
PLAN: dict[str, Any] = {
    "steps": 16,
    "batch_size": 2,
    "trackers": [],
    "gradient_checkpointing": False,
    "adapter": {"rank": 4, "alpha": 8.0, "dropout": 0.1},  # dropout: the random state counts too
    "optimizer": {"learning_rate": 2e-2},
    "checkpoints": {"every": 5},
    "validation": {"every": 8, "clips": 1, "steps": 2},
}


def train(
    dataset: Path, out: Path, model: Path, resume: bool = False, report: Any = lambda report: None, **changes: Any
) -> Training:
    settings = asked_settings(out, str(model), None, PLAN | changes, resume)
    training = Training(dataset, out, str(model), settings, resume)
    training.load()
    training.encode()
    training.train(report)
    return training


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out)]


@pytest.fixture(scope="module")
def done(dataset: Path, ltx2: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return train(dataset, tmp_path_factory.mktemp("run") / "lora", ltx2, average=0.9)


# ---- what is trained


def test_every_update_is_told_and_the_loss_falls(done: Training) -> None:
    told = rows(done.out)
    assert [row["update"] for row in told] == list(range(1, 17))
    assert np.mean(losses(done.out)[-4:]) < np.mean(losses(done.out)[:4])
    assert all(0 <= int(band) < 4 and loss > 0 for row in told for band, loss in row["bands"].items())
    assert not any(row["skipped"] for row in told)


def test_trackers_hear_of_some_updates_and_the_log_of_all(
    dataset: Path, ltx2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the disk does not hold up fast updates."""
    told: list[int] = []
    monkeypatch.setattr(run, "TRACK_SECONDS", 1e9)
    monkeypatch.setattr(run.Accelerator, "log", lambda self, values, step: told.append(step))
    train(dataset, tmp_path / "lora", ltx2, steps=4, validation={"every": 0})
    assert told == [1, 4]
    assert [row["update"] for row in rows(tmp_path / "lora")] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # on a busy machine
@pytest.mark.parametrize("model", ["ltx2", "wan"])
def test_the_loss_of_eight_pairs_falls_by_half(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Measured on noise that training did not see, before and after; of each expert."""
    dataset = make_dataset(tmp_path / "pairs", pairs=8)
    plan: dict[str, Any] = {
        "steps": 300 if model == "wan" else 100,  # narrow, its experts are slow, that of low noise most
        "batch_size": 4,
        "trackers": [],
        "gradient_checkpointing": False,
        "optimizer": {"learning_rate": 2e-2},
        "validation": {"every": 0},
    }
    out, folder = tmp_path / "lora", request.getfixturevalue(model)
    training = Training(dataset, out, str(folder), asked_settings(out, str(folder), None, plan, False))
    training.load()
    training.encode()
    before = [unseen_loss(training, expert) for expert in training.experts]
    training.train()
    training.family.lifter.adapt(load_profile(out))
    after = [unseen_loss(training, expert) for expert in training.experts]
    assert len(after) == (2 if model == "wan" else 1)
    assert all(b < 0.5 * a for a, b in zip(before, after, strict=True)), (before, after)


@torch.no_grad()
def unseen_loss(training: Training, expert: Expert) -> float:
    batches = training._batches(expert)
    drawn = [batches.make(update, 0) for update in range(1000, 1012)]
    return float(np.mean([training.family.losses(expert.transformer, batch).mean().item() for batch in drawn]))


def test_gradients_reach_the_adapter_alone(dataset: Path, ltx2: Path, tmp_path: Path) -> None:
    settings = asked_settings(tmp_path / "out", str(ltx2), None, PLAN, False)
    training = Training(dataset, tmp_path / "out", str(ltx2), settings)
    training.load()
    training.encode()
    expert = training.experts[0]
    before = {name: tensor.clone() for name, tensor in expert.transformer.state_dict().items()}
    with torch.no_grad():
        batch = training._batches(expert).make(0, 0)
        bare = training.family.losses(expert.transformer, batch)
    weights = loop.add_adapter(training.family, expert.transformer, settings)
    expert.transformer.eval()
    losses = training.family.losses(expert.transformer, batch)
    assert torch.equal(losses.detach(), bare)  # an adapter that has learned nothing changes nothing
    losses.mean().backward()
    with_gradient = {name for name, p in expert.transformer.named_parameters() if p.grad is not None}
    assert with_gradient == set(weights) and all(".lora_" in name and "audio" not in name for name in weights)
    assert any(p.grad.abs().max() > 0 for p in weights.values())
    optimizer = loop.make_optimizer(list(weights.values()), settings)
    optimizer.step()
    after = {name.replace(".base_layer", ""): t for name, t in expert.transformer.state_dict().items()}
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine
def test_decoded_pictures_may_be_the_judge(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model's recipe, in short: one step's pictures come nearer to the target's, two in a row at a time,
    each lifted by itself from the same noise."""
    plan: dict[str, Any] = {
        "steps": 12,
        "batch_size": 1,  # two frames
        "trackers": [],
        "average": 0.0,
        "noise": {"pure": 1.0},
        "optimizer": {"warmup": 0, "schedule": "constant"},
        "validation": {"every": 0, "clips": 0},
    }
    out = tmp_path / "lora"
    settings = asked_settings(out, "embedded", None, plan, False)
    assert settings.loss.pictures
    training = Training(dataset, out, "embedded", settings)
    training.load()
    training.encode()
    batch = training._batches(training.experts[0]).make(1000, 0)
    assert batch.target.shape[2] == 2 and not torch.equal(batch.target[:, :, 0], batch.target[:, :, 1])
    assert torch.equal(batch.noise[:, :, 0], batch.noise[:, :, 1]) and not batch.first_known.any()
    video, _ = read_video(training.pairs[0].target.path)
    latents = training.family.encode(video[:1], "target")[None]
    decoded = training.family.decode(latents)[0].permute(1, 2, 3, 0)
    assert (decoded / 2 + 0.5 - torch.from_numpy(video[:1]) / 255).abs().mean() < 0.1
    training.train()
    assert all(weight.grad is None for weight in training.family.pipeline.vae.parameters())
    assert np.mean(losses(out)[-4:]) < 0.95 * np.mean(losses(out)[:4])
    # The loss of a perfect velocity is none at all; of one that is right in every other frame it is, by what changes.
    monkeypatch.setattr(training.family, "_velocity", lambda transformer, noisy, each: each.noise - each.target)
    assert training.family.losses(None, batch).abs().max() < 1e-3
    wrong = torch.tensor([0.3, 0.0] * len(batch.target)).view(-1, 1, 1, 1, 1)
    monkeypatch.setattr(training.family, "_velocity", lambda transformer, noisy, each: each.noise - each.target + wrong)
    flickering = training.family.losses(None, batch)
    wrong = torch.full((2 * len(batch.target), 1, 1, 1, 1), 0.15)
    assert (flickering > training.family.losses(None, batch)).all()


def test_neighbours_are_for_models_of_single_frames(dataset: Path, ltx2: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="frame by frame"):
        train(dataset, tmp_path / "lora", ltx2, neighbours=2)


@pytest.mark.parametrize("model", ["ltx2", "wan"])
def test_decoding_is_the_inverse_of_the_normalisation_that_encodes(
    model: str, request: pytest.FixtureRequest, dataset: Path, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(model)
    training = Training(
        dataset, tmp_path / "o", str(folder), asked_settings(tmp_path / "o", str(folder), None, PLAN, False)
    )
    training.load()
    vae = training.family.pipeline.vae
    raw = torch.randn(1, vae.config.get("latent_channels") or vae.config.z_dim, 2, 2, 3)
    mean, std = (
        torch.as_tensor(getattr(vae, name, None) if hasattr(vae, name) else vae.config[name]).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    shown = training.family.decode(((raw - mean) / std).requires_grad_())
    arguments = (raw, None) if model == "ltx2" else (raw,)
    torch.testing.assert_close(shown, vae.decode(*arguments, return_dict=False)[0], rtol=1e-4, atol=1e-4)
    assert shown.requires_grad


def test_checkpointing_computes_the_same_gradients(dataset: Path, wan: Path, tmp_path: Path) -> None:
    settings = asked_settings(tmp_path / "out", str(wan), None, PLAN | {"adapter": {"rank": 4}}, False)
    training = Training(dataset, tmp_path / "out", str(wan), settings)
    training.load()
    training.encode()
    expert = training.experts[0]
    weights = loop.add_adapter(training.family, expert.transformer, settings)
    with torch.no_grad():
        for name, weight in weights.items():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    batch = training._batches(expert).make(0, 0)
    batch.first_known[:] = torch.tensor([True, False])
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            expert.transformer.enable_gradient_checkpointing()
        training.family.losses(expert.transformer, batch).mean().backward()
        gradients.append([weight.grad.clone() for weight in weights.values()])
        expert.transformer.zero_grad()
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)
        assert plain.abs().max() > 0


def test_a_held_out_pair_is_not_trained_on(done: Training) -> None:
    kept, used = done.held_out, done.pairs
    assert len(kept) == 1 and len(used) == 9 and kept[0] not in used
    again, _ = held_out(list(reversed(done.dataset.pairs)), 1)
    assert again == kept  # by name, not by place
    assert held_out(done.dataset.pairs[:8], 2) == ([], list(done.dataset.pairs[:8]))


# ---- what it leaves behind


def test_the_adapter_loads_in_plain_diffusers_in_both_keys(done: Training, ltx2: Path) -> None:
    """Both files and the training itself give the same output."""
    batch = done._batches(done.experts[0]).make(0, 0)
    outputs = []
    for file in ("pytorch_lora_weights.safetensors", "comfyui/lora.safetensors"):
        pipeline = LTX2InContextPipeline.from_pretrained(ltx2)
        bare = _velocity(done.family, pipeline.transformer, batch)
        pipeline.load_lora_weights(done.out / file)
        outputs.append(_velocity(done.family, pipeline.transformer, batch))
        assert not torch.allclose(outputs[-1], bare, atol=1e-3)
    assert torch.equal(*outputs)
    pipeline = LTX2InContextPipeline.from_pretrained(ltx2)
    pipeline.load_lora_weights(str(done.out))  # diffusers finds the file in the folder by itself
    assert torch.equal(_velocity(done.family, pipeline.transformer, batch), outputs[0])

    # The state that the run ended with, put in place as the loop puts it, alpha and all.
    transformer = LTX2InContextPipeline.from_pretrained(ltx2).transformer
    weights = loop.add_adapter(done.family, transformer, done.settings)
    state = torch.load(done.out / "checkpoints/adapter-000016.pt", weights_only=True)
    for name, weight in weights.items():
        weight.data.copy_(state["average"][name])
    transformer.eval()
    torch.testing.assert_close(_velocity(done.family, transformer, batch), outputs[0], rtol=1e-4, atol=1e-5)


def _velocity(family: Family, transformer: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return family._velocity(transformer, batch.target, batch)


def test_the_file_says_where_it_comes_from(done: Training) -> None:
    with safe_open(done.out / "pytorch_lora_weights.safetensors", framework="pt") as file:
        said = file.metadata()
        assert all(name.startswith("transformer.transformer_blocks.") for name in file.keys())  # noqa: SIM118
    assert said["base_model"] == "tiny-ltx-2.3" and said["dataset_sha256"] == done.dataset.digest
    assert json.loads(said["recipe"])["adapter"]["rank"] == 4
    assert {row["update"] for row in json.loads(said["scores"])} == {8, 16}
    assert "reference_downscale_factor" not in said
    trainers = load_file(done.out / "comfyui/lora.safetensors")
    assert all(name.startswith("diffusion_model.transformer_blocks.") for name in trainers)
    card = (done.out / "README.md").read_text()
    assert "base_model" in card and done.dataset.digest in card and "| adapter | 16 |" in card


def test_a_preview_is_what_lift_gives_to_the_bit(done: Training) -> None:
    pair = done.held_out[0]
    folder = done.out / "previews/adapter-000016"
    lifter = load_lifter(done.out)
    assert lifter.rules.window == 9 and lifter.rules.max_side == 96
    renders, _ = read_video(pair.render.path)
    lifted = list(lift_long(lifter, renders, pair.caption, steps=2))
    for index in (0, 4, 8):
        still = np.asarray(Image.open(folder / f"{pair.id}-{index:05d}.png"))
        assert np.array_equal(still, lifted[index])
    # The one in the middle of the training showed the adapter of that time.
    earlier = np.asarray(Image.open(done.out / f"previews/adapter-000008/{pair.id}-00004.png"))
    assert not np.array_equal(earlier, lifted[4])
    scores = json.loads((folder / "scores.json").read_text())[0]
    assert math.isfinite(scores["psnr"]) and math.isfinite(scores["psnr of render"])
    assert Image.open(folder / f"{pair.id}.png").size[0] > 3 * 96


def test_the_experts_of_wan_are_trained_one_by_one(dataset: Path, wan: Path, tmp_path: Path) -> None:
    out = tmp_path / "experts"
    seen: dict[str, list[float]] = {}
    training = train(dataset, out, wan, steps=5, reference_downscale=2, references=["normals"], trigger="REAL")
    for row in rows(out):
        seen.setdefault(row["expert"], []).extend(int(band) for band in row["bands"])
    assert set(seen["high_noise"]) <= {2, 3} and set(seen["low_noise"]) <= {0, 1}  # the boundary is 0.5
    for mark in ("high_noise", "low_noise"):
        weights = load_file(out / f"{mark}.safetensors")
        assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
        assert (out / f"comfyui/experts-{mark}.safetensors").exists()
    lifter = load_lifter(out)
    assert lifter.reference_downscale == 2 and lifter.references == ("normals",)
    assert lifter.profile.trigger == "REAL"
    pair = training.held_out[0]
    still = np.asarray(Image.open(out / f"previews/low_noise-000005/{pair.id}-00004.png"))
    shown = {cue: read_video(video.path)[0] for cue, video in pair.shown.items()}
    lifted = lifter.lift(shown["color"], pair.caption, steps=2, references={"normals": shown["normals"]})
    assert np.array_equal(still, lifted[4])


# ---- ends of all kinds


def test_a_stopped_training_goes_on_to_the_same_losses(
    done: Training, dataset: Path, ltx2: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lora"
    handler = signal.getsignal(signal.SIGTERM)
    settings = asked_settings(out, str(ltx2), None, PLAN | {"average": 0.9}, False)
    training = Training(dataset, out, str(ltx2), settings)
    training.load()
    training.encode()

    def stop_at_seven(report: loop.Report) -> None:
        if report.update == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(loop.Stopped) as stopped:
        training.train(stop_at_seven)
    assert stopped.value.updates == 7 and signal.getsignal(signal.SIGTERM) is handler
    train(dataset, out, ltx2, resume=True, average=0.9)
    assert losses(out) == losses(done.out)
    for name, tensor in load_file(out / "pytorch_lora_weights.safetensors").items():
        assert torch.equal(tensor, load_file(done.out / "pytorch_lora_weights.safetensors")[name])
    assert len(list((out / "checkpoints").glob("*.pt"))) == 3  # the last few


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_losses(
    done: Training, dataset: Path, ltx2: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lora"
    code = (
        "from pathlib import Path; from tests.realmaster.train.test_training import train_until_killed;"
        f"train_until_killed(Path({str(dataset)!r}), Path({str(out)!r}), Path({str(ltx2)!r}))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    told = len((out / "log.jsonl").read_text().splitlines())
    assert 6 <= told <= 16
    train(dataset, out, ltx2, resume=True, average=0.9)
    assert [row["update"] for row in rows(out)] == list(range(1, 17))
    assert losses(out) == losses(done.out)


def train_until_killed(dataset: Path, out: Path, model: Path) -> None:
    """As `train`; ended by force at some moment soon after a random update, whatever is being done then."""
    last = random.randint(6, 14)

    def at(report: loop.Report) -> None:
        if report.update == last:
            threading.Timer(random.uniform(0, 0.1), os.kill, (os.getpid(), signal.SIGKILL)).start()

    train(dataset, out, model, report=at, average=0.9)
    threading.Event().wait(60)  # the training was quicker than the end


def test_a_torn_checkpoint_is_passed_over(done: Training, dataset: Path, ltx2: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    train(dataset, out, ltx2, average=0.9, steps=11, validation=PLAN["validation"] | {"every": 0, "clips": 1})
    latest = out / "checkpoints/adapter-000011.pt"
    latest.write_bytes(latest.read_bytes()[:1000])
    state = loop.Checkpoints(out / "checkpoints", "adapter", 3).load()
    assert state is not None and state["updates"] == 10


def test_two_trainings_do_not_share_a_folder(done: Training, dataset: Path, ltx2: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="go on with it by --resume"):
        train(dataset, done.out, ltx2)
    with pytest.raises(TrainError, match=r"other settings \(batch_size\)"):
        asked_settings(done.out, str(ltx2), None, {"batch_size": 3}, True)
    assert asked_settings(done.out, str(ltx2), None, {"steps": 99}, True).steps == 99
    assert asked_settings(done.out, str(ltx2), None, {}, True) == done.settings
    assert read_rows(dataset)  # untouched


def test_updates_that_come_to_nothing_are_left_out_and_then_given_up(
    dataset: Path, ltx2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = Family.losses

    def sometimes(self: Family, transformer: Any, batch: Batch) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(self, transformer, batch) * (float("nan") if calls in (2, 3) or calls > 6 else 1.0)

    monkeypatch.setattr(Family, "losses", sometimes)
    with pytest.raises(TrainError, match="not finite"):
        train(dataset, tmp_path / "lora", ltx2, steps=40, validation={"every": 0})
    told = rows(tmp_path / "lora")
    assert [row["skipped"] for row in told[:6]] == [False, True, True, False, False, False]
    assert [row["loss"] is None for row in told] == [row["skipped"] for row in told]
    assert len(told) == 16  # six, and ten in a row
    state = torch.load(tmp_path / "lora/checkpoints/adapter-000015.pt", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in state["weights"].values())
