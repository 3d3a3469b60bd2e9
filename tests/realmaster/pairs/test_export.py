"""Exports: the columns and files that trainers look for, read by the trainers' own loaders where they are installed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from realmaster.commands.pairs import TRAINERS as OFFERED
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.export import TRAINERS, export
from realmaster.pairs.settings import PairsError, load_settings
from tests.realmaster.pairs.city_takes import city_take
from tests.realmaster.pairs.test_run import make


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("export")
    make(city_take(folder / "take", 18, size=(96, 64)), folder / "d")
    return Dataset(folder / "d")


def test_the_command_offers_every_trainer() -> None:
    assert set(OFFERED) == set(TRAINERS)


def test_lightricks(dataset: Dataset) -> None:
    lines = [json.loads(line) for line in export(dataset, "lightricks").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"video", "reference_video", "caption"}] * 2
    for line in lines:
        assert line["video"].startswith("target/") and line["reference_video"].startswith("render/")
        assert (dataset.path / line["video"]).is_file() and (dataset.path / line["reference_video"]).is_file()


def test_diffsynth(dataset: Dataset) -> None:
    entries = json.loads(export(dataset, "diffsynth").read_text())
    for entry in entries:
        assert (dataset.path / entry["video"]).is_file() and entry["prompt"]
        assert [(dataset.path / name).is_file() for name in entry["in_context_videos"]] == [True]


def test_diffsynth_reads_it(dataset: Dataset) -> None:
    data = pytest.importorskip("diffsynth.core.data")
    operator = data.UnifiedDataset.default_video_operator(
        base_path=str(dataset.path), height=64, width=96, num_frames=9, time_division_factor=8
    )
    from diffsynth.core.data.operators import RouteByType, SequencialProcess

    loaded = data.UnifiedDataset(
        base_path=str(dataset.path),
        metadata_path=str(export(dataset, "diffsynth")),
        data_file_keys=("video", "in_context_videos"),
        main_data_operator=operator,
        special_operator_map={"in_context_videos": RouteByType([(list, SequencialProcess(operator))])},
    )
    assert len(loaded) == 2
    assert len(loaded[0]["video"]) == len(loaded[0]["in_context_videos"][0]) == 9
    assert loaded[0]["video"][0].size == (96, 64)


def test_musubi_tuner(dataset: Dataset) -> None:
    config = tomllib.loads(export(dataset, "musubi-tuner").read_text())
    (one,) = config["datasets"]
    assert one["target_frames"] == [9] and config["general"]["resolution"] == [96, 64]
    for line in Path(one["video_jsonl_file"]).read_text().splitlines():
        entry = json.loads(line)
        assert Path(entry["video_path"]).is_file() and Path(entry["control_path"]).is_file() and entry["caption"]


def test_simpletuner(dataset: Dataset) -> None:
    target, render, captions = json.loads(export(dataset, "simpletuner").read_text())
    assert target["conditioning_data"] == render["id"] and render["source_dataset_id"] == target["id"]
    assert captions["dataset_type"] == "text_embeds" and target["video"]["num_frames"] == 9
    videos = sorted(Path(target["instance_data_dir"]).glob("*.mp4"))
    assert [path.name for path in videos] == [
        path.name for path in sorted(Path(render["instance_data_dir"]).glob("*.mp4"))
    ]
    assert all("road" in path.with_suffix(".txt").read_text() for path in videos)


def test_a_dataset_without_pairs_is_not_exported(tmp_path: Path) -> None:
    empty = Dataset(tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "dataset.json").write_text("{}")
    empty.settle(load_settings().filters)
    with pytest.raises(PairsError, match="no pairs"):
        export(empty, "lightricks")
