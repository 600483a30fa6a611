"""What a run gives: lines that hold a measured figure against a goal, and how figures are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a run does. `quick` is a look of three minutes, not a measurement."""

    quick: bool
    kills: int
    writes: int
    stops: int
    survivors: int
    parent_kills: int
    cancels: int
    prefills: int
    queued: int
    over_cap: int
    load_seconds: float
    picture_seconds: float
    cycles: int
    warm_up: int
    mixed: int
    scheduler_steps: int
    turn_seconds: float
    crowd: int
    starts: int
    streams: int
    real_streams: int
    first_tokens: int
    cost_runs: int


FULL = Counts(
    quick=False,
    kills=100,
    writes=50,
    stops=20,
    survivors=2_000,
    parent_kills=50,
    cancels=850,
    prefills=100,
    queued=50,
    over_cap=10_000,
    load_seconds=600.0,
    picture_seconds=120.0,
    cycles=1_000,
    warm_up=1_600,
    mixed=6_400,
    scheduler_steps=1_000_000,
    turn_seconds=120.0,
    crowd=400,
    starts=20,
    streams=10_000,
    real_streams=500,
    first_tokens=1_000,
    cost_runs=11,
)
QUICK = Counts(
    quick=True,
    kills=4,
    writes=3,
    stops=2,
    survivors=700,
    parent_kills=3,
    cancels=100,
    prefills=10,
    queued=5,
    over_cap=480,
    load_seconds=8.0,
    picture_seconds=8.0,
    cycles=200,
    warm_up=24,
    mixed=64,
    scheduler_steps=10_000,
    turn_seconds=8.0,
    crowd=150,
    starts=2,
    streams=400,
    real_streams=36,
    first_tokens=200,
    cost_runs=3,
)


@dataclass(frozen=True, slots=True)
class Line:
    """One goal: what was measured, and whether it is reached.

    `broken` says that something was lost or left over that never may be, on however slow a machine. Times depend on the
    machine; missing one of their goals breaks nothing.
    """

    number: str
    goal: str
    measured: str
    reached: bool
    broken: bool = False


def timed(number: str, goal: str, measured: str, reached: bool) -> Line:
    """A goal that depends on the machine."""
    return Line(number, goal, measured, reached)


def kept(number: str, goal: str, measured: str, reached: bool) -> Line:
    """A promise that holds on every machine."""
    return Line(number, goal, measured, reached, broken=not reached)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed. Raises ValueError if there are none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median, 99th percentile and maximum of some seconds."""
    p50, p99, most = (1000 * value for value in (percentile(values, 0.5), percentile(values, 0.99), max(values)))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms"


def computed(pid: int) -> float:
    """Seconds of CPU of a process without its children, of the threads that it has now."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def anonymous(pid: int) -> int:
    """Bytes of a process that are its own: RssAnon and what of them was swapped out."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "VmSwap"))
