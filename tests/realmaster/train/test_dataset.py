"""Reading pairs: what is there comes out, and all that is wrong is named in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from capture.video import write_video
from realmaster.train.dataset import DatasetError, read_dataset
from realmaster.train.settings import TrainError
from tests.realmaster.train.tiny_dataset import read_rows, write_rows


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_pairs_are_read_as_they_were_written(dataset: Path) -> None:
    read = read_dataset(dataset, ["normals"])
    assert [pair.id for pair in read.pairs] == [f"pair-{number:03d}" for number in range(10)]
    pair = read.pairs[3]
    assert (pair.frames, pair.target.size, pair.caption) == (9, "96x64", "a street, number 3")
    assert pair.render.path == dataset / "render/pair-003.mp4"
    assert pair.shown["normals"].path == dataset / "cues/pair-003-normals.mp4"
    assert pair.render.sha256 != pair.target.sha256
    assert set(read_dataset(dataset).pairs[0].shown) == {"color"}  # no more than is asked for


def test_the_digest_is_of_content(copy: Path, dataset: Path) -> None:
    assert read_dataset(copy).digest == read_dataset(dataset).digest
    rows = read_rows(copy)
    rows[0]["caption"] = "another"
    write_rows(copy, rows)
    assert read_dataset(copy).digest != read_dataset(dataset).digest


def test_all_faults_are_named_at_once(copy: Path) -> None:
    rows = read_rows(copy)
    (copy / "render/pair-000.mp4").unlink()
    write_video(copy / "target/pair-001.mp4", np.zeros((5, 64, 96, 3), np.uint8))
    write_video(copy / "render/pair-002.mp4", np.zeros((9, 64, 64, 3), np.uint8))
    (copy / "pair-003.txt").write_text(" \n")
    rows[3]["caption"] = "pair-003.txt"
    (copy / "target/pair-004.mp4").write_bytes(b"no video")
    rows[5]["target"] = "../elsewhere.mp4"
    rows[6]["caption"] = ""
    rows[7]["id"] = "pair-008"
    del rows[9]["id"]
    write_rows(copy, rows)
    with (copy / "pairs.jsonl").open("a") as file:
        file.write("{not json\n")
    with pytest.raises(DatasetError) as error:
        read_dataset(copy)
    wanted = [
        "pair pair-000: render render/pair-000.mp4 is missing",
        "pair pair-001: render has 9 frames, its target 5",
        "pair pair-002: render is 64x64, its target 96x64",
        "pair pair-003: caption pair-003.txt is empty",
        "pair pair-004: target pair-004.mp4 cannot be read as a video",
        "pair pair-005: target ../elsewhere.mp4 lies outside of the dataset",
        "pair pair-006: caption is empty",
        "line 10 of pairs.jsonl: it has no id",
        "line 11 of pairs.jsonl: it is not a JSON object",
        "pair pair-008: its id stands twice",
    ]
    assert len(error.value.faults) == len(wanted)
    for fault, words in zip(error.value.faults, wanted, strict=True):
        assert fault.startswith(words)
        assert fault in str(error.value)
    assert "10 faults" in str(error.value) and "\n" not in str(error.value)


def test_a_cue_that_is_asked_for_must_be_there(copy: Path) -> None:
    rows = read_rows(copy)
    del rows[1]["cues"]
    write_rows(copy, rows)
    with pytest.raises(DatasetError) as error:
        read_dataset(copy, ["normals", "depth"])
    assert error.value.faults[:3] == [
        "pair pair-000: depth is not named",
        "pair pair-001: normals is not named",
        "pair pair-001: depth is not named",
    ]


def test_captions_come_from_the_row_a_file_or_the_settings(copy: Path) -> None:
    rows = read_rows(copy)
    (copy / "target/pair-001.txt").write_text("from its file\n")
    (copy / "target/pair-000.txt").write_text("not asked\n")
    del rows[1]["caption"]
    rows[2]["caption"] = ""
    write_rows(copy, rows)
    captions = [pair.caption for pair in read_dataset(copy, caption="for all").pairs[:3]]
    assert captions == ["a street, number 0", "from its file", "for all"]
    assert read_dataset(copy, caption=None).pairs[2].caption == ""  # a model without words asks for none
    (copy / "target/pair-000.txt").write_text("")  # not used, but nobody leaves one empty on purpose
    with pytest.raises(DatasetError, match="pair pair-000: caption target/pair-000.txt is empty"):
        read_dataset(copy, caption="for all")


def test_what_is_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="is not a dataset"):
        read_dataset(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match="has no pair"):
        read_dataset(tmp_path)
