"""The memory of GPUs and of the machine is promised once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.loading.devices import Device
from engine.loading.ledger import HOST_SHARE, Ledger
from engine.loading.placement import Placement, Share

GIB = 1 << 30


def device(kind: str, total: int, *, unified: bool = False) -> Device:
    return Device("cpu" if kind == "cpu" else "cuda", kind, total, total, handle=kind, unified=unified)


def placement(on_gpu: int, machine: int, *, unified: bool = False) -> Placement:
    """Bytes on one GPU, if any, and in the machine's memory."""
    host = Share(device("cpu", 64 * GIB), weights=machine)
    gpus = (Share(device("CUDA0", 24 * GIB, unified=unified), weights=on_gpu),) if on_gpu else ()
    return Placement((*gpus, host), 10, 10 if on_gpu else 0, 0)


def test_without_gpus_bytes_are_bytes() -> None:
    ledger = Ledger.of(device("cpu", 10 * GIB), (), 0)
    assert ledger.budget == int(10 * GIB * HOST_SHARE)
    assert ledger.charge(placement(0, 3 * GIB)) == 3 * GIB
    assert ledger.charge(placement(0, 3 * GIB), 7) == 3 * GIB + 7


def test_what_a_gpu_model_keeps_in_the_machine_takes_no_room_on_gpus() -> None:
    ledger = Ledger.of(device("cpu", 128 * GIB), (device("CUDA0", 24 * GIB),), GIB)
    assert ledger.budget == 23 * GIB
    assert ledger.charge(placement(10 * GIB, 6 * GIB)) == 10 * GIB
    assert ledger.charge(placement(10 * GIB, 6 * GIB), GIB) == 11 * GIB


def test_a_model_on_the_processor_counts_by_the_machine() -> None:
    ledger = Ledger.of(device("cpu", 128 * GIB), (device("CUDA0", 24 * GIB),), 0)
    half = ledger.charge(placement(0, int(64 * GIB * HOST_SHARE)))
    assert abs(half - 12 * GIB) < 1 << 20
    assert ledger.charge(placement(GIB, int(64 * GIB * HOST_SHARE))) == half


def test_a_unified_gpu_takes_the_machines_memory() -> None:
    ledger = Ledger.of(device("cpu", 16 * GIB), (device("CUDA0", 16 * GIB, unified=True),), 0)
    machine = int(16 * GIB * HOST_SHARE)
    assert ledger.charge(placement(machine - GIB, GIB, unified=True)) >= ledger.budget - 1


@given(
    st.integers(0, 200 * GIB),
    st.integers(GIB, 500 * GIB),
    st.lists(st.tuples(st.integers(0, 50 * GIB), st.integers(0, 50 * GIB)), max_size=8),
)
def test_who_fits_the_budget_together_fits_both_memories(gpus: int, host: int, models: list[tuple[int, int]]) -> None:
    ledger = Ledger(gpus, host)
    charges = [ledger.charge(placement(on_gpu if gpus else 0, machine)) for on_gpu, machine in models]
    if sum(charges) <= ledger.budget:
        assert not gpus or sum(on_gpu for on_gpu, _ in models) <= gpus
        assert sum(machine for _, machine in models) <= host + len(models)
