"""A store whose process was killed, or whose machine lost power, at any point of any change, is whole."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.storage.store import Store
from tests.registry.crashes import change, check
from tests.registry.power import Disk, Recorder
from tests.registry.stores import names

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
"""A killed process, other than a power cut, loses nothing that it wrote: no need to wait for a disk 5,000 times."""


def scratch() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


def test_death_at_every_point() -> None:
    with scratch() as directory:
        command = [sys.executable, "-m", "tests.registry.crashes", directory]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 150


@pytest.fixture(scope="module")
def notes() -> list[tuple[object, ...]]:
    """What all changes of a store do to the disk."""
    with scratch() as directory, pytest.MonkeyPatch.context() as patch:
        root = Path(directory) / "models"
        recorder = Recorder(root, patch)
        change(Store(root))
    return recorder.notes


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_power_cut_at_any_point(notes: list[tuple[object, ...]], data: st.DataObject) -> None:
    disk = Disk(notes[: data.draw(st.integers(0, len(notes)))])
    with scratch() as directory:
        disk.left(Path(directory) / "models", lambda most: data.draw(st.integers(0, most)))
        check(Path(directory) / "models")


def test_what_was_done_survives_a_power_cut(notes: list[tuple[object, ...]]) -> None:
    with scratch() as directory:
        Disk(notes).left(Path(directory) / "models", lambda most: 0)
        assert names(Store(Path(directory) / "models")) == ["second:latest", "user/copy:1"]
        check(Path(directory) / "models")
