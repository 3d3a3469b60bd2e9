"""A dataset and tiny models that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.realmaster.lift.tiny_ltx2 import save_tiny_ltx2
from tests.realmaster.lift.tiny_wan import save_tiny_wan
from tests.realmaster.train.tiny_dataset import make_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pairs of nine frames, 96x64."""
    return make_dataset(tmp_path_factory.mktemp("pairs") / "dataset", pairs=10)


@pytest.fixture(scope="session")
def ltx2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ltx2(tmp_path_factory.mktemp("models") / "tiny-ltx-2.3")


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wan 2.2: two experts."""
    return save_tiny_wan(tmp_path_factory.mktemp("models") / "tiny-wan-2.2", experts=2)
