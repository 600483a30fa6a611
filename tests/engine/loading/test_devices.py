"""What the machine offers, within the limits of a container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from engine.loading import devices
from modelfile import operating_system


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group that limits nothing."""
    monkeypatch.setattr(operating_system, "CONTROL_GROUP", tmp_path)
    return tmp_path


def test_without_limits_it_is_the_whole_machine(cgroup: Path) -> None:
    memory = devices.host()
    assert memory.total == psutil.virtual_memory().total
    assert 0 < memory.free < memory.total
    assert devices.compute_threads() >= 1


def test_a_container_has_what_it_is_given(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("400000\n")
    assert (devices.host().total, devices.host().free) == (1_000_000, 600_000)
    (cgroup / "memory.current").write_text("2000000\n")
    assert devices.host().free == 0


def test_a_limit_that_is_none_is_ignored(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert devices.host().total == psutil.virtual_memory().total


def test_threads_are_no_more_than_the_quota(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("100000 100000\n")
    assert devices.compute_threads() == 1
    (cgroup / "cpu.max").write_text("50000 100000\n")
    assert devices.compute_threads() == 1


def test_gpus_are_what_the_driver_knows_and_no_driver_is_no_error() -> None:
    for device in devices.gpus():
        assert 0 <= device.free <= device.total


def test_limits_of_a_container(cgroup: Path) -> None:
    assert devices.container_limits() == (None, None)
    (cgroup / "memory.max").write_text("1073741824\n")
    (cgroup / "cpu.max").write_text("150000 100000\n")
    assert devices.container_limits() == (1 << 30, 1.5)
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert devices.container_limits() == (None, None)


def test_features_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "PROC", tmp_path)
    assert devices.processor_features() == ()
    (tmp_path / "cpuinfo").write_text("model name\t: X\nflags\t\t: fpu avx2 amx_int8 avx amx_tile\n")
    assert devices.processor_features() == ("avx", "avx2", "amx_tile", "amx_int8")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    assert devices.processor_features() == ("asimd", "i8mm")
