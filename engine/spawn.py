"""Starts child processes: their command, their environment, and the socket on which they talk to the server."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

FIRST_FREE: Final = 3  # the first file descriptor after the standard streams
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
PASSED_PREFIXES: Final = ("CUDA_", "NVIDIA_", "GGML_", "HIP_", "ROCR_", "HSA_", "OMP_", "GOMP_", "PRONK_RUNNER_")
WITHHELD: Final = ("GGML_BACKEND_PATH",)  # llama.cpp would load a library from there
OWN_PATH: Final = str(Path(__file__).absolute().parents[1])


async def start_child(
    module: str, environ: Mapping[str, str], further: Sequence[int] = ()
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start `python -m module FD` in a session of its own; returns the process and our end of its socket.

    FD is the number of the child's end; behind it come `further` descriptors that it gets, which the caller closes. The
    child gets what `child_environment` leaves of `environ`. Raises OSError.
    """
    ours, theirs = socket_pair()
    ours.setblocking(False)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", module, *map(str, (theirs, *further))),  # -P: never import from where we were started
            pass_fds=[theirs, *further],
            env=child_environment(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(theirs)
    return process, ours


def socket_pair() -> tuple[socket.socket, int]:
    """Our end of a socket pair, and the file descriptor of the child's.

    That is never 0 to 2, even if we have no standard streams: the child gets /dev/null there.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        return ours, fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the server's environment that a child needs: no keys, proxies or credentials."""
    env = {k: v for k, v in environ.items() if k in PASSED_ON or (k.startswith(PASSED_PREFIXES) and k not in WITHHELD)}
    # llama.cpp's threads wait for each other some hundred times per pass. Sleeping meanwhile costs up to half of the
    # speed: waking takes a virtual machine long. Spinning for longer than a time slice of the scheduler, as by OpenMP's
    # default, is ruinous once somebody else needs a core. A round takes 10 to 50 ns: these end before such a slice.
    env.setdefault("GOMP_SPINCOUNT", "10000")
    # Otherwise a failed assertion forks a debugger for each thread that meets it, and they wait for each other.
    env["GGML_NO_BACKTRACE"] = "1"
    env["PYTHONPATH"] = os.pathsep.join(p for p in (OWN_PATH, env.get("PYTHONPATH", "")) if p)
    return env
