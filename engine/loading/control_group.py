"""What a container or a service may use: the limits of our control group and of those around it, cgroup v1 and v2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelfile.operating_system import PROC, control_groups

_NO_LIMIT = 1 << 62  # bytes; v1 writes a number as large where there is none
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_limit() -> tuple[int, int] | None:
    """The smallest limit in bytes, and the bytes below it that are not free; None without a limit.

    Pages of files that nobody uses at the moment count as free: the kernel gives them back first.
    """
    return min(_memory_limits(), default=None, key=lambda limit: limit[0] - limit[1])


def swap_limit(most: int) -> int:
    """Bytes of swap that may be used, `most` without a limit."""
    return min(_swap_limits(), default=most)


def oom_kills() -> int | None:
    """How many processes the system has killed for want of memory: of our control group, else of the machine.

    None where nobody counts.
    """
    for folder in control_groups("memory"):
        for name in ("memory.events", "memory.oom_control"):
            if "oom_kill " in (text := _text(folder / name)):
                return _value(text, "oom_kill")
    text = _text(PROC / "vmstat")
    return _value(text, "oom_kill") if "oom_kill " in text else None


def cpu_quota() -> float | None:
    """How many processors may be used on average; None without a limit."""
    return min(_cpu_quotas(), default=None)


def _memory_limits() -> Iterator[tuple[int, int]]:
    for folder in control_groups("memory"):
        for limit_name, used_name, cache_name in (_V2, _V1):
            if (limit := _number(_text(folder / limit_name)) or 0) and limit < _NO_LIMIT:
                used = _number(_text(folder / used_name)) or 0
                yield limit, max(0, used - _statistic(folder / "memory.stat", cache_name))


def _swap_limits() -> Iterator[int]:
    for folder in control_groups("memory"):
        if (limit := _number(_text(folder / "memory.swap.max"))) is not None:
            yield limit
        both = _number(_text(folder / "memory.memsw.limit_in_bytes"))
        memory = _number(_text(folder / _V1[0]))
        if both is not None and memory is not None and both < _NO_LIMIT:
            yield max(0, both - memory)


def _cpu_quotas() -> Iterator[float]:
    for folder in control_groups("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        pairs = (quota, period), (_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))
        for microseconds, of in ((_number(quota), _number(period)) for quota, period in pairs):
            if microseconds is not None and microseconds > 0 and of:  # v1 writes -1 for no limit
                yield microseconds / of


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # no such file, or "max"
        return None


def _statistic(path: Path, name: str) -> int:
    return _value(_text(path), name)


def _value(text: str, name: str) -> int:
    lines = (line.partition(" ") for line in text.splitlines())
    return next((_number(value) or 0 for key, _, value in lines if key == name), 0)
