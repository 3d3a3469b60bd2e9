"""Profiles: what is written is what is used, and mistakes are named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from realmaster.lift import LiftError, load_lifter
from realmaster.lift.profiles import known_profiles, load_profile


def test_every_shipped_profile_loads() -> None:
    assert "embedded" in known_profiles()
    for name in known_profiles():
        assert load_profile(name).name == name


def test_the_embedded_profile_points_at_weights_in_the_package() -> None:
    profile = load_profile("embedded")
    assert (Path(profile.base) / "model_index.json").is_file()
    assert profile.adapter and list(Path(profile.adapter).glob("*.safetensors"))


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(LiftError, match=r"embeded.*did you mean embedded\?"):
        load_lifter("embeded")


def test_paths_are_relative_to_the_profile(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "mine.toml").write_text('base = "weights"\nadapter = "someone/on-the-hub"\n')
    profile = load_profile(tmp_path / "mine.toml")
    assert profile.base == str((tmp_path / "weights").resolve())
    assert profile.adapter == "someone/on-the-hub"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("base = 1", "base"),
        ('base = "x"\nwindow = 0', "window"),
        ('base = "x"\nspeed = 3', "speed"),
        ('base = "x"\n[sampling]\nsigmas = [0.5, 0.9]', "sigmas must fall"),
        ("base = ", "not valid TOML"),
    ],
)
def test_a_wrong_profile_is_named_in_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(LiftError, match=named) as error:
        load_profile(tmp_path / "wrong.toml")
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="neither a profile.toml nor"):
        load_profile(tmp_path)


@pytest.mark.parametrize("base", ["/no/such/model", "./missing", "../missing", "C:\\\\missing"])
def test_a_base_that_is_a_path_is_never_looked_up_on_the_hub(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "realmaster.lift.ltx2", None)  # importing it would fail: nothing is loaded
    profile = tmp_path / "mine.toml"
    profile.write_text(f'base = "{base}"\n')
    with pytest.raises(LiftError, match="There is no folder .*the base of profile mine"):
        load_lifter(profile)


@pytest.mark.parametrize("adapter", ["/no/such/adapter", "./missing", "my/own/adapter", "missing.safetensors"])
def test_a_local_adapter_is_looked_for_before_the_pipeline_loads(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "realmaster.lift.ltx2", None)
    with pytest.raises(LiftError, match=f"There is no adapter {adapter}"):
        load_lifter("embedded", lora=adapter)
