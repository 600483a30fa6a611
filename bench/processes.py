"""The processes of a server on this machine: what they cost."""

from __future__ import annotations

from urllib.parse import urlsplit

import psutil

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServerProcesses:
    """A server's process and its children, one of which may have the model."""

    def __init__(self, front: psutil.Process) -> None:
        self._front = front

    @property
    def separate(self) -> bool:
        """Whether the model has a process of its own, so that the CPU time of the server is not that of the model."""
        return bool(self._front.children())

    def cpu_seconds(self) -> float:
        """CPU time of the server's process, without its children, in steps of 10 ms."""
        times = self._front.cpu_times()
        return float(times.user + times.system)

    def front_memory(self) -> tuple[int, int]:
        """Resident and unique memory (RSS, USS) of the server's process in bytes."""
        usage = self._front.memory_full_info()
        return int(usage.rss), int(usage.uss)

    def model_memory(self) -> int:
        """Resident memory in bytes of the largest of all these processes: the one with the model, if that is loaded."""
        return max(int(process.memory_info().rss) for process in (self._front, *self._front.children(recursive=True)))


def listening_at(url: str) -> ServerProcesses | None:
    """The processes of the server at `url`; None if it is not on this machine, or belongs to another user."""
    address = urlsplit(url)
    if address.hostname not in LOOPBACK:
        return None
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    port = address.port or 80
    pids = [c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid]
    return ServerProcesses(psutil.Process(pids[0])) if pids else None
