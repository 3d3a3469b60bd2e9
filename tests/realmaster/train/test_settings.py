"""Settings: the published recipe by default, one file over it, mistakes in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from realmaster.settings import to_toml
from realmaster.train.settings import Settings, TrainError, load_settings


def test_the_defaults_are_the_published_recipe() -> None:
    settings = load_settings()
    assert (settings.steps, settings.batch_size, settings.first_frame) == (3000, 1, 0.2)
    assert (settings.adapter.rank, settings.adapter.scale, settings.adapter.dropout) == (32, 1.0, 0.0)
    assert (settings.optimizer.name, settings.optimizer.learning_rate) == ("adamw", 2e-4)
    assert settings.gradient_checkpointing
    assert load_settings(overrides={"adapter": {"rank": 8, "alpha": 4}}).adapter.scale == 0.5


def test_files_and_the_command_line_go_over_them_table_by_table(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('trigger = "REAL"\nsteps = 5\n[adapter]\nrank = 4\ndropout = 0.1\n')
    settings = load_settings(file, overrides={"steps": 7, "adapter": {"rank": 16}})
    assert (settings.trigger, settings.steps) == ("REAL", 7)
    assert (settings.adapter.rank, settings.adapter.dropout) == (16, 0.1)


def test_a_model_may_have_a_recipe_of_its_own_but_no_path_is_one(tmp_path: Path) -> None:
    assert load_settings(recipe="embedded").window == 1
    assert load_settings(recipe="embedded", overrides={"window": 9}).window == 9
    (tmp_path / "model.toml").write_text("steps = 7")
    assert load_settings(recipe=str(tmp_path / "model")) == load_settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 0", "are wrong at steps"),
        ("[adapter]\nrnak = 3", "are wrong at adapter.rnak"),
        ("steps = ", "not valid TOML"),
        ('cue = "depth"\nreferences = ["depth"]', "cue and references"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(TrainError, match=words) as error:
        load_settings(file)
    assert "\n" not in str(error.value) and "mine.toml" in str(error.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")


def test_settings_survive_toml() -> None:
    settings = load_settings(
        overrides={"trigger": 'a "word"\\ of ü\n', "references": ["depth"], "adapter": {"targets": ["attn1.to_q"]}}
    )
    text = to_toml(settings.model_dump(mode="json"))
    assert Settings(**tomllib.loads(text)) == settings


def test_the_rate_rises_and_falls() -> None:
    settings = load_settings(overrides={"steps": 100, "optimizer": {"warmup": 10, "learning_rate": 1.0}})
    rates = [settings.learning_rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] and rates[100] == pytest.approx(0.1)
    constant = load_settings(overrides={"optimizer": {"schedule": "constant"}})
    assert constant.learning_rate(0) == constant.learning_rate(2999) == 2e-4
