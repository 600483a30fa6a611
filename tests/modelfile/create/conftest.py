"""A store to make models in."""

from pathlib import Path

import pytest

from registry.storage.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)
