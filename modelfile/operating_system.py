"""What Linux and other POSIX systems, such as macOS, do differently. Nothing else in the house asks which one this is.

Standard library only, and quick to import: child processes call this first.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

LINUX = sys.platform == "linux"
"""Each function reads this when it is called: a test that sets it to False runs what macOS runs."""
PROC = Path("/proc")
CONTROL_GROUP = Path("/sys/fs/cgroup")
POLL_INTERVAL = 0.05  # seconds between two looks at a process where the system does not tell of its end
PARENT_INTERVAL = 0.5  # seconds between two looks at who our parent is, likewise
_PR_SET_PDEATHSIG = 1


# Processes


def prepare_child(*, forks: bool = False) -> None:
    """Make this process safe to leave alone: it ends with its parent, ignores Ctrl-C and writes no core files.

    A core file would hold what users wrote. Ctrl-C in a terminal reaches the whole group; the parent decides. `forks`:
    as in `end_with_parent`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(forks=forks)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent(*, forks: bool = False) -> None:
    """Have this process killed when its parent ends, besides whatever it sees at its end of a pipe or socket.

    Linux sends the signal itself. Elsewhere a thread looks who the parent is. A process that `forks` gets no such
    thread, because forking would be unsafe then: it must watch its pipe or socket.
    """
    if LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    elif not forks:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:  # an orphan gets another one
        time.sleep(PARENT_INTERVAL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_group(leader: int) -> None:
    """SIGKILL for all processes of a group; nothing happens if there are none any more.

    The leader must not have been reaped before the last of them: its number may be somebody else's by then.
    """
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
        os.killpg(leader, signal.SIGKILL)


@contextmanager
def when_ended(process: asyncio.subprocess.Process, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` on the event loop as soon as a process has ended, even if others hold its pipes open."""
    import asyncio  # deferred, as children do without

    loop = asyncio.get_running_loop()
    if (descriptor := _process_descriptor(process.pid)) is None:
        task = loop.create_task(_poll(process, action))
        try:
            yield
        finally:
            task.cancel()
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        action()

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _process_descriptor(pid: int) -> int | None:
    """A file that can be read when a process has ended. None before Linux 5.3, elsewhere, or if it has been reaped."""
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None) if LINUX else None
    if pidfd_open is None:
        return None
    try:
        return pidfd_open(pid)
    except OSError:
        return None


async def _poll(process: asyncio.subprocess.Process, action: Callable[[], None]) -> None:
    import asyncio

    while process.returncode is None:  # noqa: ASYNC110 - `wait` also waits for the pipes
        await asyncio.sleep(POLL_INTERVAL)
    action()


# Signs of life of another process. A process that has ended gives none.


def is_stopped(pid: int) -> bool:
    """Whether a signal (SIGSTOP) has stopped a process. One that a debugger holds does not count."""
    if LINUX:
        return _status(pid)[:1] == ["T"]
    import psutil  # deferred, as children do without

    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def has_ended(pid: int) -> bool:
    """Whether a process of ours is dead, reaped or not."""
    if LINUX:
        return _status(pid)[:1] in ([], ["Z"], ["X"])
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def work_done(pid: int) -> tuple[float, ...]:
    """Numbers that grow as a process uses the processor or has pages read from a disk."""
    if LINUX:
        status = _status(pid)
        return tuple(float(status[place]) for place in _WORK) if status else ()
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return ()
    return times.user, times.system


def is_ready(pid: int) -> bool:
    """Whether a thread of a process could run, waits for a disk or is held by a debugger; False if unknown."""
    if not LINUX:
        return False
    try:
        threads = os.listdir(PROC / f"{pid}/task")
    except OSError:
        return False
    return any(_status(f"{pid}/task/{thread}")[:1] in (["R"], ["D"], ["t"]) for thread in threads)


def _status(process: int | str) -> list[str]:
    """`/proc/PID/stat` from the state on; empty if there is no such process."""
    try:
        return (PROC / f"{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


_WORK = (9, 11, 12)  # in `_status`: pages read from a disk, ticks of CPU time as user and in the kernel


def run_delays(*, without: Collection[int | None] = ()) -> dict[int, int]:
    """How long threads of this process were ready to run and had no core: nanoseconds by the thread's id.

    Those in `without` are left out. Empty where the system does not tell.
    """
    delays: dict[int, int] = {}
    if LINUX:
        for thread in map(int, os.listdir(PROC / "self/task")):
            if thread not in without:
                with suppress(OSError, ValueError, IndexError):  # the thread ended, or the kernel does not count
                    delays[thread] = int((PROC / f"self/task/{thread}/schedstat").read_text().split()[1])
    return delays


# Memory


def limit_address_space(size: int) -> None:
    """Let this process have `size` bytes of addresses. Only on Linux: elsewhere it has far more than it has memory."""
    if LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def address_space() -> int:
    """Bytes of addresses that this process has; 0 where the system does not tell."""
    if not LINUX:
        return 0
    return int((PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()


def peak_memory() -> int:
    """The most bytes of memory that this process ever had at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * 1024 if LINUX else peak


# The machine


def cpu_info() -> str:
    """What Linux says about the processor, `/proc/cpuinfo`; empty elsewhere."""
    try:
        return (PROC / "cpuinfo").read_text(errors="replace") if LINUX else ""
    except OSError:
        return ""


def control_groups(controller: str) -> list[Path]:
    """The folders of our control group and of those around it, the innermost first.

    With cgroup v1 each `controller` ("memory", "cpu") has folders of its own. A container may see only its own group,
    in the place of all. Empty where there are no control groups.
    """
    if not LINUX:
        return []
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    folders: list[Path] = []
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" or controller in names.split(","):
            root = CONTROL_GROUP / ("" if number == "0" else names)
            folders += _within(root, path.strip("/"))
    return folders or [CONTROL_GROUP]


def _within(root: Path, path: str) -> list[Path]:
    """The folders from `root / path` up to `root`, as far as they can be seen."""
    inner = root / path
    if not inner.is_dir():
        return [root]
    return [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]


def allowed_processors() -> int | None:
    """How many processors this process may run on; None where the system does not limit that."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None) if LINUX else None
    return None if affinity is None else len(affinity(0))
