"""What the machine offers, within the limits of a container."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from engine.loading import devices
from engine.messages import BackendDevice
from modelfile import backends, operating_system
from modelfile.backends import gpu_backends


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


def test_the_library_lists_its_devices_in_a_process_of_its_own() -> None:
    (processor,) = [device for device in devices.listed(os.environ) if device.kind == "cpu"]
    assert (processor.name, processor.backend) == ("CPU", "CPU")
    assert processor.description
    assert 0 < processor.free <= processor.total


def test_a_library_that_cannot_be_asked_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "PROBE", "no.such.module")
        assert devices.listed(os.environ) == []
    assert "devices cannot be listed" in caplog.text


def test_what_is_compiled_for_the_processor_alone_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu_backends():
        pytest.skip("compiled for GPUs")
    monkeypatch.setattr(devices, "listed", None)
    assert devices.gpus({}) == []


def test_backends_are_known_by_their_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "library_folder", lambda: tmp_path)
    for name in ("base", "cpu", "cpu-haswell", "blas", "rpc", "cuda", "vulkan"):
        (tmp_path / f"libggml-{name}.so").touch()
    (tmp_path / "libggml-metal.dylib").touch()
    assert gpu_backends() == {"cuda", "vulkan", "metal"}


def test_drivers_may_be_missing() -> None:
    for device in devices.cards():
        assert 0 <= device.free <= device.total


GIB = 1 << 30
A = BackendDevice("CUDA0", "NVIDIA A", "CUDA", "gpu", 24 * GIB, 23 * GIB, "0000:01:00.0")
B = BackendDevice("CUDA1", "NVIDIA B", "CUDA", "gpu", 24 * GIB, 23 * GIB, "0000:02:00.0")
SAME = BackendDevice("Vulkan0", "NVIDIA A", "Vulkan", "gpu", 24 * GIB, 23 * GIB, "0000:01:00.0")
INTEGRATED = BackendDevice("Vulkan1", "Radeon", "Vulkan", "igpu", 16 * GIB, 9 * GIB)
APPLE = BackendDevice("MTL0", "Apple M4", "MTL", "gpu", 11 * GIB, 11 * GIB)
OTHERS = (
    BackendDevice("CPU", "x", "CPU", "cpu", 64 * GIB, 64 * GIB),
    BackendDevice("BLAS", "x", "BLAS", "accel", 0, 0),
)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (OTHERS, []),
        ((A, B, *OTHERS), [("cuda", "CUDA0", False), ("cuda", "CUDA1", False)]),
        ((A, SAME, INTEGRATED, *OTHERS), [("cuda", "CUDA0", False)]),
        ((INTEGRATED, *OTHERS), [("vulkan", "Vulkan1", True)]),
        ((APPLE, *OTHERS), [("metal", "MTL0", True)]),
    ],
)
def test_which_devices_get_layers(listed: tuple[BackendDevice, ...], expected: list[tuple[str, str, bool]]) -> None:
    assert [(gpu.kind, gpu.handle, gpu.unified) for gpu in devices.usable(listed)] == expected


def test_a_device_that_has_gone_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    devices.tell_changes(devices.usable([A, B]), devices.usable([A]))
    assert caplog.messages == ["a GPU has gone"]
    devices.tell_changes(devices.usable([A]), devices.usable([A]))
    devices.tell_changes(devices.usable([A]), devices.usable([A, B]))
    assert caplog.messages == ["a GPU has gone", "a GPU is there"]


def test_limits_of_a_container(cgroup: Path) -> None:
    assert devices.container_limits() == (None, None)
    (cgroup / "memory.max").write_text("1073741824\n")
    (cgroup / "cpu.max").write_text("150000 100000\n")
    assert devices.container_limits() == (1 << 30, 1.5)
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert devices.container_limits() == (None, None)


def test_pages_of_files_that_can_be_given_back_are_free(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("900000\n")
    (cgroup / "memory.stat").write_text("anon 400000\ninactive_file 300000\n")
    assert devices.host().free == 400_000


def test_the_limits_of_the_groups_around_count_too(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer, inner = cgroup / "user.slice", cgroup / "user.slice" / "pronk.service"
    inner.mkdir(parents=True)
    write_own_groups(cgroup, monkeypatch, "0::/user.slice/pronk.service")
    (inner / "memory.max").write_text("max\n")
    (outer / "memory.max").write_text("2000000\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    (outer / "cpu.max").write_text("300000 100000\n")
    assert devices.container_limits() == (2_000_000, 1.5)


def test_limits_of_the_first_version_of_control_groups(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own_groups(cgroup, monkeypatch, "8:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/")
    memory, cpu = cgroup / "memory" / "docker" / "abc", cgroup / "cpu,cpuacct"
    memory.mkdir(parents=True)
    cpu.mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (memory / "memory.limit_in_bytes").write_text("3000000\n")
    (memory / "memory.usage_in_bytes").write_text("1500000\n")
    (memory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 500000\n")
    (cpu / "cpu.cfs_quota_us").write_text("250000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    assert devices.container_limits() == (3_000_000, 2.5)
    assert (devices.host().total, devices.host().free) == (3_000_000, 2_000_000)
    (cpu / "cpu.cfs_quota_us").write_text("-1\n")
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert devices.container_limits() == (None, None)
    assert devices.host().total == psutil.virtual_memory().total


def write_own_groups(cgroup: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Say in which groups we are."""
    proc = cgroup / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(lines)
    monkeypatch.setattr(operating_system, "PROC", proc.parent)


def test_features_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "PROC", tmp_path)
    assert devices.processor_features() == ()
    (tmp_path / "cpuinfo").write_text("model name\t: X\nflags\t\t: fpu avx2 amx_int8 avx amx_tile\n")
    assert devices.processor_features() == ("avx", "avx2", "amx_tile", "amx_int8")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\n")
    assert devices.processor_features() == ("asimd", "i8mm")
