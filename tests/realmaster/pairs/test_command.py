"""`realmaster pairs`: what it says, and what it leaves behind when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.take import Take
from realmaster.cli import main
from realmaster.pairs import run
from tests.realmaster.pairs.city_takes import city_take
from tests.realmaster.pairs.test_run import EDITOR, PROPAGATOR


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    return city_take(tmp_path_factory.mktemp("takes") / "street", 9, size=(96, 64))


def said(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_from_a_take_to_a_dataset_that_trainers_read(
    take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    asked = ["pairs", str(take.path), "-o", str(out), "--editor", EDITOR, "--propagator", PROPAGATOR, "--json"]
    assert main([*asked, "--dry-run"]) == 0
    assert said(capsys)["plan"]["clips"] == 1 and not out.exists()
    assert main([*asked, "--export", "lightricks"]) == 0
    report = said(capsys)
    assert (report["pairs"], report["rejected"], report["made"]) == (1, 0, 1)
    assert Path(report["exports"]["lightricks"]).is_file()
    assert main(asked) == 1 and "--resume" in said(capsys)["error"]
    assert main([*asked, "--resume"]) == 0 and said(capsys)["made"] == 0
    assert main(["pairs", "-o", str(out), "--export", "diffsynth", "--json"]) == 0
    assert Path(said(capsys)["exports"]["diffsynth"]).is_file()


def test_a_take_that_is_too_short_leaves_nothing_behind(
    take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["pairs", str(take.path), "-o", str(tmp_path / "d"), "--editor", EDITOR, "--propagator", PROPAGATOR]
    assert main([*asked, "--frames", "10", "--json"]) == 1
    assert "no clip of 10 frames" in said(capsys)["error"] and not (tmp_path / "d").exists()


def test_what_was_turned_down_is_told_by_its_reasons(
    take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["pairs", str(take.path), "-o", str(tmp_path / "d"), "--editor", EDITOR]
    assert main([*asked, "--propagator", PROPAGATOR.replace("Plain", "Shifted")]) == 0
    assert "structure 1" in capsys.readouterr().out
    assert main([*asked, "--propagator", PROPAGATOR.replace("Plain", "Shifted"), "--resume", "--json"]) == 0
    assert said(capsys)["reasons"]["structure"] == 1


def test_workers_that_died_are_told(
    take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "make_pairs", lambda *_, **__: run.Result(pairs=1, made=1, workers=2, deaths=1))
    asked = ["pairs", str(take.path), "-o", str(tmp_path / "d"), "--editor", EDITOR, "--propagator", PROPAGATOR]
    assert main(asked) == 0
    assert "1 died" in capsys.readouterr().out


def test_a_folder_that_cannot_be_one(take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    asked = ["pairs", str(take.path), "--editor", EDITOR, "--propagator", PROPAGATOR, "--json", "-o"]
    assert main([*asked, str(tmp_path / "file")]) == 1
    assert "holds something that is no dataset of pairs" in said(capsys)["error"]
    assert main([*asked, str(tmp_path / "file" / "within")]) == 1
    assert "cannot be written (Not a directory)" in said(capsys)["error"]


def test_wrong_use_and_wrong_settings(take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pairs", "-o", str(tmp_path / "d")])
    assert ended.value.code == 2
    assert main(["pairs", "-o", str(tmp_path / "d"), "--export", "lightricks", "--json"]) == 1
    assert "no dataset of pairs" in said(capsys)["error"]
    settings = tmp_path / "mine.toml"
    for text, sentence in (
        ("[filters]\nflicker = -1\n", "filters.flicker"),
        ("[filters]\nblur = 1\n", "filters.blur"),
        ("[filters\n", "not valid TOML"),
    ):
        settings.write_text(text)
        assert main(["pairs", str(take.path), "-o", str(tmp_path / "d"), "--settings", str(settings), "--json"]) == 1
        assert sentence in said(capsys)["error"]
