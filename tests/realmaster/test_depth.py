"""Estimated depth: real model classes with tiny random weights, loaded from a folder as a user's would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capture.camera import Conventions
from capture.frame import Channel, Descriptor, Frame
from capture.importers import import_take
from capture.take import Take, TakeWriter, verify
from realmaster.cli import main
from realmaster.depth import DepthEstimator, DepthModelError, EstimatedTake

pytestmark = pytest.mark.slow

SIZE = (36, 64)


@pytest.fixture(scope="module", params=["relative", "metric"])
def model(request, tmp_path_factory) -> Path:
    """A Depth Anything of a few thousand weights, saved as transformers saves one."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(1)
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[4, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, depth_estimation_type=request.param, max_depth=80 if request.param == "metric" else 1,
    )  # fmt: skip
    made = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():  # weights of the usual size give no depth at all without training
        made.head.conv1.weight.mul_(100)
        made.head.conv3.weight.mul_(100)
    folder = tmp_path_factory.mktemp(request.param) / "depth-model"
    made.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def pictures(count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def color_take(path: Path) -> Path:
    color = Descriptor("color", "uint8", (*SIZE, 3))
    with TakeWriter(path, conventions=Conventions(), descriptors=[color], engine="screen", preview=False) as writer:
        for index, picture in enumerate(pictures()):
            stored = {"color": Channel(color, picture, 2 * index)}
            writer.append(Frame(0, 2 * index, index / 10, None, stored, flags=("duplicate",) if index else ()))
    return path


def test_the_model_answers_for_each_picture_by_itself(model: Path) -> None:
    estimator = DepthEstimator(str(model), "cpu")
    assert estimator.metric == (model.parent.name.startswith("metric"))
    first, second, _ = (estimator(picture) for picture in pictures())
    assert first.shape == SIZE and first.dtype == np.float32
    assert first.std() > 0
    if not estimator.metric:  # the model cuts off at 0, beside which bringing to size overshoots
        assert first.min() == 0
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, estimator(pictures()[0]))


def test_a_take_gains_depth_that_says_what_it_is(model: Path, tmp_path: Path) -> None:
    estimator = DepthEstimator(str(model), "cpu")
    with Take(color_take(tmp_path / "screen")) as take:
        import_take(EstimatedTake(take, estimator), tmp_path / "with-depth")
    assert verify(tmp_path / "with-depth").problems == []
    with Take(tmp_path / "screen") as before, Take(tmp_path / "with-depth") as after:
        for one, other in zip(before, after, strict=True):
            assert (other.serial, other.time, other.flags) == (one.serial, one.time, one.flags)
            np.testing.assert_array_equal(other.color, one.color)
            descriptor = other.channels["depth"].descriptor
            assert descriptor.estimated is True
            assert (descriptor.kind, descriptor.in_metres) == (
                ("linear", True) if estimator.metric else ("inverse", False)
            )
            guess = estimator(one.color)
            with np.errstate(divide="ignore"):
                expected = guess if estimator.metric else 1 / guess
            np.testing.assert_allclose(other.depth, expected, rtol=1e-6)
        entry = next(entry for entry in after.manifest["channels"] if entry["name"] == "depth")
        assert entry["estimated"] is True
        assert all("estimated" not in entry for entry in before.manifest["channels"])


def test_the_command(model: Path, tmp_path: Path, capsys) -> None:
    color_take(tmp_path / "screen")
    arguments = ["takes", "estimate", "screen", "--takes", str(tmp_path), "--json"]
    assert main([*arguments, "--depth-model", str(model)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["frames"] == 3
    assert report["take"] == str(tmp_path / "screen-depth")
    arguments[2] = "screen-depth"
    assert main([*arguments, "--depth-model", str(model)]) == 1
    assert "take screen-depth has depth already" in capsys.readouterr().err


def test_what_cannot_be_loaded_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DepthModelError, match="There is no depth model .*nothing: give a folder"):
        DepthEstimator(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DepthModelError, match="empty cannot be loaded: "):
        DepthEstimator(str(tmp_path / "empty"))
