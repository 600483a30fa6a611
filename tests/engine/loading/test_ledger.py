"""What models take is counted on each device."""

from __future__ import annotations

from engine.loading.charge import Charge
from engine.loading.devices import Device
from engine.loading.ledger import HOST_SHARE, Ledger
from engine.loading.placement import Placement, Share
from engine.messages import HOST

GIB = 1 << 30


def device(kind: str, total: int, *, unified: bool = False) -> Device:
    return Device("cpu" if kind == "cpu" else "cuda", kind, total, total, handle=kind, unified=unified)


def placement(on_gpu: int, machine: int, *, unified: bool = False) -> Placement:
    """Bytes on one GPU, if any, and in the machine's memory."""
    host = Share(device("cpu", 64 * GIB), weights=machine)
    gpus = (Share(device("CUDA0", 24 * GIB, unified=unified), weights=on_gpu),) if on_gpu else ()
    return Placement((*gpus, host), 10, 10 if on_gpu else 0, 0)


def test_without_gpus_the_machine_has_it_all() -> None:
    ledger = Ledger.of(device("cpu", 10 * GIB), (), 0)
    assert ledger.budget == {HOST: int(10 * GIB * HOST_SHARE)}
    assert ledger.charge(placement(0, 3 * GIB)) == Charge.of([(HOST, 3 * GIB)])
    assert ledger.charge(placement(0, 3 * GIB), 7).total == 3 * GIB + 7


def test_each_gpu_and_the_machine_are_counted_apart() -> None:
    gpus = (device("CUDA0", 24 * GIB), device("CUDA1", 10 * GIB))
    ledger = Ledger.of(device("cpu", 128 * GIB), gpus, GIB)
    assert ledger.budget == {HOST: int(128 * GIB * HOST_SHARE), "CUDA0": 23 * GIB, "CUDA1": 9 * GIB}
    charged = ledger.charge(placement(10 * GIB, 6 * GIB), GIB)
    assert charged == Charge.of([("CUDA0", 11 * GIB), (HOST, 6 * GIB)]), "more goes where it computes"
    assert charged.on("CUDA1") == 0
    assert charged.left_of(ledger.budget)["CUDA0"] == 12 * GIB
    assert charged.total == 17 * GIB


def test_a_unified_gpu_takes_the_machines_memory() -> None:
    ledger = Ledger.of(device("cpu", 16 * GIB), (device("CUDA0", 11 * GIB, unified=True),), 0)
    charged = ledger.charge(placement(8 * GIB, 4 * GIB, unified=True))
    assert charged == Charge.of([("CUDA0", 8 * GIB), (HOST, 12 * GIB)])


def test_who_is_alone_on_a_device_may_take_more_of_it_than_there_is() -> None:
    large = Charge.of([("CUDA0", 30), (HOST, 1)])
    budget = {"CUDA0": 20, "CUDA1": 20, HOST: 10}
    assert not large.short(budget, Charge.of([("CUDA1", 20), (HOST, 1)]))
    assert large.short(budget, Charge.of([("CUDA0", 1), (HOST, 10)])) == {"CUDA0", HOST}
