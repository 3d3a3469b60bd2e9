"""Making pairs: what is in the folder, what is turned down, what is made again and what is not."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.take import Take
from capture.video import read_video
from realmaster.pairs import stages
from realmaster.pairs.crew import ProcessCrew
from realmaster.pairs.dataset import DROP, KEEP, Dataset
from realmaster.pairs.plan import estimate, make_job, make_plan
from realmaster.pairs.run import Result, make_pairs
from realmaster.pairs.settings import PairsError, Settings, load_settings
from realmaster.pairs.stages import DatasetFull, Worker
from tests.realmaster.pairs import plugins
from tests.realmaster.pairs.city_takes import city_take

HERE = "tests.realmaster.pairs.plugins"
EDITOR, PROPAGATOR = f"{HERE}:PlainEditor", f"{HERE}:PlainPropagator"


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    return city_take(tmp_path_factory.mktemp("takes") / "street", 27)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv(plugins.LOG, str(folder))
    return folder


def calls(log: Path, what: str) -> int:
    return len(list(log.glob(f"{what}-*")))


def settings(**changes: Any) -> Settings:
    loaded = load_settings()
    return loaded.model_copy(
        update={part: getattr(loaded, part).model_copy(update=values) for part, values in changes.items()}
    )


def make(
    takes: list[Take] | Take, out: Path, editor: str = EDITOR, propagator: str = PROPAGATOR, *, resume: bool = False,
    changed: Settings | None = None, **run: Any,
) -> Result:  # fmt: skip
    takes = takes if isinstance(takes, list) else [takes]
    job = make_job(out, editor, propagator, changed or settings())
    Dataset(out).begin(job.about, resume)
    return make_pairs(make_plan(takes, job), job, **run)


def test_a_dataset_is_whole(take: Take, tmp_path: Path, log: Path) -> None:
    told: list[tuple[int, int]] = []
    result = make(take, tmp_path / "d", progress=lambda done, total, note: told.append((done, total)))
    pairs = Dataset(tmp_path / "d").pairs()
    assert (result.pairs, result.rejected, len(pairs), told[-1]) == (3, 0, 3, (3, 3))
    assert [pair["provenance"]["frames"] for pair in pairs] == [[0, 9], [9, 18], [18, 27]]
    assert len({pair["id"] for pair in pairs}) == 3
    for pair in pairs:
        first, last = pair["provenance"]["frames"]
        assert pair["provenance"]["take_id"] == take.manifest["id"] and pair["fps"] == 24
        render, target = (read_video(tmp_path / "d" / pair[kind])[0] for kind in ("render", "target"))
        truth = np.stack([frame.color for frame in take[first:last]])
        assert render.shape == target.shape == truth.shape
        assert np.abs(render.astype(int) - truth).mean() < 4
        assert np.abs(target.astype(int) - plugins.photo(truth)).mean() < 6  # H.264 halves the colours' resolution
        for kind in ("edges", "depth", "normals"):
            assert read_video(tmp_path / "d" / pair["cues"][kind])[0].shape == truth.shape
        assert (tmp_path / "d" / pair["sheet"]).stat().st_size > 1000
        assert "road" in pair["caption"] and pair["scores"]["edges_shared"] > 0.3
    assert not list((tmp_path / "d" / "work").glob("*.npz"))
    assert "3 pairs" in (tmp_path / "d" / "README.md").read_text()
    assert (calls(log, "edit"), calls(log, "propagate")) == (6, 3)


def test_nothing_is_made_twice(take: Take, tmp_path: Path, log: Path) -> None:
    make(take, tmp_path / "d")
    before = sorted(path.name for path in log.iterdir())
    with pytest.raises(PairsError, match="--resume"):
        make(take, tmp_path / "d")
    result = make(take, tmp_path / "d", resume=True)
    assert (result.made, result.pairs) == (0, 3) and sorted(path.name for path in log.iterdir()) == before
    with pytest.raises(PairsError, match="another editor"):
        make(take, tmp_path / "d", f"{HERE}:LargeEditor", resume=True)
    with pytest.raises(PairsError, match="no dataset"):
        make(take, log.parent)


def test_more_takes_join_a_dataset(take: Take, tmp_path: Path, log: Path) -> None:
    make(take, tmp_path / "d")
    other = city_take(tmp_path / "other", 9, seed=20260103)
    result = make([take, other], tmp_path / "d", resume=True)
    assert (result.made, result.pairs) == (1, 4) and calls(log, "propagate") == 4


def test_a_stage_that_is_done_is_not_done_again_after_a_crash(
    take: Take, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:  # between propagation and the record
        patched.setattr(Worker, "_finish", crash)
        job = make_job(tmp_path / "d", EDITOR, PROPAGATOR, settings())
        Dataset(tmp_path / "d").begin(job.about, False)
        worker, plan = Worker(job), make_plan([take], job)
        for stage in stages.STAGES:
            try:
                worker.run(stage, plan.clips[0])
            except Crash:
                pass
    result = make(take, tmp_path / "d", resume=True)
    assert result.pairs == 3 and (calls(log, "edit"), calls(log, "propagate")) == (6, 3)


def test_other_thresholds_judge_anew_and_make_nothing(take: Take, tmp_path: Path, log: Path) -> None:
    make(take, tmp_path / "d")
    strict = make(take, tmp_path / "d", resume=True, changed=settings(filters={"edges_shared": 0.999}))
    assert (strict.pairs, strict.rejected, strict.made) == (0, 3, 0)
    entry = Dataset(tmp_path / "d").rejected()[0]
    assert entry["reasons"][0].startswith("structure") and (tmp_path / "d" / entry["target"]).is_file()
    assert not list((tmp_path / "d" / "target").iterdir())
    again = make(take, tmp_path / "d", resume=True)
    assert again.pairs == 3 and calls(log, "propagate") == 3
    assert all((tmp_path / "d" / pair["target"]).is_file() for pair in Dataset(tmp_path / "d").pairs())


def test_what_a_person_decides_goes_before_the_filters(take: Take, tmp_path: Path) -> None:
    make(take, tmp_path / "d", propagator=f"{HERE}:ShiftedPropagator")
    dataset = Dataset(tmp_path / "d")
    ids = [entry["id"] for entry in dataset.rejected()]
    assert len(ids) == 3 and all(entry["reasons"] for entry in dataset.rejected())
    dataset.decide(ids[0], KEEP)
    assert dataset.settle(settings().filters) == {"pairs": 1, "rejected": 2}
    dataset.decide(ids[0], DROP)
    dataset.decide(ids[1], KEEP)
    dataset.decide(ids[1], None)
    assert dataset.settle(settings().filters) == {"pairs": 0, "rejected": 3}
    with pytest.raises(PairsError, match="no pair"):
        dataset.decide("../dataset", KEEP)


def test_a_clip_that_fails_is_in_the_ledger_and_is_tried_again(take: Take, tmp_path: Path) -> None:
    plugins.FailingPropagator.seen = 0
    failing = f"{HERE}:FailingPropagator"
    result = make(take, tmp_path / "d", propagator=failing)
    dataset = Dataset(tmp_path / "d")
    assert (result.pairs, result.rejected) == (2, 1)
    assert dataset.rejected()[0]["reasons"] == ["propagate: failed (out of memory)"]
    again = make(take, tmp_path / "d", propagator=failing, resume=True)
    assert (again.pairs, again.rejected, again.made) == (3, 0, 1)


def test_an_editor_that_returns_another_size(take: Take, tmp_path: Path) -> None:
    wide = make(take, tmp_path / "wide", f"{HERE}:WideEditor")
    assert (wide.pairs, wide.rejected) == (0, 3)
    assert "the editor returned 320x96 for 160x96" in Dataset(tmp_path / "wide").rejected()[0]["reasons"][0]
    make(take, tmp_path / "float", f"{HERE}:FloatEditor")
    (why,) = Dataset(tmp_path / "float").rejected()[0]["reasons"]
    assert "the editor returned float32 [96, 160, 3] for 160x96" in why
    assert make(take, tmp_path / "large", f"{HERE}:LargeEditor").pairs == 3


def test_an_anchor_of_another_place_is_tried_again_and_never_propagated(take: Take, tmp_path: Path, log: Path) -> None:
    plugins.WrongEditor.seeds = []
    changed = settings(clips={"most": 1})
    tried = make(take, tmp_path / "d", f"{HERE}:WrongEditor", changed=changed)
    assert tried.pairs == 1 and plugins.WrongEditor.seeds == [0, 1_000_003, 2_000_006]
    plugins.WrongEditor.seeds = []
    changed = settings(clips={"most": 1}, anchors={"attempts": 2})
    given_up = make(take, tmp_path / "e", f"{HERE}:WrongEditor", changed=changed)
    assert (given_up.pairs, given_up.rejected) == (0, 1) and calls(log, "propagate") == 1
    assert Dataset(tmp_path / "e").rejected()[0]["anchors"]["0"]["edges_shared"] < 0.25


def test_a_take_without_depth_has_edges_of_its_colours(tmp_path: Path) -> None:
    flat = city_take(tmp_path / "flat", 9, without=("depth", "normal", "motion", "segmentation", "instance"))
    job = make_job(tmp_path / "d", EDITOR, f"{HERE}:EdgesPropagator", settings())
    assert any("no depth" in note for note in make_plan([flat], job).notes)
    plugins.EdgesPropagator.shown = []
    make(flat, tmp_path / "d", propagator=f"{HERE}:EdgesPropagator")
    record = next(Dataset(tmp_path / "d").records())
    assert plugins.EdgesPropagator.shown[0].any() and list(record["cues"]) == ["edges"]
    assert "edges are drawn from the colours" in record["notes"][0]


def test_many_takes_without_a_clip_are_one_sentence(take: Take, tmp_path: Path) -> None:
    job = make_job(tmp_path / "d", EDITOR, PROPAGATOR, settings(clips={"frames": 28}))
    with pytest.raises(PairsError, match=r"^There is no clip: take street has [^.]*; and 2 more\.$"):
        make_plan([take] * 5, job)


def test_a_take_with_no_clip_long_enough(take: Take, tmp_path: Path) -> None:
    job = make_job(tmp_path / "d", EDITOR, PROPAGATOR, settings(clips={"frames": 28}))
    with pytest.raises(PairsError, match="no clip of 28 frames: its longest unbroken run has 27"):
        make_plan([take], job)


def test_a_full_disk_stops_the_run_and_loses_nothing(
    take: Take, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, *args: Any, **kwargs: Any) -> None:
        if len(written) == 7:  # in the middle of the second clip's videos
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        original(path, *args, **kwargs)

    original = stages.write_video
    with monkeypatch.context() as patched:
        patched.setattr(stages, "write_video", full)
        with pytest.raises(PairsError, match="the disk is full"):
            make(take, tmp_path / "d")
    assert len(Dataset(tmp_path / "d").pairs()) == 1
    result = make(take, tmp_path / "d", resume=True)
    assert result.pairs == 3 and calls(log, "propagate") == 3
    assert issubclass(DatasetFull, PairsError)


def test_a_model_that_does_not_load_ends_the_run(take: Take, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="There is no editor 'qwen'"):
        make(take, tmp_path / "d", "qwen")
    with pytest.raises(PairsError, match="no weights"):
        make(take, tmp_path / "e", f"{HERE}:broken")


def test_the_plan_says_what_it_costs(take: Take, tmp_path: Path) -> None:
    job = make_job(tmp_path / "d", "qwen-image-edit", "vace", settings(clips={"frames": 9}))
    cost = estimate(make_plan([take], job), [take], job)
    assert (cost["clips"], cost["clips_to_make"], cost["frames"]) == (3, 3, 27)
    # Six stills of 60 + 4096 x 1 or 2 tokens, 80 passes of 20 G parameters each; VACE's share is small at this size.
    assert 0.24 < cost["gpu_hours"] < 0.26 and 0 < cost["gigabytes"] < 0.01
    make(take, tmp_path / "d2")
    made = make_job(tmp_path / "d2", EDITOR, PROPAGATOR, settings())
    after = estimate(make_plan([take], made), [take], made)
    files = (tmp_path / "d2").rglob("*.[mj]p[4g]")
    assert after["gigabytes"] == pytest.approx(sum(file.stat().st_size for file in files) / 1e9, rel=0.5)
    assert after["clips_to_make"] == 0 and after["gpu_hours"] == 0


@pytest.mark.slow
def test_a_process_that_dies_is_replaced(take: Take, tmp_path: Path, log: Path) -> None:
    result = make(take, tmp_path / "d", propagator=f"{HERE}:DyingPropagator", workers=2)
    assert (result.pairs, result.rejected, result.deaths, result.workers) == (3, 0, 1, 2)
    assert len({pair["id"] for pair in Dataset(tmp_path / "d").pairs()}) == 3
    assert calls(log, "propagate") == 3
    assert calls(log, "edit") in (6, 7, 8)  # those of the clip that it had in hand, perhaps


def test_liftss_end_with_their_crew(tmp_path: Path) -> None:
    crew = ProcessCrew(make_job(tmp_path / "d", EDITOR, PROPAGATOR, settings()), 1)
    assert [event.kind for event in _wait(crew)] == ["ready"]
    process = crew._members[0][0]
    crew.close()
    assert not process.is_alive()


def _wait(crew: ProcessCrew) -> list[Any]:
    events: list[Any] = []
    while not events:
        events = crew.wait(5.0)
    return events


def test_broken_lines_and_records_do_no_harm(take: Take, tmp_path: Path) -> None:
    make(take, tmp_path / "d", changed=settings(clips={"most": 1}))
    dataset = Dataset(tmp_path / "d")
    (dataset.records_folder / "half.json").write_text('{"id": "half"')
    with (tmp_path / "d" / "decisions.jsonl").open("w") as file:
        file.write('{"id": \n')
    assert dataset.settle(settings().filters) == {"pairs": 1, "rejected": 0}
    (tmp_path / "d" / "dataset.json").write_text("{")
    with pytest.raises(PairsError, match="cannot be read"):
        make(take, tmp_path / "d", resume=True)
    assert json.loads((tmp_path / "d" / "pairs.jsonl").read_text())["id"]
